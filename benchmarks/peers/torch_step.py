#!/usr/bin/env python3
"""One training step (forward, backward, optimiser) of an experiment's net in PyTorch, timed.

Works with PyTorch 1.13 and newer. The peer gets its best public settings: channels-last, autocast,
cudnn.benchmark, the fused optimiser, gradients set to None, whole-step CUDA graphs. Expandable
segments change memory, not the time of a step in steady state: --expandable-segments.

Modes:
  eager              as written
  compile            torch.compile of forward and loss (--compile-mode, max-autotune by default)
  cudagraph          the whole step captured into one CUDA graph
  compile_cudagraph  torch.compile without its own graphs, then the whole step into one CUDA graph
"""

import argparse
import contextlib
import itertools
import os
import sys
import time

import measure


def parse():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", choices=["lenet", "vgg-cifar", "resnet18-cifar", "resnet50"],
                   default="lenet")
    p.add_argument("--batch", type=measure.positive(int), help="default: the experiment's")
    p.add_argument("--image", type=measure.positive(int),
                   help="side of the input; default: the experiment's")
    p.add_argument("--dtype", choices=["f32", "tf32", "bf16"], default="f32",
                   help="bf16: autocast over f32 weights")
    p.add_argument("--layout", choices=["nchw", "nhwc"], default="nchw")
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--mode", choices=["eager", "compile", "cudagraph", "compile_cudagraph"],
                   default="eager")
    p.add_argument("--compile-mode", default="max-autotune",
                   choices=["default", "reduce-overhead", "max-autotune"])
    p.add_argument("--optimizer", choices=["auto", "fused", "foreach", "loop"], default="auto")
    p.add_argument("--threads", type=measure.positive(int),
                   help="CPU threads; default: all the process may use")
    p.add_argument("--batches", type=measure.positive(int), default=4,
                   help="different ones, in turn; of a CUDA graph, whose inputs stand still, one")
    p.add_argument("--seconds", type=measure.positive(float), default=5.0, help="of timed steps")
    p.add_argument("--blocks", type=measure.positive(int),
                   help="of timed steps, instead of --seconds")
    p.add_argument("--profile", action="store_true", help="count kernels and their device time")
    p.add_argument("--expandable-segments", action="store_true")
    p.add_argument("--json", help="write the result here (default: print it)")
    return p.parse_args()


def settle(torch, args):
    torch.manual_seed(0)
    # PyTorch's own default is the number of physical cores: half of them on a virtual machine.
    torch.set_num_threads(args.threads or len(os.sched_getaffinity(0)))
    if args.device == "cuda":
        if not torch.cuda.is_available():
            raise RuntimeError("this PyTorch sees no CUDA device")
        torch.backends.cudnn.benchmark = True
        # PyTorch lets cuDNN use TF32 unless told otherwise: f32 here means f32.
        tf32 = args.dtype != "f32"
        try:
            torch.backends.cuda.matmul.allow_tf32 = tf32
            torch.backends.cudnn.allow_tf32 = tf32
        except (AttributeError, RuntimeError):  # the names from PyTorch 2.9 on
            torch.backends.cuda.matmul.fp32_precision = "tf32" if tf32 else "ieee"
            torch.backends.cudnn.fp32_precision = "tf32" if tf32 else "ieee"
    elif args.dtype == "tf32":
        raise ValueError("tf32 is a mode of CUDA devices")


def check_blas(torch, record):
    """Debian's PyTorch takes whatever libblas.so.3 is installed; the reference one is no peer."""
    a = torch.rand(512, 512)
    best = 1e9
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    record["blas_gflops"] = 2 * 512**3 / best / 1e9
    if record["blas_gflops"] < 10:
        record["warning"] = ("slow BLAS: no fair comparison; install libopenblas0 or use the "
                             "official PyTorch")
        print(f"warning: {record['warning']}", file=sys.stderr)


def capture(torch, step):
    """The whole step as one CUDA graph; returns the function that replays it."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(5):  # lazy state must exist before the capture, cuDNN's search be over
            step()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()

    def replay():
        graph.replay()
        return loss
    return replay


def make_step(torch, args, record):
    import nets
    channels, image, classes, batch = nets.SHAPES[args.model]
    args.batch, args.image = args.batch or batch, args.image or image
    record["case"].update(batch=args.batch, image=args.image)
    graphed = args.mode in ("cudagraph", "compile_cudagraph")
    if graphed and args.device != "cuda":
        raise ValueError(f"mode {args.mode} needs --device cuda")

    model = nets.build(args.model, args.image).to(args.device).train()
    memory_format = (torch.channels_last if args.layout == "nhwc" else torch.contiguous_format)
    model = model.to(memory_format=memory_format)
    record["batches"] = 1 if graphed else args.batches
    batches = itertools.cycle([
        (torch.rand(args.batch, channels, args.image, args.image, device=args.device)
         .contiguous(memory_format=memory_format),
         torch.randint(0, classes, (args.batch,), device=args.device))
        for _ in range(record["batches"])])
    opt, kind = nets.optimiser(args.model, model.parameters(), args.optimizer, graphed)
    record["optimizer"] = f"{type(opt).__name__} {kind}"
    record["parameters"] = sum(p.numel() for p in model.parameters())

    def autocast():
        if args.dtype != "bf16":
            return contextlib.nullcontext()
        # Every weight is used once a step, so a cache of casts would only get in a capture's way.
        return torch.autocast(args.device, dtype=torch.bfloat16, cache_enabled=False)

    def loss_of(x, y):
        with autocast():
            out = model(x)
        return torch.nn.functional.cross_entropy(out.float(), y)

    if args.mode.startswith("compile"):
        if not hasattr(torch, "compile"):
            raise RuntimeError(f"PyTorch {torch.__version__} has no torch.compile")
        mode = args.compile_mode
        if graphed and mode == "max-autotune":
            mode = "max-autotune-no-cudagraphs"
        elif graphed:
            mode = "default"
        record["compile_mode"] = mode
        loss_of = torch.compile(loss_of, mode=mode)

    new_step = getattr(getattr(torch, "compiler", None), "cudagraph_mark_step_begin", None)
    if args.mode != "compile" or args.device != "cuda":
        new_step = None

    def step():
        if new_step:  # torch.compile's own graphs reuse the buffers of the step before
            new_step()
        opt.zero_grad(set_to_none=True)
        loss = loss_of(*next(batches))
        loss.backward()
        opt.step()
        return loss

    if not graphed:
        return step
    # Captured at the first call, so that the time this takes is in `first_step_s`.
    holder = {}

    def graph_step():
        if "replay" not in holder:
            holder["replay"] = capture(torch, step)
        return holder["replay"]()
    return graph_step


def profile(torch, step, record):
    """Kernels and device time of a step, where the profiler is allowed to look."""
    from torch.profiler import ProfilerActivity
    steps = 5
    with torch.profiler.profile(activities=[ProfilerActivity.CUDA]) as prof:
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
    events = [e for e in prof.events() if "CUDA" in str(e.device_type)]
    busy = sum(e.time_range.elapsed_us() for e in events)
    record["profile"] = {"device_events_per_step": len(events) / steps,
                         "device_busy_ms": busy / 1e3 / steps}


def body(args, record):
    if args.expandable_segments:
        os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"
    import torch
    record["torch"] = torch.__version__
    settle(torch, args)
    cuda = args.device == "cuda"
    if cuda:
        record["machine"]["gpu"] = torch.cuda.get_device_name()
        record["cudnn"] = torch.backends.cudnn.version()
    record["threads"] = torch.get_num_threads()
    if not cuda:
        check_blas(torch, record)
    step = make_step(torch, args, record)
    last = {}

    def timed():
        last["loss"] = step()

    def read_loss(key):
        record[key] = float(last["loss"].detach())

    sync = torch.cuda.synchronize if cuda else lambda: None
    record.update(measure.time_step(timed, sync, seconds=args.seconds, blocks=args.blocks,
                                    after_first=lambda: read_loss("loss_first")))
    read_loss("loss_last")
    if record["loss_last"] != record["loss_last"]:
        raise RuntimeError("the loss is NaN")
    record["images_per_s"] = args.batch * 1e3 / record["ms"]["median"]
    if cuda:
        record["peak_bytes"] = torch.cuda.max_memory_allocated()
        record["reserved_bytes"] = torch.cuda.max_memory_reserved()
    if args.profile and cuda:
        measure.write(args.json, record)  # should the profiler hang, the times are safe
        try:
            profile(torch, timed, record)
        except Exception as e:  # no permission, no CUPTI: the times stand without it
            record["profile_error"] = f"{type(e).__name__}: {e}"[:500]
    ms = record["ms"]
    print(f"{args.model} b{args.batch} {args.dtype} {args.layout} {args.mode}: "
          f"{ms['median']:.3f} ms [{ms['low']:.3f}, {ms['high']:.3f}], first step "
          f"{record['first_step_s']:.1f} s, loss {record['loss_first']:.3f} -> "
          f"{record['loss_last']:.3f}", file=sys.stderr)


if __name__ == "__main__":
    ARGS = parse()
    sys.exit(measure.run(ARGS, lambda record: body(ARGS, record)))

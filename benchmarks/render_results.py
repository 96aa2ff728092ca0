#!/usr/bin/env python3
"""Puts the figures of a results folder into a document.

    render_results.py FOLDER DOCUMENT.md [PREFIX]

What stands between `<!-- begin NAME -->` and `<!-- end NAME -->` is replaced; a table whose JSON
file is missing is left as it is. Marks without a prefix are the CPU's: figures of another machine
need marks of their own, `<!-- begin PREFIX-NAME -->`.
"""

import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers"))
import measure  # noqa: E402


def load(folder, name):
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(r) + " |" for r in rows])


def spread(i, digits=2):
    return f"{i['median']:.{digits}f} [{i['low']:.{digits}f}, {i['high']:.{digits}f}]"


def machine(folder):
    for name in ("tradeoff-lenet-nchw.json", "tradeoff-lenet-channels_last.json"):
        r = load(folder, name)
        if r:
            m = r["machine"]
            return (f"{m['cpu']}, {m['cpus']} cores, {m['memory']}; Tandem {m['tandem']}, "
                    f"{m['backend']}; compiler {m['compiler']}.")
    return None


TARGETS = {  # benchmark: (what, ns)
    "add_without_tape/4": ("add, without tape", 120),
    "add_with_tape/4": ("add, with tape", 200),
    "chain_forward_backward/16": ("chain of 16 adds, forward + backward, per add", 600),
    "replay_unfused/64": ("compiled, 64 adds, one launch each, per add", 40),
    "replay_fused/64": ("compiled, 64 adds, as compiled (fused), per add", 40),
    "replay_bare/64": ("the same without memory plan and passes, per add", None),
    "view_op": ("reshape, without tape", None),
    "plan_cache_lookup": ("of these: plan-cache lookup", None),
    "empty_tensor": ("of these: one new tensor and its end", None),
}


def medians(folder):
    """ns an operation, of bench_overhead."""
    r = load(folder, "overhead.json")
    # With repetitions there are aggregates; the median is the one to show.
    return r and {b.get("run_name", b["name"]): b["per_op"] * 1e9 for b in r["benchmarks"]
                  if b.get("aggregate_name", "median") == "median"}


def overhead(folder):
    found = medians(folder)
    if not found:
        return None
    rows = []
    for name, (what, target) in TARGETS.items():
        if name in found:
            rows.append([what, f"{found[name]:.0f}", f"<= {target}" if target else "", f"`{name}`"])
    return table(["operation on 4 floats, one thread", "ns", "target", "benchmark"], rows)


def python(folder):
    r, cpp = load(folder, "python-overhead.json"), medians(folder)
    if not r or not cpp:
        return None
    ns = r["ns_per_call"]
    call, bare = ns["compiled_call"], cpp["replay_unfused/1"]
    rows = [["`a + b`, without tape", spread(ns["add"], 0), "<= 350"],
            ["`a + b`, with tape", spread(ns["add_with_tape"], 0), "<= 500"],
            ["a compiled function, one add", spread(call, 0), ""],
            ["of these: more than from C++", f"{call['median'] - bare:.0f}", "<= 20000"]]
    small = table(["operation on 4 floats from Python, one thread", "ns", "target"], rows)
    e1, interval = r["e1_us"], r["check_interval"]
    if "more from Python" not in e1:  # made without --bench
        return small
    more, share = e1["more from Python"], e1["recording"]["median"] / interval
    rows = [["between two replays, from C++", spread(e1["between replays, from C++"], 1), ""],
            ["between two replays, from Python", spread(e1["between replays, from Python"], 1), ""],
            ["of these: more than from C++", spread(more, 1), "<= 20"],
            [f"the recording for comparison, at each {interval}th call", spread(e1["recording"], 0), ""],
            ["more than from C++, with a call's share of that", f"{more['median'] + share:.1f}",
             "<= 20"]]
    return small + "\n\n" + table(["compiled training step of E1, batch 64, one thread", "us", "target"],
                                   rows)


def kernels(folder):
    r = load(folder, "kernels.json")
    if not r:
        return None
    rows = []
    for b in r["benchmarks"]:
        rows.append([re.sub("/(real|manual)_time", "", b["name"]), f"{b['real_time'] / 1e6:.3f}",
                     f"{b['GFLOP/s']:.0f}" if b.get("GFLOP/s", 0) >= 1 else "",
                     f"{b['GB/s']:.1f}", f"`{b['label']}`" if b.get("label") else ""])
    return table(["kernel", "ms", "GFLOP/s", "GB/s", "chosen"], rows)


def compilation(folder):
    r = load(folder, "step.json")
    if not r:
        return None
    rows = []
    for b in r["benchmarks"]:
        part = b["name"].split("/")
        rows.append([f"{part[1]}, {part[2]} plan cache", f"{b['capture_ms']:.2f}",
                     f"{b['compile_ms']:.2f}", f"{b['capture_ms'] + b['compile_ms']:.2f}",
                     f"{b['arena_bytes'] / 1e6:.1f}", f"{b['arena_bytes'] / b['arena_bound']:.3f}"])
    return table(["step of", "capture, ms", "compile, ms", "together", "arena, MB",
                  "times the bound"], rows)


def ladder(name):
    def render(folder):
        r = load(folder, name)
        if not r:
            return None
        rows = []
        gpu = "busy_from" in r
        for a in r["arms"]:
            same = f" (= {a['same_program_as']})" if "same_program_as" in a else ""
            costs = [a[k] for k in ("capture_ms", "compile_ms", "record_ms") if k in a]
            device = [f"{a['busy_ms'] * 1e3:.0f}", f"{a['idle_part'] * 100:.1f}"] if gpu else []
            rows.append([a["name"] + same, spread(a["step_ms"]), spread(a["ratio_to_eager"], 3),
                         f"{a['host_ms'] * 1e3:.0f}", *device, f"{a['launches']:.0f}",
                         f"{a['allocations']:.0f}", f"{a['peak_bytes'] / 1e6:.1f}",
                         f"{sum(costs):.2f}" if costs else ""])
        text = table(["arm", "step, ms", "times eager", "host, us",
                      *(["busy, us", "idle, %"] if gpu else []), "launches", "allocations",
                      "peak, MB", "capture + compile, ms"], rows)
        f = r["forecast"]
        said = (f"the device busy for {f['kernel_ms']:.3f} of {f['step_ms']:.3f} ms "
                f"(idle {f['host_part'] * 100:.1f} %). Busy times are from {r['busy_from']}."
                if gpu else
                f"{f['kernel_ms']:.2f} ms inside kernels, {f['host_ms']:.3f} ms "
                f"({f['host_part'] * 100:.1f} %) outside.")
        command = re.sub(r"^\S*/| --json \S+", "", r["command"])
        return (f"`{command}`: {r['rounds']} rounds, medians [95 % interval].\n"
                f"\n{text}\n\nForecast from the eager profile: {f['bound']}, {said}")
    return render


def torch(folder):
    r = load(folder, "beside-torch.json")
    if not r:
        return None
    rows, notes = [], []
    for model, m in r["models"].items():
        for k in m["ms"]:
            rows.append([model, k + (" (best)" if k == m["torch_best"] else ""), spread(m["ms"][k]),
                         spread(m["over_torch"][k], 3)])
        runs = m.get("runs", [])
        parts = f" (runs of {', '.join(map(str, runs))})" if len(runs) > 1 else ""
        notes.append(f"{model}: PyTorch {m['torch']}, {len(m['ms'][m['torch_best']]['rounds'])} "
                     f"rounds in turn{parts}, `{m['command']}`.")
        if "warning" in m:
            notes.append(f"**Warning:** {m['warning']}")
    text = table(["net", "", "step, ms", "times PyTorch's best"], rows)
    lenet = r["models"].get("lenet", {})
    e1 = lenet.get("ms", {})

    def fastest(what):
        return min((f"{what} {layout}" for layout in ("nchw", "channels_last")),
                   key=lambda k: lenet["over_torch"][k]["median"])

    for mode, target in (("eager", 0.75), ("compiled", 0.55)) if e1 else ():
        # The layout that people get when they ask for none, and the better of both.
        pairs = ((e1[f"tandem {mode} nchw"], e1["torch eager nchw"]),
                 (e1[fastest(f"tandem {mode}")], e1[lenet["torch_best"]]))
        ratios = [measure.interval([a / b for a, b in zip(x["rounds"], y["rounds"])])
                  for x, y in pairs]
        # Only a whole interval on one side decides.
        verdict = [f"{'met' if x['high'] <= target else 'missed' if x['low'] > target else 'open'} "
                   f"({spread(x)})" for x in ratios]
        text += (f"\n\nE1 {mode}, target {target:.2f}: {verdict[0]} against PyTorch in its default "
                 f"layout, {verdict[1]} best layout against best layout.")
    return "\n\n".join([*notes, text])


def onednn(folder):
    r = load(folder, "onednn-kernels.json")
    if not r:
        return None
    kinds = [(t, m) for t in ("f32", "bf16") for m in ("contiguous", "channels_last")]
    rows = []
    for op in dict.fromkeys(x["op"] for x in r["rows"]):
        row = [op]
        for kind in kinds:
            ratios = [x["own_over_onednn"]["median"] for x in r["rows"]
                      if x["op"] == op and (x["dtype"], x["layout"]) == kind]
            row.append(f"{min(ratios):.2f} to {max(ratios):.2f}" if ratios else "")
        rows.append(row)
    head = ["own kernel's time over oneDNN's"] + [f"{t} {m.replace('_', '-')}" for t, m in kinds]
    return (f"oneDNN {r['onednn']}, {r['threads']} threads, {r['rounds']} rounds in turn; each range "
            "is over the medians of the shapes.\n\n" + table(head, rows))


SECTIONS = {
    "machine": machine, "overhead": overhead, "python": python, "compilation": compilation,
    "torch": torch,
    "onednn": onednn,
    "ladder-nchw": ladder("tradeoff-lenet-nchw.json"),
    "ladder-channels-last": ladder("tradeoff-lenet-channels_last.json"), "kernels": kernels,
}


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    folder, document, *prefix = sys.argv[1:]
    with open(document, encoding="utf-8") as f:
        text = f.read()
    for name, render in SECTIONS.items():
        name = "-".join([*prefix, name])
        new = render(folder)
        if new is None:
            print(f"{name}: no figures, left as it is", file=sys.stderr)
            continue
        mark = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.S)
        text, n = mark.subn(lambda m, new=new: m.group(1) + new + "\n" + m.group(2), text)
        if n != 1:
            sys.exit(f"{document} has no place for '{name}'")
    with open(document, "w", encoding="utf-8") as f:
        f.write(text)


if __name__ == "__main__":
    main()

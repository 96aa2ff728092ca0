"""python -m tandem.train: trains a net of the experiments eagerly, compiled, or both side by side.

As the program tandem-train, from Python: the same options, data and optimisers.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import struct
import sys
import time
from typing import Any, Sequence

from . import _core, nn, tradeoff
from ._console import (INTERRUPTED, Progress, add_common_options, apply_common_options,
                       check_writable, duration, interrupted, number, run_program, write_json)
from .data import DataLoader, dataset_names, load_dataset
from .metrics import Accuracy
from .model import Model


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m tandem.train",
        description="Trains a net of the experiments. With --mode both (the default) it is trained "
        "eagerly and compiled, step by step on the same data from the same seed, and the program "
        "fails unless both give the same losses bit for bit.")
    p.add_argument("--model", choices=[r["name"] for r in tradeoff.recipes()], default="lenet",
                   help="the net [%(default)s]")
    p.add_argument("--data-set", choices=dataset_names(),
                   help="what to train on [mnist or cifar10 with --data, else synthetic images]")
    p.add_argument("--data", default="", metavar="DIR",
                   help="folder of the data set's files [the environment's TANDEM_DATA]")
    p.add_argument("--mode", choices=["eager", "compiled", "both"], default="both",
                   help="[%(default)s]")
    p.add_argument("--epochs", type=number(int, 1, 100000), help="[5; --quick: 1]")
    p.add_argument("--batch-size", "--batch", type=number(int, 1, 1 << 20), default=0,
                   help="images per step [the experiment's: 64; resnets 32]")
    p.add_argument("--limit-batches", type=number(int, 1, 1 << 30), default=0,
                   help="use only so many batches of each epoch")
    p.add_argument("--optimizer", "--optimiser", choices=["adam", "adamw", "sgd"],
                   help="[lenet: adam, others: sgd]")
    p.add_argument("--lr", type=number(float, 1e-12, 1e6),
                   help="learning rate [adam 0.001, sgd 0.01]")
    p.add_argument("--momentum", type=number(float, 0, 1), help="of sgd [0.9]")
    p.add_argument("--weight-decay", type=number(float, 0, 1e6), help="[resnets: 1e-4 to 5e-4]")
    p.add_argument("--quick", action="store_true",
                   help="one epoch of 40 batches, and 2,000 test images")
    add_common_options(p)
    return p


def _settle(o: argparse.Namespace) -> None:
    # Fills in what was not given.
    recipe = next(r for r in tradeoff.recipes() if r["name"] == o.model)
    o.batch_size = o.batch_size or (32 if o.model == "resnet50" else recipe["batch_size"])
    o.optimizer = o.optimizer or recipe["optimizer"]
    own, sgd = o.optimizer == recipe["optimizer"], o.optimizer == "sgd"
    if o.lr is None:
        o.lr = recipe["lr"] if own else 1e-2 if sgd else 1e-3
    if o.momentum is None:
        o.momentum = 0.9 if sgd else 0.0
    if o.weight_decay is None:
        o.weight_decay = recipe["weight_decay"] if own else 0.0
    o.data = o.data or os.environ.get("TANDEM_DATA", "")
    digits = o.model == "lenet"
    if o.data_set is None:
        if o.data:
            o.data_set = "mnist" if digits else "cifar10"
        else:
            o.data_set = "synthetic-digits" if digits else "synthetic-cifar"
    if not o.data_set.startswith("synthetic") and not o.data:
        raise _core.DataError(
            f"[data] {o.data_set} needs files; got no folder; expected --data DIR or "
            "TANDEM_DATA=DIR"
        )
    # What is quick unless it was named.
    o.epochs = o.epochs or (1 if o.quick else 5)
    if o.quick:
        o.limit_batches = o.limit_batches or 40


class _Runner:
    """One net, trained in one mode. Both share the default generator: so that each draws the
    numbers it would draw alone, each takes its own place in the sequence along."""

    def __init__(self, o: argparse.Namespace, classes: int, compiled: bool):
        self.name = "compiled" if compiled else "eager"
        self.step_ms: list[float] = []
        self.losses: list[float] = []
        _core.manual_seed(o.seed)
        self.net = nn.make_model(o.model, layout=o.layout, dtype=o.dtype,
                                 classes=classes if o.model.startswith("resnet") else None)
        kinds: dict[str, Any] = {"sgd": _core.SGD, "adam": _core.Adam, "adamw": _core.AdamW}
        options = {"lr": o.lr, "weight_decay": o.weight_decay}
        if o.optimizer == "sgd":
            options["momentum"] = o.momentum
        self.model = Model(self.net, kinds[o.optimizer](self.net.parameters(), **options),
                           metrics=[Accuracy()], compile=compiled, autocast=o.autocast)
        self._generator = _core.default_generator(_core.get_default_device())
        self._pause()

    def _pause(self) -> None:
        self._draws = self._generator.state.tolist()

    def step(self, x: Any, y: Any) -> float:
        self._generator.set_state(*self._draws)
        device = _core.get_default_device()
        x, y = x.to(device), y.to(device)
        start = time.perf_counter()
        loss = self.model.train_step(x, y)
        _core.synchronize(device)
        self.step_ms.append((time.perf_counter() - start) * 1e3)
        self._pause()
        self.losses.append(float(loss))
        return self.losses[-1]

    def evaluate(self, loader: Any, most: int) -> float:
        def batches() -> Any:
            for i, batch in enumerate(loader):
                if interrupted() or (most and i >= most):
                    return
                yield batch

        return self.model.evaluate(batches())["accuracy"]


def _bits(x: float) -> bytes:
    # So that NaN equals itself and -0 does not equal 0.
    return struct.pack("<d", x)


class _Training:
    def __init__(self, o: argparse.Namespace):
        self.o = o
        self.train_set, self.test_set = load_dataset(o.data_set, o.data)
        modes = {"both": [False, True], "eager": [False], "compiled": [True]}[o.mode]
        self.runners = [_Runner(o, self.train_set.classes, compiled) for compiled in modes]
        self._check_fit()
        shared = {"layout": o.layout, "dtype": o.dtype, "seed": o.seed}
        self.loader = DataLoader(self.train_set, batch_size=o.batch_size, **shared)
        self.test = DataLoader(self.test_set, batch_size=500, shuffle=False, **shared)
        self.per_epoch = len(self.loader)
        if o.limit_batches:
            self.per_epoch = min(self.per_epoch, o.limit_batches)
        self.progress = Progress()
        self.epochs: list[dict] = []
        self.found: dict = {}

    def _check_fit(self) -> None:
        have, want = tuple(self.train_set.image_shape), tuple(self.runners[0].net.input_shape)
        # Residual nets end in an average over the whole image and take any size.
        if have != want and not (self.o.model.startswith("resnet") and have[0] == want[0]):
            raise _core.ShapeError(
                f"[train] {self.o.model} does not take the images of {self.o.data_set}; "
                f"got {have}; expected {want}"
            )

    def run(self) -> int:
        self._introduce()
        status = 0
        for epoch in range(self.o.epochs):
            status = self._epoch(epoch)
            if status:
                break
        self.progress.clear()
        if status == INTERRUPTED:
            print(f"Stopped after {len(self.runners[0].losses)} steps.")
        equal = self._conclude()
        return status if status or equal else 1

    def _introduce(self) -> None:
        o, d, net = self.o, self.train_set, self.runners[0].net
        how = "eager and compiled side by side" if o.mode == "both" else o.mode
        print(_core._tradeoff.machine_text())
        print(f"{o.model}: {sum(p.size for p in net.parameters())} parameters, {o.optimizer} "
              f"lr {o.lr:g}, batch {o.batch_size}, {self._precision()}, {how}, seed {o.seed}")
        print(f"{d.name}: {len(d)} training and {len(self.test_set)} test images of "
              f"{list(d.image_shape)}")
        if d.synthetic:
            print("NOTE: these images are GENERATED (synthetic), not real ones: the accuracy says "
                  "that training works, nothing more.")
        if self.per_epoch < len(self.loader):
            print(f"Only {self.per_epoch} of the {len(self.loader)} batches of an epoch are used.")
        print(flush=True)

    def _precision(self) -> str:
        o = self.o
        text = str(o.dtype) + (f", autocast {o.autocast}" if o.autocast else "")
        return text + (", TF32" if _core.get_policy().tf32 else "")

    def _epoch(self, epoch: int) -> int:
        start, total, n, images = time.perf_counter(), 0.0, 0, 0
        for x, y in self.loader:
            if n >= self.per_epoch:
                break
            if interrupted():
                return INTERRUPTED
            loss = self._step(x, y)
            if not math.isfinite(loss):
                self.progress.clear()
                print(f"error: the loss is {loss} at step {len(self.runners[0].losses)}: try a "
                      "smaller --lr", file=sys.stderr)
                return 1
            total, n, images = total + loss, n + 1, images + y.size
            seconds = time.perf_counter() - start
            left = seconds / n * (self.o.epochs * self.per_epoch - epoch * self.per_epoch - n)
            self.progress.show(f"epoch {epoch + 1}/{self.o.epochs}", n / self.per_epoch,
                               f"loss {total / n:.4f}  {images / seconds:.0f} images/s  "
                               f"{duration(left)} left")
        seconds = time.perf_counter() - start
        entry: dict = {"epoch": epoch + 1, "loss": total / n, "seconds": seconds,
                       "images_per_second": images / seconds, "test_accuracy": {}}
        line = (f"epoch {epoch + 1:>2}/{self.o.epochs}  loss {total / n:.4f}  "
                f"{images / seconds:>6.0f} images/s  {duration(seconds):>5}  test accuracy")
        for r in self.runners:
            self.progress.show("evaluating", 1, r.name)
            if interrupted():
                return INTERRUPTED
            accuracy = r.evaluate(self.test, 4 if self.o.quick else 0)
            line += f"  {accuracy * 100:.2f} % ({r.name})"
            entry["test_accuracy"][r.name] = accuracy
        if interrupted():
            return INTERRUPTED
        self.progress.clear()
        print(line, flush=True)
        self.epochs.append(entry)
        return 0

    def _step(self, x: Any, y: Any) -> float:
        # Who goes first changes from step to step: the second finds the batch in the cache.
        order = self.runners if len(self.runners[0].losses) % 2 == 0 else self.runners[::-1]
        for r in order:
            r.step(x, y)
        return self.runners[0].losses[-1]

    def _conclude(self) -> bool:
        # What both modes have in common, and not. Whether they were equal.
        n = min(len(r.losses) for r in self.runners)
        if n == 0:
            return True
        # Captures and first-time planning are the first steps'.
        warm = min(3, n - 1)
        print(f"\nTime of a training step (median, 95 % interval; the first {warm} left out)")
        self.found["step_ms"] = {}
        for r in self.runners:
            t, low, high = tradeoff.median_interval(r.step_ms[warm:])
            first = r.step_ms[0]
            print(f"  {r.name:<9} {t:.3f} ms [{low:.3f}, {high:.3f}]   first step {first:.1f} ms")
            self.found["step_ms"][r.name] = {"median": t, "low": low, "high": high,
                                             "first": first, "steps": n - warm}
        if len(self.runners) == 1:
            return True
        eager, compiled = self.runners
        t, low, high = tradeoff.paired_ratio(compiled.step_ms[warm:n], eager.step_ms[warm:n])
        print(f"  compiled takes {t:.3f} [{low:.3f}, {high:.3f}] times as long as eager")
        self.found["ratio"] = {"median": t, "low": low, "high": high}
        return self._compare(eager, compiled, n)

    def _compare(self, eager: _Runner, compiled: _Runner, n: int) -> bool:
        different = next((i for i in range(n)
                          if _bits(eager.losses[i]) != _bits(compiled.losses[i])), None)
        self.found["losses_equal"] = different is None
        if different is not None:
            self.found["first_difference_at_step"] = different + 1
            print(f"\nThe losses DIFFER, first at step {different + 1}: eager "
                  f"{eager.losses[different]:.9g}, compiled {compiled.losses[different]:.9g}. This "
                  "is a defect.")
            return False
        a, b = eager.model.state_dict(), compiled.model.state_dict()
        unequal = next((k for k in a if bytes(_core._to_bytes(a[k].detach().cpu().contiguous()))
                        != bytes(_core._to_bytes(b[k].detach().cpu().contiguous()))), None)
        self.found["states_equal"] = unequal is None
        if unequal is not None:
            print(f"\nAll {n} losses were equal bit for bit, but '{unequal}' DIFFERS at the end. "
                  "This is a defect.")
            return False
        print(f"\nEager and compiled were equal bit for bit: all {n} losses, and at the end every "
              "parameter, buffer and optimiser slot.")
        return True

    def json(self, command: str) -> dict:
        o = self.o
        return {
            **self.found,
            "command": command,
            "machine": json.loads(_core._tradeoff.machine_json()),
            "model": o.model,
            "data_set": self.train_set.name,
            "synthetic": self.train_set.synthetic,
            "batch": o.batch_size,
            "precision": self._precision(),
            "optimiser": {"name": o.optimizer, "lr": o.lr, "momentum": o.momentum,
                          "weight_decay": o.weight_decay},
            "seed": o.seed,
            "steps": len(self.runners[0].losses),
            "epochs": self.epochs,
            "losses": {r.name: r.losses for r in self.runners},
        }


def main(argv: "Sequence[str] | None" = None) -> int:
    """Runs the program; its exit status."""
    o = _parser().parse_args(argv)
    command = " ".join(["python -m tandem.train", *(sys.argv[1:] if argv is None else argv)])

    def body() -> int:
        check_writable(o.json)
        apply_common_options(o)
        _settle(o)
        training = _Training(o)
        status = training.run()
        write_json(o.json, training.json(command))
        return status

    return run_program(body)


if __name__ == "__main__":
    sys.exit(main())

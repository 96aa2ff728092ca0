"""Eager against compiled: the same training step both ways, the same numbers, another time.

    python examples/eager_and_compiled.py
"""

from __future__ import annotations

import time
from typing import Any, Callable

import tandem as td
from tandem import data, nn, optim


def make_step(seed: int) -> tuple[Callable[[td.Tensor, td.Tensor], td.Tensor], nn.Module]:
    """A network and its training step: forward, backward and update."""
    td.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(8 * 14 * 14, 10),
    )
    opt = optim.SGD(net.parameters(), lr=0.05, momentum=0.9)

    def step(x: td.Tensor, y: td.Tensor) -> td.Tensor:
        opt.zero_grad()
        loss = nn.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
        return loss

    return step, net


def run(step: Callable[..., td.Tensor],
        batches: list[tuple[td.Tensor, td.Tensor]]) -> tuple[list[float], float]:
    """The losses, and milliseconds for a step after the first ones."""
    td.manual_seed(1)  # of the dropout
    losses: list[td.Tensor] = []
    start = 0.0
    for i, (x, y) in enumerate(batches):
        if i == 5:
            start = time.perf_counter()
        losses.append(step(x, y))
    ms = (time.perf_counter() - start) / (len(batches) - 5) * 1e3
    return [loss.item() for loss in losses], ms


def main(steps: int = 30) -> Any:
    train, _ = data.load_dataset("synthetic-digits")
    loader = data.DataLoader(train, batch_size=32, seed=1)
    batches = [batch for batch, _ in zip(loader, range(steps))]

    eager, eager_net = make_step(0)
    plain, compiled_net = make_step(0)
    compiled = td.compile(plain)  # the one line that differs

    a, eager_ms = run(eager, batches)
    b, compiled_ms = run(compiled, batches)
    print(f"eager    {eager_ms:6.2f} ms a step, last loss {a[-1]!r}")
    print(f"compiled {compiled_ms:6.2f} ms a step, last loss {b[-1]!r}")
    assert a == b, "every loss is equal to the last bit"
    for p, q in zip(eager_net.parameters(), compiled_net.parameters()):
        assert p.tolist() == q.tolist()
    print("All losses and all weights are equal, bit for bit.\n")

    print("Why programs were captured:")
    for entry in compiled.ledger():
        print("  ", entry["reason"])
    print("\nWhat became of the program:")
    print(compiled.explain())

    # What cannot be captured is an error, never a wrong answer at replay.
    @td.compile
    def branch(t: td.Tensor) -> td.Tensor:
        return t if t.sum() > 0 else -t

    try:
        branch(td.ones(3))
    except td.CaptureError as e:
        print("As it should be:", e)
    return compiled


if __name__ == "__main__":
    main()

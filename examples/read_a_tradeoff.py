"""Run the experiment on a small net, and read its report: where does the time go?

    python examples/read_a_tradeoff.py [SECONDS]

One training step is run eagerly and by compiled programs that differ in one factor at a time. All
compute the same bits, so what a stopwatch shows between two of them is that factor.
"""

from __future__ import annotations

import sys
from typing import Callable

import tandem as td
from tandem import nn


def step_of_a_small_net() -> tuple[Callable[..., td.Tensor], dict[str, td.Tensor]]:
    """What `run` times: a training step, and the tensors it changes."""
    td.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.Tanh(), nn.Linear(64, 10))
    opt = td.optim.SGD(net.parameters(), lr=0.05)

    def step(x: td.Tensor, y: td.Tensor) -> td.Tensor:
        opt.zero_grad()
        loss = nn.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
        return loss

    return step, dict(net.state_dict())


def main(seconds: float = 10.0) -> td.tradeoff.Result:
    train, _ = td.data.load_dataset("synthetic-digits")
    batch = train.get(list(range(32)))
    result = td.tradeoff.run(step_of_a_small_net, [batch], name="small net", seconds=seconds)

    # 1. The ladder: each arm is a way to run the step, with one thing more than the one before.
    print("1. Time of a step, in times of the eager one's:")
    for arm in result.arms:
        ratio = arm.get("ratio_to_eager")
        if ratio:
            print(f"   {arm['name']:34} {ratio['median']:.3f}  "
                  f"[{ratio['low']:.3f}, {ratio['high']:.3f}]")

    # 2. The interval says how sure that is. Where it holds 1, no difference was found.
    median, low, high = result.ratio
    verdict = "faster" if high < 1 else "slower" if low > 1 else "no different, as far as was seen"
    print(f"\n2. Compiled takes {median:.3f} [{low:.3f}, {high:.3f}] times eager: {verdict}.")

    # 3. The factors: what each saves where it is added, and is missed by where it is left out. The
    #    two differ where one factor does what another would have done.
    print("\n3. What each factor is worth, in milliseconds a step:")
    for factor in result.factors:
        if factor["found_nothing"]:
            print(f"   {factor['name']:12} nothing to do here")
            continue
        parts = []
        for key, words in (("saved_by_adding_ms", "saves"),
                           ("lost_by_leaving_out_ms", "missed by")):
            if key in factor:
                v = factor[key]
                parts.append(f"{words} {v['median']:+.4f} [{v['low']:+.4f}, {v['high']:+.4f}]")
        print(f"   {factor['name']:12} {', '.join(parts)}: {factor['meaning']}")

    # 4. All of it in words.
    print("\n4. The report:")
    print(result.table)
    return result


if __name__ == "__main__":
    report = main(float(sys.argv[1]) if len(sys.argv) > 1 else 10.0)
    if len(sys.argv) > 2:
        report.to_html(sys.argv[2])

"""Schedules by rules of one's own, and steps whose gradients are scaled."""

import math

import pytest
import tandem as td
from tandem import optim


def optimiser(*rates):
    groups = [{"params": [td.ones(1).requires_grad_()], "lr": lr} for lr in rates]
    return optim.SGD(groups)


def test_a_rule_says_the_rates():
    opt = optimiser(1.0, 0.5)
    rule = optim.ScheduleRule(lambda t, base: base / (1 + t))
    assert rule.base == [] and rule.rate(3, 2.0) == 0.5
    schedule = optim.Schedule(opt, rule)
    assert schedule.rule.base == [1.0, 0.5]  # what the optimiser had
    assert schedule.lr(3) == 0.25 and schedule.lr(3, group=1) == 0.125
    schedule.step()
    assert (opt.get_lr(0), opt.get_lr(1)) == (0.5, 0.25)


@pytest.mark.parametrize("base, want", [([4.0], [4.0, 4.0]), ((4.0, 2.0), [4.0, 2.0])])
def test_a_rule_has_base_rates_of_its_own(base, want):
    opt = optimiser(1.0, 0.5)
    schedule = optim.Schedule(opt, rule=optim.ScheduleRule(rate=lambda t, b: b * 0.5 ** t, base=base))
    assert schedule.rule.base == want
    assert [opt.get_lr(0), opt.get_lr(1)] == want
    schedule.steps = 2
    assert [opt.get_lr(0), opt.get_lr(1)] == [b / 4 for b in want]


def test_the_rules_of_the_schedules_there_are():
    opt = optimiser(0.8)
    rule = optim.CosineAnnealingLR(opt, T_max=10, eta_min=0.1).rule
    assert rule.base == [0.8]
    assert math.isclose(rule.rate(5, 0.8), 0.45) and math.isclose(rule.rate(10, 3.0), 0.1)
    top = optim.OneCycleLR(optimiser(1.0, 1.0), max_lr=[2.0, 1.0], total_steps=10).rule
    assert top.base == [2.0, 1.0]
    # One's rule is another's: of another optimiser, or twice as fast.
    other = optimiser(0.8)
    optim.Schedule(other, optim.ScheduleRule(lambda t, b: rule.rate(2 * t, b))).steps = 5
    assert math.isclose(other.lr, 0.1)


def test_rules_that_do_not_fit():
    with pytest.raises(td.RangeError, match="one rate for all groups or one per group; got 3; expected 1 or 2"):
        optim.Schedule(optimiser(1.0, 1.0), optim.ScheduleRule(lambda t, b: b, [1.0] * 3))
    for wrong in (None, 3):
        with pytest.raises(TypeError):
            optim.ScheduleRule(wrong)
        with pytest.raises(TypeError):
            optim.Schedule(optimiser(1.0), wrong)
    with pytest.raises(ZeroDivisionError):
        optim.Schedule(optimiser(1.0), optim.ScheduleRule(lambda t, b: 1 / t))


def test_a_step_with_scaled_gradients():
    w = td.tensor([3.0], requires_grad=True)
    opt = optim.SGD([w], lr=0.5)
    (w * 8).sum().backward()
    opt.step(td.tensor([0.25, 1.0]))  # overflowed
    assert w.tolist() == [3.0]
    opt.step(scaling=td.tensor([0.25, 0.0]))
    assert w.tolist() == [3.0 - 0.5 * 8 * 0.25]
    opt.step(None)
    assert w.tolist() == [2.0 - 0.5 * 8]
    with pytest.raises(td.ShapeError):
        opt.step(td.ones(3))


def test_clipping_is_the_same_compiled():
    """nn.utils.clip_grad_norm_ between backward() and step(), with a limit that changes."""
    limit = {"norm": 0.5}

    def training(wrap):
        td.manual_seed(0)
        net = td.nn.Linear(3, 2)
        opt = optim.SGD(net.parameters(), lr=0.1)

        def step(x):
            opt.zero_grad()
            (net(x) ** 2).sum().backward()
            norm = td.nn.utils.clip_grad_norm_(net.parameters(), limit["norm"])
            opt.step()
            return norm

        return wrap(step), net

    (eager, a), (compiled, b) = training(lambda f: f), training(td.compile)
    x = td.ones(4, 3)
    for limit["norm"] in (0.5, 0.5, 100.0, 0.25, 0.25):
        assert eager(x).item() == compiled(x).item()
        assert a.weight.tolist() == b.weight.tolist()
    norm = math.sqrt(sum((p.grad ** 2).sum().item() for p in b.parameters()))
    assert math.isclose(norm, 0.25, rel_tol=1e-4)
    td.nn.utils.clip_grad_value_(b.weight, 0.01)
    assert abs(b.weight.grad).max().item() <= math.nextafter(0.01, 1)
    assert td.nn.utils.clip_grad_norm_([], 1.0).item() == 0


def test_a_schedule_goes_on_from_its_state():
    opt, other = optimiser(1.0, 0.5), optimiser(1.0, 0.5)
    schedule = optim.CosineAnnealingLR(opt, T_max=10)
    for _ in range(5):
        schedule.step()
    other.load_state_dict(opt.state_dict())
    again = optim.CosineAnnealingLR(other, T_max=10)
    again.load_state_dict(schedule.state_dict())
    for _ in range(3):
        assert [opt.get_lr(i) for i in (0, 1)] == [other.get_lr(i) for i in (0, 1)]
        schedule.step(), again.step()
    with pytest.raises(td.RangeError, match="lacks"):
        again.load_state_dict({"steps": 3})
    assert again.steps == 8


def test_what_optimisers_and_schedules_look_like():
    w = [td.ones(1, requires_grad=True)]
    assert repr(optim.Adam(w, lr=0.5)) == "Adam(lr=0.5)"
    assert repr(optimiser(1.0, 0.5)) == "SGD(lr=[1.0, 0.5])"
    schedule = optim.StepLR(optim.SGD(w), 3)
    schedule.step()
    assert repr(schedule) == "StepLR(steps=1)"


def test_what_is_no_list_of_parameters():
    net = td.nn.Linear(2, 2)
    for bad in (net.weight, None, 3):
        with pytest.raises(td.DTypeError, match="a list or another iterable"):
            optim.SGD(bad)
    for clip in (td.nn.utils.clip_grad_norm_, td.nn.utils.clip_grad_value_):
        with pytest.raises(td.DTypeError, match="parameters are tensors.*net.parameters"):
            clip(net.named_parameters(), 1.0)

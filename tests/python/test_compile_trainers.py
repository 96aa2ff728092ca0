"""Objects that count and note things beside the compiled steps they have: what changes for nothing."""

import dataclasses
import operator
import types
import warnings

import pytest

import tandem as td
from tandem import nn

from read_cases import ONE, Plain


class Trainer:
    seen = 0

    def __init__(self):
        super().__init__()
        self.rate, self.step_number, self.losses = 2.0, 0, []

    @td.compile
    def step(self, x):
        return x * self.rate

    def after(self):
        self.step_number += 1
        self.losses.append(float(self.step_number))
        type(self).seen += 1


class TrainerModule(Trainer, nn.Module):
    pass


@pytest.mark.parametrize("kind", [Trainer, TrainerModule])
def test_counters_that_are_not_read_are_forgiven(kind, traces):
    trainer = kind()
    for _ in range(100):
        assert trainer.step(ONE).tolist() == [2, 2]
        trainer.after()
    # Two at the capture; three until they are forgiven, a fourth when the list is long; from then on
    # after 1, 2, 4 … calls; and the checks at calls 4, 8, 16, 32 and 64.
    assert len(traces) <= 2 + 3 + 1 + 7 + 5
    trainer.rate = 3.0
    trainer.after()
    assert trainer.step(ONE).tolist() == [3, 3]
    [entry] = [e for e in trainer.step.ledger() if e["confirmed"]]
    assert 3 <= entry["confirmed"] <= 11 and entry["confirm_ms"] > 0
    assert f"{kind.__name__}.step_number" in entry["last_change"]


def test_counters_of_an_argument_are_forgiven(traces):
    o = Plain()
    f = td.compile(lambda state, x: x * state.rate)
    for i in range(40):
        o.number = i
        assert f(o, ONE).tolist() == [o.rate] * 2
    assert len(traces) <= 2 + 3 + 6 + 4
    o.rate = 7.0
    assert f(o, ONE).tolist() == [7, 7]


@pytest.mark.parametrize("kind", [Trainer, TrainerModule])
def test_a_counter_that_is_read_is_not_forgiven(kind):
    class Warm(kind):
        @td.compile
        def step(self, x):
            return x * (2.0 if self.step_number < 20 else 5.0)

    trainer = Warm()
    told = []
    for i in range(24):
        with warnings.catch_warnings(record=True) as w:
            warnings.simplefilter("always")
            assert trainer.step(ONE).tolist() == [2.0 if i < 20 else 5.0] * 2
        told += [str(m.message) for m in w if "is recorded again" in str(m.message)]
        trainer.after()
    assert len(told) == 1 and "step_number" in told[0] and "losses" not in told[0]


def test_one_programs_counter_is_anothers_switch():
    o = types.SimpleNamespace(n=0)
    f = td.compile(lambda o, x, reads: x * (2.0 if reads and vars(o)["n"] > 10 else 1.0))
    for n in range(10):
        o.n = n
        assert f(o, ONE, False).tolist() == [1, 1]
    assert f(o, ONE, True).tolist() == [1, 1]
    o.n = 11
    assert f(o, ONE, True).tolist() == [2, 2] and f(o, ONE, False).tolist() == [1, 1]


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.number = 0

    def forward(self, x):
        return x * 2


@pytest.mark.parametrize("make", [Counts, lambda: nn.Sequential(nn.ReLU())])
@pytest.mark.parametrize("times", [1, 2000])
def test_another_modules_counter_is_forgiven(make, times, traces):
    counts, f = make(), td.compile(lambda x: x * 2)
    counts.number = 0
    f(ONE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(40):
            for _ in range(times):
                counts.number += 1
            f(ONE)
    assert len(traces) <= 2 + 3 + 6 + 5


def test_modules_that_cannot_be_hashed():
    @dataclasses.dataclass
    class Net(nn.Module):
        rate: float

        def __init__(self, rate):
            super().__init__()
            self.rate = rate

        def forward(self, x):
            return x * self.rate

    net, other = Net(2.0), Net(2.0)
    f = td.compile(lambda x: net(x))
    for rate in (2.0, 3.0, 5.0):
        net.rate = rate
        other.new = rate
        assert f(ONE).tolist() == [rate, rate]


def test_what_is_read_where_nobody_sees_it_is_noticed_soon():
    epoch_of = operator.attrgetter("epoch")

    class Warm:
        epoch, seen = 0, 0

        @td.compile
        def step(self, x):
            return x * (3.0 if epoch_of(self) >= 6 else 1.0)

    # Rarely: at once.
    t = Warm()
    for epoch in range(12):
        t.epoch = epoch
        for _ in range(130):
            assert t.step(ONE).tolist() == [3.0 if epoch >= 6 else 1.0] * 2
    # Several times between two calls: that is no proof of anything.
    t = Warm()
    t.step(ONE)
    for epoch in (1, 2, 3):
        t.epoch = epoch
    t.step(ONE)
    t.epoch = 6
    assert t.step(ONE).tolist() == [3, 3]
    # At each call: within 128 calls.
    t = Warm()
    for n in range(400):
        t.seen = n
        t.epoch = min(n // 50, 5)
        t.step(ONE)
    wrong = 0
    for n in range(200):
        t.seen, t.epoch = -n, 6
        try:
            wrong += t.step(ONE).tolist() != [3, 3]
        except td.CaptureError:  # of the check at call 512
            break
    assert wrong < 128


def test_a_warning_that_is_an_error_comes_before_the_step():
    t = Trainer()
    t.w = td.zeros(2)
    t.step = td.compile(lambda x: t.w.add_(x * (1.0 if t.step_number >= 0 else 2.0)).sum())
    calls = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(td.graph.CaptureWarning, match="step_number"):
            for calls in range(40):
                t.step_number += 1
                t.step(ONE)
    assert t.w.tolist() == [calls, calls]


@pytest.mark.parametrize("set_it, get", [
    (lambda: td.set_grad_enabled(False), td.is_grad_enabled),
    (lambda: td.set_autocast_mode(td.bfloat16), td.get_autocast_mode),
    (lambda: td.set_anomaly_mode(True), td.is_anomaly_mode),
    (lambda: td.set_num_threads(1 if td.get_num_threads() > 1 else 2), td.get_num_threads),
], ids=["grad", "autocast", "anomaly", "threads"])
def test_settings_of_the_thread_are_not_left_changed(set_it, get):
    before = get()

    @td.compile
    def f(x):
        set_it()
        return x * 2

    with pytest.raises(td.CaptureError, match="changes a setting of its thread"):
        f(ONE)
    assert get() == before


@pytest.mark.parametrize("inside", [False, True])
def test_nets_that_are_frozen_in_turn(inside, traces):
    """As a GAN's two are: what is frozen for one step and not for the other is as it was."""
    from tandem import optim

    def freeze(net, on):
        for p in net.parameters():
            p.requires_grad = not on

    def steps(wrap):
        td.manual_seed(0)
        g, d = nn.Linear(4, 4), nn.Linear(4, 1)
        g_opt, d_opt = optim.SGD(g.parameters(), lr=0.1), optim.SGD(d.parameters(), lr=0.1)

        def step(x, opt, other):
            if inside:
                freeze(other, True)
            opt.zero_grad()
            loss = (d(g(x)) ** 2).mean()
            loss.backward()
            opt.step()
            if inside:
                freeze(other, False)
            return loss

        g_step = wrap(lambda x: step(x, g_opt, d))
        d_step = wrap(lambda x: step(x, d_opt, g))
        x, losses = td.ones((2, 4)), []
        for _ in range(30):
            for one, other in ((g_step, d), (d_step, g)):
                if not inside:
                    freeze(other, True)
                losses.append(one(x).item())
                if not inside:
                    freeze(other, False)
            assert all(p.requires_grad for net in (g, d) for p in net.parameters())
        return losses

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled = steps(td.compile)
    assert compiled == steps(lambda f: f)
    assert len(traces) <= 2 * (2 + 1 + 3), "two at the capture, the checks at calls 4, 8 and 16"


class ByName(nn.Module):
    """What it reads nobody can tell from its byte code."""

    def __init__(self):
        super().__init__()
        self.rate_0, self.seen = 1.0, 0

    def forward(self, x):
        return x * getattr(self, f"rate_{0}", 1.0)


def set_and_deleted(net, rate):
    if rate != 1.0:
        net.rate_0 = rate
    elif hasattr(net, "rate_0"):
        del net.rate_0


@pytest.mark.parametrize("change", [lambda net, rate: setattr(net, "rate_0", rate), set_and_deleted])
@pytest.mark.parametrize("rates", [(1.0, 3.0), (1.0, 3.0, 5.0), (1.0,) * 5 + (3.0,) * 5])
@pytest.mark.filterwarnings("ignore::tandem.graph.CaptureWarning")
def test_what_changes_back_has_not_changed_for_nothing(change, rates):
    net = ByName()
    f = td.compile(net)
    for i in range(200):
        change(net, rates[i % len(rates)])
        assert f(ONE).tolist() == net(ONE).tolist()


@pytest.mark.filterwarnings("ignore::tandem.graph.CaptureWarning")
def test_what_changes_back_in_a_class():
    class Rates:
        rate_0 = 1.0

    of, f = Rates(), td.compile(lambda x, of: x * getattr(of, f"rate_{0}"))
    for i in range(200):
        Rates.rate_0 = (1.0, 3.0)[i % 2]
        assert f(ONE, of).tolist() == [Rates.rate_0] * 2


def test_a_counter_beside_two_programs_in_turn_is_forgiven(traces):
    class Counted(nn.Dropout):
        seen = 0

    net = Counted(0.5)
    f = td.compile(lambda x: net(x))
    for i in range(200):
        net.train(i % 2 == 0)
        net.seen += 1
        f(ONE)
    assert len(f) == 2 and len(traces) < 60

"""Objects that count and note things beside the compiled steps they have: what changes for nothing."""

import types
import warnings

import pytest

import tandem as td
from tandem import nn

from test_compile_reads import ONE, Plain


class Trainer:
    seen = 0

    def __init__(self, kind=None):
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
    # Two at the capture; three until they are forgiven, a fourth when the list is long; checks.
    assert len(traces) <= 2 + 3 + 1 + 5
    trainer.rate = 3.0
    trainer.after()
    assert trainer.step(ONE).tolist() == [3, 3]
    [entry] = [e for e in trainer.step.ledger() if e["confirmed"]]
    assert 3 <= entry["confirmed"] <= 4 and entry["confirm_ms"] > 0
    assert f"{kind.__name__}.step_number" in entry["last_change"]


def test_counters_of_an_argument_are_forgiven(traces):
    o = Plain()
    f = td.compile(lambda state, x: x * state.rate)
    for i in range(40):
        o.number = i
        assert f(o, ONE).tolist() == [o.rate] * 2
    assert len(traces) <= 2 + 3 + 4
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


def test_one_programs_counter_is_anothers_switch(traces):
    o = types.SimpleNamespace(n=0)
    f = td.compile(lambda o, x, reads: x * (2.0 if reads and vars(o)["n"] > 10 else 1.0))
    for n in range(10):
        o.n = n
        assert f(o, ONE, False).tolist() == [1, 1]
    assert f(o, ONE, True).tolist() == [1, 1]
    o.n = 11
    assert f(o, ONE, True).tolist() == [2, 2] and f(o, ONE, False).tolist() == [1, 1]


def test_another_modules_counter_is_forgiven(traces):
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.number = 0

    counts, f = Counts(), td.compile(lambda x: x * 2)
    for i in range(40):
        counts.number += 1
        f(ONE)
    assert len(traces) <= 2 + 3 + 4

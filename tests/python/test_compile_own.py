"""What a compiled function makes itself, and what it is given, is no reason to record it again."""

import dataclasses
import gc
import types
import warnings
import weakref

import pytest

import tandem as td

from read_cases import ONE, Plain


class Temporary:
    def __init__(self, x):
        self.x, self.n = x, 0

    def step(self):
        def inner():
            self.last = self.x * 2
            self.n += 1
            return sum(self.x * i for i in (1, 0)) + self.last
        return inner()

    def again(self):
        return super().__init__(), self.x * 3


def through_a_method(x):
    return Temporary(x).step()


def through_super(x):
    return Temporary(x).again()[1]


def through_a_closure(x):
    s = types.SimpleNamespace(last=None)

    def g():
        s.last = x * 2
    g()
    return s.last


def through_a_nonlocal(x):
    total = None

    def add(v):
        nonlocal total
        total = v if total is None else total + v
    add(x)
    add(x)
    return total


def through_a_decorated_closure(x):
    seen = []

    @td.no_grad()
    def keep(v):
        seen.append(v)
        return v * len(seen)
    return keep(x) + keep(x)


def through_a_generator(x):
    scale, n = x * 2, 1
    total = sum(scale * v for v in (x, x) if n)
    n = 0
    return total + sum(v for v in (x,) if n)


def through_a_class(x):
    class Context:
        saved = None

    def keep():
        Context.saved = x * 3
    keep()
    return Context.saved


@pytest.mark.parametrize("f", [through_a_method, through_super, through_a_closure,
                               through_a_nonlocal, through_a_decorated_closure,
                               through_a_generator, through_a_class])
def test_what_the_function_makes_is_its_own(f, traces):
    g = td.compile(f)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(10):
            assert g(ONE).tolist() == f(ONE).tolist()
    assert len(traces) == 4, "two at the capture, and those of calls 4 and 8"


@dataclasses.dataclass
class Batch:
    x: td.Tensor
    config: object = None

    @property
    def doubled(self):
        return self.x * 2

    def scaled(self):
        return dataclasses.replace(self, x=self.doubled)


class SlotBatch:
    __slots__ = ("x", "config")
    __dataclass_fields__ = Batch.__dataclass_fields__

    def __init__(self, x, config=None):
        self.x, self.config = x, config


@pytest.mark.parametrize("f, make", [
    (lambda b: b.x * 2, Batch), (lambda b: b.doubled, Batch), (lambda b: b.scaled().x, Batch),
    (lambda b: b["b"][0].x * 2, lambda x: {"b": [Batch(x)]}), (lambda b: b.x * 2, SlotBatch),
])
def test_a_dataclass_that_is_given_costs_no_traces(f, make, traces):
    g, alive = td.compile(f), []
    for _ in range(40):
        b = make(td.ones(2))
        if type(b) is Batch:
            alive.append(weakref.ref(b))
        assert g(b).tolist() == [2, 2]
    # Two at the capture, those of calls 4, 8, 16 and 32; one when copyreg notes slots in the class.
    assert len(traces) <= 7
    del b
    gc.collect()
    assert sum(type(o) is SlotBatch for o in gc.get_objects()) == 0
    assert all(r() is None for r in alive)


def test_what_is_in_a_dataclass_that_is_given_is_looked_at():
    config = Plain()
    f = td.compile(lambda b: b.x * b.config.rate)
    for rate in (1.0, 3.0, 5.0):
        config.rate = rate
        assert f(Batch(ONE, config)).tolist() == [rate, rate]


def test_what_was_looked_at_last_goes_with_the_function():
    """Lists, dicts, and objects that no weak reference refers to, in a circle with the function."""
    def circle():
        o, fs, held = types.SimpleNamespace(rate=2.0), [], {}
        f = td.compile(lambda x: x * o.rate * fs[0].rate * len(held))
        o.f, held["f"] = f, f
        plain = Plain()
        plain.rate = 1.0
        fs.append(plain)
        for _ in range(3):
            assert f(ONE).tolist() == [2, 2]
        return weakref.ref(plain)

    gone = [circle() for _ in range(3)]
    gc.collect()
    assert all(r() is None for r in gone)


def test_a_list_that_is_looked_at_keeps_nothing():
    class Part:
        pass

    o = types.SimpleNamespace(parts=[Part()], named={"part": Part()})
    gone = weakref.ref(o.parts[0]), weakref.ref(o.named["part"])
    f = td.compile(lambda x: x * len(o.parts) * len(o.named))
    for _ in range(6):
        f(ONE)
    o.parts, o.named = [], {}
    gc.collect()
    assert all(r() is None for r in gone)

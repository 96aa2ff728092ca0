"""What looking at the surroundings of compiled functions costs, reports and leaves alone: no traces
without a reason, no code of the user's, nothing that the function makes itself."""

import contextlib
import copy
import functools
import gc
import pickle
import sys
import threading
import time
import types
import warnings
import weakref

import numpy as np
import pytest

import tandem as td
from tandem import nn

import class_cases
import closure_cases
import name_cases
from read_cases import MADE, ONE, Plain, Scales, global_rate, helper, in_a_compiled_function

SWITCH = None


@pytest.mark.parametrize("make", MADE + class_cases.MADE + closure_cases.MADE + name_cases.MADE)
def test_looking_costs_no_traces(make, traces):
    f, set_rate = make()
    set_rate(2.0)
    f = f if isinstance(f, td.graph.Compiled) else td.compile(f)
    f(ONE), f(ONE)
    count = len(traces)
    for _ in range(12):
        f(ONE)
    # Which are traced, too.
    inner = make in (in_a_compiled_function, closure_cases.in_a_method_that_is_compiled_already)
    assert len(traces) - count == (4 if inner else 2), "those of calls 4 and 8"


def test_programs_that_read_different_things_take_turns(traces):
    o, q = types.SimpleNamespace(rate=2.0), Plain()

    def first(x):
        return x * o.rate

    def second(x):
        return x * q.rate

    f = td.compile(lambda x, one: first(x) if one else second(x))
    for one in (True, False) * 2:
        f(ONE, one)
    count = len(traces)
    for one in (True, False) * 6:
        f(ONE, one)
    assert len(traces) - count <= 4
    q.rate = 5.0
    assert f(ONE, True).tolist() == [2, 2] and f(ONE, False).tolist() == [5, 5]
    nets = [Scales(), Scales()]
    g = td.compile(lambda net, x: net(x))
    for net in nets * 2:
        g(net, ONE)
    count = len(traces)
    for net in nets * 6:
        g(net, ONE)
    assert len(traces) - count <= 4


def test_programs_that_read_alike_are_told_apart():
    config = types.SimpleNamespace(a=1.0, b=2.0)
    f = td.compile(lambda x, a: x * config.a if a else (x * 2.0 if config.b > 0 else x))
    for _ in range(4):
        f(ONE, True)
    for i in range(24):
        config.b = 2.0 + i
        f(ONE, False)
    config.b = 1.0
    f(ONE, False)
    config.a = 7.0
    assert f(ONE, True).tolist() == [7, 7]


def test_a_refused_capture_leaves_caches_as_they_were():
    masks, o = {}, types.SimpleNamespace(masks={1: ONE})

    def f(x):
        for cache in (masks, o.masks):
            if 2 not in cache:
                cache[2] = td.ones(2) * 2
        return x * masks[2] * o.masks[2]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(td.CaptureError):
            td.compile(f)(ONE)
    assert masks == {} and list(o.masks) == [1]
    assert f(ONE).tolist() == [4, 4]


def test_a_profiler_of_the_functions_own():
    def f(x):
        p = sys.getprofile()
        sys.setprofile(None)
        sys.setprofile(p)
        return helper(x)

    f = td.compile(f)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for rate in (1.0, 3.0):
            global_rate(rate)
            assert f(ONE).tolist() == [rate, rate]

    def takes_it_off(x):
        sys.setprofile(None)
        return helper(x)

    with pytest.warns(td.graph.CaptureWarning, match="changes the profiler"):
        td.compile(takes_it_off)(ONE)
    assert sys.getprofile() is None


def test_many_calls_of_inner_functions_are_captured_quickly():
    junk = [[i] for i in range(200000)]

    def f(x):
        def inner(v):
            return x * v[0]

        for i in range(50):
            inner([i])
        return x

    start = time.perf_counter()
    td.compile(f)(ONE)
    assert time.perf_counter() - start < 0.5 and junk


def test_what_is_not_read_costs_nothing():
    o, traces = Plain(), []
    o.rate = 2.0

    @td.compile
    def f(x):
        traces.append(1)
        return x * o.rate

    with pytest.warns(td.graph.CaptureWarning):
        f(ONE)
    count = len(traces)
    for _ in range(20):
        o.step += 1
        f(ONE)
    assert len(traces) - count == 3  # those of calls 4, 8 and 16


def test_what_the_function_counts_hides_nothing_else():
    o = types.SimpleNamespace(count=0, rate=1.0)
    seen = {"count": 0, "rate": 1.0}

    @td.compile
    def f(x):
        o.count += 1
        seen["count"] += 1
        return x * o.rate * seen["rate"]

    with pytest.warns(td.graph.CaptureWarning, match=r"not its own.*\bo\.count.*\bseen"):
        f(ONE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for rate in (1.0, 2.0, 3.0, 2.0):
            o.rate = rate
            assert f(ONE).tolist() == [rate, rate]
        o.rate = 1.0
        for rate in (1.0, 2.0, 3.0, 2.0):
            seen["rate"] = rate
            assert f(ONE).tolist() == [rate, rate]
        count, programs = o.count, len(f)
        for _ in range(12):
            f(ONE)
        assert o.count - count <= 2 and len(f) == programs  # looks at calls 4, 8 or 16


def test_what_another_thread_changes_in_a_capture_is_still_looked_at():
    o = types.SimpleNamespace(rate=1.0, other=0)
    started, changed = threading.Event(), threading.Event()

    @td.compile
    def f(x):
        y = x * o.rate + 0 * o.other
        started.set()
        changed.wait(10)
        return y

    def change():
        started.wait(10)
        o.other = 1
        changed.set()

    t = threading.Thread(target=change)
    t.start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        f(ONE)
    t.join()
    g = td.compile(lambda x: x * o.rate + o.other)
    for other in (1, 2, 3):
        o.other = other
        assert g(ONE).tolist() == [1 + other] * 2
    for rate in (2.0, 3.0):
        o.rate = rate
        assert f(ONE).tolist() == [rate, rate]


# ------------------------------------------------------------------------- values, not tensors


W = td.tensor([2.0, 3.0])


@pytest.mark.parametrize("read", [
    lambda: W.numpy()[0], lambda: np.asarray(W)[0], lambda: memoryview(W)[0], lambda: W.tolist()[0],
    lambda: float(W[0]), lambda: np.from_dlpack(W)[0], lambda: copy.deepcopy(W),
    lambda: pickle.dumps(W), lambda: np.mean(W), lambda: np.sinh(W)[0], lambda: np.array([W, W]),
    lambda: td.from_dlpack(W), lambda: copy.deepcopy(nn.Linear(2, 2)),
], ids=range(13))
def test_values_are_not_read_in_a_capture(read):
    f = td.compile(lambda x: (read(), x * 2)[1])
    with pytest.raises(td.CaptureError, match="cannot read values|has no data"):
        f(ONE)
    read()  # outside there is nothing to refuse


def test_long_ways_are_walked_to_their_end():
    class Node:
        def __init__(self):
            self.next = self

        def go(self, x):
            return self.next.next.next.go(x) if SWITCH else x * 2

    o = Node()
    o.many = [o] * 1000
    assert td.compile(lambda x: o.go(x))(ONE).tolist() == [2, 2]
    scope = {"td": td, "RATE": 1.0}
    exec("def f0(x):\n    return x * RATE\n"
         + "\n".join(f"def f{i}(x):\n    return f{i - 1}(x)" for i in range(1, 300)), scope)
    f = td.compile(scope["f299"])
    for rate in (1.0, 2.0):
        scope["RATE"] = rate
        assert f(ONE).tolist() == [rate, rate]
    scope = {f"N{i}": float(i) for i in range(400)}
    exec("def f(x):\n    return x * (" + " + ".join(scope) + ")", scope)
    f = td.compile(scope["f"])
    for last in (0.0, 7.0):
        scope["N399"] = last
        assert f(ONE).tolist() == [float(sum(range(399)) + last)] * 2
    nested = []
    for _ in range(2000):
        nested = [nested]
    assert td.compile(lambda x: (nested and x) * 2)(ONE).tolist() == [2, 2]


def test_looking_runs_nothing():
    ran = []

    class Meta(type):
        def __getattr__(cls, name):
            ran.append(name)
            raise AttributeError(name)

    class Loud(metaclass=Meta):
        def __getattr__(self, name):
            ran.append(name)
            return 1

        @property
        def prop(self):
            ran.append("prop")
            return self

        @functools.cached_property
        def cached(self):
            ran.append("cached")
            return self

        def __len__(self):
            ran.append("len")
            return 0

        __iter__ = __bool__ = __eq__ = __hash__ = __len__

    class Louder(Loud):
        def __getattribute__(self, name):
            ran.append(name)
            return object.__getattribute__(self, name)

    for o in (Loud(), Louder(), weakref.proxy(Plain())):  # the last one dead
        def f(x):
            if SWITCH:
                if o.prop.more or o.cached.more or o.missing or Loud.missing or o == 1 or len(o):
                    return o(x).what
                return [p for p in o]
            return x * 2

        f = td.compile(f)
        for _ in range(5):
            assert f(ONE).tolist() == [2, 2]
        assert ran == []


def test_a_profiler_goes_on():
    seen = []

    def profiler(frame, event, arg):
        seen.append(frame.f_code.co_name)

    def named_so(x):
        return x * 2

    sys.setprofile(profiler)
    try:
        td.compile(lambda x: named_so(x))(ONE)
        assert sys.getprofile() is profiler
    finally:
        sys.setprofile(None)
    assert "named_so" in seen
    with pytest.raises(ZeroDivisionError):
        td.compile(lambda x: named_so(1 / 0))(ONE)
    assert sys.getprofile() is None


def test_what_is_filled_once_is_still_looked_at():
    o = types.SimpleNamespace(cache=None, base=2.0)

    @td.compile
    def f(x):
        if o.cache is None:
            o.cache = o.base * 1.0
        return x * o.cache

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert f(ONE).tolist() == f(ONE).tolist() == [2, 2]
        for base in (3.0, 4.0):
            o.cache, o.base = None, base
            assert f(ONE).tolist() == [base, base]
        o.cache = 7.0
        assert f(ONE).tolist() == [7, 7]


def test_objects_that_are_replaced_go():
    class Big:
        __slots__ = ("t",)

    alive = []

    class Trainer:
        @td.compile
        def step(self, x):
            return x * 2

    t = Trainer()
    for i in range(300):
        t.batch = Big()  # which can have no weak reference
        t.batch.t = td.ones(1)
        alive.append(weakref.ref(t.batch.t))
        t.step(ONE)
    assert sum(r() is not None for r in alive) <= 130


def test_what_a_compiled_method_reads_does_not_keep_its_object():
    class Config:
        rate = 2.0

    class Trainer:
        def __init__(self):
            self.config = Config()
            self.config.owner = self
            self.step = td.compile(self._step)

        def _step(self, x):
            return x * self.config.rate

        @td.compile
        def method(self, x):
            return x * self.config.rate

    for use in (lambda t: t.step(ONE), lambda t: t.method(ONE)):
        t = Trainer()
        assert use(t).tolist() == [2, 2]
        ref = weakref.ref(t)
        del t
        gc.collect()
        assert ref() is None


def test_warnings_name_the_line_of_the_call():
    seen = []

    def f(x):
        seen.append(1)
        return x

    class Holds:
        @td.compile
        def method(self, x):
            return f(x)

    for g in (td.compile(f), Holds().method):
        with pytest.warns(td.graph.CaptureWarning) as w:
            g(ONE)
        assert {m.filename for m in w} == {__file__}


def test_copies_of_compiled_functions_have_programs_of_their_own():
    class Trainer:
        def __init__(self):
            self.rate = 2.0
            self.step = td.compile(self._step, max_signatures=3)

        def _step(self, x):
            return x * self.rate

    trainer = Trainer()
    trainer.step(ONE)
    other = copy.deepcopy(trainer)
    assert other.step != trainer.step and len(other.step) == 0
    other.rate = 3.0
    assert other.step(ONE).tolist() == [3, 3] and trainer.step(ONE).tolist() == [2, 2]
    again = copy.copy(trainer.step)
    assert again != trainer.step and again(ONE).tolist() == [2, 2]


def test_the_collector_waits_for_the_end_of_a_capture():
    ended = []

    class Late:
        def __init__(self):
            self.me = self

        def __del__(self):
            ended.append((td.ones(3) * 2).sum().item())

    def f(x):
        Late()
        for _ in range(50):
            assert not gc.isenabled()
            [[]]
        if fails:
            raise KeyError("f")
        return x + 1

    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for fails in (False, True):
            g = td.compile(f)
            with pytest.raises(KeyError) if fails else contextlib.nullcontext():
                assert g(ONE).tolist() == [2, 2]
                assert [n for n in g.dump().split() if "sum" in n] == []
            assert gc.isenabled()
        gc.disable()
        fails = False
        assert td.compile(f)(ONE).tolist() == [2, 2] and not gc.isenabled()
    finally:
        gc.enable()
        gc.set_threshold(*before)
    gc.collect()
    assert ended == [6.0] * 5


def test_attributes_that_are_nowhere_leave_room_for_others():
    class Some:
        pass

    groups = [[Some() for _ in range(60)] for _ in range(10)]
    last = types.SimpleNamespace(rate=1.0)

    def f(x):
        for group in groups:
            x = x * getattr(group[0], "other", 1.0)
        return x * [last][0].rate

    f = td.compile(f)
    for rate in (1.0, 3.0):
        last.rate = rate
        assert f(ONE).tolist() == [rate, rate]

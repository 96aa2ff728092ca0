"""Compiled functions that read something besides their arguments: whatever it is, a change of it is
noticed at the next call, and what is not read costs nothing."""

import array
import collections
import copy
import dataclasses
import functools
import gc
import importlib
import pickle
import sys
import threading
import types
import warnings
import weakref

import numpy as np
import pytest

import tandem as td
from tandem import nn

ONE = td.ones(2)
RATE, SWITCH = 1.0, None
LATER = td.tensor([5.0])


class Plain:
    rate = 1.0
    scales = [1.0]

    def __init__(self):
        self.step = 0

    def scaled(self, x):
        return x * self.rate

    @property
    def doubled(self):
        return 2 * self.rate

    @classmethod
    def of_class(cls, x):
        return x * cls.rate

    def __call__(self, x):
        return x * self.rate


class Slots:
    __slots__ = ("rate",)

    def __init__(self):
        self.rate = 1.0


def in_a_plain_object():
    o = Plain()
    return lambda x: x * o.rate, lambda v: setattr(o, "rate", v)


def in_a_namespace():
    o = types.SimpleNamespace(rate=1.0)
    return lambda x: x * o.rate, lambda v: setattr(o, "rate", v)


def in_a_dataclass():
    @dataclasses.dataclass
    class Config:
        rate: float = 1.0

    o = Config()
    return lambda x: x * o.rate, lambda v: setattr(o, "rate", v)


def in_slots():
    o = Slots()
    return lambda x: x * o.rate, lambda v: setattr(o, "rate", v)


def in_an_object_of_an_object():
    o = types.SimpleNamespace(inner=types.SimpleNamespace(rate=1.0))
    return lambda x: x * o.inner.rate, lambda v: setattr(o.inner, "rate", v)


def in_another_inner_object():
    o = types.SimpleNamespace(inner=None)
    return (lambda x: x * o.inner.rate,
            lambda v: setattr(o, "inner", types.SimpleNamespace(rate=v)))


def in_a_class():
    class Config:
        rate = 1.0

    return lambda x: x * Config.rate, lambda v: setattr(Config, "rate", v)


def in_the_class_of_an_object():
    class Config:
        rate = 1.0

    o = Config()
    return lambda x: x * o.rate, lambda v: setattr(Config, "rate", v)


def in_a_list_of_a_class():
    class Config:
        rates = [1.0]

    return lambda x: x * Config.rates[0], lambda v: Config.rates.__setitem__(0, v)


def in_a_list_of_an_object():
    o = types.SimpleNamespace(rates=[1.0])
    return lambda x: x * o.rates[0], lambda v: o.rates.__setitem__(0, v)


def over_the_class():
    o = Plain()
    return lambda x: x * o.rate, lambda v: o.__dict__.update(rate=v)


def in_a_method():
    o = Plain()
    return lambda x: o.scaled(x), lambda v: setattr(o, "rate", v)


def in_a_bound_method():
    o = Plain()
    f = o.scaled
    return lambda x: f(x), lambda v: setattr(o, "rate", v)


def in_a_property():
    o = Plain()
    return lambda x: x * o.doubled / 2, lambda v: setattr(o, "rate", v)


def in_a_class_method():
    class Own(Plain):
        rate = 1.0

    return lambda x: Own.of_class(x), lambda v: setattr(Own, "rate", v)


def in_an_object_that_is_called():
    o = Plain()
    return lambda x: o(x), lambda v: setattr(o, "rate", v)


def under_another_name():
    o = Plain()

    def f(x):
        p = o
        return x * p.rate

    return f, lambda v: setattr(o, "rate", v)


def in_an_inner_function():
    o = Plain()
    return lambda x: sum([x * p for p in [o.rate]]), lambda v: setattr(o, "rate", v)


def helper(x):
    return x * RATE


def in_a_function_that_is_called():
    return lambda x: helper(x), lambda v: globals().update(RATE=v)


def in_a_partial_function():
    f = functools.partial(helper)
    return lambda x: f(x), lambda v: globals().update(RATE=v)


def in_a_decorated_function():
    f = td.no_grad()(helper)
    return lambda x: f(x), lambda v: globals().update(RATE=v)


def in_a_compiled_function():
    f = td.compile(helper)
    return lambda x: f(x), lambda v: globals().update(RATE=v)


def in_a_function_in_a_list():
    fs = [helper]
    return lambda x: fs[0](x), lambda v: globals().update(RATE=v)


def as_a_default():
    def inner(x, rate=1.0):
        return x * rate

    return lambda x: inner(x), lambda v: setattr(inner, "__defaults__", (v,))


def as_an_attribute_of_a_function():
    def inner(x):
        return x * inner.rate

    inner.rate = 1.0
    return lambda x: inner(x), lambda v: setattr(inner, "rate", v)


class Scales(nn.Module):
    def forward(self, x):
        return x * RATE


class Listed(nn.Module):
    def __init__(self):
        super().__init__()
        self.rates = [1.0]

    def forward(self, x):
        return x * self.rates[0]


class Configured(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config

    def forward(self, x):
        return x * self.config.rate


def in_forward_of_a_module():
    net = nn.Sequential(nn.Identity(), Scales())
    return lambda x: net(x), lambda v: globals().update(RATE=v)


def in_forward_of_a_compiled_module():
    return nn.Sequential(Scales()), lambda v: globals().update(RATE=v)


def in_a_list_of_an_inner_module():
    net = nn.Sequential(nn.Identity(), Listed())
    return lambda x: net(x), lambda v: net[1].rates.__setitem__(0, v)


def in_an_object_of_a_module():
    o = Plain()
    return Configured(o), lambda v: setattr(o, "rate", v)


def in_the_closure_of_a_hook():
    rates = {"a": 1.0}

    def hook(m, args, result):
        return result * rates["a"]

    net = nn.Sequential(nn.Identity())
    net[0].register_forward_hook(hook)
    return lambda x: net(x), lambda v: rates.update(a=v)


def in_a_hook():
    net = nn.Identity()
    net.register_forward_hook(lambda m, a, r: r * RATE)
    return lambda x: net(x), lambda v: globals().update(RATE=v)


class Trainer:
    def __init__(self):
        self.config = types.SimpleNamespace(rate=1.0)

    def helper(self, x):
        return x * RATE

    @property
    def rate(self):
        return RATE

    @td.compile
    def calls(self, x):
        return self.helper(x)

    @td.compile
    def asks(self, x):
        return x * self.rate

    @td.compile
    def reads(self, x):
        return x * self.config.rate


class Derived(Trainer):
    def helper(self, x):
        return super().helper(x)


class DerivedScales(Scales):
    def forward(self, x):
        return super().forward(x)


def global_rate(v):
    globals().update(RATE=v)


def in_a_method_of_a_compiled_method():
    return Trainer().calls, global_rate


def in_a_property_of_a_compiled_method():
    return Trainer().asks, global_rate


def in_an_object_of_a_compiled_method():
    t = Trainer()
    return t.reads, lambda v: setattr(t.config, "rate", v)


def in_a_method_of_the_base():
    return Derived().calls, global_rate


def in_forward_of_the_base():
    return DerivedScales(), global_rate


def take(o, x):
    return x * o.rate


def as_an_argument_of_a_helper():
    o = Plain()
    return lambda x: take(o, x), lambda v: setattr(o, "rate", v)


def as_a_keyword_of_a_helper():
    o = Plain()
    return lambda x: take(x=x, o=o), lambda v: setattr(o, "rate", v)


def in_a_partial_of_an_object():
    o = Plain()
    return functools.partial(take, o), lambda v: setattr(o, "rate", v)


def as_a_default_object():
    o = Plain()
    return lambda x, o=o: x * o.rate, lambda v: setattr(o, "rate", v)


def as_a_default_of_the_function():
    def f(x, rate=1.0):
        return x * rate

    return f, lambda v: setattr(f, "__defaults__", (v,))


def as_code_of_the_function():
    def f(x):
        return x * 1.0

    def set(v):
        f.__code__ = f.__code__.replace(co_consts=tuple(
            v if isinstance(c, float) else c for c in f.__code__.co_consts))

    return f, set


def in_one_of_two():
    o, q = Plain(), Plain()
    first = True

    def f(x):
        c = o if first else q
        return x * c.rate

    return f, lambda v: setattr(o, "rate", v)


def in_whichever_is_true():
    o, q = Plain(), Plain()
    return lambda x: x * (o or q).rate, lambda v: setattr(o, "rate", v)


def in_two_at_once():
    o, q = Plain(), Plain()

    def f(x):
        a, b = q, o
        c = d = b
        return x * d.rate * (a is q)

    return f, lambda v: setattr(o, "rate", v)


def in_a_walrus():
    o = Plain()
    return lambda x: x * (p := o).rate, lambda v: setattr(o, "rate", v)


def in_a_generator():
    o = Plain()

    def f(x):
        c = o
        return x * sum(c.rate for _ in range(1))

    return f, lambda v: setattr(o, "rate", v)


def in_a_with_statement():
    class Scope(Plain):
        def __enter__(self):
            return self

        def __exit__(self, *e):
            pass

    o = Scope()

    def f(x):
        with o as c:
            return x * c.rate

    return f, lambda v: setattr(o, "rate", v)


def in_objects_of_a_list():
    objects = [Plain(), Plain()]

    def f(x):
        for o in objects:
            x = x * o.rate
        return x

    return f, lambda v: setattr(objects[1], "rate", v)


def in_what_a_function_returns():
    o = Plain()

    def get():
        return o

    return lambda x: x * get().rate, lambda v: setattr(o, "rate", v)


def in_what_a_property_gives():
    class Outer:
        inner_ = Plain()

        @property
        def inner(self):
            return self.inner_

    o = Outer()
    return lambda x: x * o.inner.rate, lambda v: setattr(Outer.inner_, "rate", v)


def in_a_made_module():
    m = types.ModuleType("made")
    m.RATE = 1.0
    return lambda x: x * m.RATE, lambda v: setattr(m, "RATE", v)


def in_an_imported_module():
    def f(x):
        from test_compile_reads import RATE as rate
        return x * rate

    return f, lambda v: setattr(importlib.import_module("test_compile_reads"), "RATE", v)


def in_a_constructor():
    class Made:
        def __init__(self):
            self.rate = RATE

    return lambda x: x * Made().rate, global_rate


def in_a_special_method():
    class Table:
        def __getitem__(self, key):
            return RATE

    o = Table()
    return lambda x: x * o["rate"], global_rate


def in_a_descriptor():
    class Reads:
        def __get__(self, o, kind):
            return RATE

    class Holds:
        rate = Reads()

    o = Holds()
    return lambda x: x * o.rate, global_rate


def by_name():
    o = Plain()
    return lambda x: x * getattr(o, "rate"), lambda v: setattr(o, "rate", v)


def by_its_attributes():
    o = Plain()
    o.rate = 1.0
    return lambda x: x * vars(o)["rate"], lambda v: setattr(o, "rate", v)


def by_new_attributes():
    o = Plain()
    return lambda x: x * o.rate, lambda v: setattr(o, "__dict__", {"rate": v})


def by_another_class():
    def of(rate):
        return type("Other", (Plain,), {"rate": rate})

    o = Plain()
    return lambda x: x * o.rate, lambda v: setattr(o, "__class__", of(v))


def by_another_forward():
    class Inner(nn.Module):
        def forward(self, x):
            return x * 1.0

    return (nn.Sequential(Inner()),
            lambda v: setattr(Inner, "forward", lambda self, x: x * v))


class Node:
    def __init__(self, rate, next=None):
        self.rate, self.next = rate, next


def in_a_chain():
    last = Node(1.0)
    first = Node(1.0, Node(1.0, last))

    def f(x):
        m = first
        while m is not None:
            x = x * m.rate
            m = m.next
        return x

    return f, lambda v: setattr(last, "rate", v)


def in_one_of_three_closures():
    def make(k):
        def set(v):
            nonlocal k
            k = v
        return (lambda x: x * k), set

    (f, set_f), (g, _), (h, _) = (make(1.0) for _ in range(3))
    return lambda x: f(g(h(x))), set_f


def in_a_deque():
    rates = collections.deque([1.0])
    return lambda x: x * rates[0], lambda v: rates.__setitem__(0, v)


def in_a_list_of_arrays():
    rates = [array.array("d", [1.0])]
    return lambda x: x * rates[0][0], lambda v: rates[0].__setitem__(0, v)


def in_an_attribute_of_the_base():
    class Base:
        rate = 1.0

        def scaled(self, x):
            return x * 1.0

    class Own(Base):
        rate = 0.0

        def scaled(self, x):
            return super().scaled(x) * super().rate

    o = Own()
    return lambda x: o.scaled(x), lambda v: setattr(Base, "rate", v)


def by_another_method_of_the_base():
    class Base:
        def scaled(self, x):
            return x * 1.0

    class Own(Base):
        def scaled(self, x):
            return super().scaled(x)

    o = Own()
    return lambda x: o.scaled(x), lambda v: setattr(Base, "scaled", lambda self, x: x * v)


def by_a_name_that_was_not_there():
    def f(x):
        try:
            return x * NOT_THERE_YET
        except NameError:
            return x * 1.0

    globals().pop("NOT_THERE_YET", None)
    return f, lambda v: globals().update(NOT_THERE_YET=v) if v != 1.0 else globals().pop(
        "NOT_THERE_YET", None)


def in_a_match():
    @dataclasses.dataclass
    class Config:
        rate: float = 1.0

    o = Config()
    scope = {"o": o, "Config": Config}
    if sys.version_info >= (3, 10):
        exec("def f(x):\n match o:\n  case Config(rate=r):\n   return x * r\n", scope)
    else:
        exec("def f(x):\n return x * o.rate\n", scope)
    return scope["f"], lambda v: setattr(o, "rate", v)


def by_several_names():
    o = Node(1.0, 1.0)

    def f(x):
        for name in ("rate", "next"):
            x = x * getattr(o, name)
        return x

    return f, lambda v: setattr(o, "next", v)


def by_another_special_method():
    class Call:
        def go(self, x):
            return x * 1.0

        __call__ = go

    o = Call()
    return lambda x: o(x), lambda v: setattr(Call, "__call__", lambda self, x: x * v)


def in_a_descriptor_of_its_own():
    class Reads:
        rate = 1.0

        def __get__(self, o, kind):
            return self.rate

    class Holds:
        rate = Reads()

    o = Holds()
    return lambda x: x * o.rate, lambda v: setattr(vars(Holds)["rate"], "rate", v)


MADE = [v for k, v in list(globals().items())
        if k.split("_")[0] in ("in", "over", "as", "under", "by") and callable(v)]
assert len(MADE) == 72


@pytest.mark.parametrize("make", MADE)
def test_what_changes_is_noticed_at_once(make):
    f, set_rate = make()
    set_rate(1.0)
    f = f if isinstance(f, td.graph.Compiled) else td.compile(f)
    for rate in (1.0, 1.0, 3.0, 3.0, 5.0, 1.0, 3.0):
        set_rate(rate)
        assert f(ONE).tolist() == [rate, rate]


def test_a_module_of_pythons(tmp_path, monkeypatch):
    (tmp_path / "settings_of_a_test.py").write_text(
        "RATE = 1.0\n\ndef scaled(x):\n    return x * RATE\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = importlib.import_module("settings_of_a_test")
    f, g = td.compile(lambda x: x * settings.RATE), td.compile(lambda x: settings.scaled(x))
    for rate in (1.0, 3.0, 5.0):
        settings.RATE = rate
        assert f(ONE).tolist() == g(ONE).tolist() == [rate, rate]


@pytest.fixture
def traces(monkeypatch):
    from tandem import _capture

    seen, plain = [], _capture.trace
    monkeypatch.setattr(_capture, "trace", lambda *a: (seen.append(1), plain(*a))[1])
    return seen


@pytest.mark.parametrize("make", MADE)
def test_looking_costs_no_traces(make, traces):
    f, set_rate = make()
    set_rate(2.0)
    f = f if isinstance(f, td.graph.Compiled) else td.compile(f)
    f(ONE), f(ONE)
    count = len(traces)
    for _ in range(12):
        f(ONE)
    inner = make is in_a_compiled_function  # which is traced, too
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


def test_an_array_that_the_function_changes_is_reported():
    array = np.ones(2, np.float32)

    def changes(x):
        array[0] += 1
        return x * array

    with pytest.warns(td.graph.CaptureWarning, match=r"not its own.*\(array\)"):
        td.compile(changes)(ONE)


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


def through_a_class(x):
    class Context:
        saved = None

    def keep():
        Context.saved = x * 3
    keep()
    return Context.saved


@pytest.mark.parametrize("f", [through_a_method, through_super, through_a_closure,
                               through_a_nonlocal, through_a_class])
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
    import time

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


def of_a_function(x):
    return x * RATE


@pytest.mark.parametrize("call, argument", [
    (lambda net, x: net(x), Scales()),
    (lambda o, x: o.helper(x), Trainer()),
    (lambda o, x: x * o.rate, Trainer()),
    (lambda f, x: f(x), of_a_function),
    (lambda fs, x: fs["f"](x), {"f": of_a_function}),
    (lambda f, x: f(x), Trainer().helper),
])
def test_what_arguments_read_is_noticed_at_once(call, argument):
    global_rate(1.0)
    f = td.compile(call)
    for rate in (1.0, 3.0, 5.0, 1.0):
        global_rate(rate)
        assert f(argument, ONE).tolist() == [rate, rate]


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


def test_a_class_that_the_function_changes_is_reported():
    class Counts:
        calls = 0

        def __call__(self, x):
            type(self).calls += 1
            return x * 2

    counts = Counts()
    with pytest.warns(td.graph.CaptureWarning, match="Counts|counts"):
        td.compile(lambda x: counts(x))(ONE)
    with pytest.warns(td.graph.CaptureWarning, match="class .*Counts"):
        td.compile(lambda c, x: c(x))(Counts(), ONE)


def test_a_tensor_left_in_an_object_is_refused():
    o = types.SimpleNamespace(inner=types.SimpleNamespace(w=td.ones(2)))

    @td.compile
    def f(x):
        o.inner.w = o.inner.w * x
        return o.inner.w

    with pytest.raises(td.CaptureError, match=r"value for .*\.w;"):
        f(ONE)
    assert o.inner.w.tolist() == [1, 1]


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
    import sys

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


def test_what_is_set_for_the_first_time_is_reported():
    o = types.SimpleNamespace(last=None)

    def sets_a_global(x):
        global LATER
        LATER = x * 2
        return x

    def sets_an_attribute(x):
        o.last = x * 2
        return x

    def makes_an_attribute(x):
        o.new = x * 2
        return x

    for f, name in ((sets_a_global, "LATER"), (sets_an_attribute, "o.last"),
                    (makes_an_attribute, "o.new")):
        with pytest.raises(td.CaptureError, match=f"new value for {name};"):
            td.compile(f)(ONE)
    assert LATER.tolist() == [5] and vars(o) == {"last": None}

    def counts(x):
        o.number = 5
        return x

    with pytest.warns(td.graph.CaptureWarning, match=r"\(o.number\)"):
        td.compile(counts)(ONE)


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

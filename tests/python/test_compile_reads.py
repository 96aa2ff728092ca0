"""Compiled functions that read something besides their arguments: whatever it is, a change of it is
noticed at the next call, and what is not read costs nothing."""

import copy
import dataclasses
import functools
import gc
import importlib
import pickle
import threading
import types
import warnings
import weakref

import numpy as np
import pytest

import tandem as td
from tandem import nn
from tandem._reads import places_of

ONE = td.ones(2)
RATE, SWITCH = 1.0, None


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


def in_a_hook():
    net = nn.Identity()
    net.register_forward_hook(lambda m, a, r: r * RATE)
    return lambda x: net(x), lambda v: globals().update(RATE=v)


MADE = [v for k, v in list(globals().items())
        if k.split("_")[0] in ("in", "over", "as", "under") and callable(v)]
assert len(MADE) == 30


@pytest.mark.parametrize("make", MADE)
def test_what_changes_is_noticed_at_once(make):
    f, set_rate = make()
    set_rate(1.0)
    f = td.compile(f)
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


def test_the_walk_ends():
    class Node:
        def __init__(self):
            self.next = self

        def go(self, x):
            return self.next.next.next.go(x) if SWITCH else x * 2

    o = Node()
    o.many = [o] * 1000
    assert td.compile(lambda x: o.go(x))(ONE).tolist() == [2, 2]

    deep = Plain()
    for i in range(1000):
        setattr(deep, f"a{i}", i)
    scope = {"o": deep}
    exec("def f(x):\n" + "".join(f"    o.a{i}\n" for i in range(1000)) + "    return x", scope)
    assert len(places_of(scope["f"])) == 256
    scope = {}
    exec("\n".join(f"def f{i}(x):\n    return f{i + 1}(x)" for i in range(3000)), scope)
    assert 200 < len(places_of(scope["f0"])) <= 256
    nested = []
    for _ in range(50):
        nested = [nested]
    places_of(lambda: nested)


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

    for o in (Loud(), Louder()):
        def f(x):
            if o.prop.more or o.cached.more or o.missing or Loud.missing or o == 1 or len(o):
                return o(x).what
            return [p for p in o]

        assert len(places_of(f)) >= 3
        assert ran == []


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

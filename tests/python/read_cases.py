"""Ways for a function to read something besides its arguments: each of them makes a function and what
changes what it reads. What compiled functions make of them is in test_compile_reads.py."""

import array
import collections
import dataclasses
import functools
import importlib
import types

import tandem as td
from tandem import nn

ONE = td.ones(2)
RATE = 1.0


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
    o = types.SimpleNamespace(inner=types.SimpleNamespace(rate=1.0))
    return (lambda x: x * o.inner.rate,
            lambda v: setattr(o, "inner", types.SimpleNamespace(rate=v)))


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
        from read_cases import RATE as rate
        return x * rate

    return f, lambda v: setattr(importlib.import_module("read_cases"), "RATE", v)


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
    exec("def f(x):\n match o:\n  case Config(rate=r):\n   return x * r\n", scope)
    return scope["f"], lambda v: setattr(o, "rate", v)


def by_several_names():
    o = Node(1.0, 1.0)

    def f(x):
        for name in ("rate", "next"):
            x = x * getattr(o, name)
        return x

    return f, lambda v: setattr(o, "next", v)


def of_a_function(x):
    return x * RATE


def in_a_dict_of_a_partial():
    held = {"rate": 1.0}
    return functools.partial(lambda h, x: x * h["rate"], held), lambda v: held.update(rate=v)


def in_a_list_of_a_partial_that_is_called():
    def scaled(x, rates):
        return x * rates[0]

    rates = [1.0]
    p = functools.partial(scaled, rates=rates)
    return lambda x: p(x), lambda v: rates.__setitem__(0, v)


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


MADE = [v for k, v in list(globals().items())
        if k.split("_")[0] in ("in", "over", "as", "under", "by") and callable(v)]
assert len(MADE) == 65

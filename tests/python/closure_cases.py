"""Ways for a function to read something that is not its own through functions that nobody can find from
it: within it, behind a library's, or run by the tape. As in read_cases.py each makes a function and
what changes what it reads."""

import collections
import contextlib
import dataclasses
import enum
import functools
import operator
import types
import weakref

import tandem as td
from tandem import nn


def rates(value=1.0):
    held = {"rate": value}
    return held, lambda v: held.update(rate=v)


def in_a_generator():
    held, set_rate = rates()
    return lambda x: sum(w * held["rate"] for w in (x,)), set_rate


def in_a_comprehension():
    held, set_rate = rates()
    return lambda x: [w * held["rate"] for w in (x,)][0], set_rate


def in_a_lambda():
    o = types.SimpleNamespace(rate=1.0)
    return lambda x: list(map(lambda w: w * o.rate, [x]))[0], lambda v: setattr(o, "rate", v)


def in_a_reduction():
    held, set_rate = rates()
    return lambda x: functools.reduce(lambda a, b: a * held["rate"], [x, x]), set_rate


def in_a_function_two_levels_down():
    rate = 1.0

    def f(x):
        def g():
            def h():
                return x * rate
            return h()
        return g()

    def set_rate(v):
        nonlocal rate
        rate = v

    return f, set_rate


def in_a_function_that_a_helper_makes():
    o = types.SimpleNamespace(rate=1.0)

    def made():
        return lambda x: x * o.rate

    return lambda x: made()(x), lambda v: setattr(o, "rate", v)


def in_a_condition_of_a_loop():
    n = 1

    def f(x):
        return x + sum(x for i in range(4) if i < n - 1)

    def set_rate(v):
        nonlocal n
        n = int(v)

    return f, set_rate


def in_a_generator_of_a_forward():
    held, set_rate = rates()

    class Net(nn.Module):
        def forward(self, x):
            return sum(w * held["rate"] for w in (x,))

    return Net(), set_rate


def in_a_function_without_a_tape():
    held, set_rate = rates()

    @td.no_grad()
    def scaled(x):
        return x * held["rate"]

    return lambda x: scaled(x), set_rate


def in_a_forward_without_a_tape():
    held, set_rate = rates()

    class Net(nn.Module):
        @td.no_grad()
        def forward(self, x):
            return x * held["rate"]

    return Net(), set_rate


def in_a_hook_without_a_tape():
    held, set_rate = rates()
    net = nn.Identity()
    net.register_forward_hook(td.no_grad()(lambda module, args, result: result * held["rate"]))
    return net, set_rate


def in_another_decorated_method():
    class Plain:
        @td.no_grad()
        def scaled(self, x):
            return x * 1.0

    o = Plain()
    return lambda x: o.scaled(x), lambda v: setattr(Plain, "scaled", lambda self, x: x * v)


def in_a_context():
    held, set_rate = rates()

    @contextlib.contextmanager
    def scope():
        yield held["rate"]

    def f(x):
        with scope() as rate:
            return x * rate

    return f, set_rate


def in_a_stack_of_contexts():
    held, set_rate = rates()

    @contextlib.contextmanager
    def scope():
        yield held["rate"]

    def f(x):
        with contextlib.ExitStack() as stack:
            return x * stack.enter_context(scope())

    return f, set_rate


def by_a_type():
    held, set_rate = rates()

    @functools.singledispatch
    def scaled(x):
        return x * held["rate"]

    return lambda x: scaled(x), set_rate


def gradient(f):
    def g(x):
        w = td.ones(2, requires_grad=True)
        return td.grad(f(w).sum(), w) * x

    return g


def in_a_tensors_hook():
    held, set_rate = rates()
    w = nn.Parameter(td.ones(2))
    w.register_hook(lambda g: g * held["rate"])
    return lambda x: td.grad((w * x).sum(), w), set_rate


def in_a_tensors_hook_of_a_class():
    class Hook:
        rate = 1.0

        def __call__(self, g):
            return g * self.rate

    hook, w = Hook(), nn.Parameter(td.ones(2))
    w.register_hook(hook)
    return lambda x: td.grad((w * x).sum(), w), lambda v: setattr(hook, "rate", v)


def in_a_tensors_hook_that_is_a_method():
    class Hooks:
        rate = 1.0

        def hook(self, g):
            return g * self.rate

    o, w = Hooks(), nn.Parameter(td.ones(2))
    w.register_hook(o.hook)
    return lambda x: td.grad((w * x).sum(), w), lambda v: setattr(o, "rate", v)


def in_a_hook_of_this_tape():
    held, set_rate = rates()

    def f(w):
        y = w * 1
        y.register_hook(lambda g: g * held["rate"])
        return y

    return gradient(f), set_rate


def in_a_backward_hook():
    held, set_rate = rates()
    net = nn.Identity()
    net.register_full_backward_hook(lambda module, into, out: (into[0] * held["rate"],))
    return gradient(net), set_rate


def in_a_gradient_of_its_own():
    held, set_rate = rates()

    class F(td.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            return g * held["rate"]

    return gradient(F.apply), set_rate


def by_another_forward():
    class F(td.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1.0

        @staticmethod
        def backward(ctx, g):
            return g

    return (lambda x: F.apply(x)), lambda v: setattr(F, "forward",
                                                     staticmethod(lambda ctx, x: x * v))


def in_all_of_an_object():
    o = types.SimpleNamespace(rate=1.0)

    def scaled(x, rate):
        return x * rate

    return lambda x: scaled(x, **vars(o)), lambda v: setattr(o, "rate", v)


def in_all_of_a_dataclass():
    @dataclasses.dataclass
    class Inner:
        rate: float = 1.0

    @dataclasses.dataclass
    class Config:
        inner: Inner = dataclasses.field(default_factory=Inner)

    o = Config()
    return (lambda x: x * dataclasses.asdict(o)["inner"]["rate"],
            lambda v: setattr(o.inner, "rate", v))


def under_a_getter():
    o = types.SimpleNamespace(rate=1.0)
    return lambda x: x * operator.attrgetter("rate")(o), lambda v: setattr(o, "rate", v)


def in_several_dicts():
    held, set_rate = rates()
    chain = collections.ChainMap({}, held)
    return lambda x: x * chain["rate"], set_rate


def in_a_dict_of_the_library():
    held = collections.UserDict(rate=1.0)
    return lambda x: x * held["rate"], lambda v: held.update(rate=v)


class Config(collections.UserDict):
    pass


def in_a_dict_of_its_own_kind():
    held = Config(rate=1.0)
    return lambda x: x * held["rate"], lambda v: held.update(rate=v)


def in_a_method_of_a_dict_of_its_own_kind():
    class Rates(collections.UserDict):
        def scaled(self, x):
            return x * self["rate"]

    held = Rates(rate=1.0)
    return lambda x: held.scaled(x), lambda v: held.update(rate=v)


def in_a_list_of_the_library():
    held = collections.UserList([1.0])
    return lambda x: x * held[0], lambda v: held.__setitem__(0, v)


def in_keys():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.options = types.SimpleNamespace(rate=1.0)

        def forward(self, x):
            return x * self.options.rate

    weights = {Net(): 1.0}

    def f(x):
        for net, weight in weights.items():
            x = net(x) * weight
        return x

    return f, lambda v: setattr(next(iter(weights)).options, "rate", v)


class Parent:
    rate = 1.0


def under_a_weak_reference():
    parent = Parent()

    class Child:
        def __init__(self):
            self.parent = weakref.ref(parent)

        def __call__(self, x):
            return x * self.parent().rate

    child = Child()
    return lambda x: child(x), lambda v: setattr(parent, "rate", v)


def under_a_weak_value():
    parent = Parent()
    held = weakref.WeakValueDictionary(parent=parent)
    return lambda x: x * held["parent"].rate, lambda v: setattr(parent, "rate", v)


def in_a_frozen_dict():
    held, set_rate = rates()
    frozen = types.MappingProxyType(held)
    return lambda x: x * frozen["rate"], set_rate


def in_an_object_of_a_frozen_dict():
    o = types.SimpleNamespace(rate=1.0)
    frozen = types.MappingProxyType({"o": o})
    return lambda x: x * frozen["o"].rate, lambda v: setattr(o, "rate", v)


def in_a_generator_that_was_there():
    setters = []

    def stream():
        rate = 1.0

        def set_rate(v):
            nonlocal rate
            rate = v
        setters.append(set_rate)
        while True:
            yield sum(rate for _ in range(1))

    values = stream()
    next(values)
    return lambda x: x * next(values), setters[0]


def in_a_cell():
    rate = 1.0

    def scaled(x):
        return x * rate

    def set_rate(v):
        nonlocal rate
        rate = v

    def f(cell, x):
        return scaled(x) if cell is not None else x

    return lambda x: f(scaled.__closure__[0], x), set_rate


def under_a_getter_from_outside():
    o, get = types.SimpleNamespace(rate=1.0), operator.attrgetter("rate")
    return lambda x: x * get(o), lambda v: setattr(o, "rate", v)


def in_a_format():
    o = types.SimpleNamespace(rate=1.0)
    return lambda x: x * float("{0.rate}".format(o)), lambda v: setattr(o, "rate", v)


def in_a_method_that_is_compiled_already():
    class Plain:
        rate = 1.0

        def helper(self):
            return self.rate

        @td.compile
        def scaled(self, x):
            return x * self.helper()

    o = Plain()
    return td.compile(o.scaled), lambda v: setattr(o, "rate", v)


def by_other_code_of_a_function_in_a_list():
    def f(x):
        return x * 1.0

    def of(v):
        def g(x):
            return x * 1.0
        return g.__code__.replace(co_consts=tuple(v if c == 1.0 else c for c in g.__code__.co_consts))

    functions = [f]
    return (lambda x: [g(x) for g in functions][0]), lambda v: setattr(f, "__code__", of(v))


def by_other_defaults_of_a_function_in_a_dict():
    def f(x, rate=1.0):
        return x * rate

    functions = {"f": f}
    return (lambda x: functions["f"](x)), lambda v: setattr(f, "__defaults__", (v,))


def by_another_class_of_an_element():
    def made(v):
        class Scaled:
            def scaled(self, x):
                return x * v
        return Scaled

    elements = [made(1.0)()]
    return (lambda x: [e.scaled(x) for e in elements][0],
            lambda v: setattr(elements[0], "__class__", made(v)))


def by_a_method_of_a_number():
    class Kind(enum.IntEnum):
        FIRST = 1

        def scaled(self, x):
            return x * 1.0

    kind = Kind.FIRST
    return (lambda x: kind.scaled(x)), lambda v: setattr(Kind, "scaled", lambda self, x: x * v)


def in_an_attribute_of_a_number():
    class Rate(float):
        pass

    rate = Rate(1.0)
    rate.scale = 1.0
    return lambda x: x * rate.scale, lambda v: setattr(rate, "scale", v)


def in_an_attribute_of_a_dict_in_a_list():
    class Options(dict):
        pass

    options = [Options()]
    options[0].rate = 1.0
    return lambda x: x * options[0].rate, lambda v: setattr(options[0], "rate", v)


def under_a_weak_proxy():
    parent = Parent()
    in_an_attribute = types.SimpleNamespace(parent=parent)  # else it goes
    proxy = weakref.proxy(parent)
    return lambda x: x * proxy.rate, lambda v: setattr(in_an_attribute.parent, "rate", v)


def in_the_length_of_a_frozen_dict():
    held = {0: None}
    frozen = types.MappingProxyType(held)

    def set_rate(v):
        held.clear()
        held.update(dict.fromkeys(range(int(v))))

    return lambda x: x * len(frozen), set_rate


def in_a_local_of_a_generator_that_was_there():
    o = types.SimpleNamespace(rate=1.0)

    def stream(o):
        while True:
            yield o.rate

    values = stream(o)
    next(values)
    return lambda x: x * next(values), lambda v: setattr(o, "rate", v)


def in_what_is_no_longer_there():
    class Part:
        pass

    parts = [Part()]

    def set_rate(v):
        parts[:] = [Part() if v == 1.0 else None for _ in range(int(v))]

    return lambda x: x * sum(1 for p in parts), set_rate


def in_an_order():
    rates = collections.OrderedDict((v, v) for v in (1.0, 2.0, 3.0, 5.0))
    return lambda x: x * next(iter(rates.values())), lambda v: rates.move_to_end(v, last=False)


MADE = [v for k, v in list(globals().items())
        if k.split("_")[0] in ("in", "over", "as", "under", "by") and callable(v)]
assert len(MADE) == 51

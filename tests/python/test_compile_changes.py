"""Compiled functions when something around them changes: what they were given, what they use, and
what they themselves change. Never an old result in silence."""

import collections
import dataclasses
import logging
import sys
import warnings

import numpy as np
import pytest

import tandem as td
from tandem import nn

from test_compile_objects import Box

ONE = td.ones(2)


# ------------------------------------------------------------------------------ modules change


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(td.full((2,), 2.0))
        self.register_buffer("buf", td.ones(2))
        self.act = nn.ReLU()
        self.scale = 1.0

    def forward(self, x):
        return self.act(x * self.w) * self.scale + self.buf


def change_hook(n):
    n.register_forward_hook(lambda m, a, r: r * 10)


def change_pre_hook(n):
    n.register_forward_pre_hook(lambda m, a: a[0] * 10)


def change_parameter(n):
    n.old = [n.w]
    n.w = nn.Parameter(td.full((2,), 5.0))


def change_buffer(n):
    n.old = [n.buf]
    n.buf = td.full((2,), 7.0)


def change_module(n):
    n.act = nn.Sigmoid()


def change_number(n):
    n.scale = 5.0


def change_child_hook(n):
    n.act.register_forward_hook(lambda m, a, r: r + 3)


def change_forward(n):
    n.forward = lambda x: x - 1


@pytest.mark.parametrize("change, name", [
    (change_hook, "hooks"), (change_pre_hook, "hooks"), (change_parameter, "Net.w"),
    (change_buffer, "Net."), (change_module, "Net."), (change_number, "Net."),
    (change_child_hook, "hooks"), (change_forward, "Net.forward")])
def test_a_module_that_changes_is_noticed(change, name):
    net = Net()
    fast = td.compile(net)
    fast(ONE)
    change(net)
    assert fast(ONE).tolist() == net(ONE).tolist()
    assert len(fast) == 2
    assert fast.ledger()[-1]["reason"].startswith("changed: ") and name in fast.ledger()[-1]["reason"]


def test_a_hook_that_is_removed_is_noticed():
    net = nn.Sequential(nn.Linear(2, 2))
    fast = td.compile(net)
    before = fast(ONE).tolist()
    hook = net.register_forward_hook(lambda m, a, r: r * 10)
    assert fast(ONE).tolist() != before
    hook.remove()
    assert fast(ONE).tolist() == before
    assert len(fast.ledger()) == 2  # the first program is right again


def test_a_returned_number_that_changes_is_noticed():
    net = Net()
    fast = td.compile(lambda x: (x + 1, net.scale))
    fast(ONE)
    net.scale = 4.0
    assert fast(ONE)[1] == 4.0


def test_a_note_made_at_each_call_costs_no_capture():
    class Notes(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(2, 2)
            self.mode = "a"

        def forward(self, x):
            self.mode = "a"
            self.last = self.fc(x)
            return self.last

    net, traces = Notes(), []

    @td.compile
    def f(x):
        traces.append(1)
        return net(x)

    f(ONE)
    net(ONE)  # `last` has values now, once it did not
    f(ONE)
    count = len(traces)
    for _ in range(20):
        net(ONE)
        f(ONE)
    assert len(traces) - count == 3  # those of calls 4, 8 and 16


def test_a_counter_in_forward_is_reported():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return x

    with pytest.warns(td.graph.CaptureWarning, match="Counts.calls"):
        td.compile(Counts())(ONE)


# -------------------------------------------------------------------------------- variables

RATE, COUNT = 1.0, 0


def in_a_closure():
    rate = 1.0

    def set(value):
        nonlocal rate
        rate = value

    return lambda x: x * rate, set


def in_a_list():
    rates = [1.0]
    return lambda x: x * rates[0], lambda value: rates.__setitem__(0, value)


def in_a_dict():
    options = {"rate": 1.0}
    return lambda x: x * options["rate"], lambda value: options.update(rate=value)


def in_a_global():
    return lambda x: x * RATE, lambda value: globals().update(RATE=value)


def in_an_inner_function():
    return lambda x: (lambda: x * RATE)(), lambda value: globals().update(RATE=value)


def as_a_tensor():
    rate = td.tensor(1.0)

    def set(value):
        nonlocal rate
        rate = td.tensor(value)

    return lambda x: x * rate, set


class Scales:
    @td.compile
    def of(self, x):
        return x * RATE


def in_a_global_of_a_method():
    return Scales().of, lambda value: globals().update(RATE=value)


@pytest.mark.parametrize("make", [
    in_a_closure, in_a_list, in_a_dict, in_a_global, in_an_inner_function, as_a_tensor,
    in_a_global_of_a_method,
])
def test_a_variable_that_changes_is_noticed_at_once(make):
    f, set_rate = make()
    set_rate(1.0)
    f = f if isinstance(f, td.graph.Compiled) else td.compile(f)
    for rate in (1.0, 1.0, 3.0, 3.0, 5.0, 1.0, 3.0):
        set_rate(rate)
        assert f(ONE).tolist() == [rate, rate]


def test_variables_that_hold_much_or_themselves_are_fine():
    much = [[float(i) for i in range(60)] for _ in range(60)]
    itself = [2.0]
    itself.append(itself)
    keys = {(i, (i, i)): i for i in range(60)}
    f = td.compile(lambda x: x * much[0][1] * itself[1][0] + len(keys))
    for _ in range(3):
        assert f(ONE).tolist() == [62, 62]
    assert len(f) == 1
    much[0][1] = 5.0
    with pytest.raises(td.CaptureError):
        for _ in range(10):
            f(ONE)
    itself[0] = 3.0
    assert td.compile(lambda x: x * itself[0])(ONE).tolist() == [3, 3]


def changes_a_closure():
    count = 0

    def f(x):
        nonlocal count
        count += 1
        return x * 2

    return f, lambda: count, "count"


def changes_a_global():
    globals().update(COUNT=0)

    def f(x):
        global COUNT
        COUNT += 1
        return x * 2

    return f, lambda: COUNT, "COUNT"


def changes_a_list():
    seen = []

    def f(x):
        seen.append(x.shape)
        return x * 2

    return f, lambda: len(seen), "seen"


def changes_a_dict():
    counts = collections.Counter()

    def f(x):
        counts["f"] += 1
        return x * 2

    return f, lambda: counts["f"], "counts"


def changes_what_a_module_holds():
    class Remembers(nn.Module):
        def __init__(self):
            super().__init__()
            self.seen = []

        def forward(self, x):
            self.seen.append(1)
            return x * 2

    m = Remembers()
    return m, lambda: len(m.seen), "Remembers.seen"


@pytest.mark.parametrize("make", [
    changes_a_closure, changes_a_global, changes_a_list, changes_a_dict, changes_what_a_module_holds,
])
def test_a_variable_that_the_function_changes_is_reported(make):
    f, count, name = make()
    f = td.compile(f)
    with pytest.warns(td.graph.CaptureWarning, match=rf"variables that are not its own.*\({name}\)"):
        f(ONE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(19):
            f(ONE)
    assert count() == 5, "twice at the capture, and at calls 4, 8 and 16"
    assert len(f) == 1


def test_lines_on_stderr_and_in_a_log_are_reported():
    def writes(x):
        print("here", file=sys.stderr)
        return x

    def logs(x):
        logging.getLogger("nobody").warning("here")
        return x

    def warns(x):
        warnings.warn("something else")
        return x

    for f in (writes, logs):
        line = f.__code__.co_firstlineno + 1
        with pytest.warns(td.graph.CaptureWarning, match=f"prints .*changes.py:{line}"):
            td.compile(f)(ONE)
    with warnings.catch_warnings():
        warnings.simplefilter("error", td.graph.CaptureWarning)
        warnings.simplefilter("ignore", UserWarning, append=True)
        td.compile(warns)(ONE)
    assert "graph" not in type(sys.stderr).__module__
    assert logging.getLogRecordFactory() is logging.LogRecord


# ------------------------------------------------------------------------------- signatures


class E(int):
    def __repr__(self):
        return "E"


class S(str):
    def __repr__(self):
        return "S"


class F(float):
    __repr__ = __str__ = lambda self: "F"


@pytest.mark.parametrize("a, b, read", [
    (E(1), E(2), int),
    (F(1), F(2), float),
    (S("1"), S("2"), float),
    ({E(1): 0}, {E(2): 0}, lambda d: list(d)[0]),
    (np.float32(1), np.float32(2), float),
    ({1}, {2}, sum),
    (frozenset({1}), frozenset({2}), sum),
    (bytearray([1]), bytearray([2]), sum),
    (slice(0, 1), slice(0, 2), lambda s: s.stop),
    (1, True, lambda v: 1 + isinstance(v, bool)),
    (0.0, -0.0, lambda v: 1 if str(v)[0] == "-" else 2),
])
def test_values_are_told_apart(a, b, read):
    f = td.compile(lambda x, v: x * float(read(v)))
    for v in (a, b, a):
        assert f(ONE, v).tolist() == [float(read(v))] * 2
    assert len(f) == 2


def test_types_of_one_name_are_told_apart():
    def make(k):
        @dataclasses.dataclass
        class Box:
            v: td.Tensor

            def get(self):
                return self.v * k

        return Box(ONE)

    f = td.compile(lambda b: b.get())
    assert f(make(2.0)).tolist() == [2, 2] and f(make(3.0)).tolist() == [3, 3]

    a, b = collections.namedtuple("P", "a b"), collections.namedtuple("P", "b a")
    g = td.compile(lambda p: p.a)
    assert g(a(ONE, ONE * 2)).tolist() == [1, 1] and g(b(ONE, ONE * 2)).tolist() == [2, 2]


class Listed(list):
    extra = 0

    def twice(self):
        return self[0] * 2 + self.extra


class Mapped(dict):
    def twice(self):
        return self["x"] * 2


class Made(tuple):
    def __new__(cls, a, b):
        return super().__new__(cls, (a, b))

    def twice(self):
        return self[1] * 2


def test_derived_containers_stay_what_they_are():
    f = td.compile(lambda c: (c.twice(), c))
    for c in (Listed([ONE]), Mapped(x=ONE), Made(3, ONE)):
        y, back = f(c)
        assert y.tolist() == [2, 2] and type(back) is type(c) and len(back) == len(c)
    c = Listed([ONE])
    f(c)
    c.extra = 1
    assert f(c)[0].tolist() == [3, 3]
    assert type(td.compile(lambda d: d)(collections.OrderedDict(x=ONE))) is collections.OrderedDict
    d = td.compile(lambda d: d)(collections.defaultdict(list, x=ONE))
    assert d["missing"] == [] and d["x"].tolist() == [1, 1]


def test_dataclasses_with_more_than_fields():
    from typing import ClassVar

    @dataclasses.dataclass(frozen=True)
    class D:
        x: td.Tensor
        init: dataclasses.InitVar[int] = 3
        shared: ClassVar[int] = 4

    f = td.compile(lambda d: D(d.x * d.shared))
    assert f(D(ONE)).x.tolist() == [4, 4]


def test_containers_that_hold_themselves_are_refused():
    f = td.compile(lambda l: l[0])
    l = [ONE]
    l.append(l)
    with pytest.raises(td.Error, match="nest"):
        f(l)
    deep = ONE
    for _ in range(100_000):
        deep = (deep,)
    with pytest.raises(td.Error, match="nest"):
        f(deep)
    with pytest.raises(td.Error, match="nest"):
        td.compile(lambda x: l)(ONE)
    while isinstance(deep, tuple):  # or its destructor recurses
        deep = deep[0]


# -------------------------------------------------------------------------- what functions change


def add_to_list(c, x):
    c.append(x)


def set_key(c, x):
    c["y"] = x


def replace(c, x):
    c["x"] = x * 2


def set_attribute(c, x):
    c.s = 2.0


def add_to_set(c, x):
    c.add(3)


@pytest.mark.parametrize("change, make", [
    (add_to_list, list), (set_key, dict), (replace, lambda: {"x": ONE}), (set_attribute, Box),
    (add_to_set, set)])
def test_arguments_that_the_function_changes(change, make):
    f = td.compile(lambda c, x: change(c, x))
    c = make()
    with pytest.raises(td.CaptureError, match="changes argument 0"):
        f(c, ONE)
    if isinstance(c, (list, dict, set)):
        assert len(c) == len(make())


def test_keyword_arguments_that_the_function_changes():
    f = td.compile(lambda x, *, c: add_to_list(c, x))
    with pytest.raises(td.CaptureError, match="changes argument 1"):
        f(ONE, c=[])


def test_an_attribute_bound_to_a_new_tensor():
    class Sums:
        def __init__(self):
            self.t = td.zeros(2)

        @td.compile
        def add(self, x):
            self.t = self.t + x
            return self.t

        @td.compile
        def right(self, x):
            self.t.copy_(self.t + x)
            return self.t + 0

    s = Sums()
    with pytest.raises(td.CaptureError, match=r"Sums.t.*copy_"):
        s.add(ONE)
    assert s.t.tolist() == [0, 0]
    assert s.right(ONE).tolist() == [1, 1] and s.right(ONE).tolist() == [2, 2]

    class Running(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(td.ones(2))
            self.register_buffer("mean", td.zeros(2))

        def forward(self, x):
            self.mean = self.mean + x
            self.w = self.w * 2
            return x * self.w

    net = Running()
    with pytest.raises(td.CaptureError, match=r"Running\.\w+, Running\.\w+"):
        td.compile(net)(ONE)
    assert net.mean.tolist() == [0, 0] and net.w.tolist() == [1, 1] and net.w.is_leaf
    assert len(net.parameters()) == 1

    total = td.zeros(2)

    def nonlocal_one(x):
        nonlocal total
        total = total + x
        return total

    with pytest.raises(td.CaptureError, match="total"):
        td.compile(nonlocal_one)(ONE)
    assert total.tolist() == [0, 0]


def test_no_warnings_where_there_is_nothing_to_tell():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        td.compile(net)(ONE)


class Rates(list):
    @td.compile
    def noted(self, x):
        self.append(1.0)
        return x * 2


class Notes(dict):
    @td.compile
    def noted(self, x):
        self["calls"] = self.get("calls", 0) + 1
        return x * 2


@pytest.mark.parametrize("make", [Rates, Notes])
def test_a_container_that_its_method_changes(make):
    with pytest.raises(td.CaptureError, match=rf"the object whose method it is.*{make.__name__}"):
        make().noted(td.ones(2))

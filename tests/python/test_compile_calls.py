"""How compiled functions are called, and what happens to Python's lock meanwhile."""

import cmath
import gc
import importlib
import math
import subprocess
import sys
import threading
import time
import types
import weakref

import pytest

import tandem as td
from tandem.graph import Compiled


def same(a, b):
    return (a == b).all().item()


def combine(x, y=None, *more, k=1, **named):
    y = x if y is None else y
    return sum((t * k for t in more), x - y * k) + sum(named.values(), x)


@pytest.mark.parametrize("call", [
    lambda f, t: f(t[0]),
    lambda f, t: f(t[0], t[1]),
    lambda f, t: f(t[0], y=t[1]),
    lambda f, t: f(y=t[1], x=t[0]),
    lambda f, t: f(*t[:2], **{}),
    lambda f, t: f(*t[:2], **{"k": 3}),
    lambda f, t: f(t[0], t[1], t[2], k=2, z=t[3]),
    lambda f, t: f(*t),
    lambda f, t: f(*t, z=t[0], k=-1),
    lambda f, t: f.__call__(t[0], t[1]),
    lambda f, t: type(f).__call__(f, t[0], y=t[1]),
    lambda f, t: list(map(f, t, reversed(t)))[-1],
], ids=range(12))
def test_all_ways_to_pass_arguments(call):
    t = [td.rand(3, 4) for _ in range(20)]  # more than are spelled beforehand
    fast = td.compile(combine)
    for _ in range(3):
        assert same(call(fast, t), call(combine, t))


def test_arguments_must_fit():
    fast = td.compile(lambda x, *, k=1: x * k)
    x = td.rand(3)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        fast()
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        fast(x, z=1)
    with pytest.raises(TypeError, match="multiple values for argument 'x'"):
        fast(x, x=x)
    with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
        fast(x, x)
    assert same(fast(x), x)


def test_an_object_without_a_function():
    empty = Compiled.__new__(Compiled)
    with pytest.raises(TypeError, match="__init__ comes before a call"):
        empty(td.rand(3))


def test_an_object_is_initialised_once():
    fast = td.compile(lambda x: x + 1)
    with pytest.raises(ValueError, match="another __init__; expected a new compile()"):
        fast.__init__(lambda x: x + 2)
    assert fast(td.zeros(1)).item() == 1
    assert repr(Compiled.__new__(Compiled)) == "<compiled nothing>"


class Plain(Compiled):
    pass


class Noting(Compiled):
    def __call__(self, *args, **kwargs):
        return "noted", super().__call__(*args, **kwargs)


class Deeper(Noting):
    pass


def test_classes_derived_from_compiled():
    x = td.rand(3)
    assert same(Plain(combine)(x, k=2), combine(x, k=2))
    for derived in (Noting, Deeper):
        note, r = derived(combine)(x, k=2)
        assert note == "noted" and same(r, combine(x, k=2))


def test_a_class_that_is_given_another_call(monkeypatch):
    x = td.rand(3)
    plain, keyword = Plain(lambda x: x + 1), Plain(combine)
    assert same(plain(x), x + 1)
    known = Plain.__call__
    monkeypatch.setattr(Plain, "__call__", lambda self, *a, **k: ("other", known(self, *a, **k)))
    assert plain(x)[0] == "other" and same(plain(x)[1], x + 1)
    assert same(keyword(x, k=2)[1], combine(x, k=2))
    monkeypatch.undo()
    assert same(plain(x), x + 1)


def test_arguments_are_given_back():
    class Held:
        pass

    fast = td.compile(lambda x, held: x + 1)
    x, held = td.rand(3), Held()
    gone = weakref.ref(held)
    before = sys.getrefcount(x)
    for _ in range(10):
        fast(x, held)
        fast(x, held=held)
    assert sys.getrefcount(x) == before
    del held, fast
    gc.collect()
    assert gone() is None


# A thread that Python does not know of wants to call it while the only one it knows is at work.
FOREIGN = """
import ctypes, sys, threading
import tandem as td

assert threading.active_count() == 1
libc = ctypes.CDLL(None)
seen = []
work = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(lambda _: seen.append((td.ones(3) + 1).tolist()))
x = td.rand(800, 800)
f = td.compile(lambda x: x @ x / 800) if sys.argv[1] == "compiled" else lambda x: x @ x / 800
f(x)
for n in range(20):
    thread = ctypes.c_ulong()
    assert libc.pthread_create(ctypes.byref(thread), None, work, None) == 0
    for _ in range(3):
        f(x)
    libc.pthread_join(thread, None)
assert seen == [[2.0] * 3] * 20, seen
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the names of Linux's libraries")
@pytest.mark.parametrize("how", ["eager", "compiled"])
def test_a_thread_that_python_does_not_know(how):
    subprocess.run([sys.executable, "-c", FOREIGN, how], check=True, timeout=120)


def locked(is_locked):
    lock = threading.Lock()
    if is_locked:
        lock.acquire()
    return lock


def at_the_same_address(make, old_id):
    """A new object where another one was; others that come first are kept until then."""
    others = []
    for _ in range(10000):
        new = make()
        if id(new) == old_id:
            return new
        others.append(new)
    pytest.skip("no object came to lie there")


def test_another_object_at_the_same_address():
    # Nothing is known of it but which object it is.
    lock = locked(False)
    fast = td.compile(lambda x: x * (2 + lock.locked()))
    x = td.rand(3)
    for _ in range(3):
        assert same(fast(x), x * 2)
    old, lock = id(lock), None
    lock = at_the_same_address(lambda: locked(True), old)
    assert same(fast(x), x * 3)


def test_another_object_after_all_came_back_from_the_collector():
    kept = []

    class Returning:
        def __init__(self):
            lock = locked(False)
            self.fast = td.compile(lambda x: x * (2 + lock.locked()))

            def put(new):
                nonlocal lock
                old, lock = id(lock), None
                lock = new(old)
            self.put, self.me = put, self

        def __del__(self):
            kept.append(self)

    x = td.rand(3)
    holder = Returning()
    for _ in range(3):
        assert same(holder.fast(x), x * 2)
    del holder
    gc.collect()
    kept[0].put(lambda old: at_the_same_address(lambda: locked(True), old))
    assert same(kept[0].fast(x), x * 3)


scale_of = math


def test_another_module_of_a_library(monkeypatch):
    fast = td.compile(lambda x: x * scale_of.sqrt(4).real)
    x = td.rand(3)
    for _ in range(3):
        assert same(fast(x), x * 2)
    other = types.SimpleNamespace(sqrt=lambda x: 3.0)
    for value in (other, cmath, None):
        monkeypatch.setitem(globals(), "scale_of", value)
        if value is None:
            with pytest.raises(AttributeError):
                fast(x)
        else:
            assert same(fast(x), x * (2 if value is cmath else 3))


def test_another_module_by_the_same_name():
    one, two = types.ModuleType("one"), types.ModuleType("two")
    one.scale, two.scale = 2, 3
    module = one
    fast = td.compile(lambda x: x * module.scale)
    x = td.rand(3)
    for _ in range(3):
        assert same(fast(x), x * 2)
    module = two
    assert same(fast(x), x * 3)


def whole(x):
    import scales_of_a_test
    return x * scales_of_a_test.scale


def a_name(x):
    from scales_of_a_test import scale
    return x * scale


def as_name(x):
    from scales_of_a_test import other as o, scale as s
    return x * s + o


def packages(x):
    import scales_of_a_test.inner.most
    return x * scales_of_a_test.inner.most.scale


def package_as_name(x):
    import scales_of_a_test.inner as s
    return x * s.scale


def packages_as_name(x):
    import scales_of_a_test.inner.most as s
    return x * s.scale


def by_function(x):
    s = importlib.import_module("scales_of_a_test")
    return x * s.scale


@pytest.fixture
def scales(monkeypatch):
    """A package of modules scales_of_a_test, .inner and .most, each with a scale of 2."""
    made = []
    for name in ("", ".inner", ".inner.most"):
        module = types.ModuleType("scales_of_a_test" + name)
        module.scale, module.other = 2.0, 0.0
        module.__path__ = []
        monkeypatch.setitem(sys.modules, module.__name__, module)
        made.append(module)
    made[0].inner, made[1].most = made[1:]
    return made


def other_module(module):
    other = types.ModuleType(module.__name__)
    vars(other).update(vars(module), scale=module.scale + 1)
    return other


@pytest.mark.parametrize("f, which", [
    (whole, 0), (a_name, 0), (as_name, 0), (packages, 2), (package_as_name, 1),
    (packages_as_name, 2), (by_function, 0)])
def test_modules_that_the_function_imports(scales, f, which):
    fast = td.compile(f, check_capture=False)
    x = td.rand(3)

    def holds():
        for _ in range(3):
            assert same(fast(x), f(x))

    holds()
    scales[which].scale = 5.0
    assert same(f(x), x * 5)
    holds()
    if which > 0:  # another one of the name in the package
        name = scales[which].__name__.rpartition(".")[2]
        setattr(scales[which - 1], name, other_module(scales[which]))
    else:
        sys.modules["scales_of_a_test"] = other_module(scales[0])
    assert same(f(x), x * 6)
    if f is not by_function:  # which nobody sees
        holds()


class OnlyADict:
    __slots__ = ("__dict__",)


@pytest.mark.parametrize("kind", [OnlyADict, type("Plain", (), {})])
def test_attributes_replaced_as_a_whole_and_by_a_property(kind):
    s = kind()
    s.scale = 2.0
    fast = td.compile(lambda x: x * s.scale, check_capture=False)
    x = td.rand(3)

    def holds(k):
        for _ in range(3):
            assert same(fast(x), x * k)

    holds(2.0)
    s.__dict__ = {"scale": 3.0}
    holds(3.0)
    kind.scale = property(lambda self: 4.0)
    holds(4.0)
    del kind.scale
    holds(3.0)


def test_a_global_wherever_it_stands_in_its_dict():
    """Where it stood is looked at first."""
    names = {"td": td, **{f"before_{i}": i for i in range(20)}, "factor": 2.0, "after": 9.0}
    exec("def f(x): return x * factor", names)
    f = td.compile(names["f"], check_capture=False)
    x = td.rand(3)

    def holds(k):
        for _ in range(3):
            assert same(f(x), x * k)

    holds(2.0)
    for i in range(20):
        del names[f"before_{i}"]
    names.update({f"more_{i}": i for i in range(1000)})  # in a new table, without gaps
    holds(2.0)
    names["factor"] = 3.0
    holds(3.0)
    # Another name in its place.
    rest = dict(names)
    names.clear()
    names.update(
        {"other" if name == "factor" else name: value for name, value in rest.items()})
    with pytest.raises(NameError, match="'factor' is not defined"):
        f(x)
    names["factor"] = 4.0
    holds(4.0)
    del names["factor"]
    names["".join(["fac", "tor"])] = 5.0
    holds(5.0)
    del names["factor"]
    names[type("Text", (str,), {})("factor")] = 6.0  # equal to it
    holds(6.0)
    names["factor"] = 7.0
    holds(7.0)


def shortest(f, *args):
    """Seconds of 200 calls."""
    times = []
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(200):
            f(*args)
        times.append(time.perf_counter() - start)
    return min(times)


def test_a_module_in_a_closure_costs_no_more_than_other_objects():
    def closed_over(value):
        a = b = c = d = e = value

        def f(x):
            return x if a is b is c is d is e is None else x + 1
        return td.compile(f, check_capture=False)

    x = td.rand(4)
    other, module = closed_over(threading.Lock()), closed_over(sys)
    assert shortest(module, x) < 2 * shortest(other, x)

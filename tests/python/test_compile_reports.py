"""What a function does beside computing while it is captured, and replay would not do: it is told."""

import copy
import functools
import pathlib
import random
import types
import warnings

import numpy as np
import pytest

import tandem as td
from tandem import nn

from read_cases import ONE

LATER = td.tensor([5.0])


def test_an_array_that_the_function_changes_is_reported():
    array = np.ones(2, np.float32)

    def changes(x):
        array[0] += 1
        return x * array

    with pytest.warns(td.graph.CaptureWarning, match=r"not its own.*\(array\)"):
        td.compile(changes)(ONE)


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

    with pytest.raises(td.CaptureError, match=r"value for .*\.w in f \(at .*\.py:\d+\);"):
        f(ONE)
    assert o.inner.w.tolist() == [1, 1]




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
        with pytest.raises(td.CaptureError, match=f"new value for {name} in "):
            td.compile(f)(ONE)
    assert LATER.tolist() == [5] and vars(o) == {"last": None}

    def counts(x):
        o.number = 5
        return x

    with pytest.warns(td.graph.CaptureWarning, match=r"\(o.number\)"):
        td.compile(counts)(ONE)


@pytest.mark.parametrize("draw, whose", [(random.random, "random"), (np.random.rand, "numpy.random")])
def test_random_numbers_of_others_are_reported(draw, whose):
    """The two captures may well decide alike."""
    f = td.compile(lambda x: x * (2 if draw() < 2 else 3))
    with pytest.warns(td.graph.CaptureWarning, match=rf"not its own.*\(the state of {whose}\)"):
        f(ONE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw()
        f(ONE)


def test_what_an_exception_leaves_undone_is_reported():
    bn, bad = nn.BatchNorm1d(2), [True]

    @td.compile
    def step(x):
        y = bn(x)
        if bad[0]:
            raise ValueError("a bad batch")
        return y

    x = td.asarray(np.ones((4, 2), np.float32))
    with pytest.warns(td.graph.CaptureWarning, match="^ValueError leaves a compiled function"):
        with pytest.raises(ValueError, match="a bad batch"):
            step(x)
    assert bn.running_mean.tolist() == [0, 0], "else there is nothing to tell"
    bad[0] = False
    step(x)
    assert bn.running_mean.tolist() != [0, 0]


def test_an_exception_before_anything_is_written_is_itself_only():
    w = nn.Parameter(td.ones(2))
    opt = td.optim.SGD([w])

    @td.compile
    def step(x):
        opt.zero_grad()
        return x.reshape(3)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(td.ShapeError):
            step(ONE)
    w.grad = td.ones(2)
    with pytest.warns(td.graph.CaptureWarning, match="^ShapeError leaves"):
        with pytest.raises(td.ShapeError):
            step(ONE)


class Lazy:
    def __init__(self, size):
        self.size = size

    @functools.cached_property
    def rate(self):
        return self.size * 1.0

    @td.compile
    def method(self, x):
        return x * self.rate


def test_what_objects_keep_to_be_faster_is_no_change():
    """functools.cached_property, and text that pathlib makes once."""
    by_object = td.compile(lambda x, o: x * o.rate)
    by_path = td.compile(lambda x, p: x * len(str(p)))
    lazy = Lazy(4)
    around = td.compile(lambda x: x * lazy.rate)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            for size in (2, 3):
                assert by_object(ONE, Lazy(size)).tolist() == [size] * 2
                assert Lazy(size).method(ONE).tolist() == [size] * 2
            assert by_path(ONE, pathlib.Path("/a/b")).tolist() == [4, 4]
            assert around(ONE).tolist() == [4, 4]
    lazy.rate = 5.0
    assert around(ONE).tolist() == [5, 5]
    o = Lazy(2)
    assert by_object(ONE, o).tolist() == [2, 2]
    o.rate = 7.0
    assert by_object(ONE, o).tolist() == [7, 7]


def test_what_copying_notes_in_a_class_is_no_change():
    class Held:
        def __init__(self):
            self.rate = 2.0

        @td.compile
        def scaled(self, x):
            return x * self.rate

    a, b = Held(), Held()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outer = td.compile(lambda x: a.scaled(x) + copy.copy(b).rate)
        assert [outer(ONE).tolist() for _ in range(3)] == [[4, 4]] * 3


def test_too_many_values_are_counted():
    o = types.SimpleNamespace(rate=0)
    f = td.compile(lambda x: x * o.rate, max_signatures=4)
    with pytest.raises(td.CaptureError, match=r"(?s)values that change as tensors.*"
                                              r"first call\n  changed: o.* \(3 times\)"):
        for o.rate in range(5):
            f(ONE)

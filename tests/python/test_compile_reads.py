"""Compiled functions that read something besides their arguments: whatever it is, a change of it is
noticed at the next call. What looking costs is in test_compile_watch.py."""

import importlib

import pytest

import tandem as td

import class_cases
import closure_cases
import name_cases
from read_cases import MADE, ONE, Plain, Scales, Trainer, global_rate, of_a_function


@pytest.mark.parametrize("make", MADE + class_cases.MADE + closure_cases.MADE + name_cases.MADE)
def test_what_changes_is_noticed_at_once(make):
    f, set_rate = make()
    set_rate(1.0)
    f = f if isinstance(f, td.graph.Compiled) else td.compile(f)
    for rate in (1.0, 1.0, 3.0, 3.0, 5.0, 1.0, 3.0, 1.0):
        set_rate(rate)
        assert f(ONE).tolist() == [rate, rate]


@pytest.mark.parametrize("make", MADE + class_cases.MADE + closure_cases.MADE + name_cases.MADE)
def test_the_first_change_is_noticed_at_once(make):
    """Before it an object may have the value of its class, say."""
    f, set_rate = make()
    f = f if isinstance(f, td.graph.Compiled) else td.compile(f)
    assert f(ONE).tolist() == [1, 1]
    for rate in (3.0, 1.0):
        set_rate(rate)
        assert f(ONE).tolist() == [rate, rate]


@pytest.mark.parametrize("make", [Plain, Scales])
def test_whether_there_is_an_attribute(make):
    o = make()
    f = td.compile(lambda x: x * (1.0 if hasattr(o, "halved") else 2.0))
    g = td.compile(lambda x: x * (1.0 if getattr(o, "halved", 0) is None else 2.0))
    for there in (False, True, True, False, True):
        o.halved = None
        if not there:
            del o.halved
        assert f(ONE).tolist() == g(ONE).tolist() == [1.0 if there else 2.0] * 2


class Slotted:
    __slots__ = ("rate",)


class BesideSlots(Slotted):
    pass


def test_a_slot_of_an_object_with_attributes():
    o = BesideSlots()
    o.other, o.rate = 1, 1.0
    f = td.compile(lambda x: x * o.rate)
    for rate in (1.0, 3.0, 5.0):
        o.rate = rate
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

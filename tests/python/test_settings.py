"""Settings without a block, what devices there are, and the caches' figures."""

import threading

import numpy as np
import pytest
import tandem as td

W = td.randn((3, 3))
# How it is asked for, how it is set, what it is at first, and something else.
MODES = {
    "grad": (td.is_grad_enabled, td.set_grad_enabled, True, False),
    "anomaly": (td.is_anomaly_mode, td.set_anomaly_mode, False, True),
    "autocast": (td.get_autocast_mode, td.set_autocast_mode, None, td.bfloat16),
}


@pytest.mark.parametrize("name", MODES)
def test_a_mode_lasts_until_it_is_set_again(name):
    ask, put, first, other = MODES[name]
    assert ask() is first
    try:
        put(other)
        assert ask() is other
        seen = []
        t = threading.Thread(target=lambda: seen.append(ask()))
        t.start()
        t.join()
        assert seen == [first]
    finally:
        put(first)
    assert ask() is first


def test_modes_are_those_of_the_scopes():
    with td.no_grad():
        assert not td.is_grad_enabled()
        td.set_grad_enabled(True)
        assert (2 * td.ones(1, requires_grad=True)).requires_grad
    assert td.is_grad_enabled()
    with td.anomaly_mode():
        assert td.is_anomaly_mode()
        td.set_anomaly_mode(False)
        td.log(td.tensor([-1.0]))
    with td.autocast(td.float16):
        assert td.get_autocast_mode() is td.float16
        td.set_autocast_mode("bfloat16")
        assert td.matmul(W, W).dtype is td.bfloat16
        td.set_autocast_mode(None)
        assert td.matmul(W, W).dtype is td.float32
    with pytest.raises(td.DTypeError):
        td.set_autocast_mode(td.float64)
    assert td.get_autocast_mode() is None


def test_devices_and_threads():
    assert td.device_count() == td.device_count("cpu") == 1
    assert (td.device_count("cuda") > 0) == td.has_device("cuda")
    assert td.cuda_missing() is None or "CUDA" in td.cuda_missing()
    before = td.get_num_threads()
    try:
        td.set_num_threads(td.max_threads())
        with pytest.raises(td.RangeError):
            td.set_num_threads(td.max_threads() + 1)
    finally:
        td.set_num_threads(before)


def test_what_the_plan_cache_did():
    x = td.ones((3, 7))
    td.clear_plan_cache()

    def new(f):  # threads of other tests may use it, too
        before = td.plan_cache_stats()
        f()
        after = td.plan_cache_stats()
        return after["misses"] - before["misses"], after["entries"] - before["entries"]

    assert new(lambda: td.tanh(x)) == (1, 1)
    assert new(lambda: td.tanh(x)) == (0, 0)
    other = td.asarray(np.ones((7, 3), "f"))
    assert new(lambda: td.tanh(other)) == (1, 1)
    td.clear_plan_cache()
    assert td.tanh(x).shape == (3, 7)


def test_generators_are_made_where_tensors_are():
    assert td.Generator(3).state.device == "cpu" and td.Generator(3).state.tolist() == [3, 0]
    assert td.default_generator().state.device == td.get_default_device()
    before = td.get_default_device()
    elsewhere = "cuda" if not td.cuda_is_available() else "cuda:99"
    try:
        td.set_default_device(elsewhere)
        for make in (td.Generator, td.default_generator):
            with pytest.raises(td.DeviceError):
                make()
            assert make(device="cpu").state.device == "cpu"
    finally:
        td.set_default_device(before)


@pytest.mark.parametrize("name, plain", [("add_", lambda a, b: a + b), ("sub_", lambda a, b: a - b),
                                         ("mul_", lambda a, b: a * b)])
def test_writes_in_place_as_methods(name, plain):
    a, b = td.randn((2, 3)), td.randn((3,))
    for other in (b, 2.5):
        t = a.clone()
        view = t[0]
        assert getattr(t, name)(other) is t
        assert t.tolist() == plain(a, other).tolist() and view.tolist() == t[0].tolist()
    with pytest.raises(td.ShapeError):
        getattr(b, name)(a)
    with pytest.raises(td.DTypeError):
        getattr(td.arange(3), name)(0.5)

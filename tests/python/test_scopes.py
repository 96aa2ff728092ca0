"""Settings in `with` blocks: what they change, that they end, and that they are a thread's own."""

import threading

import numpy as np
import pytest

import tandem as td
from tandem import nn

W = td.randn((3, 3))
SETTINGS = {
    "no_grad": (td.no_grad, lambda: (2 * td.ones(1, requires_grad=True)).requires_grad),
    "autocast": (td.autocast, lambda: td.matmul(W, W).dtype),
    "policy": (lambda: td.policy(tf32=True), lambda: td.get_policy().tf32),
    "anomaly_mode": (td.anomaly_mode, lambda: stops_at_nan()),
}


def stops_at_nan():
    try:
        td.log(td.tensor([-1.0]))
        return False
    except td.RangeError:
        return True


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_lasts_as_long_as_its_block(name):
    scope, look = SETTINGS[name]
    outside = look()
    with scope():
        inside = look()
        assert inside != outside
        with scope():
            assert look() == inside
        assert look() == inside
        other = []
        t = threading.Thread(target=lambda: other.append(look()))
        t.start()
        t.join()
        assert other == [outside], "another thread's"
    assert look() == outside
    with pytest.raises(ZeroDivisionError):
        with scope():
            1 / 0
    assert look() == outside
    assert scope()(look)() == inside and look() == outside
    with pytest.raises(RuntimeError, match="__exit__ comes after __enter__"):
        scope().__exit__(None, None, None)
    again = scope()
    with again, again:
        assert look() == inside
    assert look() == outside


def test_a_device_scope():
    with td.device("cpu"):
        made = (td.zeros(2), td.tensor([1.0]), td.rand(2), nn.Linear(2, 2).weight,
                td.asarray(np.ones(2)))
        assert {str(t.device) for t in made} == {"cpu"}
    away = td.device("cuda")
    if td.cuda_is_available():
        with away:
            assert {str(t.device) for t in (td.zeros(2), td.tensor([1.0]), td.rand(2))} == {"cuda:0"}
            with td.device("cpu"):
                assert str(td.zeros(2).device) == "cpu"
            assert str(td.zeros(2).device) == "cuda:0"
    else:
        with pytest.raises(td.DeviceError, match="cuda"):
            with away:
                td.zeros(2)
    assert str(td.zeros(2).device) == "cpu"


@pytest.mark.parametrize("dtype", [td.bfloat16, td.float16])
def test_autocast_casts_products_and_keeps_losses(dtype):
    x, t = td.randn((4, 3)), td.tensor([0, 1, 2, 0])
    net = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    with td.autocast(dtype):
        h = net[0](x)
        assert h.dtype is dtype
        by_hand = (td.matmul(x.to(dtype), net[0].weight.to(dtype).T)
                   + net[0].bias.to(dtype)).detach()
        assert np.allclose(np.asarray(h.detach().to(td.float32)), np.asarray(by_hand.to(td.float32)),
                           atol=0.05)
        assert net(x).dtype is td.float32
        loss = nn.cross_entropy(h, t)
        assert loss.dtype is td.float32
        loss.backward()
        with td.autocast(dtype, enabled=False):
            assert net[0](x).dtype is td.float32
    assert net[0].weight.grad.dtype is td.float32 and net[0](x).dtype is td.float32


def test_autocast_is_part_of_a_compiled_function():
    net, x = nn.Linear(3, 3), td.randn((2, 3))

    def f(x):
        with td.autocast():
            return net(x)

    g = td.compile(f)
    assert g(x).dtype is td.bfloat16 and g(x).tolist() == f(x).tolist()
    h = td.compile(lambda x: net(x))
    with td.autocast():
        assert h(x).tolist() == f(x).tolist()
    assert h(x).dtype is td.float32 and len(h) == 2


def test_policies_equal_policies_only():
    assert td.Policy() == td.Policy() and td.Policy() != td.Policy(vendor=False)
    assert td.Policy() != "vendor"

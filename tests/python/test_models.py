"""The nets of C++ one by one, with their options, and how their weights start."""

import copy
import pickle

import numpy as np
import pytest
import tandem as td
from tandem import nn
from tandem.nn import models


def kinds(net):
    """What the net consists of, in order."""
    return [line.split("): ", 1)[1].split("(")[0] for line in str(net).splitlines()
            if "): " in line]


def weights(net):
    return [p.detach().numpy() for p in net.parameters()]


def same(a, b):
    return all(np.array_equal(p, q) for p, q in zip(weights(a), weights(b), strict=True))


@pytest.mark.parametrize("name, make", [
    ("lenet", models.lenet), ("vgg-cifar", models.vgg_cifar),
    ("resnet18-cifar", lambda **o: models.resnet18(10, small_input=True, **o)),
    ("resnet18", models.resnet18), ("resnet34", models.resnet34), ("resnet50", models.resnet50),
])
def test_the_nets_by_name_are_these(name, make):
    a = nn.make_model(name, generator=td.Generator(3))
    b = make(generator=td.Generator(3))
    assert list(a.state_dict()) == list(b.state_dict()) and same(a, b)
    assert str(a) == str(b) and a.parameter_count() == b.parameter_count()


@pytest.mark.parametrize("make, count", [
    (models.lenet, 3_274_634), (models.vgg_cifar, 3_441_592), (models.resnet18, 11_689_512),
    (models.resnet34, 21_797_672), (models.resnet50, 25_557_032), (models.resnet152, 60_192_808),
    (models.vgg16, 138_357_544),
])
def test_parameters_are_counted(make, count):
    assert make(dtype="float16").parameter_count() == count
    text = make.__doc__ + models.lenet.__doc__
    assert f"{count:,} parameters" in text


def test_the_plain_nets_options():
    plain = kinds(models.lenet())
    assert plain == ["Conv2d", "ReLU", "MaxPool2d"] * 2 + ["Flatten", "Linear", "ReLU", "Dropout",
                                                           "Linear"]
    assert kinds(models.lenet(relu_after_pool=True))[:3] == ["Conv2d", "MaxPool2d", "ReLU"]
    assert kinds(models.lenet(dropout="before_relu"))[-4:] == ["Linear", "Dropout", "ReLU", "Linear"]
    for make, dropped in ((models.lenet, 1), (models.vgg_cifar, 3)):
        assert kinds(make()).count("Dropout") == dropped
        assert kinds(make(dropout="none")).count("Dropout") == 0
        with pytest.raises(td.RangeError, match=rf"\[{make.__name__}\] no such dropout; got off; "
                                                "expected 'after_relu', 'before_relu' or 'none'"):
            make(dropout="off")
        with pytest.raises(td.RangeError, match=rf"\[{make.__name__}\] no such init; got zero"):
            make(init="zero")
        net = make(layout=td.channels_last, dtype="bfloat16", device="cpu")
        first = next(net.named_parameters())[1]
        assert first.is_channels_last() and first.dtype is td.bfloat16
        assert [p.shape for p in net.parameters()] == [p.shape for p in make().parameters()]


def test_the_residual_nets_options():
    net = models.resnet([1, 2], classes=7, width=8, channels=2, small_input=True)
    state = net.state_dict()
    assert state["conv1.weight"].shape == (8, 2, 3, 3) and state["fc.weight"].shape == (7, 16)
    assert {"layer1.0.conv2.weight", "layer2.1.bn2.running_var"} <= set(state)
    assert "layer1.1.conv1.weight" not in state and "layer3.0.conv1.weight" not in state
    assert net(td.randn((2, 2, 8, 8))).shape == (2, 7)
    wide = models.resnet((1,), bottleneck=True, classes=3, width=4)
    assert wide.state_dict()["layer1.0.conv3.weight"].shape == (16, 4, 1, 1)
    assert wide.state_dict()["conv1.weight"].shape == (4, 3, 7, 7) and "MaxPool2d" in kinds(wide)
    still = models.resnet((1,), width=4, zero_last=True).state_dict()
    assert still["layer1.0.bn2.weight"].tolist() == [0] * 4
    assert still["layer1.0.bn1.weight"].tolist() == [1] * 4
    thin = models.resnet34(5, width=4, channels=1, small_input=True)
    assert thin(td.randn((2, 1, 8, 8))).shape == (2, 5)
    for blocks, text in (((), "a group of blocks; got none"), ((1, 0), "one block; got 0")):
        with pytest.raises(td.RangeError, match=rf"\[resnet\] .*{text}; expected 1 or more"):
            models.resnet(blocks)
    with pytest.raises(td.RangeError, match="no net of as many layers; got 19; expected 18, 34, 50"):
        td._core._resnet_blocks(19)
    with pytest.raises(TypeError, match=r"\[resnet\] blocks does not fit; got 3; expected a tuple"):
        models.resnet(3)
    with pytest.raises(TypeError, match="blocks"):
        models.resnet18(blocks=(1,))


def test_vgg16():
    net = models.vgg16(4, dtype="float16")
    assert nn.Sequential(net).get_parameter("0.features.0.bias").shape == (64,)
    for path in ("features", "features.0", "nothing", "", "features.0.bias.x"):
        with pytest.raises(AttributeError, match="no such parameter"):
            net.get_parameter(path)
    assert net.get_parameter("classifier.6.weight").shape == (4, 4096)
    assert kinds(net).count("Conv2d") == 13


def test_copies_and_pickles_are_made_alike():
    blocks = [1]
    net = models.resnet(blocks, width=4, classes=2, small_input=True).eval()
    blocks.append(1)
    x = td.randn((1, 3, 8, 8))
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert isinstance(other, models.Net) and other is not net
        assert other(x).tolist() == net(x).tolist()


def test_initial_values():
    net = models.lenet(init="fan_in_uniform", generator=td.Generator(0))
    w, b = net.get_parameter("7.weight"), net.get_parameter("7.bias")
    bound = 3136 ** -0.5
    assert 0.99 * bound < float(w.abs().max()) <= bound and 0 < float(b.abs().max()) <= bound
    glorot = models.lenet(init="glorot_uniform", generator=td.Generator(0))
    bound = (6 / (3136 + 1024)) ** 0.5
    assert 0.99 * bound < float(glorot.get_parameter("7.weight").abs().max()) <= bound
    assert glorot.get_parameter("0.bias").tolist() == [0] * 32
    normal = models.lenet(init="truncated_normal", generator=td.Generator(0))
    w = normal.get_parameter("7.weight")
    # Cut off at two deviations, 0.88 of the deviation is left.
    assert abs(float(td.std(w)) / 0.0879 - 1) < 0.01 and float(w.abs().max()) <= 0.2
    assert np.allclose(normal.get_parameter("7.bias").detach().numpy(), 0.1)


def test_initialise():
    net = nn.Sequential(nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
                        nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                        nn.Linear(3136, 1024), nn.ReLU(), nn.Dropout(0.5), nn.Linear(1024, 10))
    for init in ("fan_in_uniform", "glorot_uniform", "truncated_normal"):
        of_cpp = models.lenet()
        for each in (net, of_cpp):
            models.initialise(each, init, td.Generator(7))
        assert same(net, of_cpp)
    td.manual_seed(7)
    models.initialise(net, "truncated_normal")
    assert same(net, of_cpp)
    assert all(p.requires_grad for p in net.parameters())
    plain = nn.Linear(2, 2, bias=False)
    before = weights(plain)[0].copy()
    models.initialise(td.compile(nn.Sequential(plain, nn.BatchNorm1d(2))), "glorot_uniform")
    assert not np.array_equal(weights(plain)[0], before)
    for wrong in (net, nn.ReLU()):
        with pytest.raises(td.RangeError, match=r"\[initialise\] no such init; got kaiming; expected "
                                                "'fan_in_uniform', 'glorot_uniform' or "
                                                "'truncated_normal'"):
            models.initialise(wrong, "kaiming")
    with pytest.raises(td.DTypeError, match=r"\[initialise\] net does not fit; got 3"):
        models.initialise(3, "glorot_uniform")


def test_fans():
    assert nn.init.fans(td.zeros((4, 3))) == (3, 4)
    assert nn.init.fans(td.zeros((8, 2, 5, 3))) == (30, 120)
    with pytest.raises(td.ShapeError):
        nn.init.fans(td.zeros((4,)))


def test_parameter_count():
    shared = nn.Linear(3, 2)
    assert nn.Sequential(shared, nn.ReLU(), shared).parameter_count() == 8
    assert td.compile(shared).parameter_count() == 8 and nn.ReLU().parameter_count() == 0

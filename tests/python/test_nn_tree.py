"""What can be asked of layers, and the containers of modules."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest
import tandem as td
from tandem import nn


@pytest.mark.parametrize("layer, options", [
    (nn.Linear(3, 2), {"in_features": 3, "out_features": 2}),
    (nn.Conv2d(2, 4, 3, stride=(1, 2), padding=1, groups=2),
     {"in_channels": 2, "out_channels": 4, "kernel_size": (3, 3), "stride": (1, 2),
      "padding": (1, 1), "dilation": (1, 1), "groups": 2}),
    (nn.ConvTranspose2d(2, 4, 3, stride=2, output_padding=1),
     {"stride": (2, 2), "output_padding": (1, 1), "in_channels": 2}),
    (nn.BatchNorm2d(4, eps=1e-3), {"num_features": 4, "eps": 1e-3, "momentum": 0.1,
                                   "affine": True}),
    (nn.LayerNorm((2, 3)), {"normalized_shape": (2, 3), "eps": 1e-5}),
    (nn.Dropout(0.25), {"p": 0.25}),
    (nn.Embedding(5, 2), {"num_embeddings": 5, "embedding_dim": 2}),
    (nn.MaxPool2d(2, stride=3), {"kernel_size": 2, "stride": 3, "padding": 0}),
    (nn.LeakyReLU(0.3), {"slope": 0.3}),
])
def test_a_layer_knows_what_it_was_made_with(layer, options):
    for one in (layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), td.compile(layer)):
        assert {name: getattr(one, name) for name in options} == options
    with pytest.raises(AttributeError, match="options are fixed"):
        setattr(layer, next(iter(options)), 7)


def test_sizes_are_pairs_however_they_are_given():
    for size in (3, np.int64(3), (3,), [3, 3]):
        assert nn.Conv2d(1, 1, size, padding=size).kernel_size == (3, 3)
    assert nn.LayerNorm(5).normalized_shape == (5,) and nn.MaxPool2d(2).stride == 2


def test_names_of_a_class_come_before_options():
    class Mine(nn.Conv2d):
        @property
        def stride(self):
            return "mine"

    class Plain(nn.Linear):
        affine = False

    assert Mine(1, 1, 3).stride == "mine" and Mine(1, 1, 3).kernel_size == (3, 3)
    assert Plain(2, 2).weight.shape == (2, 2)


def test_a_tensor_a_layer_goes_without_is_none():
    assert nn.Linear(2, 2, bias=False).bias is None
    assert nn.Conv2d(1, 1, 1, bias=False).bias is None and nn.Conv2d(1, 1, 1).bias is not None
    norm = nn.BatchNorm1d(3, affine=False)
    assert norm.weight is None and norm.bias is None and norm.running_mean.shape == (3,)
    assert [n for n, _ in nn.Linear(2, 2, bias=False).named_parameters()] == ["weight"]

    class Mine(nn.Linear):
        def __init__(self):
            super().__init__(2, 3, bias=False)
            self.extra = nn.Linear(1, 1)

    assert Mine().in_features == 2 and Mine().bias is None
    assert not hasattr(nn.make_model("lenet"), "make")


@pytest.mark.parametrize("make, text", [
    (lambda: nn.Conv2d(1, 1, 3, stride=0), r"\[Conv2d\] sizes must be positive; got 0"),
    (lambda: nn.Conv2d(1, 1, 3, dilation=(1, 0)), r"\[Conv2d\] sizes must be positive; got 0"),
    (lambda: nn.Conv2d(1, 1, 0), r"\[Conv2d\] sizes must be positive"),
    (lambda: nn.Conv2d(1, 1, 3, padding=-1), r"\[Conv2d\] padding is not negative; got -1"),
    (lambda: nn.Conv2d(3, 4, 3, groups=2), "groups must divide"),
    (lambda: nn.ConvTranspose2d(1, 1, 3, stride=0), r"\[ConvTranspose2d\] sizes must be positive"),
    (lambda: nn.ConvTranspose2d(1, 1, 3, output_padding=1), "smaller than the stride; got 1"),
    (lambda: nn.MaxPool2d(0), r"\[MaxPool2d\] sizes must be positive; got 0"),
    (lambda: nn.MaxPool2d(2, stride=-1), "sizes must be positive; got -1"),
    (lambda: nn.AvgPool2d(2, padding=2),
     r"\[AvgPool2d\] padding is at most half the kernel; got 2; expected 0 to 1"),
    (lambda: nn.BatchNorm2d(2, eps=-1), r"\[BatchNorm2d\] eps is out of range; got -1; expected 0"),
    (lambda: nn.BatchNorm1d(2, momentum=1.5), r"\[BatchNorm1d\] momentum .* got 1.5; expected 0 t"),
    (lambda: nn.LayerNorm(2, eps=float("nan")), r"\[LayerNorm\] eps is out of range; got nan"),
])
def test_options_are_checked_when_a_layer_is_made(make, text):
    with pytest.raises(td.Error, match=text):
        make()


def test_modules_by_name():
    parts = nn.ModuleDict({"conv": nn.Conv2d(1, 2, 3), "act": nn.ReLU()})
    parts["head"] = nn.Linear(2, 1)
    assert list(parts) == ["conv", "act", "head"] == list(parts.keys()) and len(parts) == 3
    assert "conv" in parts and "tail" not in parts
    assert [n for n, _ in parts.named_parameters()] == ["conv.weight", "conv.bias", "head.weight",
                                                       "head.bias"]
    assert parts["act"] is dict(parts.items())["act"] and len(list(parts.values())) == 3
    act = parts.pop("act")
    assert isinstance(act, nn.ReLU) and "act" not in parts
    del parts["head"]
    assert list(parts) == ["conv"]
    with pytest.raises(KeyError):
        parts["head"]
    with pytest.raises(KeyError):
        del parts["head"]
    with pytest.raises(TypeError, match="what is in a module is a Module"):
        parts["f"] = td.relu
    for name in ("a.b", "", 0):
        with pytest.raises(td.RangeError, match="a name is text without dots"):
            parts[name] = nn.ReLU()
    copied = pickle.loads(pickle.dumps(parts))
    assert np.array_equal(copied["conv"].weight.detach(), parts["conv"].weight.detach())


@pytest.mark.parametrize("kind", [nn.ModuleList, lambda m: nn.Sequential(*m)])
def test_modules_by_place(kind):
    a, b, c, d = (nn.Linear(i + 1, 1) for i in range(4))
    net = kind([a, b])
    assert net.extend([c]) is net and len(net) == 3
    net.insert(1, d)
    assert list(net) == [a, d, b, c]
    assert [n for n, _ in net.named_children()] == ["0", "1", "2", "3"]
    net[-1] = d
    assert list(net) == [a, d, b, d]
    del net[1]
    assert list(net) == [a, b, d] and [n for n, _ in net.named_children()] == ["0", "1", "2"]
    del net[1:]
    assert list(net) == [a]
    net.extend([b, c])
    part = net[1:]
    assert type(part) is type(net) and list(part) == [b, c]
    part.append(a).append(d)
    assert list(part) == [b, c, a, d] and list(net) == [a, b, c]
    for wrong in (lambda: net[3], lambda: net.__setitem__(3, a), lambda: net.__delitem__(-4)):
        with pytest.raises(IndexError):
            wrong()
    for wrong in ("0", None):
        with pytest.raises(TypeError, match="modules are found by their places; got "):
            net[wrong]
    with pytest.raises(TypeError, match="is a Module"):
        net.insert(0, td.relu)
    assert list(net) == [a, b, c]


def test_a_compiled_program_sees_that_a_container_was_changed():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    step = td.compile(lambda x: net(x))
    x = td.randn((3, 2))
    for change in (lambda: net.insert(1, nn.Linear(2, 2)), lambda: net.__delitem__(-1),
                   lambda: net.__setitem__(0, nn.Linear(2, 2)), lambda: net.extend([nn.Tanh()])):
        step(x)
        change()
        assert np.array_equal(step(x).detach(), net(x).detach())


def test_paths():
    net = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 1)))
    assert net.get_submodule("1.0") is net[1][0] and net.get_submodule("") is net
    assert net.get_parameter("1.0.weight") is net[1][0].weight
    assert net.get_parameter("0.bias") is net[0].bias
    for wrong in ("2", "1.1", "0.0"):
        with pytest.raises(AttributeError, match=f"no such module; got '{wrong}'"):
            net.get_submodule(wrong)
    with pytest.raises(AttributeError, match="no such parameter; got '0.scale'"):
        net.get_parameter("0.scale")
    assert net.parameters(recurse=False) == [] and net[0].parameters(recurse=False) == [
        net[0].weight, net[0].bias]
    norm = nn.Sequential(nn.BatchNorm1d(2))
    assert norm.buffers(recurse=False) == [] and len(norm.buffers()) == 2


def test_a_buffer_that_is_not_saved():
    class Cache(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("kept", td.ones(2))
            self.register_buffer("scratch", td.zeros(2), persistent=False)

    net = nn.Sequential(Cache())
    assert list(net.state_dict()) == ["0.kept"]
    assert [n for n, _ in net.named_buffers()] == ["0.kept", "0.scratch"]
    net.load_state_dict({"0.kept": td.full((2,), 5.0)})
    assert net[0].kept.tolist() == [5, 5] and net[0].scratch.tolist() == [0, 0]
    again = copy.deepcopy(net)
    assert list(again.state_dict()) == ["0.kept"]
    net[0].register_buffer("scratch", td.ones(2))
    assert list(net.state_dict()) == ["0.kept", "0.scratch"]


def trains(net):
    """Whether what parameters() gives is what forward() reads."""
    before = net(td.ones((1, 2))).tolist()
    with td.no_grad():
        for p in net.parameters():
            p += 1
    return net(td.ones((1, 2))).tolist() != before


def test_a_shallow_copy_leaves_the_original_as_it_is():
    for net in (nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2))):
        weight = net.parameters()[0]
        other = copy.copy(net)
        assert net.parameters()[0] is weight and trains(net) and trains(other)
        other.eval()
        other.register_forward_hook(lambda m, a, r: r * 0)
        assert net.training and net(td.ones((1, 2))).tolist() != [[0, 0]]
    other.append(nn.ReLU())
    assert len(net) == 1
    fast = td.compile(net)
    assert np.array_equal(copy.copy(fast)(td.ones((1, 2))).detach(), net(td.ones((1, 2))).detach())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))])
def test_tensors_shared_with_a_layer_stay_shared(copied):
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    net.tied = net[0].weight
    held = {"net": net, "params": net.parameters()}
    other = copied(held)
    assert len(other["net"].parameters()) == len(net.parameters()) == 2
    assert list(other["net"].state_dict()) == list(net.state_dict())
    assert trains(other["net"])
    with td.no_grad():
        other["params"][0].fill_(7)
    assert other["net"][0].weight.tolist() == [[7, 7], [7, 7]] == other["net"].tied.tolist()
    assert net[0].weight.tolist() != [[7, 7], [7, 7]]


def test_a_name_stands_for_one_thing():
    m = nn.Module()
    t, u = td.ones(2), td.zeros(3)
    m.z = 3
    m.register_buffer("z", t)
    assert m.z is t
    m.register_parameter("z", None)
    assert m.z is None and not m.buffers()
    m.register_parameter("z", u)
    assert m.z is u and list(m.state_dict()) == ["z"]
    m.add_module("z", nn.ReLU())
    assert isinstance(m.z, nn.ReLU) and not m.parameters()
    for register in (m.register_buffer, m.register_parameter):
        with pytest.raises(TypeError, match="what is registered is a tensor; got 3 for 'y'"):
            register("y", 3)
    with pytest.raises(AttributeError, match="made without a tensor has none; got weight"):
        nn.BatchNorm2d(3, affine=False).weight = nn.Parameter(td.ones(3))


def test_a_compiled_container_is_one():
    net = td.compile(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    assert len(net) == 2 and isinstance(net[1], nn.ReLU) and len(list(net)) == 2
    net[1] = nn.Tanh()
    x = td.randn((1, 2))
    assert np.array_equal(net(x).detach(), net[1](net[0](x)).detach())
    assert "a" in td.compile(nn.ModuleDict({"a": nn.ReLU()}))
    assert td.compile(lambda x: x) and td.compile(nn.ReLU())


def test_a_grad_mode_decorates_what_runs_when_it_is_called():
    def numbers():
        yield 1

    async def later():
        return 1

    for what in (numbers, later, nn.Linear, 3):
        with pytest.raises(TypeError, match=r"\[no_grad\] what is decorated runs when it is called"):
            td.no_grad(what)
        with pytest.raises(TypeError, match=r"\[no_grad\]"):
            td.no_grad()(what)


def test_parts_of_a_container_are_replaced():
    a, b, c, d = (nn.Linear(2, 2) for _ in range(4))
    net = nn.Sequential(a, b, c)
    net[0:2] = [d]
    assert list(net) == [d, c] and list(net._modules) == ["0", "1"]
    net[:] = [a, b]
    assert list(net) == [a, b]
    with pytest.raises(TypeError, match="is a Module"):
        net[0:1] = [td.relu]
    for wrong in (lambda: net[::0], lambda: net.__setitem__(slice(0, 2, 2), [c, d])):
        with pytest.raises(td.RangeError, match=r"\[Sequential\] a slice "):
            wrong()
    net[::2] = [c]
    assert list(net) == [c, b]
    net[0] = a
    for wrong in (lambda: net.insert(0, net), lambda: net.append(nn.Sequential(net)),
                  lambda: a.add_module("x", net), lambda: setattr(a, "x", net),
                  lambda: setattr(a, "x", td.compile(net))):
        with pytest.raises(td.RangeError, match="a module cannot hold itself"):
            wrong()


def test_a_module_that_holds_itself_compiled():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(2, 2)
            self.fast = td.compile(self)

        def forward(self, x):
            return self.fc(x)

    net, x = Net(), td.ones((1, 2))
    assert repr(net) == "Net(\n  (fc): Linear(2, 2)\n)"
    assert [n for n, _ in net.named_children()] == ["fc"] and len(net.parameters()) == 2
    assert net.eval().fast(x).tolist() == net(x).tolist()
    assert len(net.fast.ledger()) == 1 and not net.fast.training
    copied = copy.deepcopy(net)
    assert copied.fast._function is copied and copied.fast(x).tolist() == net(x).tolist()
    ref = weakref.ref(net)
    del net
    gc.collect()
    assert ref() is None


# -------------------------------------------------------------------------------- backward hooks


def gradients(module, *args):
    module.zero_grad()
    args = [a.clone().detach().requires_grad_(a.requires_grad) for a in args]
    module(*args).sum().backward()
    return [a.grad.tolist() if a.requires_grad else None for a in args], [
        p.grad.tolist() for p in module.parameters()]


class Product(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(td.tensor([2.0, 3.0]))

    def forward(self, x, y):
        return x * y * self.w


X, Y = td.tensor([1.0, 2.0], requires_grad=True), td.tensor([5.0, 7.0], requires_grad=True)


def test_a_backward_hook_sees_gradients_of_both_ends():
    net, seen = Product(), []
    plain = gradients(net, X, Y)
    hook = net.register_full_backward_hook(lambda m, gi, go: seen.append((m, gi, go)))
    assert gradients(net, X, Y) == plain
    (module, grad_input, grad_output), = seen
    assert module is net and [g.tolist() for g in grad_output] == [[1, 1]]
    assert [g.tolist() for g in grad_input] == plain[0]
    # Another use of the argument is not the module's.
    seen.clear()
    x = X.clone().detach().requires_grad_()
    (net(x, Y) + 100 * x).sum().backward()
    assert seen[0][1][0].tolist() == plain[0][0] and x.grad.tolist() == [110, 121]
    hook.remove()
    seen.clear()
    assert gradients(net, X, Y) == plain and not seen


def test_what_a_backward_hook_returns_is_the_gradient():
    net = Product()
    plain = gradients(net, X, Y)
    net.register_full_backward_hook(lambda m, gi, go: tuple(10 * g for g in gi))
    hooked = gradients(net, X, Y)
    assert hooked[0] == [[10 * v for v in g] for g in plain[0]] and hooked[1] == plain[1]
    net.register_full_backward_hook(lambda m, gi, go: gi[0])
    with pytest.raises(td.AutogradError, match="a gradient for each tensor argument; got 1; expec"):
        gradients(net, X, Y)


def test_a_backward_hook_of_a_first_layer():
    net, seen = nn.Sequential(nn.Linear(2, 3), nn.ReLU()), []
    net[0].register_full_backward_hook(lambda m, gi, go: seen.append((gi, go)))
    x = td.tensor([[1.0, 2.0]])
    net(x).sum().backward()
    assert seen[0][0] == (None,) and seen[0][1][0].shape == (1, 3)
    seen.clear()
    with td.no_grad():
        net(x)
    assert not seen
    net[1].register_full_backward_hook(lambda m, gi, go: (gi[0] * 0,))
    net.zero_grad()
    step = td.compile(lambda x: net(x).sum().backward())
    for _ in range(3):
        step(x)
        assert not np.any(net[0].weight.grad.numpy())
    net[1]._backward_hooks.clear()


def test_a_backward_hook_of_a_module_of_many_results():
    class Many(nn.Module):
        def forward(self, x, scale):
            return {"a": x * scale, "b": (x + 1, 3)}

    net, seen = Many(), []
    net.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go)))
    x = X.clone().detach().requires_grad_()
    out = net(x, 2.0)
    assert out["b"][1] == 3
    out["a"].sum().backward()
    (grad_input, grad_output), = seen
    assert grad_input[0].tolist() == x.grad.tolist() == [2, 2]
    assert grad_output[0].tolist() == [1, 1] and grad_output[1] is None

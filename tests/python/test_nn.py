"""Modules, optimisers, data."""

import copy
import itertools
import math
import pickle
from collections import OrderedDict

import numpy as np
import pytest

import tandem as td
from tandem import data, nn, optim


class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.conv = nn.Conv2d(n, n, 3, padding=1)
        self.norm = nn.BatchNorm2d(n)
        self.scale = nn.Parameter(td.ones((n, 1, 1)))
        self.register_buffer("count", td.zeros(()))

    def forward(self, x, shift=0.0):
        return td.relu(self.norm(self.conv(x))) * self.scale + x + shift


def test_names_and_state():
    net = nn.Sequential(OrderedDict(first=Block(2), second=nn.Linear(3, 3)))
    names = [n for n, _ in net.named_parameters()]
    assert names == ["first.scale", "first.conv.weight", "first.conv.bias", "first.norm.weight",
                     "first.norm.bias", "second.weight", "second.bias"]
    assert [n for n, _ in net.named_buffers()] == ["first.count", "first.norm.running_mean",
                                                   "first.norm.running_var"]
    other = nn.Sequential(OrderedDict(first=Block(2), second=nn.Linear(3, 3)))
    other.load_state_dict(net.state_dict())
    for a, b in zip(net.parameters(), other.parameters()):
        assert a.tolist() == b.tolist() and not a._same(b)
    bad = net.state_dict()
    bad["second.weight"] = td.ones((2, 2))
    before = other.second.weight.tolist()
    with pytest.raises(td.ShapeError, match="second.weight"):
        other.load_state_dict(bad)
    del bad["second.weight"]
    with pytest.raises(td.RangeError, match="missing"):
        other.load_state_dict(bad)
    other.load_state_dict(bad, strict=False)
    assert other.second.weight.tolist() == before
    assert "Linear" in repr(net) and "(first)" in repr(net)


def test_modes_hooks_and_calls():
    net = Block(2)
    assert net.training and net.norm.training
    net.eval()
    assert not net.training and not net.norm.training
    seen = []
    hook = net.register_forward_hook(lambda m, args, out: seen.append(out.shape))
    net.register_forward_pre_hook(lambda m, args: (args[0] * 2, *args[1:]))
    x = td.randn((1, 2, 4, 4))
    net(x, shift=1.0)
    hook.remove()
    net(x)
    assert seen == [(1, 2, 4, 4)]
    with pytest.raises(AttributeError, match="super"):

        class Early(nn.Module):
            def __init__(self):
                self.a = nn.Linear(1, 1)

        Early()
    with pytest.raises(AttributeError):
        net.nothing
    with pytest.raises(NotImplementedError):
        nn.Module()(1)


def test_conversion():
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4))
    net.to(td.channels_last)
    assert net[0].weight.is_channels_last()
    net.to(td.bfloat16)
    assert net[0].weight.dtype is td.bfloat16 and net[1].weight.dtype is td.float32
    assert all(p.requires_grad for p in net.parameters())


def test_the_nets_are_those_of_cpp():
    td.manual_seed(0)
    a = nn.make_model("lenet")
    td.manual_seed(0)
    b = nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(3136, 1024), nn.ReLU(), nn.Dropout(0.5), nn.Linear(1024, 10))
    assert sum(p.size for p in a.parameters()) == 3_274_634
    assert [p.shape for p in a.parameters()] == [p.shape for p in b.parameters()]
    for p, q in zip(a.parameters(), b.parameters()):
        assert np.array_equal(p.detach().numpy(), q.detach().numpy())
    x = td.randn((2, 1, 28, 28))
    assert np.array_equal(a.eval()(x).detach().numpy(), b.eval()(x).detach().numpy())
    assert "resnet50" in nn.model_names()


@pytest.mark.parametrize("make", [
    lambda p: optim.SGD(p, lr=0.1), lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    lambda p: optim.Adam(p, lr=0.1), lambda p: optim.AdamW(p, lr=0.1, betas=(0.8, 0.9)),
    lambda p: optim.Adam([{"params": p, "lr": 0.1}]),
])
def test_optimisers_minimise(make):
    w = td.tensor([3.0, -2.0], requires_grad=True)
    opt = make([w])
    for _ in range(200):
        opt.zero_grad()
        (w * w).sum().backward()
        opt.step()
    assert abs(w.detach().numpy()).max() < 0.05
    again = make([td.tensor([3.0, -2.0], requires_grad=True)])
    again.load_state_dict(opt.state_dict())


def test_optimiser_groups_and_schedules():
    a, b = td.ones(1).requires_grad_(), td.ones(1).requires_grad_()
    opt = optim.SGD([{"params": [a], "lr": 1.0}, {"params": [b], "lr": 0.5}])
    assert (opt.num_groups, opt.get_lr(0), opt.get_lr(1)) == (2, 1.0, 0.5)
    with pytest.raises(td.RangeError, match="option"):
        optim.SGD([{"params": [a], "speed": 1}])
    schedule = optim.StepLR(opt, step_size=2, gamma=0.1)
    rates = []
    for _ in range(4):
        rates.append(opt.lr)
        schedule.step()
    assert np.allclose(rates, [1, 1, 0.1, 0.1])
    opt.lr = 2.0
    assert opt.get_lr(1) == 2.0


def test_loader():
    train, test = data.load_dataset("synthetic-digits")
    assert train.synthetic and train.image_shape == (1, 28, 28) and train.classes == 10
    loader = data.DataLoader(test, batch_size=100, seed=1, drop_last=True)
    seen = 0
    for x, y in loader:
        assert x.shape == (100, 1, 28, 28) and y.dtype is td.int64
        seen += 1
    assert seen == len(loader)
    first = next(iter(data.DataLoader(test, seed=5)))[0].tolist()
    assert next(iter(data.DataLoader(test, seed=5, num_workers=2)))[0].tolist() == first
    with pytest.raises(td.DataError):
        data.load_dataset("mnist", "/nowhere")
    with pytest.raises(td.RangeError):
        data.load_dataset("imagenet")
    with pytest.raises(td.RangeError):
        data.DataLoader(test, batch_size=0)
    images = data.byte_images("mine", td.zeros((3, 1, 2, 2), dtype=td.uint8), td.arange(3), 3)
    assert len(images) == 3 and images.get([2])[1].tolist() == [2]


def test_loader_device():
    _, test = data.load_dataset("synthetic-digits")
    plain = data.DataLoader(test, batch_size=50, seed=1)
    named = data.DataLoader(test, batch_size=50, seed=1, device="cpu")
    assert plain.device == named.device == "cpu"
    kept = list(itertools.islice(plain, 5))  # a kept batch stays as it is
    for (x, y), (u, v) in zip(kept, named):
        assert u.device == v.device == "cpu"
        assert x.tolist() == u.tolist() and y.tolist() == v.tolist()
    with pytest.raises(td.DeviceError):
        data.DataLoader(test, device="cuda" if not td.cuda_is_available() else "cuda:99")


def test_profiler():
    with td.profiler.profile() as p:
        td.relu(td.ones(10)).sum()
    assert {"relu", "sum"} <= {e.op for e in p.events} and "relu" in p.table()


def test_loss_scaling():
    w = td.ones(1).requires_grad_()
    opt, scaler = optim.SGD([w], lr=0.5), optim.GradScaler(init_scale=1024.0)
    scaler.scale((w * 3).sum()).backward()
    assert w.grad.item() == 3 * 1024
    scaler.step(opt)
    scaler.update()
    assert w.item() == 1 - 0.5 * 3


# --------------------------------------------------------------------------- copies and pickles


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(),
                                  nn.Dropout(0.5), nn.Flatten(), nn.Linear(8, 3))
        self.w = nn.Parameter(td.randn((3,)))
        self.again = self.w
        self.note = "kept"

    def forward(self, x):
        return self.body(x) * self.w + self.again


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))])
def test_modules_can_be_copied_and_pickled(copied):
    td.manual_seed(3)
    net = Tied()
    net.body[5].weight.requires_grad_(False)
    x = td.randn((4, 1, 4, 4))
    net(x)  # the running statistics are not what they were at first
    net.eval()
    state = td.default_generator().state.tolist()
    twin = copied(net)
    assert td.default_generator().state.tolist() == state
    assert type(twin) is Tied and twin.note == "kept" and not twin.training
    assert twin(x).detach().tolist() == net(x).detach().tolist()
    assert list(twin.state_dict()) == list(net.state_dict())
    assert [p.requires_grad for p in twin.parameters()] == [p.requires_grad for p in net.parameters()]
    assert twin.again is twin.w
    with td.no_grad():
        for p in twin.parameters():
            p += 1
    assert twin(x).detach().tolist() != net(x).detach().tolist()
    twin.train()
    assert not net.training and not net.body[3].training


@pytest.mark.parametrize("make", [
    lambda: nn.Linear(2, 3, dtype=td.float64), lambda: nn.Linear(2, 3).to(td.bfloat16),
    lambda: nn.Conv2d(3, 4, 3).to(td.channels_last), lambda: nn.Embedding(3, 2),
    lambda: nn.LayerNorm(3), lambda: nn.MaxPool2d(2), lambda: nn.Model("lenet")])
def test_layers_keep_what_they_are_in_a_copy(make):
    layer = make()
    twin = pickle.loads(pickle.dumps(layer))
    assert repr(twin) == repr(layer)
    for (name, a), b in zip(layer.state_dict().items(), twin.state_dict().values()):
        assert a.dtype == b.dtype and a.is_channels_last() == b.is_channels_last(), name
        assert a.to(td.float32).detach().tolist() == b.to(td.float32).detach().tolist(), name


def test_a_generator_goes_on_in_its_copy():
    g = td.Generator(5)
    drop = nn.Dropout(0.5, generator=g)
    drop(td.ones(8))
    twin = copy.deepcopy(drop)
    assert twin(td.ones(64)).tolist() == drop(td.ones(64)).tolist()


def test_a_schedule_of_ones_own():
    opt = optim.SGD(nn.Linear(2, 2).parameters(), lr=2.0)
    schedule = optim.Schedule(opt, lambda t: 0.5**t)
    rates = []
    for _ in range(3):
        rates.append(opt.lr)
        schedule.step()
    assert rates == pytest.approx([2.0, 1.0, 0.5])
    assert schedule.lr(4) == 0.125 and schedule.steps == 3


# As torch.optim.lr_scheduler's classes give, from a rate of 0.8.
@pytest.mark.parametrize("make, rates", [
    (lambda o: optim.StepLR(o, step_size=2, gamma=0.5), [0.8, 0.8, 0.4, 0.4, 0.2]),
    (lambda o: optim.MultiStepLR(o, milestones=[1, 3], gamma=0.5), [0.8, 0.4, 0.4, 0.2, 0.2]),
    (lambda o: optim.CosineAnnealingLR(o, T_max=2, eta_min=0.2), [0.8, 0.5, 0.2, 0.5, 0.8]),
    (lambda o: optim.LinearLR(o), [0.8 * f for f in (5 / 15, 7 / 15, 9 / 15, 11 / 15, 13 / 15)]),
    (lambda o: optim.LinearLR(o, start_factor=0.5, end_factor=0.25, total_iters=2),
     [0.4, 0.3, 0.2, 0.2, 0.2]),
    (lambda o: optim.OneCycleLR(o, max_lr=1.0, total_steps=5, pct_start=0.6, div_factor=10,
                                final_div_factor=2), [0.1, 0.55, 1.0, 0.525, 0.05]),
    (lambda o: optim.LinearWarmup(o, total_iters=2, start_factor=0.5,
                                  after=optim.StepLR(o, step_size=2)), [0.4, 0.6, 0.8, 0.8, 0.08]),
])
def test_schedules(make, rates):
    opt = optim.SGD(nn.Linear(2, 2).parameters(), lr=0.8)
    schedule, found = make(opt), []
    for t in range(len(rates)):
        found.append(opt.lr)
        assert schedule.lr(t) == opt.lr
        schedule.step()
    assert found == pytest.approx(rates, rel=1e-12)


@pytest.mark.parametrize("make", [
    lambda o: optim.StepLR(o, 1, gamma=math.nan),
    lambda o: optim.MultiStepLR(o, [-1]),
    lambda o: optim.CosineAnnealingLR(o, T_max=0),
    lambda o: optim.LinearLR(o, start_factor=math.inf),
    lambda o: optim.LinearWarmup(o, 2, start_factor=-1),
    lambda o: optim.OneCycleLR(o, 1.0, 9, pct_start=2),
    lambda o: optim.OneCycleLR(o, 1.0, 9, div_factor=0),
    lambda o: optim.OneCycleLR(o, 1.0, 0),
    lambda o: optim.Schedule(o, lambda t: math.nan),
    lambda o: setattr(o, "lr", math.inf),
    lambda o: optim.SGD(nn.Linear(2, 2).parameters(), momentum=math.nan),
    lambda o: optim.StepLR(o, 1).lr(-1),
])
def test_rates_that_cannot_be(make):
    opt = optim.SGD(nn.Linear(2, 2).parameters(), lr=0.8)
    with pytest.raises(ValueError, match="out of range"):
        make(opt)
    assert opt.lr == 0.8
    with pytest.raises(IndexError, match="no such parameter group; got 5; expected 0 to 0"):
        optim.StepLR(opt, 1).lr(0, 5)


def test_a_state_is_loaded_whole_or_not_at_all():
    opt = optim.Adam(nn.Linear(2, 2).parameters(), lr=0.5)
    for name, bad in {"0.lr": td.tensor(math.inf), "0.step": td.tensor([0, -5])}.items():
        state = {k: td.ones_like(v) for k, v in opt.state_dict().items()}
        with pytest.raises(td.RangeError, match=name):
            opt.load_state_dict({**state, name: bad})
        assert opt.lr == 0.5 and not any(v.any() for k, v in opt.state_dict().items()
                                         if k != "0.lr")


def test_a_top_rate_per_group():
    layers = [nn.Linear(2, 2), nn.Linear(2, 2)]
    opt = optim.SGD([{"params": layer.parameters()} for layer in layers], lr=0.1)
    schedule = optim.OneCycleLR(opt, [3.0, 4.0], 4, pct_start=0.5)
    assert [schedule.lr(1, group) for group in (0, 1)] == pytest.approx([3, 4])
    with pytest.raises(td.RangeError, match="per group"):
        optim.OneCycleLR(opt, [1.0, 2.0, 3.0], 4)


class Scaled(nn.Linear):
    """A layer of C++ with tensors of its own."""

    def __init__(self):
        super().__init__(2, 2)
        self.extra = nn.Parameter(td.full(1, 3.0))
        self.kernel = nn.Parameter(td.ones((2, 2, 3, 3)))
        self.register_buffer("seen", td.ones(1))
        self.below = nn.Linear(2, 1)

    def forward(self, x):
        return super().forward(x) * self.extra


SCALED = ["weight", "bias", "extra", "kernel", "below.weight", "below.bias", "seen"]


@pytest.mark.parametrize("wrap", [lambda m: m, nn.Sequential])
def test_tensors_beside_those_of_a_layer_are_converted_with_them(wrap):
    net = wrap(Scaled())
    for what in (td.float64, td.channels_last, "cpu"):
        assert net.to(what) is net
        assert [k.removeprefix("0.") for k in net.state_dict()] == SCALED
    assert {t.dtype for t in net.state_dict().values()} == {td.float64}
    assert all(p.requires_grad for p in net.parameters())
    own = next(m for m in net.modules() if isinstance(m, Scaled))
    assert own.kernel.is_channels_last() and own.extra.item() == 3.0
    assert net(td.ones((1, 2), td.float64)).dtype is td.float64
    assert td.summary(net, (2,)).parameters == sum(p.size for p in net.parameters())


def test_a_conversion_to_what_a_tensor_is_leaves_it():
    net = Scaled()
    before = [*net.named_parameters(), *net.named_buffers()]
    net.to(td.float32).to("cpu")
    after = [*net.named_parameters(), *net.named_buffers()]
    assert all(b is a for (_, a), (_, b) in zip(before, after, strict=True))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_tensors_beside_those_of_a_layer_are_copied_with_them(copied):
    net = Scaled().to(td.float64)
    net.extra.requires_grad_(False)
    other = copied(net)
    assert list(other.state_dict()) == list(net.state_dict())
    for key, value in net.state_dict().items():
        now = other.state_dict()[key]
        assert now.tolist() == value.tolist() and not now._same(value)
        assert (now.dtype, now.requires_grad) == (value.dtype, value.requires_grad)
    plain = nn.Linear(2, 2)
    plain.register_buffer("mean", td.ones(3))
    assert copied(plain).mean.tolist() == [1.0] * 3


def test_tensors_of_a_layer_are_changed_but_not_replaced():
    net = Scaled()
    names, weight = list(net.state_dict()), net.weight
    value = weight.tolist()
    with td.no_grad():
        net.weight *= 2
        net.bias += 1
        net.extra *= 2
    assert list(net.state_dict()) == names and net.weight is weight
    assert weight.tolist() == [[2 * v for v in row] for row in value] and net.extra.item() == 6.0
    net.extra = nn.Parameter(td.ones(2))  # its own can be
    assert list(net.state_dict()) == names
    for change in (
        lambda: setattr(net, "weight", nn.Parameter(td.ones((2, 2)))),
        lambda: delattr(net, "bias"),
        lambda: net.register_buffer("weight", td.ones(1)),
        lambda: net.register_parameter("bias", td.ones(1)),
        lambda: net.add_module("weight", nn.Identity()),
    ):
        with pytest.raises(AttributeError, match="replaced"):
            change()


def test_a_compiled_module_is_one_of_the_modules():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = td.compile(nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5)))
            self.rest = nn.Sequential(td.compile(nn.Linear(4, 1)), nn.Sigmoid())

        def forward(self, x):
            return self.rest(self.first(x))

    net = Net()
    names = ["first.0.weight", "first.0.bias", "rest.0.weight", "rest.0.bias"]
    assert [n for n, _ in net.named_parameters()] == names == list(net.state_dict())
    assert [type(m).__name__ for m in net.modules()] == [
        "Net", "Sequential", "Linear", "Dropout", "Sequential", "Linear", "Sigmoid"]
    net.eval()
    assert not net.first.training and not list(net.first.children())[1].training
    x = td.ones((3, 2))
    before = net(x).tolist()
    assert len(net.first.ledger()) == 1 and "compiled" in repr(net)
    opt = optim.SGD(net.parameters(), lr=0.1)

    @td.compile
    def step():
        opt.zero_grad()
        (net(x) - 1).square().sum().backward()
        opt.step()

    step()
    assert net(x).tolist() != before and net.first(x).tolist() == net.first.forward(x).tolist()
    state = {k: td.zeros_like(v) for k, v in net.state_dict().items()}
    net.load_state_dict(state)
    assert net(x).tolist() == [[0.5]] * 3
    net.to(td.float64)
    assert net(x.to(td.float64)).dtype is td.float64
    other = copy.deepcopy(net)
    assert list(other.state_dict()) == names and other.first is not net.first
    assert other(x.to(td.float64)).tolist() == [[0.5]] * 3


def test_a_compiled_module_has_all_of_the_modules():
    inner = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    net = td.compile(inner)
    assert isinstance(net, nn.Module)
    for call in (lambda m: m.train(False), lambda m: m.to(td.float64), lambda m: m.eval(),
                 lambda m: m.requires_grad_(True), lambda m: m.apply(lambda _: None)):
        assert call(net) is net and call(inner) is inner
    assert net.parameters() == inner.parameters() and net.buffers() == inner.buffers()
    assert list(net.children()) == list(inner.children())
    assert not net.training and not inner.training
    net.scale = nn.Parameter(td.ones(2))
    assert inner.scale is net.scale and "scale" in dict(net.named_parameters())
    del net.scale
    assert not hasattr(inner, "scale") and not hasattr(net, "scale")
    seen = []
    net.register_forward_hook(lambda m, args, out: seen.append(m))
    net(td.ones((2, 2), td.float64))
    assert seen and all(m is inner for m in seen)
    loaded = pickle.loads(pickle.dumps(td.compile(nn.Linear(2, 2), fast=True)))
    assert isinstance(loaded, type(net)) and loaded(td.ones((1, 2))).shape == (1, 2)
    net.fit = 3
    assert inner.fit == 3


@pytest.mark.parametrize("make", [
    lambda: nn.Sequential(nn.Linear(2, 2), td.relu),
    lambda: nn.Sequential(OrderedDict(a=None)),
    lambda: nn.ModuleList([nn.Linear(2, 2), nn.Linear]),
    lambda: nn.Module().add_module("a", lambda x: x),
    lambda: nn.Sequential(td.compile(td.relu)),
])
def test_what_is_no_module_is_refused_as_one(make):
    with pytest.raises(TypeError, match="is a Module; got .*; expected"):
        make()


def test_an_optimiser_wants_parameters_that_want_gradients():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    net[0].requires_grad_(False)
    for make in (optim.SGD, optim.Adam, optim.AdamW):
        for params in (net.parameters(), [{"params": net.parameters()}], [td.ones(2)]):
            with pytest.raises(td.AutogradError, match="must want a gradient.*if p.requires_grad"):
                make(params)
        make(net[1].parameters())
    model = td.Model(net, "sgd", "mse")
    model.fit(td.ones((4, 2)), td.ones((4, 1)), epochs=1, verbose=0)


def test_tensors_that_modules_share_stay_shared():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(3, 2)
            self.out = self.embed.weight
            self.a, self.b = nn.Module(), nn.Module()
            self.a.scale = self.b.scale = nn.Parameter(td.ones(1))
            self.a.register_buffer("mean", td.zeros(1))
            self.b.register_buffer("mean", self.a.mean)

    net = Net().to(td.float64)
    assert {t.dtype for t in net.state_dict().values()} == {td.float64}
    assert net.out._same(net.embed.weight) and net.a.scale._same(net.b.scale)
    assert net.a.mean._same(net.b.mean) and len(net.parameters()) == 2
    assert net.a.scale.requires_grad and not net.a.mean.requires_grad


def test_a_model_of_a_compiled_module():
    td.manual_seed(0)
    net = td.compile(nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1)))
    x = td.randn((32, 2), generator=td.Generator(3))
    model = td.Model(net, lambda params: optim.Adam(params, lr=0.05), "mse")
    history = model.fit(x, x.sum(axis=1, keepdims=True), epochs=20, batch_size=8, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0] / 2


def test_labels_as_files_of_images_have_them():
    scores = td.tensor([[1.0, 2.0, 0.5], [0.0, 1.0, 3.0]])
    for dtype in ("uint8", "int32"):
        labels = np.array([1, 2], dtype)
        for loss in (nn.cross_entropy, nn.nll_loss):
            want = loss(scores, td.tensor([1, 2]))
            assert loss(scores, td.asarray(labels)).tolist() == want.tolist()
    with pytest.raises(td.OutOfBoundsError, match="got label 3 of sample 0"):
        nn.cross_entropy(scores, td.tensor([3, 0], dtype="uint8"))


def test_a_state_can_be_written_to():
    net = nn.Linear(2, 1)
    state = net.state_dict()
    state["weight"].mul_(0)
    state["weight"][0, 1] = 5.0
    assert net.weight.tolist() == [[0, 5]] and net.weight.requires_grad
    assert state["bias"].numpy().shape == (1,)

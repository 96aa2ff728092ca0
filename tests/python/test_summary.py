"""Summaries of networks, costs and the profiler's records."""

import json

import pytest

import tandem as td
from tandem import nn, profiler


class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.conv = nn.Conv2d(n, n, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(n)

    def forward(self, x):
        return td.relu(self.norm(self.conv(x))) + x


def test_layers_shapes_parameters_and_operations():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), Block(4), nn.Dropout(0.5), nn.Flatten(),
                        nn.Linear(4 * 6 * 6, 5))
    net[4].weight.requires_grad_(False)
    s = td.summary(net, (1, 8, 8), batch_size=2)
    by_path = {x.path: x for x in s.layers}
    assert [x.path for x in s.layers] == ["", "0", "1", "1.conv", "1.norm", "2", "3", "4"]
    assert by_path["0"].output_shape == (2, 4, 6, 6) and by_path["0"].kind == "Conv2d(1, 4, 3)"
    assert by_path["1"].output_shape == (2, 4, 6, 6) and by_path["1"].kind == "Block()"
    assert by_path["2"].output_shape == (2, 4, 6, 6)
    assert by_path[""].output_shape == (2, 5)
    # A multiply-add is two, and the bias comes with the first product's sum.
    assert by_path["0"].flops == 2 * 2 * 4 * 36 * 9
    assert by_path["4"].flops == 2 * 2 * 144 * 5
    # relu and the sum belong to the block itself.
    assert by_path["1"].flops == 2 * (2 * 4 * 36)
    assert by_path["1.conv"].parameters == 4 * 4 * 9 and by_path["1"].parameters == 0
    assert s.parameters == sum(p.size for p in net.parameters())
    assert s.parameters - s.trainable == 4 * 36 * 5
    assert s.parameter_bytes == 4 * s.parameters and s.buffers == 8
    assert s.flops == sum(x.flops for x in s.layers) and s.input_shape == (2, 1, 8, 8)
    text = str(s)
    assert f"{s.parameters:,} parameters, 720 of them fixed" in text and "1.conv" in text
    assert net.training and not net._forward_hooks and not net[0]._forward_pre_hooks


def test_nets_of_cpp_are_opened_up():
    net = nn.make_model("lenet")
    s = td.summary(net)
    assert s.parameters == 3_274_634 and s.layers[1].output_shape == (1, 32, 28, 28)
    assert [x.parameters for x in s.layers if x.parameters] == [832, 51_264, 3_212_288, 10_250]
    inside = td.summary(nn.Sequential(net, nn.ReLU()), (1, 28, 28))
    assert inside.parameters == s.parameters
    assert {"0.0", "0.10", "1"} <= {x.path for x in inside.layers}
    deep = td.summary(nn.make_model("resnet18-cifar"))
    assert deep.parameters == sum(p.size for p in nn.make_model("resnet18-cifar").parameters())


def test_shared_modules_and_ids():
    linear = nn.Linear(3, 3)
    s = td.summary(nn.Sequential(linear, linear), (3,))
    assert s.parameters == 12 and s.flops == 2 * 2 * 9
    s = td.summary(nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 2)), (7,), dtype=td.int64)
    assert s.layers[1].output_shape == (1, 7, 4)


def test_errors_leave_the_network_as_it_was():
    net = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(td.ShapeError):
        td.summary(net, (4,))
    assert net.training and not net[0]._forward_hooks
    assert td.summary(net, (3,)).parameters == 8
    assert td.Model(net).summary((3,)).parameters == 8


def test_without_a_shape():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Embedding(5, 2), nn.Linear(3, 2)

        def forward(self, ids, x):
            return self.a(ids) + self.b(x)

    s = td.summary(Two())
    assert [(x.path, x.parameters, x.output_shape) for x in s.layers] == [
        ("", 0, None), ("a", 10, None), ("b", 8, None)]
    assert s.parameters == 18 and s.flops == 0 and s.input_shape is None
    assert "no input_shape was given" in str(s) and "Embedding(5, 2)" in str(s)
    # What a Model was given is known.
    model = td.Model(Two(), "sgd")
    assert model.summary().input_shape is None
    model.fit(([1, 2, 3], [[1.0] * 3] * 3), [0, 1, 1], batch_size=2, verbose=0)
    s = model.summary(batch_size=4)
    assert s.input_shape == ((4,), (4, 3)) and s.layers[2].output_shape == (4, 2)
    assert s.flops > 0 and "input [4], [4, 3]," in str(s)


def test_records_within_records():
    x = td.ones(10)
    with profiler.profile() as outer:
        td.relu(x)
        with profiler.profile() as inner:
            td.tanh(x)
            with profiler.profile():
                pass
        with pytest.raises(ZeroDivisionError), inner:  # which starts over
            x * 2
            1 / 0
        td.exp(x)
        with pytest.raises(td.RangeError, match=r"\[profile\] a block cannot be within itself"):
            outer.__enter__()
        with pytest.raises(td.RangeError, match="timed by the host"), profiler.profile(device="cpu"):
            pass
    with pytest.raises(TypeError), profiler.profile(device=3):
        pass
    with profiler.profile() as after:
        td.sqrt(x)
    assert [e.op for e in after.events] == ["sqrt"]
    assert [e.op for e in outer.events] == ["relu", "tanh", "mul", "exp"]
    assert [e.op for e in inner.events] == ["mul"]
    assert outer.events[0].end_ns <= outer.events[1].start_ns


def test_costs_of_forward_and_backward():
    x, w = td.randn((4, 8)), td.randn((2, 8)).requires_grad_()
    with profiler.costs() as c:
        loss = td.linear(x, w).sum()
        forward = len(c._recorder)
        loss.backward()
    assert [k.op for k in c.calls[:2]] == ["linear", "sum"] and len(c.calls) > forward == 2
    assert c.calls[0].flops == 2 * 4 * 2 * 8
    assert c.calls[0].bytes == 4 * (32 + 16 + 8)
    assert c.calls[0].outputs == [((4, 2), td.float32)]
    assert c.flops > c.calls[0].flops and c.bytes > 0 and "linear" in c.table()
    assert w.grad is not None  # the operations are carried out as ever
    with profiler.costs() as inner:
        td.relu(x)
    assert [k.op for k in inner.calls] == ["relu"]


def test_costs_of_a_compiled_function():
    @td.compile(check_capture=False)
    def f(x):
        return td.relu(x) * 2

    x = td.randn((5,))
    want = (td.relu(x) * 2).tolist()
    with profiler.costs() as c:
        first, second = f(x), f(x)
    assert first.tolist() == second.tolist() == f(x).tolist() == want
    assert [k.op for k in c.calls] == ["relu", "mul"] * 2
    assert len(f) == 1 and f(x).tolist() == want
    # A capture in progress goes on through a recorder inside of it.
    seen = []

    @td.compile(check_capture=False)
    def g(x):
        with profiler.costs() as inside:
            y = td.tanh(x) + 1
        seen.append([k.op for k in inside.calls])
        return y

    assert g(x).tolist() == g(x).tolist() == (td.tanh(x) + 1).tolist()
    assert seen and all(ops == ["tanh", "add"] for ops in seen)


def test_timeline(tmp_path):
    with profiler.profile() as p:
        td.relu(td.ones(10)).sum()
    p.save_chrome_trace(tmp_path / "t.json")
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert [e["name"] for e in events] == [e.op for e in p.events]
    assert events[0]["ts"] == 0 and all(e["dur"] >= 0 for e in events)
    profiler.profile().save_chrome_trace(tmp_path / "empty.json")


def test_launches_timed_by_the_device():
    assert not profiler.recording()
    with profiler.profile(device="cpu") as p:
        assert profiler.recording()
        td.relu(td.ones(10)).sum()
    assert not profiler.recording()
    assert {"relu", "sum"} <= {e.op for e in p.events} and "relu" in p.table()
    # From the first launch on.
    assert p.events[0].start_ns == 0 and all(e.end_ns >= e.start_ns for e in p.events)
    starts = [e.start_ns for e in p.events]
    assert starts == sorted(starts) and starts[-1] < 60e9
    with pytest.raises(td.DeviceError):
        with profiler.profile(device="cuda" if not td.cuda_is_available() else "cuda:99"):
            pass
    assert not profiler.recording()

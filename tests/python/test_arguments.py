"""Arguments that must be refused: None, numbers that do not fit, memory that may not be written."""

import ctypes
import inspect
import os
import signal

import numpy as np
import pytest

import tandem as td
from tandem import nn, optim

# ----------------------------------------------------------------------------------- None


WANTS = td.ones((2, 2)).requires_grad_()


def sample(kind):
    """Arguments a function of that kind takes."""
    return {
        "x": td.ones((2, 2)),
        "image": td.ones((1, 2, 3, 3)),
        "ids": td.zeros((2, 2), dtype=td.int64),
        "row": td.zeros((2,), dtype=td.int64),
        "bool": td.ones((2, 2), dtype=td.bool),
        "f64": td.ones((2,), dtype=td.float64).requires_grad_(),
        "wants": WANTS,
        "sum": WANTS.sum(),
    }.get(kind, kind)


# The required arguments, by name, of each function that takes tensors other than one called x.
SPECIAL = {
    "where": ("bool", "x", "x"),
    "gather": ("x", 0, "ids"),
    "scatter_add": ("x", 0, "ids", "x"),
    "take": ("x", "row"),
    "index_add": ("x", 0, "row", "x"),
    "embedding": ("x", "ids"),
    "one_hot": ("ids", 2),
    "linear": ("x", "x"),
    "conv2d": ("image", "image"),
    "conv_transpose2d": ("image", td.ones((2, 1, 2, 2))),
    "max_pool2d": ("image", 2),
    "max_pool2d_with_indices": ("image", 2),
    "avg_pool2d": ("image", 2),
    "adaptive_avg_pool2d": ("image", 2),
    "batch_norm": ("image",),
    "layer_norm": ("x", 2),
    "cross_entropy": ("x", "row"),
    "nll_loss": ("x", "row"),
    "logical_and": ("bool", "bool"),
    "logical_or": ("bool", "bool"),
    "full": ((2,), 1),
    "full_like": ("x", 1),
    "linspace": (0, 1, 3),
    "randint": (0, 2, (2,)),
    "pad": ("x", [1, 1, 1, 1]),
    "roll": ("x", 1, 0),
    "split": ("x", 1),
    "chunk": ("x", 1),
    "reshape": ("x", (4,)),
    "permute_dims": ("x", (1, 0)),
    "broadcast_to": ("x", (2, 2)),
    "squeeze": (td.ones((1, 2)),),
    "topk": ("x", 1),
    "eye": (2,),
    "set_policy": (td.get_policy(),),
    "set_num_threads": (1,),
    "set_grad_enabled": (True,),
    "set_anomaly_mode": (False,),
    "set_autocast_mode": (),  # None is one
    "set_default_device": ("cpu",),
    "has_device": ("cpu",),
    "manual_seed": (1,),
    "load_dataset": ("synthetic-digits",),
    "load_mnist": ("nowhere",),
    "load_cifar10": ("nowhere",),
    "read_idx": ("nowhere",),
    "synthetic_digits": (1, 1),
    "synthetic_cifar": (1, 1),
    "byte_images": ("a", td.zeros((1, 1, 2, 2), dtype=td.uint8), td.zeros((1,), dtype=td.uint8), 2),
    "grad": ("sum", "wants"),
    "backward": ("sum",),
    "register_hook": ("wants", lambda g: g),
    "checkpoint": (lambda t: t * 2, "wants"),
    "gradcheck": (lambda t: t * 2, ["f64"]),
    "gradgradcheck": (lambda t: t * 2, ["f64"]),
    "concat": (["x", "x"],),
    "stack": (["x", "x"],),
    "from_dlpack": ("x",),
}


def public_functions():
    for module in (td, nn.init):
        for name, f in vars(module).items():
            if name.startswith("_") or not callable(f) or inspect.isclass(f):
                continue
            if type(f).__name__ == "builtin_function_or_method":
                yield name, f


def calls_with_none():
    for name, f in public_functions():
        arguments = SPECIAL.get(name)
        if arguments is None:
            first = (f.__doc__ or "").split("(", 1)[1].split(")")[0]
            names = [a.split(":")[0].strip() for a in first.split(",") if ":" in a and "=" not in a]
            arguments = tuple((2,) if n == "shape" else "x" for n in names)
        for k in range(len(arguments)):
            yield f"{name}({k})", f, arguments, k
        for k, a in enumerate(arguments):
            if isinstance(a, list) and name != "pad":
                yield f"{name}([{k}])", f, arguments, (k,)


def in_a_process(f):
    """What calling f gives: "returned", the exception's type, or the signal that ended it."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        signal.alarm(20)
        try:
            f()
            text = "returned"
        except Exception as e:
            text = type(e).__name__
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    _, status = os.waitpid(pid, 0)
    return text if status == 0 else f"signal {status}"


def made(a):
    if isinstance(a, list):
        return [sample(e) if isinstance(e, str) else e for e in a]
    return sample(a) if isinstance(a, str) else a


def test_none_is_refused_everywhere():
    wrong = {}
    seen = 0
    for what, f, arguments, k in calls_with_none():
        values = [made(a) for a in arguments]
        if isinstance(k, tuple):
            values[k[0]] = [None, *values[k[0]][1:]]
        else:
            values[k] = None
        got = in_a_process(lambda: f(*values))
        seen += 1
        if got == "returned" or got.startswith("signal"):
            wrong[what] = got
    assert seen > 100
    assert wrong == {}, wrong


def test_the_same_calls_work_without_none():
    for name, f in public_functions():
        if name in SPECIAL and SPECIAL[name] not in ((), ("nowhere",)) and name not in (
                "set_num_threads", "manual_seed", "load_dataset"):
            f(*[made(a) for a in SPECIAL[name]])


@pytest.mark.parametrize(
    "call",
    [
        lambda x: nn.BatchNorm2d(2)(None),
        lambda x: nn.Linear(2, 2)(None),
        lambda x: nn.Embedding(2, 2)(None),
        lambda x: nn.MSELoss()(None, None),
        lambda x: nn.Linear(2, 2).load_state_dict({"weight": None, "bias": x}),
        lambda x: nn.Linear(2, 2).load_state_dict(None),
        lambda x: optim.GradScaler().scale(None),
        lambda x: optim.GradScaler().step(None),
        lambda x: optim.SGD([None]),
        lambda x: optim.SGD(None),
        lambda x: optim.Adam([{"params": [x, None]}]),
        lambda x: optim.StepLR(None, 1),
        lambda x: optim.Schedule(optim.SGD([x]), None),
        lambda x: td.DataLoader(None),
        lambda x: td.grad(x.sum(), [None]),
        lambda x: x.copy_(None),
        lambda x: x.fill_(None),
        lambda x: x.astype(None),
        lambda x: x.gather(0, None),
        lambda x: x.matmul(None),
        lambda x: x.reshape(None),
        lambda x: x._same(None),
        lambda x: td.graph.Graph().compile([None]),
        lambda x: td.layer_norm(None, 2),
        lambda x: td.batch_norm(td.ones((1, 2, 1)), None, None, td.ones((2,)), None),
    ],
)
def test_none_is_refused_by_methods(call):
    got = in_a_process(lambda: call(td.ones((2, 2))))
    assert got != "returned" and not got.startswith("signal"), got


def test_none_that_means_something():
    x = td.ones((2, 2)).requires_grad_()
    td.linear(x, td.ones((2, 2)), None).sum().backward(None)
    x.grad = None
    assert x.grad is None
    assert td.clamp(td.tensor([-1, 5]), None, 2).tolist() == [-1, 2]
    assert td.arange(2, None).tolist() == [0, 1]
    td.register_hook(x, lambda g: None)
    (g,) = td.grad([(x * 2).sum()], [x], [None])
    assert g.tolist() == [[2, 2], [2, 2]]


# ------------------------------------------------------------------------- numbers that fit


def test_numbers_that_do_not_fit():
    for call in (
        lambda: td.tensor([300, -1], dtype=td.uint8),
        lambda: td.tensor(2**31, dtype=td.int32),
        lambda: td.tensor(float("nan"), dtype=td.int64),
        lambda: td.tensor(np.array([2**64 - 1], "u8")),
        lambda: td.asarray(np.array([2**63], "u8")),
        lambda: td.pad(td.zeros((2,), dtype=td.uint8), [1, 1], 300),
        lambda: td.Policy(search=300),
        lambda: td.Policy(search=-1),
        lambda: td.set_num_threads(100000),
        lambda: td.set_num_threads(0),
    ):
        with pytest.raises(td.RangeError):
            call()
    assert td.tensor(np.array([2**63 - 1, 0], "u8")).tolist() == [2**63 - 1, 0]
    assert td.tensor([255, 0], dtype=td.uint8).tolist() == [255, 0]
    assert td.Policy(search=255).search == 255


def test_dates_are_no_numbers():
    day = np.datetime64("2020-01-01")
    for bad in (day, np.array([day]), [day], day - day, np.array([day - day])):
        with pytest.raises(td.DTypeError):
            td.tensor(bad)


def test_data_of_bytes():
    images, labels = td.zeros((2, 1, 2, 2), dtype=td.uint8), td.tensor([0, 3])
    assert td.byte_images("a", images, labels, 4).get([1])[1].tolist() == [3]
    with pytest.raises(td.DTypeError):
        td.byte_images("a", td.rand((2, 1, 2, 2)), labels, 4)
    for bad in ([0, 4], [0, -1], [256, 0]):
        with pytest.raises(td.OutOfBoundsError):
            td.byte_images("a", images, td.tensor(bad), 4 if max(bad) < 256 else 300)
    with pytest.raises(td.DTypeError):
        td.byte_images("a", images, td.zeros((2,)), 4)


def test_damaged_files(tmp_path):
    path = tmp_path / "f"
    td.save({"a": td.arange(100)}, path)
    whole = path.read_bytes()
    for n in range(0, len(whole), 37):
        path.write_bytes(whole[:n])
        with pytest.raises(td.DataError):
            td.load(path)
    path.write_bytes(whole)
    assert td.load(path)["a"].shape == (100,)


# ---------------------------------------------------------------------------------- memory


def test_memory_without_strides():
    t = td.asarray((ctypes.c_float * 3)(1, 2, 3))
    assert t.tolist() == [1, 2, 3] and t.dtype is td.float32
    assert td.tensor(((ctypes.c_int * 2) * 2)((1, 2), (3, 4))).tolist() == [[1, 2], [3, 4]]


# Before 2.1 NumPy gives no memory that must not be written to DLPack, and takes all as such.
numpy_tells_what_may_be_written = pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.1.0", reason="NumPy's DLPack is too old")


@numpy_tells_what_may_be_written
def test_memory_that_may_not_be_written():
    a = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
    t = td.from_dlpack(a)
    t.fill_(0)
    assert a.tobytes() == b"0123456789abcdef" and t.tolist() == [0] * 16
    with pytest.raises(td.RangeError):
        td.asarray(a, copy=False)


@numpy_tells_what_may_be_written
def test_dlpack_copies_when_asked():
    t = td.zeros((3,))
    np.from_dlpack(t)[0] = 1
    copied = np.from_dlpack(t, copy=True)
    copied[1] = 1
    assert t.tolist() == [1, 0, 0]
    capsule = t.__dlpack__(dl_device=(1, 0), copy=True)
    del capsule
    with pytest.raises(td.DeviceError):
        t.__dlpack__(dl_device=(2, 0))


def test_asarray_without_a_copy():
    a = np.zeros(3, np.float32)
    t = td.asarray(a, copy=False)
    t[0] = 1
    assert a[0] == 1 and td.asarray(t, copy=False)._same(t)
    for bad in ([1.0], 1.0, a[::-1], a.astype(">f4")):
        with pytest.raises(td.RangeError):
            td.asarray(bad, copy=False)
    with pytest.raises(td.RangeError):
        td.asarray(a, dtype=td.float64, copy=False)


def test_nothing_can_be_copied_to_nothing():
    td.asarray(np.zeros((3, 0))).copy_(td.zeros((3, 0)))
    td.zeros((0, 3)).copy_(td.zeros((1, 3)))


# --------------------------------------------------------------------------------- options


def test_options_of_layers_are_fixed():
    for layer, names in (
        (nn.Dropout(0.5), ["p", "generator"]),
        (nn.BatchNorm2d(2), ["momentum", "eps", "affine"]),
        (nn.LayerNorm(2), ["eps"]),
        (nn.MaxPool2d(2), ["stride", "kernel_size"]),
        (nn.LeakyReLU(), ["slope"]),
    ):
        for name in names:
            with pytest.raises(AttributeError, match=name):
                setattr(layer, name, 0.0)
        layer.note = "a name of one's own"
        assert layer.note == "a name of one's own"

    class Mine(nn.Dropout):
        def __init__(self, strength):
            super().__init__(strength)
            self.strength = strength

    assert Mine(0.25).strength == 0.25

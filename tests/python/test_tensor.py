"""Tensors from Python: values, types, indexing, sharing of memory, errors."""

import array
import copy
import pickle

import numpy as np
import pytest

import tandem as td

DTYPES = {
    td.float32: np.float32,
    td.float64: np.float64,
    td.float16: np.float16,
    td.int32: np.int32,
    td.int64: np.int64,
    td.uint8: np.uint8,
    td.bool: np.bool_,
}


def numbers(shape, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * 3).astype(dtype)


# ------------------------------------------------------------------------------- creation


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(1.5, td.float32), (2, td.int64), (True, td.bool), ([[1, 2], [3, 4]], td.int64),
     ([1, 2.5], td.float32), ([], td.float32), ([True, False], td.bool)],
)
def test_tensor_of_python_values(value, dtype):
    t = td.tensor(value)
    assert t.dtype is dtype
    assert t.tolist() == value


@pytest.mark.parametrize(("dtype", "numpy_type"), list(DTYPES.items()))
def test_numpy_there_and_back(dtype, numpy_type):
    a = numbers((2, 3, 4)).astype(numpy_type)
    t = td.asarray(a)
    assert t.dtype is dtype and t.shape == (2, 3, 4)
    assert np.array_equal(t.numpy(), a) and t.numpy().dtype == numpy_type
    assert td.zeros(2, dtype=numpy_type).dtype is dtype
    assert td.zeros(2, dtype=dtype.name).dtype is dtype
    assert td.zeros(2, dtype=np.dtype(numpy_type)).dtype is dtype


def test_ragged_lists_are_refused():
    for bad in ([[1, 2], [3]], [[1], 2], [1, [2]], [[[1]], [[1, 2]]]):
        with pytest.raises(td.ShapeError, match="nested lists"):
            td.tensor(bad)


def test_values_that_are_no_numbers_are_refused():
    for bad in ("text", ["a"], object(), [None], 1j, np.array(["a"])):
        with pytest.raises((TypeError, ValueError)):
            td.tensor(bad)


def test_unusual_arrays():
    big_endian = numbers((3, 4)).astype(">f4")
    assert np.array_equal(td.asarray(big_endian).numpy(), big_endian)
    reversed_ = numbers((5,))[::-1]
    assert np.array_equal(td.asarray(reversed_).numpy(), reversed_)
    read_only = numbers((3,))
    read_only.setflags(write=False)
    t = td.asarray(read_only)
    t.fill_(1)
    assert not np.array_equal(t.numpy(), read_only)
    assert td.asarray(np.arange(3, dtype=np.int16)).dtype is td.int64
    assert td.tensor([np.float32(1), np.float64(2)]).tolist() == [1, 2]
    assert td.tensor(array.array("f", [1, 2])).tolist() == [1, 2]


# ---------------------------------------------------------------------------- shared memory


def test_memory_is_shared_with_numpy():
    a = numbers((3, 4))
    t = td.asarray(a)
    t[0, 0] = 100
    assert a[0, 0] == 100
    a[1, 1] = 50
    assert t[1, 1].item() == 50
    copied = td.tensor(a)
    copied.fill_(0)
    assert a[0, 0] == 100
    view = np.asarray(t)
    view[2, 2] = 9
    assert t[2, 2].item() == 9
    assert memoryview(t).format == "f" and memoryview(t).shape == (3, 4)
    strided = a[:, ::2]
    assert np.array_equal(td.asarray(strided).numpy(), strided)


def test_memory_outlives_its_first_owner():
    t = td.asarray(numbers((1000,)))
    want = numbers((1000,))
    n = td.asarray(numbers((1000,))).numpy()
    for _ in range(10):
        td.zeros((1000,)).fill_(7)
    assert np.array_equal(t.numpy(), want) and np.array_equal(n, want)


def test_builtin_functions():
    t = td.tensor([7.26, -2.5, 0.125])
    assert [v.item() for v in reversed(t)] == t.tolist()[::-1]
    assert round(t).tolist() == np.round(t.numpy()).tolist()
    assert np.allclose(round(t, 1).numpy(), np.round(t.numpy(), 1))
    assert round(td.tensor([125, 2**53 + 1]), 1).tolist() == [125, 2**53 + 1]
    assert round(td.tensor([125, -1250]), -2).tolist() == [100, -1200]
    assert round(t, 400).tolist() == t.tolist() and round(t, -400).tolist() == [0, 0, 0]
    half = td.tensor([100.0], dtype="float16")
    assert round(half, 3).tolist() == [100] and round(half, 3).dtype is td.float16
    with pytest.raises(TypeError):
        round(t, 2.5)
    for a, b in ((t, 2), (9, t), (t, td.full((3,), 0.5))):
        q, r = divmod(a, b)
        want = np.divmod(np.asarray(a, "f"), np.asarray(b, "f"))
        assert np.allclose(q.numpy(), want[0]) and np.allclose(r.numpy(), want[1])
    assert divmod(td.tensor([7, -7]), 2)[1].tolist() == [1, 1]
    with pytest.raises(TypeError):
        reversed(td.ones(()))


def test_repr_says_whether_a_gradient_is_wanted():
    t = td.ones(2)
    assert repr(t) == "[1., 1.]  f32[2]"
    assert repr(t.requires_grad_()) == "[1., 1.]  f32[2], requires_grad"


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.1.0",
                    reason="NumPy's DLPack takes all memory as read-only")
def test_dlpack():
    t = td.asarray(numbers((3, 4)))
    a = np.from_dlpack(t)
    a[0, 0] = 5
    assert t[0, 0].item() == 5
    back = td.from_dlpack(a)
    back[1, 1] = 6
    assert t[1, 1].item() == 6
    assert t.__dlpack_device__() == (1, 0)
    with pytest.raises(td.AutogradError):
        td.ones(2).requires_grad_().__dlpack__()
    capsule = t.__dlpack__()  # nobody takes it
    del capsule


def test_what_numpy_cannot_have():
    with pytest.raises(td.AutogradError, match="detach"):
        td.ones(2).requires_grad_().numpy()
    with pytest.raises(BufferError, match="bf16|float32"):
        memoryview(td.ones(2, dtype=td.bfloat16))
    assert np.array_equal(np.asarray(td.ones(2, dtype=td.bfloat16)), [1, 1])


@pytest.mark.parametrize("dtype", [*DTYPES, td.bfloat16])
def test_pickle(dtype):
    t = td.asarray(numbers((2, 3))).astype(dtype)
    for other in (pickle.loads(pickle.dumps(t)), copy.deepcopy(t)):
        assert other.dtype is dtype and other.tolist() == t.tolist()
        assert not other._same(t)
    last = td.asarray(numbers((2, 3, 4, 5))).to(td.channels_last).requires_grad_()
    again = pickle.loads(pickle.dumps(last))
    assert again.is_channels_last() and again.requires_grad
    assert pickle.loads(pickle.dumps(td.float16)) is td.float16
    assert pickle.loads(pickle.dumps(td.Device("cpu"))) == "cpu"


def test_save_and_load(tmp_path):
    state = {"a": td.ones((2, 3)), "b": [td.arange(3), 4, "text"]}
    td.save(state, tmp_path / "f")
    again = td.load(tmp_path / "f")
    assert again["a"].tolist() == state["a"].tolist() and again["b"][1:] == [4, "text"]
    others = {"number": np.float32(1.5), "flag": np.bool_(True), "array": np.arange(6.).reshape(2, 3),
              "names": np.array(["a", "b"]), "all": (1, 2.5, None, 1 + 2j, b"x", {3}), "text": "x"}
    td.save(others, tmp_path / "g")
    again = td.load(tmp_path / "g")
    assert {k: (type(v), str(v)) for k, v in again.items()} == {
        k: (type(v), str(v)) for k, v in others.items()}
    for bad in (tmp_path, td.nn.Linear(1, 1), print, np.array([object()]), td.float32):
        with pytest.raises(pickle.PicklingError, match="save"):
            td.save({"x": bad}, tmp_path / "g")
    assert td.load(tmp_path / "g").keys() == others.keys()
    assert {p.name for p in tmp_path.iterdir()} == {"f", "g"}
    (tmp_path / "bad").write_bytes(pickle.dumps(print))
    with pytest.raises(pickle.UnpicklingError, match="tensors"):
        td.load(tmp_path / "bad")


# -------------------------------------------------------------------------------- indexing

X = numbers((4, 5, 6))
KEYS = [
    0, -1, (1, 2), (1, 2, 3), slice(None), slice(1, 3), slice(None, None, 2), slice(-3, None),
    slice(None, None, -1), slice(4, 0, -2), slice(3, 1), (slice(None), 0), (Ellipsis, 0),
    (0, Ellipsis), (Ellipsis,), None, (None, 0), (slice(None), None, 1), (Ellipsis, None),
    [0, 2], [-1, 0, 0], [[0, 1], [2, 3]], (slice(None), [0, 4]), ([0, 1], [2, 3]),
    ([0, 1], slice(None), [2, 3]), (slice(None), [0, 1], [2, 3]), (0, [1, 2]), ([0, 1], 2),
    (Ellipsis, [0, 5]), ([[0], [1]], [[0, 1]]), X > 0, X[:, 0, 0] > 0, (X[..., 0] > 0),
    (slice(None), X[0, :, 0] > 0), (slice(1, 3), slice(None, None, -1), [1, 2]), [],
    np.array([1, 2]), np.int64(2), (np.int32(1), np.array([True, False, True, False, True])),
]


@pytest.mark.parametrize("key", KEYS, ids=[str(i) for i in range(len(KEYS))])
def test_indexing_is_numpys(key):
    want = X[np.array(key, dtype=int) if key == [] else key] if isinstance(key, list) else X[key]
    got = td.tensor(X)[key]
    assert got.shape == want.shape
    assert np.array_equal(got.numpy(), want)


@pytest.mark.parametrize("key", KEYS, ids=[str(i) for i in range(len(KEYS))])
def test_assignment_is_numpys(key):
    if isinstance(key, list) and key == []:
        key = np.array([], dtype=int)
    want = X.copy()
    shape = want[key].shape
    for value in (7.5, numbers(shape, seed=3)):
        t = td.tensor(X)
        want = X.copy()
        want[key] = value
        t[key] = value if isinstance(value, float) else td.tensor(value)
        assert np.array_equal(t.numpy(), want)


def test_views_and_copies():
    t = td.tensor(X)
    t[1][2][:3] = 0
    assert np.all(t.numpy()[1, 2, :3] == 0)
    taken = t[[0, 1]]
    taken.fill_(5)
    assert not np.any(t.numpy()[0] == 5)


def test_bad_indices():
    t = td.tensor(X)
    for key in (4, -5, (0, 0, 0, 0), [4], ([0], [9]), (Ellipsis, Ellipsis)):
        with pytest.raises(IndexError):
            t[key].tolist()
    with pytest.raises(TypeError):
        t[1.5]
    with pytest.raises(TypeError):
        t["a"]
    with pytest.raises(IndexError):
        t[np.array([True, False])]
    with pytest.raises(td.ShapeError):
        t[0] = td.ones((2, 2))


# ------------------------------------------------------------------------------- operators


def test_operators_are_numpys():
    a, b = numbers((3, 4)), numbers((4,), seed=1)
    x, y = td.tensor(a), td.tensor(b)
    for f in (
        lambda p, q: p + q, lambda p, q: p - q, lambda p, q: p * q, lambda p, q: p / q,
        lambda p, q: p + 2, lambda p, q: 2 - p, lambda p, q: 3 / p, lambda p, q: p**2,
        lambda p, q: p > q, lambda p, q: p <= 0, lambda p, q: p == p, lambda p, q: p != q,
        lambda p, q: -p, lambda p, q: abs(p), lambda p, q: p // 2, lambda p, q: p % 2,
        lambda p, q: (p > 0) & (q > 0), lambda p, q: (p > 0) | (q > 0), lambda p, q: ~(p > 0),
        lambda p, q: (p > 0) ^ (q > 0), lambda p, q: 2.0 ** p,
    ):
        assert np.allclose(f(x, y).numpy(), f(a, b), rtol=1e-5)
    assert np.allclose((x @ y).numpy(), a @ b, rtol=1e-5)
    assert np.array_equal((td.tensor([7, -7]) // 2).numpy(), np.array([7, -7]) // 2)
    assert np.array_equal((td.tensor([7, -7]) % 3).numpy(), np.array([7, -7]) % 3)
    assert (np.ones(3, np.float32) + td.ones(3)).tolist() == [2, 2, 2]
    assert isinstance(np.ones(3) * td.ones(3), td.Tensor)


def test_operators_in_place():
    x = td.ones(3)
    y = x
    x += 1
    x *= td.tensor([1.0, 2.0, 3.0])
    x -= 0.5
    assert y.tolist() == [1.5, 3.5, 5.5] and x is y


def test_conversions():
    assert float(td.tensor(1.5)) == 1.5 and int(td.tensor(2)) == 2 and bool(td.tensor(1.0))
    assert [10, 20, 30][td.tensor(1)] == 20
    assert f"{td.tensor(1.23456):.2f}" == "1.23"
    assert len(td.zeros((3, 2))) == 3 and [t.shape for t in td.zeros((3, 2))] == [(2,)] * 3
    for f in (float, int, bool):
        with pytest.raises(td.ShapeError):
            f(td.ones(2))
    with pytest.raises(TypeError):
        [1][td.tensor(0.0)]
    with pytest.raises(TypeError):
        len(td.tensor(1.0))
    with pytest.raises(TypeError):
        td.Tensor()
    x = td.ones(2)
    assert x in {x} and {x: 1}[x] == 1


def test_reductions_and_creation_are_numpys():
    a = numbers((3, 4, 5))
    x = td.tensor(a)
    for name in ("sum", "mean", "max", "min", "prod", "var", "std"):
        for axis in (None, 0, -1, (0, 2)):
            for keep in (False, True):
                got = getattr(x, name)(axis=axis, keepdims=keep).numpy()
                assert np.allclose(got, getattr(a, name)(axis=axis, keepdims=keep), rtol=1e-4)
    assert np.allclose(x.var(axis=0, correction=1).numpy(), a.var(axis=0, ddof=1), rtol=1e-4)
    assert td.arange(5).tolist() == list(range(5)) and td.arange(1, 2, 0.25).shape == (4,)
    assert td.linspace(0, 1, 5).tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert td.full((2,), 3).dtype is td.int64 and td.eye(2).tolist() == [[1, 0], [0, 1]]
    assert td.argsort(td.tensor([3, 1, 2])).tolist() == [1, 2, 0]


@pytest.mark.parametrize("join", ["concat", "stack"])
def test_joined_arrays_promote(join):
    a, b = np.array([True, False]), np.array([200, 3], np.uint8)
    c, d = np.array([-7, 2**40]), np.array([0.5, 1e300])
    of_numpy = {"concat": np.concatenate, "stack": np.stack}[join]
    for parts in ([a, b], [b, a], [b, c], [c, d], [a, d, b]):
        got = getattr(td, join)([td.tensor(p) for p in parts])
        want = of_numpy(parts)
        assert got.numpy().dtype == want.dtype and (got.numpy() == want).all()
    # Floats keep their precision beside integers, as in all operations here (docs/types.md).
    assert getattr(td, join)([td.tensor(c), td.ones(2)]).dtype is td.float32
    x = td.tensor([1.0, 2.0], requires_grad=True)
    getattr(td, join)([x, td.tensor(d)]).sum().backward()
    assert x.grad.dtype is td.float32 and x.grad.tolist() == [1, 1]


def test_random_numbers_repeat():
    td.manual_seed(3)
    a = td.randn((4,)).tolist()
    td.manual_seed(3)
    assert td.randn((4,)).tolist() == a
    g = td.Generator(3)
    assert td.randn((4,), generator=g).tolist() == a
    assert td.rand((2,), generator=g).tolist() != td.rand((2,), generator=g).tolist()


# --------------------------------------------------------------------------------- errors


def test_errors_name_op_rule_and_line():
    with pytest.raises(td.ShapeError, match=r"\[add\] .*test_tensor.py:\d+") as e:
        td.ones((2, 3)) + td.ones((4,))
    assert isinstance(e.value, ValueError) and isinstance(e.value, td.Error)
    with pytest.raises(td.DTypeError) as e:
        td.arange(3).requires_grad_()
    assert isinstance(e.value, TypeError)
    with pytest.raises(td.DeviceError) as e:
        td.zeros(3, device="cuda" if not td.cuda_is_available() else "cuda:99")
    assert isinstance(e.value, RuntimeError)
    with pytest.raises(TypeError):
        td.relu(None)
    with pytest.raises(TypeError):
        td.zeros("a")
    with pytest.raises(TypeError):
        td.ones(2) + "a"
    with pytest.raises(TypeError):
        td.zeros(2, dtype="float128")
    with pytest.raises(td.OutOfMemoryError):
        td.zeros((1 << 24, 1 << 16))
    with pytest.raises(td.ShapeError):
        td.zeros((1 << 40, 1 << 40))
    with pytest.raises(OverflowError):
        td.ones(2) + (1 << 80)


def test_channels_last():
    x = td.randn((2, 3, 4, 5)).to(td.channels_last)
    assert x.is_channels_last() and (x + 1).is_channels_last()
    assert np.array_equal(x.numpy(), x.contiguous().numpy())


# ------------------------------------------------------------------------------- division

DTYPES_BACK = {np.float32: td.float32, np.float64: td.float64, np.float16: td.float16}
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.1, 6.0, -6.5, 3.0, 1e17, -1e17, 5e-324, np.inf, -np.inf, np.nan]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_floor_division_of_floats_is_numpys(dtype):
    with np.errstate(all="ignore"):
        a = np.array(FLOATS, np.float64).astype(dtype)
        more = (np.random.default_rng(0).standard_normal(300) * 10).astype(dtype)
        for x, y in ((a[:, None], a[None, :]), (more[:, None], more[None, :150])):
            for got, want in (
                (td.tensor(x) // td.tensor(y), x // y),
                (td.tensor(x) % td.tensor(y), x % y),
            ):
                assert got.dtype is DTYPES_BACK[dtype]
                assert np.array_equal(got.numpy(), want, equal_nan=True)
                signs = np.signbit(got.numpy())[want == 0]
                assert np.array_equal(signs, np.signbit(want[want == 0]))
    for n in (0.1, 3, -7.5, np.inf):
        x = td.tensor(FLOATS, dtype=td.float64)
        with np.errstate(all="ignore"):
            assert np.array_equal((x // n).numpy(), np.array(FLOATS) // n, equal_nan=True)
            assert np.array_equal((n % x).numpy(), n % np.array(FLOATS), equal_nan=True)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_floor_division_of_integers_is_numpys(dtype):
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(0)
    edge = [limits.min, limits.min + 1, limits.max, limits.max - 1, 0, 1, 2, 3, 10]
    edge += [-1, -2, -3, -10] if limits.min < 0 else []
    a = np.concatenate([np.array(edge, dtype), rng.integers(limits.min, limits.max, 60, dtype)])
    x, y = a[:, None], a[None, :]
    with np.errstate(all="ignore"):
        assert np.array_equal((td.tensor(x) // td.tensor(y)).numpy(), x // y)
        assert np.array_equal((td.tensor(x) % td.tensor(y)).numpy(), x % y)

    def program(x, y):
        return x // y, x % y, x // 3, 7 % x, 100 - x % y

    arguments = td.tensor(x), td.tensor(y)
    for got, want in zip(td.compile(program)(*arguments), program(*arguments)):
        assert got.tolist() == want.tolist()


def test_division_of_large_integers():
    x = td.tensor([2**60 + 1])
    assert (x % 10).item() == (2**60 + 1) % 10 and (x // 10).item() == (2**60 + 1) // 10
    assert (7 % x).item() == 7 and (td.tensor([5]) // 0).item() == 0
    assert (td.tensor([5]) % td.tensor([0])).item() == 0
    with pytest.raises(td.DTypeError):
        td.tensor([True]) % td.tensor([True])


def test_gradient_of_remainder():
    x = td.tensor([5.5, -5.5], requires_grad=True)
    y = td.tensor([2.0, 2.0], requires_grad=True)
    (x % y).sum().backward()
    assert x.grad.tolist() == [1, 1] and y.grad.tolist() == [-2, 3]
    x.grad = None
    (7 % x).sum().backward()
    assert x.grad.tolist() == [-1, 2]
    x.grad = None
    (x // 2).sum().backward()
    assert x.grad.tolist() == [0, 0]


def test_powers_of_integers():
    assert (2 ** td.tensor([-1])).item() == 0  # documented
    with pytest.raises(td.RangeError):
        td.tensor([2]) ** -1


# ----------------------------------------------------------------------------- in place


def test_operators_in_place_write():
    def run(x, y, more):
        x += y
        x -= 1
        x *= y
        x /= 2
        x //= 0.5
        x %= 5
        x **= 2
        x += more
        x /= more
        return x

    a = np.array([1.0, 2.0, 3.0], np.float32)
    b = np.array([4.0, -5.0, 6.0], np.float32)
    x = td.tensor(a)
    view = x[:]
    c = np.full(3, 2, np.float32)
    assert run(x, td.tensor(b), c) is x
    assert np.array_equal(view.numpy(), run(a.copy(), b, c))
    assert td.compile(run)(td.tensor(a), td.tensor(b), c).tolist() == x.tolist()
    for change in ("x /= 2", "x += 0.5", "x += np.ones(2)"):
        with pytest.raises(td.DTypeError):
            exec(change, {"x": td.arange(2), "np": np})
    x = td.arange(6)
    x //= 2
    x %= 2
    assert x.tolist() == [0, 0, 1, 1, 0, 0]


def test_gradient_of_division_in_place():
    x = td.tensor([1.0, 2.0], requires_grad=True)
    y = x * 1
    y /= td.tensor([2.0, 4.0])
    y %= 0.75
    y /= 2
    y.sum().backward()
    assert x.grad.tolist() == [0.25, 0.125]


def test_reductions_over_no_axes():
    a = numbers((2, 3))
    x = td.tensor(a)
    for name in ("sum", "mean", "prod", "max", "min"):
        assert np.array_equal(getattr(td, name)(x, axis=()).numpy(), getattr(np, name)(a, axis=()))
    assert td.any(x, axis=()).tolist() == [[True] * 3] * 2
    assert td.var(x, axis=()).tolist() == [[0] * 3] * 2
    assert td.sum(td.tensor([True, False]), axis=()).dtype is td.int64
    assert x.sum(axis=(), keepdims=True).shape == (2, 3)
    assert td.zeros((0,)).sum(axis=()).shape == (0,)


# ------------------------------------------------------------- memory that comes in more than once


def test_overlapping_arrays_are_known_to_overlap():
    for kind in (np.float32, np.float64, np.int64):
        a = np.arange(10, dtype=kind)
        p, q = td.asarray(a[:9]), td.asarray(a[1:])
        q += p
        np.testing.assert_array_equal(a, [0, 1, 3, 5, 7, 9, 11, 13, 15, 17])


def test_a_tensors_own_memory_is_known_when_it_comes_back():
    t = td.arange(10)
    back = td.asarray(np.asarray(t)[:9])
    rest = t[1:]
    rest += back
    np.testing.assert_array_equal(t.numpy(), [0, 1, 3, 5, 7, 9, 11, 13, 15, 17])


def test_the_tape_sees_writes_to_the_same_array():
    y = td.tensor([1.0, 1.0]).requires_grad_()
    m = np.ones(2, "f4")
    first, second = td.asarray(m), td.asarray(m)
    z = (y * first).sum()
    second.fill_(100.0)
    with pytest.raises(td.AutogradError):
        z.backward()


def test_compiled_functions_refuse_arrays_that_overlap():
    @td.compile
    def f(x, y):
        r = y * 2
        x += 1
        return r + y

    a = np.arange(8.0)
    with pytest.raises(td.CaptureError, match="shares memory"):
        f(td.asarray(a), td.asarray(a))
    np.testing.assert_array_equal(a, np.arange(8.0))


def test_products_with_arrays_are_numpys():
    a, b = numbers((2, 3)), numbers((3, 2))
    for got in (td.asarray(a) @ b, a @ td.asarray(b)):
        assert isinstance(got, td.Tensor) and np.allclose(got.numpy(), a @ b, rtol=1e-5)
    w = td.asarray(b).requires_grad_()
    (a @ w).sum().backward()
    assert np.allclose(w.grad.numpy(), a.T @ np.ones((2, 2)))
    for wrong in (2, "a", [[1.0]]):
        with pytest.raises(TypeError, match="unsupported operand"):
            td.asarray(a) @ wrong
        with pytest.raises(TypeError, match="unsupported operand"):
            wrong @ td.asarray(a)


def test_transposes_are_numpys():
    for shape in [(), (3,), (2, 3), (2, 3, 4)]:
        a = numbers(shape)
        for got in (td.asarray(a).transpose(), td.transpose(td.asarray(a))):
            assert np.array_equal(got.numpy(), a.transpose())
        if len(shape) == 2:
            assert np.array_equal(td.asarray(a).T.numpy(), a.T)
        else:  # as the array API standard has it
            with pytest.raises(td.ShapeError, match=r"\[T\] takes a matrix.*mT.*transpose"):
                td.asarray(a).T
    a = numbers((2, 3, 4))
    assert np.array_equal(td.asarray(a).transpose(0, 1).numpy(), a.swapaxes(0, 1))
    assert np.array_equal(td.asarray(a).mT.numpy(), a.swapaxes(-1, -2))
    with pytest.raises(td.RangeError, match="two axes or none"):
        td.asarray(a).transpose(0)


@pytest.mark.parametrize(("of_python", "dtype"), [(float, td.float64), (int, td.int64),
                                                  (bool, td.bool)])
def test_types_of_python_as_dtypes_are_numpys(of_python, dtype):
    assert np.dtype(of_python).name == dtype.name
    x = td.ones(2, dtype=td.float64)
    for t in (x.astype(of_python), x.to(of_python), td.asarray(x, dtype=of_python),
              td.tensor([1], of_python), td.zeros(2, of_python), td.full(2, 1, of_python),
              td.ones_like(x, of_python), td.eye(2, dtype=of_python),
              td.one_hot(td.tensor([1]), 2, of_python), td.array_api.eye(2, dtype=of_python),
              td.array_api.astype(x, of_python)):
        assert t.dtype is dtype
    # Without a dtype the default is another one.
    assert td.tensor([1.0]).dtype is td.float32


def test_a_setting_of_the_device_is_a_device():
    cpu = td.device("cpu")
    assert cpu == td.ones(2).device and td.ones(2).device == cpu and cpu == "cpu"
    assert hash(cpu) == hash(td.Device("cpu")) and str(cpu) == "cpu"
    assert cpu != td.Device("cuda:1") and td.device(cpu) == cpu
    x = td.ones(2)
    assert x.to(cpu)._same(x) and x.to(device=cpu)._same(x)
    assert td.zeros(2, device=cpu).device == cpu and td.Generator(1, cpu)
    with cpu, cpu:
        assert td.get_default_device() == cpu


@pytest.mark.parametrize("name", ["zeros", "ones", "empty", "rand", "randn"])
def test_sizes_one_by_one(name):
    make = getattr(td, name)
    for sizes in ((2, 3), (2, 1, 4), (0, 2)):
        td.manual_seed(1)
        apart = make(*sizes, dtype="float64", requires_grad=True)
        td.manual_seed(1)
        together = make(sizes, "float64", requires_grad=True)
        assert apart.shape == sizes and apart.tolist() == together.tolist()
        assert apart.dtype == td.float64 and apart.requires_grad and apart.is_leaf
    assert make(3).shape == (3,) and make(3, "float64").dtype == td.float64
    with pytest.raises(td.ShapeError):
        make(2, -3)
    with pytest.raises(TypeError):
        make(2, 3.0)

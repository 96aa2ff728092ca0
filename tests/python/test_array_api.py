"""tandem.array_api keeps to the standard, and says what it lacks."""

import inspect
import math

import numpy as np
import pytest

import tandem as td
from tandem import array_api as xp

# Every name of the standard, 2023.12.
STANDARD = """
e inf nan newaxis pi
bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 complex64 complex128
arange asarray empty empty_like eye from_dlpack full full_like linspace meshgrid ones ones_like tril
triu zeros zeros_like
astype can_cast finfo iinfo isdtype result_type
abs acos acosh add asin asinh atan atan2 atanh bitwise_and bitwise_left_shift bitwise_invert
bitwise_or bitwise_right_shift bitwise_xor ceil clip conj copysign cos cosh divide equal exp expm1
floor floor_divide greater greater_equal hypot imag isfinite isinf isnan less less_equal log log1p
log2 log10 logaddexp logical_and logical_not logical_or logical_xor maximum minimum multiply
negative not_equal positive pow real remainder round sign signbit sin sinh square sqrt subtract tan
tanh trunc
take argmax argmin nonzero searchsorted where unique_all unique_counts unique_inverse unique_values
argsort sort cumulative_sum max mean min prod std sum var all any
broadcast_arrays broadcast_to concat expand_dims flip moveaxis permute_dims repeat reshape roll
squeeze stack tile unstack
matmul matrix_transpose tensordot vecdot
linalg fft __array_namespace_info__
""".split()

rng = np.random.default_rng(4)
A = rng.normal(size=(2, 3, 4))
V = np.array([0.0, -0.0, 1.5, -2.5, 7.0, -1e-3])
SPECIAL = np.array([0.0, -0.0, 1.5, -2.5, math.inf, -math.inf, math.nan])
I = np.array([[3, 1, 2], [-6, 5, 4]])

WIDE = np.concatenate([SPECIAL, A.ravel() * 20, A.ravel() * 1e-9, [1.0, -1.0, 1e300, -1e300]])

CASES = {
    "sinh": [((WIDE,), {}), ((I,), {})],
    "cosh": [((WIDE,), {}), ((I,), {})],
    "expm1": [((WIDE,), {}), ((I,), {})],
    "asinh": [((WIDE,), {}), ((I,), {})],
    "acosh": [((WIDE,), {}), ((1 + np.abs(WIDE),), {})],
    "atanh": [((WIDE,), {}), ((np.tanh(A),), {})],
    "acos": [((SPECIAL / 3,), {}), ((np.tanh(A),), {})],
    "asin": [((SPECIAL / 3,), {}), ((np.tanh(A),), {})],
    "atan": [((WIDE,), {}), ((I,), {})],
    "atan2": [((WIDE[:, None], WIDE), {}), ((I, I[0]), {}), ((A, 2.0), {})],
    "hypot": [((WIDE[:, None], WIDE), {}), ((I, I[0]), {})],
    "arange": [((2, 11, 3), {}), ((5,), {})],
    "eye": [((3,), {}), ((3, 5), {"k": 1}), ((4, 3), {"k": -2})],
    "linspace": [((0.0, 1.0, 5), {}), ((0.0, 1.0, 5), {"endpoint": False})],
    "meshgrid": [((V, I[0]), {}), ((V, I[0], V[:2]), {"indexing": "ij"}), ((V,), {})],
    "tril": [((A,), {}), ((A,), {"k": 1})],
    "triu": [((I,), {}), ((A,), {"k": -1})],
    "clip": [((V, -1.0, 2.0), {}), ((A, A[0] - 1, A[1]), {}), ((V, None, 1.0), {})],
    "copysign": [((A, A[::-1]), {}), ((np.ones(6), V), {})],
    "isfinite": [((SPECIAL,), {}), ((I,), {})],
    "isinf": [((SPECIAL,), {}), ((I,), {})],
    "log2": [((np.abs(A),), {})],
    "log10": [((np.abs(A),), {})],
    "logaddexp": [((A, A[0]), {}), ((SPECIAL[:5], np.full(5, math.inf)), {}),
                  ((np.array([1000.0, -1000.0]), np.array([1000.0, -999.0])), {})],
    "logical_xor": [((V != 0, A[0, 0, 0] > 9), {}), ((V, V[::-1]), {})],
    "positive": [((A,), {})],
    "signbit": [((V,), {}), ((I,), {}), ((SPECIAL[:6],), {})],
    "tan": [((A,), {})],
    "trunc": [((A * 3,), {}), ((I,), {})],
    "sum": [((A,), {"axis": (0, 2), "keepdims": True}), ((I,), {"axis": 1}), ((A > 0,), {})],
    "prod": [((A,), {"axis": 1}), ((I,), {})],
    "std": [((A,), {"axis": -1, "correction": 1.0})],
    "var": [((A,), {"axis": (0, 1)}), ((A,), {"correction": 2.0, "keepdims": True})],
    "mean": [((A,), {"axis": 0})],
    "max": [((A,), {"axis": 0, "keepdims": True})],
    "argmax": [((I,), {"axis": 1})],
    "cumulative_sum": [((V,), {}), ((A,), {"axis": 1, "include_initial": True}),
                       ((I,), {"axis": -1})],
    "sort": [((I,), {}), ((A,), {"axis": 0})],
    "argsort": [((I,), {})],
    "take": [((A, np.array([2, 0, -1])), {"axis": 1}), ((V, np.array([-6, 5])), {})],
    "concat": [((("list", I, A[0, :2, :3]),), {}), ((("list", I, V),), {"axis": None})],
    "stack": [((("list", I, A[0, :2, :3]),), {"axis": 1})],
    "moveaxis": [((A, 0, -1), {}), ((A, (0, 2), (1, 0)), {})],
    "repeat": [((I, 3), {}), ((I, 2), {"axis": 1}), ((I, 0), {"axis": 0})],
    "reshape": [((A, (4, -1)), {}), ((A, (24,)), {"copy": True})],
    "roll": [((A, 5), {}), ((A, (1, -1)), {"axis": (0, 2)}), ((A, 1), {"axis": (0, 1)})],
    "squeeze": [((A[:1, :, :1], 0), {}), ((A[:1, :, :1], (0, -1)), {})],
    "tile": [((I, (2,)), {}), ((I, (2, 1, 2)), {}), ((A, (1, 1, 3)), {})],
    "unstack": [((A,), {}), ((A,), {"axis": 2})],
    "broadcast_arrays": [((A, A[0, 0], A[:1, :, :1]), {})],
    "matrix_transpose": [((A,), {})],
    "tensordot": [((A, A.transpose(1, 2, 0)), {}), ((A, A), {"axes": ((0, 2), (0, 2))}),
                  ((I, V), {"axes": 0})],
    "vecdot": [((A, A[0]), {}), ((A, A), {"axis": 0}), ((I, I), {})],
    "floor_divide": [((I, np.array([2, -2, 3])), {}), ((A, -0.3), {})],
    "remainder": [((I, np.array([2, -2, 3])), {}), ((A, -0.3), {})],
    "pow": [((np.abs(A), 1.5), {})],
    "where": [((A > 0, A, 0.0), {})],
}


def to_tandem(x):
    if isinstance(x, tuple) and x and x[0] == "list":
        return [td.tensor(a) for a in x[1:]]
    return td.tensor(x) if isinstance(x, np.ndarray) else x


def to_numpy(x):
    return list(x[1:]) if isinstance(x, tuple) and x and x[0] == "list" else x


def reference(name, args, options):
    if name == "trunc" and args[0].dtype.kind == "i":
        return args[0]
    if name == "clip":
        return np.clip(*args)
    return numpys(name)(*args, **options)


def numpys(name):
    # Those of trigonometric functions have longer names where NumPy is old.
    name = {"acos": "arccos", "asin": "arcsin", "atan": "arctan", "atan2": "arctan2",
            "acosh": "arccosh", "asinh": "arcsinh", "atanh": "arctanh"}.get(name, name)
    if np.lib.NumpyVersion(np.__version__) < "2.1.0" and (
            not hasattr(np, name) or name in ("std", "var", "reshape")):
        pytest.skip("NumPy has the standard's functions from 2.1 on")
    return getattr(np, name)


@pytest.mark.parametrize("name, args, options", [
    pytest.param(n, a, o, id=f"{n}-{i}") for n, cases in CASES.items()
    for i, (a, o) in enumerate(cases)
])
def test_against_numpy(name, args, options):
    with np.errstate(all="ignore"):
        expected = reference(name, [to_numpy(a) for a in args], options)
    expected = list(expected) if isinstance(expected, (list, tuple)) else [expected]
    f = getattr(xp, name)
    tensors = [to_tandem(a) for a in args]
    got = f(*tensors, **options)
    compiled = td.compile(lambda: f(*tensors, **options))()
    results = list(got) if isinstance(got, (list, tuple)) else [got]
    again = list(compiled) if isinstance(compiled, (list, tuple)) else [compiled]
    assert len(results) == len(expected) == len(again)
    for r, c, want in zip(results, again, expected):
        assert r.shape == np.shape(want)
        assert r.numpy().tobytes() == c.numpy().tobytes()
        kind = np.asarray(want).dtype.kind
        assert r.dtype.is_floating_point == (kind == "f") and (r.dtype is td.bool) == (kind == "b")
        eps = 1e-6 if r.dtype is td.float32 else 1e-13
        np.testing.assert_allclose(r.numpy(), want, rtol=eps, atol=eps, equal_nan=True)


PAIRS = ("hypot", "atan2")


@pytest.mark.parametrize("name", ["sinh", "cosh", "expm1", "asinh", "acosh", "atanh", *PAIRS])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_what_is_made_of_other_functions_is_right_to_a_few_units(name, dtype):
    largest = float(np.finfo(dtype).max)
    powers = [s * 10.0**e for s in (1, -1) for e in range(-30, 31)]
    x = np.concatenate([powers, rng.normal(size=500),
                        [88.5, 89.4, -88.5, 709.5, 710.4, largest, -largest, 1 - 2e-7, 2e-7 - 1],
                        rng.uniform(-1, 1, size=500)]).astype(dtype)
    if name == "acosh":
        x = 1 + np.abs(x)
    args = (x, x[::-1].copy()) if name in PAIRS else (x,)
    with np.errstate(all="ignore"):
        want = numpys(name)(*[a.astype(np.longdouble) for a in args]).astype(dtype)
    got = getattr(xp, name)(*map(td.tensor, args)).numpy()
    assert np.array_equal(np.isfinite(got), np.isfinite(want))
    assert np.array_equal(np.signbit(got), np.signbit(want)) or name in ("acosh", "atanh")
    at = np.isfinite(want)
    with np.errstate(over="ignore"):
        units = np.abs(got[at] - want[at]) / np.spacing(np.abs(want[at]))
    assert units.max() <= 8, (units.max(), args[0][at][units.argmax()])


@pytest.mark.parametrize("name", ["sinh", "cosh", "expm1", "asinh", "acosh", "atanh", "hypot"])
def test_the_gradients_of_what_is_made_of_other_functions(name):
    x = td.tensor([-0.7, 0.0, 0.4], dtype=td.float64)
    x = (x + (2.0 if name in ("acosh", "hypot") else 0.0)).requires_grad_()
    f = getattr(xp, name)
    assert td.autograd.gradcheck(lambda t: f(t, t * 2) if name == "hypot" else f(t), [x])


def test_the_gradient_of_an_angle():
    y = td.tensor([-0.7, 0.0, 0.4, 2.0, -2.0, 0.1], dtype=td.float64).requires_grad_()
    x = td.tensor([-1.2, 1.5, 0.3, 0.0, 0.5, -3.0], dtype=td.float64).requires_grad_()
    assert td.autograd.gradcheck(xp.atan2, [y, x])


# The standard's signatures, with a value for each argument.
X, Y, K, B = td.ones((2, 3)), td.ones((2, 3)) * 2, td.tensor([1, 0]), td.tensor([True, False])
MAKE = {"dtype": td.float32, "device": "cpu"}
OVER = {"axis": 1, "keepdims": True}
CALLS = {
    "arange": ((0, 6, 2), MAKE), "asarray": ((X,), {**MAKE, "copy": True}),
    "empty": (((2,),), MAKE), "empty_like": ((X,), MAKE),
    "eye": ((2, 3), {"k": 1, **MAKE}), "from_dlpack": ((X,), {"device": "cpu", "copy": True}),
    "full": (((2,), 3.0), MAKE), "full_like": ((X,), {"fill_value": 2.0, **MAKE}),
    "linspace": ((0.0, 1.0), {"num": 3, "endpoint": True, **MAKE}),
    "meshgrid": ((K, K), {"indexing": "ij"}), "ones": (((2,),), MAKE), "ones_like": ((X,), MAKE),
    "tril": ((X,), {"k": 0}), "triu": ((X,), {"k": 0}), "zeros": (((2,),), MAKE),
    "zeros_like": ((X,), MAKE),
    "astype": ((X, td.float64), {"copy": True, "device": "cpu"}),
    "can_cast": ((td.int32, td.float32), {}), "finfo": ((td.float32,), {}),
    "iinfo": ((td.int32,), {}), "isdtype": ((), {"dtype": td.int32, "kind": "bool"}),
    "result_type": ((td.int32, X), {}),
    "clip": ((X,), {"min": 0.0, "max": 1.0}),
    "take": ((X, K), {"axis": 1}),
    "argmax": ((X,), OVER), "argmin": ((X,), OVER), "where": ((X > 0, X, Y), {}),
    "argsort": ((X,), {"axis": 1, "descending": True, "stable": True}),
    "sort": ((X,), {"axis": 1, "descending": True, "stable": True}),
    "cumulative_sum": ((X,), {"axis": 1, "dtype": td.float64, "include_initial": True}),
    "max": ((X,), OVER), "mean": ((X,), OVER), "min": ((X,), OVER),
    "prod": ((X,), {"dtype": td.float64, **OVER}), "sum": ((X,), {"dtype": td.float64, **OVER}),
    "std": ((X,), {"correction": 1.0, **OVER}), "var": ((X,), {"correction": 1.0, **OVER}),
    "all": ((X,), OVER), "any": ((X,), OVER),
    "broadcast_arrays": ((X, X), {}), "broadcast_to": ((X,), {"shape": (2, 2, 3)}),
    "concat": (([X, Y],), {"axis": 0}), "expand_dims": ((X,), {"axis": 0}),
    "flip": ((X,), {"axis": (0, 1)}), "moveaxis": ((X, 0, 1), {}),
    "permute_dims": ((X,), {"axes": (1, 0)}), "repeat": ((X, 2), {"axis": 0}),
    "reshape": ((X,), {"shape": (3, 2), "copy": True}),
    "roll": ((X,), {"shift": 1, "axis": 0}), "squeeze": ((X[:1],), {"axis": 0}),
    "stack": (([X, Y],), {"axis": 0}), "tile": ((X, (2, 1)), {}), "unstack": ((X,), {"axis": 0}),
    "matmul": ((X, Y.mT), {}), "matrix_transpose": ((X,), {}),
    "tensordot": ((X, Y), {"axes": ((0,), (0,))}), "vecdot": ((X, Y), {"axis": -1}),
    "logical_and": ((B, B), {}), "logical_not": ((B,), {}), "logical_or": ((B, B), {}),
    "logical_xor": ((B, B), {}), "__array_namespace_info__": ((), {}),
}
TWO = """add atan2 copysign divide equal floor_divide greater greater_equal hypot less less_equal
logaddexp maximum minimum multiply not_equal pow remainder subtract""".split()


@pytest.mark.parametrize("name", [n for n in xp.supported if callable(getattr(xp, n))
                                  and not isinstance(getattr(xp, n), td.dtype)])
def test_every_function_takes_what_the_standard_gives_it(name):
    args, options = CALLS.get(name, ((X, Y) if name in TWO else (X,), {}))
    getattr(xp, name)(*args, **options)


def test_arrays_of_other_libraries():
    a = np.ones(3)
    assert np.shares_memory(xp.from_dlpack(a, copy=False).numpy(), a)
    assert not np.shares_memory(xp.from_dlpack(a, device="cpu", copy=True).numpy(), a)
    with pytest.raises(td.DTypeError, match="__dlpack__"):
        xp.from_dlpack([1.0])


def test_every_name_of_the_standard_is_there_or_said_to_be_missing():
    names = set(STANDARD)
    assert set(xp.supported) | set(xp.missing) == names
    assert set(xp.supported) & set(xp.missing) == set()
    for name in xp.supported:
        assert hasattr(xp, name)
    for name in xp.missing:
        assert not hasattr(xp, name), name
    assert set(xp.differs) <= set(xp.supported)
    assert all(len(reason) > 8 for reason in (*xp.missing.values(), *xp.differs.values()))


def test_every_wrapper_is_tested():
    own = {n for n in xp.supported if inspect.isfunction(getattr(xp, n))
           and getattr(xp, n).__module__ in ("tandem.array_api", "tandem._elementwise")}
    here = inspect.getsource(inspect.getmodule(test_every_wrapper_is_tested))
    assert {n for n in own if n not in CASES and f"xp.{n}(" not in here} == set()


def test_a_tensor_knows_the_namespace():
    x = td.ones(2)
    assert x.__array_namespace__() is td.array_api is xp
    assert x.__array_namespace__(api_version="2023.12") is xp
    with pytest.raises(td.RangeError, match="2030"):
        x.__array_namespace__(api_version="2030.12")
    assert x.to_device("cpu") is x or x.to_device("cpu").tolist() == [1, 1]


def test_inspection():
    info = xp.__array_namespace_info__()
    assert info.default_dtypes() == {
        "real floating": td.float32, "integral": td.int64, "indexing": td.int64}
    assert xp.asarray(1.5).dtype is td.float32 and xp.asarray([1]).dtype is td.int64
    assert set(info.dtypes()) == {"bool", "uint8", "int32", "int64", "float32", "float64"}
    assert set(info.dtypes(kind=("bool", "integral"))) == {"bool", "uint8", "int32", "int64"}
    assert str(info.devices()[0]) == "cpu" and info.default_device().type == "cpu"
    # A program's results cannot depend on data in their shape.
    assert not info.capabilities()["boolean indexing"]
    assert td.ones((1,) * info.capabilities()["max dimensions"]).ndim == 8


def test_dtypes():
    assert xp.result_type(td.int32, td.ones(1)) is td.float32
    assert xp.result_type(td.uint8, 3) is td.uint8
    assert xp.result_type(td.bool, td.bool) is td.bool
    assert xp.result_type(1.5, td.int64) is td.float32
    assert xp.can_cast(td.int32, td.float64) and not xp.can_cast(td.float64, td.float32)
    assert xp.isdtype(td.int32, "integral") and not xp.isdtype(td.bool, "numeric")
    assert xp.isdtype(td.float32, (td.int64, "real floating"))
    with pytest.raises(td.RangeError):
        xp.isdtype(td.int32, "whole")
    for t in (td.float64, td.float32, td.float16):
        n, m = xp.finfo(t), np.finfo(t.name)
        assert (n.bits, n.eps, n.max, n.min, n.smallest_normal) == (
            m.bits, m.eps, m.max, m.min, m.smallest_normal)
    for t in (td.int64, td.int32, td.uint8):
        k, j = xp.iinfo(t), np.iinfo(t.name)
        assert (k.bits, k.max, k.min) == (j.bits, j.max, j.min)
    with pytest.raises(td.DTypeError):
        xp.finfo(td.int32)
    with pytest.raises(td.DTypeError):
        xp.iinfo(td.ones(1))


def test_creation_and_copies():
    x = td.tensor([1.0, 2.0])
    assert xp.empty((2, 3)).shape == (2, 3) and xp.empty_like(x).dtype is x.dtype
    copy = xp.astype(x, td.float32)
    xp.astype(x, td.float32, copy=False)[1] = 2.5
    copy[0] = 9.0
    assert x.tolist() == [1, 2.5] and copy.tolist() == [9, 2]
    assert xp.astype(x, td.int64).dtype is td.int64
    with pytest.raises(td.Error):
        xp.reshape(td.ones((2, 3)).T, (6,), copy=False)
    view = xp.reshape(x, (1, 2), copy=False)
    view[0, 0] = 5.0
    assert x.tolist() == [5, 2.5]


@pytest.mark.parametrize("call, error", [
    (lambda: xp.meshgrid(td.ones(2), indexing="no"), td.RangeError),
    (lambda: xp.tril(td.ones(2)), td.ShapeError),
    (lambda: xp.broadcast_arrays(td.ones(2), td.ones(3)), td.ShapeError),
    (lambda: xp.cumulative_sum(td.ones((2, 2))), td.RangeError),
    (lambda: xp.take(td.ones((2, 2)), td.tensor([0])), td.RangeError),
    (lambda: xp.take(td.ones(2), td.tensor([2])), td.OutOfBoundsError),
    (lambda: xp.repeat(td.ones(2), -1), td.RangeError),
    (lambda: xp.repeat(td.ones(2), td.tensor([1, 2])), td.DTypeError),
    (lambda: xp.matrix_transpose(td.ones(2)), td.ShapeError),
    (lambda: xp.tensordot(td.ones((2, 3)), td.ones((2, 3)), axes=1), td.ShapeError),
    (lambda: xp.vecdot(td.ones(2), td.ones(3)), td.ShapeError),
    (lambda: xp.result_type(), td.RangeError),
    (lambda: xp.squeeze(td.ones((2, 1)), (0, 1)), td.ShapeError),
])
def test_errors(call, error):
    with pytest.raises(error):
        call()


def test_gradients_flow():
    x = td.tensor(A).requires_grad_()
    xp.vecdot(x, x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * A)

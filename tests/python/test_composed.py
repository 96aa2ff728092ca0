"""Functions made of others against NumPy's, eagerly and compiled, and their gradients."""

import math

import numpy as np
import pytest

import tandem as td

RNG = np.random.default_rng(0)
A = RNG.normal(size=(3, 4)).astype(np.float32)
X = td.asarray(A)


@pytest.mark.parametrize("order", [2.0, 1.0, 3.0, 0.5, math.inf, -math.inf])
def test_norms(order):
    for axis in (0, 1, -1):
        want = np.linalg.norm(A, order, axis=axis)
        assert np.allclose(td.norm(X, order, axis), want, rtol=1e-5)
        assert td.norm(X, order, axis, keepdims=True).shape == (
            np.linalg.norm(A, order, axis=axis, keepdims=True).shape)
    assert np.allclose(X.norm(order), np.linalg.norm(A.ravel(), order), rtol=1e-5)
    with pytest.raises(td.RangeError, match="order 0"):
        X.norm(0)


def test_integers_are_computed_as_real_numbers():
    for dtype in ("uint8", "int32", "int64"):
        a = np.array([200, 100, 79], dtype)
        for order in (2.0, 3.0, math.inf):
            assert np.allclose(td.norm(td.asarray(a), order), np.linalg.norm(a.astype("f8"), order))
        assert td.logsumexp(td.asarray(a)).item() == 200


@pytest.mark.parametrize("order", [1.0, 2.0, 3.0])
def test_a_vector_of_zeros_has_a_gradient(order):
    w = td.tensor([[0.0, 0.0], [1.0, 0.0]], requires_grad=True)
    td.norm(w, order, 1).sum().backward()
    assert w.grad.tolist() == [[0, 0], [1, 0]]


def test_sums_of_exponentials():
    for axis in (0, 1, None):
        assert np.allclose(td.logsumexp(X, axis), np.log(np.exp(A).sum(axis)), rtol=1e-5)
    assert td.logsumexp(X, 1, keepdims=True).shape == (3, 1)
    for values, want in (([1000.0, 1000.0], 1000 + math.log(2)), ([-1e4, -1e4], -1e4 + math.log(2)),
                         ([-math.inf] * 2, -math.inf), ([math.inf, 1.0], math.inf)):
        assert math.isclose(td.logsumexp(td.tensor(values)).item(), want, rel_tol=1e-6), values
    assert math.isnan(td.logsumexp(td.tensor([math.nan, 1.0])).item())


@pytest.mark.parametrize("f", [
    td.logsumexp, td.norm, lambda x: td.norm(x, 3.0, 0).sum(), lambda x: td.outer(x[0], x[1]).sum(),
    lambda x: td.logsumexp(x, 1).sum(), lambda x: x.masked_fill(x > 0, 2.0).sum(),
    lambda x: (x.expand(2, -1, -1) * x.swapaxes(0, 1).swapaxes(-1, -2)).sum(),
    lambda x: (x.ravel() * td.arange(12)).sum(), lambda x: x.clip(-0.5, 0.5).sum(),
])
def test_gradients(f):
    x = td.tensor(A.astype(np.float64), requires_grad=True)
    assert td.gradcheck(f, [x])
    assert td.compile(f)(x).item() == f(x).item()


def test_what_is_close():
    a = np.array([1.0, math.inf, math.nan, 1.0, -math.inf, 0.0], np.float32)
    b = np.array([1.00001, math.inf, math.nan, 1.1, math.inf, 1e-9], np.float32)
    for equal_nan in (False, True):
        assert td.isclose(td.asarray(a), td.asarray(b), equal_nan=equal_nan).tolist() == (
            np.isclose(a, b, equal_nan=equal_nan).tolist())
    assert td.allclose(X, A + 1e-7) and not td.allclose(X, A + 1e-3) and td.allclose(1, 1.0)
    assert td.allclose(X, A + 1e-3, atol=0.01) and td.allclose(td.tensor([2, 3]), td.tensor([2, 3]))
    with pytest.raises(td.DTypeError, match="a list"):
        td.allclose(X, [1.0])
    with pytest.raises(td.CaptureError):
        td.compile(lambda x: x * td.allclose(x, x))(X)


def test_shapes():
    assert X.expand(2, -1, 4).shape == (2, 3, 4) and td.ones(3, 1).expand((-1, 5)).shape == (3, 5)
    assert X.ravel().tolist() == A.ravel().tolist() and X.nbytes == A.nbytes
    assert X.swapaxes(0, -1).tolist() == A.swapaxes(0, -1).tolist()
    assert np.array_equal(td.outer(X[0], X[1]), np.outer(A[0], A[1]))
    for wrong in (lambda: X.expand(2, 2), lambda: X.swapaxes(0, 2), lambda: td.outer(X, X)):
        with pytest.raises(td.ShapeError):
            wrong()


def test_random_numbers_like_others():
    x = td.ones(2, 3, dtype=td.float64)
    for f in (td.rand_like, td.randn_like):
        assert f(x).shape == (2, 3) and f(x).dtype is td.float64
        assert f(x, td.float32).dtype is td.float32
        assert f(x).tolist() != f(x).tolist()
    assert 0 <= td.rand_like(x).min().item() and td.rand_like(x).max().item() < 1


def test_functions_of_the_standard_have_their_names_here_too():
    for name in (n for n in td.array_api.supported if n[0] != "_"):
        assert hasattr(td, name), name
    assert td.tril is td.array_api.tril
    assert td.isfinite(td.tensor([1.0, math.inf])).tolist() == [True, False]
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        td.nonsense


NAMES_OF_NUMPY = {"acosh": "arccosh", "asinh": "arcsinh", "atanh": "arctanh", "atan2": "arctan2"}
EXTREMES = {"uint8": [0, 1, 3, 16, 200, 255], "int32": [-2**31, -7, -1, 0, 1, 65536, 2**31 - 1]}


@pytest.mark.parametrize("dtype", EXTREMES)
@pytest.mark.parametrize("name", ["acosh", "asinh", "atanh", "atan2", "hypot", "logaddexp", "cosh",
                                  "sinh", "expm1", "log2", "log10", "tan"])
def test_functions_of_integers_are_those_of_real_numbers(name, dtype):
    a = np.array(EXTREMES[dtype], dtype)
    both = name in ("atan2", "hypot", "logaddexp")
    args = [a[:, None], a[None, :]] if both else [a]
    with np.errstate(all="ignore"):
        want = getattr(np, NAMES_OF_NUMPY.get(name, name))(*(v.astype(np.float64) for v in args))
        want = want.astype(np.float32)
    if name == "tan":  # whose arguments are in float32
        want, args = want[np.abs(a) < 1000], [a[np.abs(a) < 1000]]
    got = getattr(td, name)(*map(td.tensor, args))
    assert got.dtype is td.float32
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-5)


def test_zeros_keep_their_signs():
    zeros = np.array([0.0, -0.0], np.float32)
    for name in ("asinh", "atanh"):
        assert np.signbit(getattr(td, name)(td.tensor(zeros)).numpy()).tolist() == [False, True]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_what_overflows_on_the_way_to_a_root_does_no_harm(dtype):
    x = td.tensor(np.arange(0, 2000, 10, dtype=np.float32)).astype(dtype)
    assert abs(x.std().item() - 577.34) < 2 and x.std().dtype is x.dtype
    y = td.full((100,), 200.0).astype(dtype)
    assert y.norm().item() == 2000 and y.norm().dtype is y.dtype
    assert abs(y.norm(3.0).item() - 928.3) < 4
    z = y.requires_grad_()
    z.norm().backward()
    assert np.allclose(z.grad.astype(td.float32), 0.1, rtol=1e-2)


def test_a_tensor_without_axes():
    """Reductions let it have axis 0, as NumPy's do."""
    x = td.tensor(3.0)
    for axis in (0, -1, (0,)):
        for _ in range(3):
            assert x.squeeze(axis).shape == () and td.compile(lambda x: x.squeeze(0))(x).shape == ()
        assert td.logsumexp(x, axis).item() == 3 and td.norm(x, axis=axis).item() == 3
    with pytest.raises(IndexError):
        x.squeeze(1)
    for f in (lambda: td.split(x, 1), lambda: td.chunk(x, 1), lambda: x.swapaxes(0, 0),
              lambda: td.array_api.unstack(x)):
        with pytest.raises(td.ShapeError, match="no axis|no such axes"):
            f()
    for f in (lambda: td.array_api.moveaxis(x, 0, 0), lambda: td.array_api.repeat(x, 2, axis=0)):
        with pytest.raises(IndexError, match="axis out of range"):
            f()


def test_axes_that_are_not_there():
    xp, x = td.array_api, td.zeros((2, 3, 4))
    for f in (lambda: xp.moveaxis(x, 3, 0), lambda: xp.moveaxis(x, 0, -4),
              lambda: xp.repeat(x, 2, axis=5), lambda: xp.tensordot(x, x, axes=((5,), (2,)))):
        with pytest.raises(IndexError, match="axis out of range"):
            f()
    with pytest.raises(td.ShapeError, match="named once"):
        xp.moveaxis(x, (0, 0), (1, 2))
    with pytest.raises(td.ShapeError, match="as many places"):
        xp.moveaxis(x, (0, 1), 2)
    for f in (td.argmax, td.argmin):
        with pytest.raises(ValueError, match="one axis, or none for all"):
            f(x, axis=())

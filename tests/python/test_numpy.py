"""Tensors in NumPy's functions, and NumPy's arrays and numbers in Tandem's."""

import numpy as np
import pytest

import tandem as td

A = np.array([[0.5, -1.5], [2.0, 4.0]], np.float32)
B = np.array([[1.0, 2.0], [3.0, 5.0]], np.float32)


@pytest.mark.parametrize("name", [
    "add", "subtract", "multiply", "divide", "true_divide", "floor_divide", "remainder", "mod",
    "power", "maximum", "minimum", "matmul", "equal", "not_equal", "less", "less_equal", "greater",
    "greater_equal"])
def test_functions_of_two_are_operations(name):
    f = getattr(np, name)
    want = f(np.abs(A), B)
    for x, y in ((td.tensor(np.abs(A)), B), (np.abs(A), td.tensor(B)),
                 (td.tensor(np.abs(A)), td.tensor(B))):
        got = f(x, y)
        assert isinstance(got, td.Tensor)
        assert np.allclose(got.numpy(), want, rtol=1e-6) and got.numpy().dtype == want.dtype


@pytest.mark.parametrize("number", [
    np.float64(0.1), np.float32(2), np.float16(2), np.int64(3), np.int32(3), np.uint8(3), np.True_])
def test_numbers_have_dtypes_as_arrays_have(number):
    for t in (td.asarray(number), td.tensor(number), td.tensor([number])[0]):
        assert t.numpy().dtype == number.dtype and t.numpy() == number
    assert td.asarray(number, td.float32).dtype is td.float32
    x = td.ones(2)
    assert (x * number).dtype is td.float32, "an operand counts as Python's do"


def test_logic_with_numbers_of_numpy():
    t = td.tensor([True, False])
    for got in (np.True_ & t, t & np.True_, np.False_ | t, np.False_ ^ t):
        assert isinstance(got, td.Tensor) and got.tolist() == [True, False]
    with pytest.raises(td.DTypeError, match=r"\[or\] takes bool tensors"):
        np.int64(1) | t


def test_gradients_do_not_get_lost():
    """Memory that NumPy writes is not watched by the tape."""
    w = td.ones(2, requires_grad=True)
    for use in (np.asarray, np.mean, np.sum, memoryview, lambda t: np.gcd(t, 2),
                lambda t: np.asarray(t * 2), lambda t: t.numpy()):
        with pytest.raises((td.AutogradError, BufferError), match="the tape does not follow"):
            use(w)
    assert np.asarray(w.detach()).tolist() == [1, 1] and np.exp(w).requires_grad
    with td.no_grad():
        assert np.asarray(w * 2).tolist() == [2, 2]


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_comparisons_know_all_numbers(dtype):
    a = np.array([0, 1, 200], dtype)
    for f in (np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal):
        for number in (-1, 300, 2**40, -2**40, 1.5, 1):
            want = f(a.astype(np.int64), number).tolist()
            assert f(td.asarray(a), number).tolist() == want, (f, number)
            assert f(number, td.asarray(a)).tolist() == f(number, a.astype(np.int64)).tolist()


def test_numbers_of_numpy_are_compared_in_captures():
    for number in (np.float64(1.5), np.float32(1.5), np.int64(1)):
        f = td.compile(lambda x: (number < x) & (x != number) & (number >= x - 1))
        x = td.tensor([1.0, 2.0, 3.0])
        assert f(x).tolist() == f(x).tolist() == [False, True, False]


def test_what_is_in_a_tensor():
    t = td.tensor([1.0, 2.0])
    assert 1 in t and 3 not in t and "a" not in t and None not in t
    assert t != "a" and not t == None  # noqa: E711


@pytest.mark.parametrize("name", [
    "negative", "absolute", "sign", "floor", "ceil", "rint", "square", "reciprocal", "exp", "log",
    "log1p", "sqrt", "sin", "cos", "arctan", "tanh", "isnan"])
def test_functions_of_one_are_operations(name):
    f, x = getattr(np, name), np.abs(A)
    got = f(td.tensor(x))
    assert isinstance(got, td.Tensor) and np.allclose(got.numpy(), f(x), rtol=1e-6)


@pytest.mark.parametrize("f", [
    lambda a, b: a & b, lambda a, b: a | b, lambda a, b: a ^ b, lambda a, b: np.bitwise_and(a, b),
    lambda a, b: np.bitwise_xor(a, b), lambda a, b: np.invert(a) | b, lambda a, b: a == b])
def test_masks_are_tensors_from_either_side(f):
    a, b = np.array([True, True, False, False]), np.array([True, False, True, False])
    for x, y in ((td.tensor(a), b), (a, td.tensor(b)), (td.tensor(a), td.tensor(b))):
        got = f(x, y)
        assert isinstance(got, td.Tensor) and got.tolist() == f(a, b).tolist()


def test_lists_are_no_operands():
    for x in (td.tensor([1, 2]), td.tensor(2)):
        for wrong in (lambda: x + [1, 2], lambda: [1, 2] + x, lambda: x * [2.0], lambda: [1] * x,
                      lambda: (1, 2) - x, lambda: x / (3, 4)):
            with pytest.raises(TypeError, match=r"lists are no operands; got a (list|tuple); exp"):
                wrong()


def test_they_are_on_the_tape_and_in_captures():
    x = td.tensor(A, requires_grad=True)
    np.exp(x).sum().backward()
    assert np.allclose(x.grad.numpy(), np.exp(A))
    f = td.compile(lambda t: np.exp(t) + np.multiply(B, t))
    t = td.tensor(A)
    assert f(t).tolist() == (td.exp(t) + t * B).tolist()


@pytest.mark.parametrize("f", [
    np.sum, np.mean, np.std, np.max, np.argmax, np.sort, np.cumsum, np.ravel, np.transpose,
    lambda x: np.sum(x, axis=1), lambda x: np.concatenate([x, B]), lambda x: np.stack([B, x]),
    lambda x: np.where(A > 0, x, 0), lambda x: np.allclose(x, A), lambda x: np.add.reduce(x),
    lambda x: np.sinh(x), lambda x: np.add(x, B, dtype=np.float64), lambda x: np.add.outer(x, x),
    lambda x: np.linalg.norm(x), lambda x: np.einsum("ij,jk->ik", x, B)])
def test_other_functions_are_numpys_of_the_values(f):
    got, want = f(td.tensor(A)), f(A)
    assert type(got) is type(want) and np.array_equal(got, want)


def test_in_place_is_in_place():
    a, t = A.copy(), td.tensor(B)
    same = a
    a += t
    assert a is same and np.array_equal(a, A + B)
    np.add(A, A, out=t)
    assert t.tolist() == (2 * A).tolist()


def test_numbers_of_numpy():
    t = td.tensor(A)
    for v in (np.float32(2), np.float64(2), np.int64(2), np.array(2.0, np.float32)):
        for got in (v * t, t * v):
            assert isinstance(got, td.Tensor) and got.tolist() == (2 * A).tolist()
            assert got.dtype is td.float32
    assert (np.float32(3) > t).tolist() == (A < 3).tolist()


def test_creation_with_a_gradient():
    for t in (td.zeros(2, requires_grad=True), td.ones((2, 2), requires_grad=True),
              td.full(2, 1.5, requires_grad=True), td.empty(2, requires_grad=True),
              td.rand(2, requires_grad=True), td.randn(2, requires_grad=True),
              td.uniform(2, requires_grad=True), td.normal(2, requires_grad=True),
              td.eye(2, requires_grad=True), td.linspace(0, 1, 3, requires_grad=True),
              td.arange(0, 3, dtype="float32", requires_grad=True),
              td.zeros_like(td.ones(2), requires_grad=True),
              td.full_like(td.ones(2), 3, requires_grad=True)):
        (t * 2).sum().backward()
        assert t.is_leaf and t.grad.shape == t.shape
    assert not td.zeros(2).requires_grad
    with pytest.raises(td.DTypeError):
        td.zeros(2, td.int64, requires_grad=True)


# --------------------------------------------------------------------- arrays of captured functions


HELD = np.ones((2, 2), np.float32)


def test_a_captured_function_reads_the_array_as_it_is_now():
    whole, row = td.compile(lambda t: t * HELD), td.compile(lambda t: t * HELD[0])
    one = td.ones((2, 2))
    for v in (2.0, 3.0, 5.0):
        HELD[0] = v
        for _ in range(5):
            assert whole(one).tolist() == (one.numpy() * HELD).tolist()
            assert row(one).tolist() == (one.numpy() * HELD[0]).tolist()
    assert len(whole) == 1


def test_another_array_is_another_program_and_old_ones_go():
    one = td.ones((2, 2))
    f = td.compile(lambda t: t * HELD)
    before = HELD
    try:
        for v in range(40):  # more than max_signatures
            globals()["HELD"] = np.full((2, 2), v, np.float32)
            assert f(one).tolist() == [[v, v], [v, v]]
        assert len(f) <= 2
    finally:
        globals()["HELD"] = before


def test_an_array_that_the_function_makes_is_refused():
    f = td.compile(lambda t: t * np.full((2, 2), 3.0, np.float32))
    with pytest.raises(td.CaptureError, match="one that the function itself makes"):
        f(td.ones((2, 2)))


def test_a_program_writes_into_an_array():
    a = np.zeros(2, np.float32)
    seen = td.asarray(a)

    @td.compile
    def f(t):
        seen.copy_(t)
        return seen * 1

    for v in (1.0, 2.0):
        assert f(td.full(2, v)).tolist() == [v, v] and a.tolist() == [v, v]


def test_shapes_as_numpy_takes_them():
    x, a = td.randn((2, 3, 1)), None
    a = x.numpy()
    for f in (lambda v: v.reshape(3, 2), lambda v: v.reshape(-1, 3), lambda v: v.reshape((6,)),
              lambda v: v.squeeze(), lambda v: v.squeeze(2), lambda v: v.squeeze((-1,)),
              lambda v: v[:1].squeeze((0, 2)), lambda v: v[:1].squeeze()):
        assert np.array_equal(f(x), f(a)) and f(x).shape == f(a).shape
    assert x.view(3, -1).shape == (3, 2) and x.permute(2, 0, 1).shape == (1, 2, 3)
    assert np.array_equal(x.permute(2, 0, 1), a.transpose(2, 0, 1))
    with pytest.raises(td.RangeError, match="can be named once"):
        x.squeeze((2, -1))
    with pytest.raises(td.ShapeError):
        x.squeeze((0, 2))


def test_whether_a_value_is_in_a_tensor():
    t = td.tensor([[1.0, 2.0], [3.0, 5.0]])
    for v in (5.0, 4.0, 2):
        assert (v in t) == (v in t.numpy())

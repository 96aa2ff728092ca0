"""Tensors given to PyTorch, JAX and CuPy, and taken from them, without copies (DLPack)."""

import gc
import weakref

import numpy as np
import pytest
import tandem as td

DTYPES = ["float32", "float64", "float16", "int32", "int64", "uint8", "bool"]


class Torch:
    def __init__(self):
        self.lib = pytest.importorskip("torch")

    def take(self, t):
        return self.lib.utils.dlpack.from_dlpack(t)

    def make(self, a):
        return self.lib.from_numpy(a)

    def numpy(self, x):
        return x.numpy()

    def address(self, x):
        return x.data_ptr()


class Jax:
    def __init__(self):
        self.lib = pytest.importorskip("jax")
        self.lib.config.update("jax_enable_x64", True)

    def take(self, t):
        return self.lib.dlpack.from_dlpack(t)

    def make(self, a):
        return self.lib.numpy.asarray(a)

    def numpy(self, x):
        return np.asarray(x)

    def address(self, x):
        return x.unsafe_buffer_pointer()


class Cupy:
    def __init__(self):
        self.lib = pytest.importorskip("cupy")
        if not td.cuda_is_available():
            pytest.skip("no GPU")

    def take(self, t):
        return self.lib.from_dlpack(t.to("cuda"))

    def make(self, a):
        return self.lib.asarray(a)

    def numpy(self, x):
        return self.lib.asnumpy(x)

    def address(self, x):
        return x.data.ptr


@pytest.fixture(params=[Torch, Jax, Cupy], ids=["torch", "jax", "cupy"])
def other(request):
    return request.param()


def supported(other, dtype):
    # Older versions of PyTorch have no bool in DLPack.
    if isinstance(other, Torch) and dtype == "bool":
        if tuple(map(int, other.lib.__version__.split(".")[:2])) < (2, 0):
            pytest.skip("this PyTorch exchanges no bools")


@pytest.mark.parametrize("dtype", DTYPES)
def test_given(other, dtype):
    supported(other, dtype)
    t = td.arange(24).reshape((2, 3, 4)).astype(dtype)
    theirs = other.take(t)
    assert np.array_equal(other.numpy(theirs), t.numpy())
    if not isinstance(other, Cupy):
        assert other.address(theirs) == t.numpy().ctypes.data


@pytest.mark.parametrize("dtype", DTYPES)
def test_taken(other, dtype):
    supported(other, dtype)
    a = np.arange(24).reshape(2, 3, 4).astype(dtype)
    theirs = other.make(a)
    t = td.from_dlpack(theirs)
    assert str(t.dtype) == dtype and np.array_equal(t.cpu().numpy(), a)
    if not isinstance(other, Cupy):
        assert np.shares_memory(t.numpy(), other.numpy(theirs))
    # As an argument of any function that takes arrays.
    assert np.array_equal(td.asarray(theirs).cpu().numpy(), a)


def test_strides_go_along(other):
    if isinstance(other, Jax):
        pytest.skip("JAX takes dense row-major arrays only")
    t = td.arange(24).reshape((4, 6))[::2, 1:4].T
    theirs = other.take(t)
    assert np.array_equal(other.numpy(theirs), t.numpy())
    back = td.from_dlpack(theirs)
    assert back.strides == t.strides and np.array_equal(back.cpu().numpy(), t.numpy())


def test_memory_lives_as_long_as_either_needs_it(other):
    a = np.arange(1000.0)
    alive = weakref.ref(a)
    t = td.from_dlpack(a)
    theirs = other.take(t)
    del a, t
    gc.collect()
    if isinstance(other, Torch):  # JAX copies what is not aligned to 64 bytes
        assert alive() is not None
    assert float(other.numpy(theirs)[-1]) == 999
    del theirs
    gc.collect()
    assert alive() is None

    theirs = other.make(np.arange(1000.0))
    t = td.from_dlpack(theirs)
    del theirs
    gc.collect()
    assert t[-1].item() == 999


def test_writes_are_seen_by_both(other):
    if isinstance(other, Jax):
        pytest.skip("JAX's arrays do not change")
    t = td.zeros(3, device="cuda" if isinstance(other, Cupy) else "cpu")
    theirs = other.take(t)
    theirs[1] = 5
    assert t.tolist() == [0, 5, 0]
    t[2] = 7
    assert other.numpy(theirs).tolist() == [0, 5, 7]


def test_bfloat16(other):
    t = td.tensor([1.0, -2.5, 3e38]).astype(td.bfloat16)
    theirs = other.take(t)
    assert "bfloat16" in str(theirs.dtype)
    back = td.from_dlpack(theirs)
    assert back.dtype is td.bfloat16 and back.cpu().tolist() == t.tolist()


def test_a_tensor_that_wants_a_gradient_is_not_given(other):
    t = td.ones(2).requires_grad_()
    with pytest.raises(td.Error, match="detach"):
        other.take(t)
    assert other.numpy(other.take(t.detach())).tolist() == [1, 1]

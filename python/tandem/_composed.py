"""Functions of tensors that people know from NumPy and PyTorch and that are made of others."""

from __future__ import annotations

import math
import operator
from typing import Any, Sequence

from . import _core
from ._core import Tensor


def _number_or_tensor(who: str, name: str, value: Any) -> Tensor:
    if isinstance(value, (list, tuple)):
        raise _core.DTypeError(f"[{who}] {name} does not fit; got a {type(value).__name__}; expected "
                               "a tensor or a number")
    return _core._tensor(value)


def isclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Whether |a - b| <= atol + rtol |b|, element by element, with broadcasting: bool. Infinities are
    close to themselves, NaNs where `equal_nan` says so. As in NumPy."""
    x, y = _number_or_tensor("isclose", "a", a), _number_or_tensor("isclose", "b", b)
    with _core._NoGrad():
        x, y = (t if t.dtype.is_floating_point else t.astype(_core.float64) for t in (x, y))
        near = abs(x - y) <= atol + rtol * abs(y)
        finite = y - y == 0
        close = _core.where(finite, near, x == y)
        if equal_nan:
            close = close | (_core.isnan(x) & _core.isnan(y))
    return close


def allclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether all elements are close, as isclose() says. CaptureError in a captured function, which
    knows no values."""
    return bool(isclose(a, b, rtol, atol, equal_nan).all())


def outer(a: Tensor, b: Tensor) -> Tensor:
    """a [n] and b [m]: the products of each with each, [n, m]. ShapeError for other ranks."""
    for t in (a, b):
        if t.ndim != 1:
            raise _core.ShapeError(f"[outer] takes two vectors; got {list(t.shape)}; expected [n]")
    return _core.expand_dims(a, 1) * b


def real(x: Tensor) -> Tensor:
    return x if x.dtype.is_floating_point else x.astype(_core.float32)


def _root(x: Tensor, order: float) -> Tensor:
    """The root of what is not negative; of 0 with a gradient of 0, not of infinity."""
    is_zero = x == 0
    safe = _core.where(is_zero, _core.ones_like(x), x)
    root = _core.sqrt(safe) if order == 2 else safe ** (1 / order)
    return _core.where(is_zero, _core.zeros_like(x), root)


def logsumexp(x: Tensor, axis: "int | Sequence[int] | None" = None, keepdims: bool = False) -> Tensor:
    """log of the sum of exp(x) along the axes (None: all), without overflow: the largest is taken out
    first."""
    axes, x = tuple(range(x.ndim)) if axis is None else axis, real(x)
    with _core._NoGrad():
        top = x.max(axes, keepdims=True)
        top = _core.where(top - top == 0, top, _core.zeros_like(top))  # no infinities, nor NaN
    total = _core.log(_core.exp(x - top).sum(axes, keepdims=True)) + top
    return total if keepdims else total.squeeze(axes)


def norm(x: Tensor, ord: float = 2.0, axis: "int | Sequence[int] | None" = None,
         keepdims: bool = False) -> Tensor:
    """The norm of vectors along the axes (None: of all elements as one): (sum |x|^ord)^(1 / ord), the
    largest of |x| for math.inf and the smallest for -math.inf. Of integers in float32. The gradient at
    a vector of zeros is 0. RangeError for an order of 0."""
    axes, x = tuple(range(x.ndim)) if axis is None else axis, real(x)
    if x.dtype.itemsize == 2:  # whose sums of powers overflow where their roots do not
        return norm(x.astype(_core.float32), ord, axis, keepdims).astype(x.dtype)
    if ord == 0:
        raise _core.RangeError("[norm] there is no norm of order 0; got 0; expected 2, 1, math.inf, …")
    if math.isinf(ord):
        size = abs(x)
        return (size.max if ord > 0 else size.min)(axes, keepdims=keepdims)
    if ord == 2:
        return _root(_core.square(x).sum(axes, keepdims=keepdims), 2)
    return _root((abs(x) ** ord).sum(axes, keepdims=keepdims), ord)


def rand_like(x: Tensor, dtype: Any = None, device: Any = None) -> Tensor:
    """Uniform in [0, 1) with x's shape, dtype and device."""
    return _core.rand(x.shape, dtype or x.dtype, device or x.device)


def randn_like(x: Tensor, dtype: Any = None, device: Any = None) -> Tensor:
    """Normal with mean 0 and standard deviation 1, with x's shape, dtype and device."""
    return _core.randn(x.shape, dtype or x.dtype, device or x.device)


# --------------------------------------------------------------------------------- methods


def _sizes(sizes: tuple) -> tuple:
    return tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes


def expand(self: Tensor, *sizes: Any) -> Tensor:
    """The tensor repeated along axes of size 1, and new ones in front, without a copy; -1 keeps a
    size. ShapeError where it does not fit."""
    wanted = [operator.index(n) for n in _sizes(sizes)]
    new = len(wanted) - self.ndim
    return _core.broadcast_to(self, tuple(
        self.shape[i - new] if n == -1 and i >= new else n for i, n in enumerate(wanted)))


def masked_fill(self: Tensor, mask: Tensor, value: Any) -> Tensor:
    """`value` (a number, or a tensor of one element) where `mask` is true, else this tensor; the shapes
    broadcast. DTypeError for a mask that is not bool."""
    return _core.where(mask, value, self)


def ravel(self: Tensor) -> Tensor:
    """The elements in row-major order, along one axis: a view where that can be."""
    return self.reshape(-1)


def swapaxes(self: Tensor, axis1: int, axis2: int) -> Tensor:
    """A view with two axes in each other's place. ShapeError for axes that are not there."""
    order = list(range(self.ndim))
    try:
        order[axis1], order[axis2] = order[axis2], order[axis1]
    except IndexError:
        raise _core.ShapeError(f"[swapaxes] no such axes; got {axis1} and {axis2}; expected axes of "
                               f"{list(self.shape)}") from None
    return self.permute(tuple(order))


def nbytes(self: Tensor) -> int:
    """Bytes of all elements."""
    return self.size * self.dtype.itemsize

"""The functions of the Python array API standard, 2023.12, by its names and its rules.

`tandem` itself differs from the standard where people expect something else of a framework for
networks: `td.sort` also gives positions, say. Here everything that is there keeps to the standard,
works in compiled functions, and is followed by the tape.

>>> import tandem as td
>>> x = td.tensor([3.0, 1.0, 2.0])
>>> xp = x.__array_namespace__()
>>> xp.sort(x).tolist()
[1.0, 2.0, 3.0]
>>> xp.missing["searchsorted"]
'no kernel'

`supported` are the names that are there, `missing` says of each of the others why it is not, and
`differs` where one that is there promises less than the standard.

Shapes and errors are those of the functions of `tandem`; where the standard lets a function take
two arrays, here either may be a Python number.

Source: https://data-apis.org/array-api/2023.12
"""

from __future__ import annotations

import builtins as _builtins
import math as _math
import operator as _operator
from dataclasses import dataclass as _dataclass
from typing import Any, Sequence

from . import _core
from ._core import (  # noqa: F401
    Tensor, abs, acos, add, all, any, argmax, argmin, asin, atan, bool, broadcast_to, ceil, cos,
    divide, equal, exp, expand_dims, flip, float32, float64, floor, floor_divide, full, full_like,
    greater, greater_equal, int32, int64, isnan, less, less_equal, log, log1p, logical_and,
    logical_not, logical_or, matmul, max, maximum, mean, min, minimum, multiply, negative,
    not_equal, ones, ones_like, permute_dims, pow, remainder, round, sign, sin, sqrt, square,
    subtract, tanh, uint8, where, zeros, zeros_like,
)
from ._elementwise import (  # noqa: F401
    acosh, asinh, atan2, atanh, clip, copysign, cosh, expm1, hypot, isfinite, isinf, log10, log2,
    logaddexp, logical_xor, positive, signbit, sinh, tan, trunc,
)
from ._tensor import asarray

__array_api_version__ = "2023.12"

e, inf, nan, pi = _math.e, _math.inf, _math.nan, _math.pi
newaxis = None

_dtypes = {
    "bool": bool, "uint8": uint8, "int32": int32, "int64": int64, "float32": float32,
    "float64": float64,
}
_kinds = {
    "bool": ("bool",),
    "signed integer": ("int32", "int64"),
    "unsigned integer": ("uint8",),
    "integral": ("int32", "int64", "uint8"),
    "real floating": ("float32", "float64", "float16", "bfloat16"),
    "complex floating": (),
}
_kinds["numeric"] = _kinds["integral"] + _kinds["real floating"]

_NO_KERNEL = "no kernel"
_COMPLEX = "there are no complex dtypes"
_BITS = "bits of integers have no kernels; of bool arrays logical_and and its like do the same"
_VALUES = "the shape of the result depends on values, which no captured program can express"

missing: dict[str, str] = {
    **dict.fromkeys(("int8", "int16", "uint16", "uint32", "uint64"), "no kernels of this dtype"),
    **dict.fromkeys(("complex64", "complex128", "conj", "imag", "real"), _COMPLEX),
    **dict.fromkeys(
        ("bitwise_and", "bitwise_invert", "bitwise_left_shift", "bitwise_or",
         "bitwise_right_shift", "bitwise_xor"), _BITS),
    **dict.fromkeys(
        ("nonzero", "unique_all", "unique_counts", "unique_inverse", "unique_values"), _VALUES),
    "searchsorted": _NO_KERNEL,
    "linalg": "an extension: no decompositions",
    "fft": "an extension: no complex dtypes",
}

differs: dict[str, str] = {
    "sum": "of uint8 is int64: there is no uint64",
    "prod": "of uint8 is int64: there is no uint64",
    "cumulative_sum": "of uint8 is int64: there is no uint64",
    "asarray": "Python floats become float32, the default dtype",
    "floor_divide": "of integers by 0 is 0",
    "signbit": "of a NaN is False",
    "copysign": "takes a NaN's sign to be positive",
    "empty": "is filled with zeros",
}


# --------------------------------------------------------------------------------------- creation


def arange(start: float, /, stop: float | None = None, step: float = 1, *, dtype: Any = None,
           device: Any = None) -> Tensor:
    """start, start + step, … before stop; arange(n) starts from 0. [count]. RangeError for a step
    of 0."""
    return _core.arange(start, stop, step, dtype, device)


def empty(shape: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Any values of that shape. ShapeError for negative sizes."""
    return _core.empty(shape, dtype, device)


def empty_like(x: Tensor, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Any values of x's shape, dtype and device."""
    return zeros_like(x, dtype, device)


def eye(n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None,
        device: Any = None) -> Tensor:
    """[n_rows, n_cols] with ones on diagonal k, zeros elsewhere. ShapeError for negative sizes."""
    n_cols = n_rows if n_cols is None else n_cols
    on = equal(_core.arange(n_cols, device=device), _column(n_rows, k, device))
    return on.astype(_core.float32 if dtype is None else dtype)


def _column(n: int, k: int, device: Any) -> Tensor:
    return expand_dims(_core.arange(n, device=device) + k, -1)


def from_dlpack(x: Any, /, *, device: Any = None, copy: Any = None) -> Tensor:
    """An array of another library, over the same memory where that can be; see asarray() for
    `copy`. DTypeError for what has no __dlpack__."""
    if not hasattr(x, "__dlpack__"):
        raise _core.DTypeError(
            f"[from_dlpack] an object with __dlpack__ is needed; got {type(x).__name__}")
    return asarray(x, device=device, copy=copy)


def linspace(start: float, stop: float, /, num: int, *, dtype: Any = None, device: Any = None,
             endpoint: Any = True) -> Tensor:
    """[num] in even steps from start to stop, with stop unless `endpoint` is off. RangeError for a
    negative `num`."""
    if endpoint or num <= 0:
        return _core.linspace(start, stop, num, dtype, device)
    return _core.linspace(start, stop, num + 1, dtype, device)[:-1]


def meshgrid(*arrays: Tensor, indexing: str = "xy") -> list[Tensor]:
    """Of n arrays with one axis, n arrays of rank n that hold the coordinates of a grid. RangeError
    for another indexing than "xy" and "ij"."""
    if indexing not in ("xy", "ij"):
        raise _core.RangeError(f"[meshgrid] indexing must be 'xy' or 'ij'; got {indexing!r}")
    n = len(arrays)
    order = list(range(n))
    if indexing == "xy" and n > 1:
        order[:2] = [1, 0]
    parts = [
        a.reshape(tuple(-1 if axis == order[i] else 1 for axis in range(n)))
        for i, a in enumerate(arrays)
    ]
    return broadcast_arrays(*parts) if parts else []


def tril(x: Tensor, /, *, k: int = 0) -> Tensor:
    """x [..., M, N] with zeros above diagonal k. ShapeError below two axes."""
    return _triangle(x, k, True)


def triu(x: Tensor, /, *, k: int = 0) -> Tensor:
    """x [..., M, N] with zeros below diagonal k. ShapeError below two axes."""
    return _triangle(x, k, False)


def _triangle(x: Tensor, k: int, lower: Any) -> Tensor:
    if x.ndim < 2:
        raise _core.ShapeError(f"[tril] a matrix has at least two axes; got {x.shape}")
    diagonal, columns = _column(x.shape[-2], k, x.device), _core.arange(
        x.shape[-1], device=x.device)
    keep = less_equal(columns, diagonal) if lower else greater_equal(columns, diagonal)
    return where(keep, x, zeros_like(x))


# ------------------------------------------------------------------------------------------ dtypes


def astype(x: Tensor, dtype: Any, /, *, copy: Any = True, device: Any = None) -> Tensor:
    """x in another dtype; floating to integral truncates. Of its own dtype a copy, unless `copy` is
    off."""
    x = x if device is None else x.to(device)
    return x.clone() if copy and x.dtype is dtype else x.astype(dtype)


def broadcast_arrays(*arrays: Tensor) -> list[Tensor]:
    """All arrays in the shape they broadcast to: views. ShapeError unless they do."""
    shape = _broadcast_shape([a.shape for a in arrays])
    return [broadcast_to(a, shape) for a in arrays]


def _broadcast_shape(shapes: Sequence[tuple]) -> tuple:
    out: list[int] = []
    for axis in range(-1, -_builtins.max((len(s) for s in shapes), default=0) - 1, -1):
        sizes = {s[axis] for s in shapes if len(s) >= -axis and s[axis] != 1}
        if len(sizes) > 1:
            raise _core.ShapeError(f"[broadcast_arrays] shapes must broadcast; got {shapes}")
        out.insert(0, sizes.pop() if sizes else 1)
    return tuple(out)


def can_cast(from_: Any, to: Any, /) -> Any:
    """Whether promotion leads from one dtype (or an array's) to the other."""
    from_ = from_.dtype if isinstance(from_, Tensor) else from_
    return result_type(from_, to) is to


@_dataclass(frozen=True)
class finfo_object:
    """What finfo() tells of a floating dtype."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: Any


@_dataclass(frozen=True)
class iinfo_object:
    """What iinfo() tells of an integer dtype."""

    bits: int
    max: int
    min: int
    dtype: Any


# Bits of the exponent and of the mantissa.
_formats = {"float64": (11, 52), "float32": (8, 23), "float16": (5, 10), "bfloat16": (8, 7)}


def finfo(type: Any, /) -> finfo_object:
    """Bits, spacing at 1 and limits of a floating dtype, or of an array's. DTypeError for
    others."""
    t = type.dtype if isinstance(type, Tensor) else type
    if t.name not in _formats:
        raise _core.DTypeError(f"[finfo] the dtype must be floating; got {t}")
    exponent, mantissa = _formats[t.name]
    bias = 2 ** (exponent - 1) - 1
    largest = _math.ldexp(2 - 2.0**-mantissa, bias)
    return finfo_object(1 + exponent + mantissa, 2.0**-mantissa, largest, -largest,
                        _math.ldexp(1.0, 1 - bias), t)


def iinfo(type: Any, /) -> iinfo_object:
    """Bits and limits of an integer dtype, or of an array's. DTypeError for others."""
    t = type.dtype if isinstance(type, Tensor) else type
    if t.name not in _kinds["integral"]:
        raise _core.DTypeError(f"[iinfo] the dtype must be integral; got {t}")
    bits = int(t.name.lstrip("uint"))
    if t is uint8:
        return iinfo_object(bits, 2**bits - 1, 0, t)
    return iinfo_object(bits, 2 ** (bits - 1) - 1, -(2 ** (bits - 1)), t)


def isdtype(dtype: Any, kind: Any) -> Any:
    """Whether a dtype is another, or of a kind ("bool", "signed integer", "unsigned integer",
    "integral", "real floating", "complex floating", "numeric"), or of one in a tuple. RangeError
    for unknown kinds."""
    if isinstance(kind, tuple):
        return _builtins.any(isdtype(dtype, k) for k in kind)
    if isinstance(kind, str):
        if kind not in _kinds:
            raise _core.RangeError(f"[isdtype] no such kind; got {kind!r}; expected {list(_kinds)}")
        return dtype.name in _kinds[kind]
    return dtype is kind


def result_type(*arrays_and_dtypes: Any) -> Any:
    """The dtype that arrays, dtypes and numbers give together (docs/types.md). RangeError for
    none."""
    values = [
        x if isinstance(x, (int, float)) else zeros((), x.dtype if isinstance(x, Tensor) else x)
        for x in arrays_and_dtypes
    ]
    # Numbers last: they only change the kind.
    values.sort(key=lambda v: not isinstance(v, Tensor))
    if not values or not isinstance(values[0], Tensor):
        raise _core.RangeError("[result_type] at least one array or dtype is needed")
    result = values[0]
    for v in values[1:]:
        # One of the few functions that take every dtype, and promote.
        result = maximum(result, v)
    return result.dtype


# ------------------------------------------------------------------------------- reductions, order


def sum(x: Tensor, /, *, axis: Any = None, dtype: Any = None, keepdims: Any = False) -> Tensor:
    """Sum over the axes (all by default); of integers int64. OutOfBoundsError for an axis x
    lacks."""
    return _core.sum(x if dtype is None else x.astype(dtype), axis, keepdims)


def prod(x: Tensor, /, *, axis: Any = None, dtype: Any = None, keepdims: Any = False) -> Tensor:
    """Product over the axes (all by default); of integers int64. OutOfBoundsError for an axis x
    lacks."""
    return _core.prod(x if dtype is None else x.astype(dtype), axis, keepdims)


def std(x: Tensor, /, *, axis: Any = None, correction: float = 0.0,
        keepdims: Any = False) -> Tensor:
    """Standard deviation over the axes, divided by n - correction. DTypeError unless floating."""
    return _core.std(x, axis, correction, keepdims)


def var(x: Tensor, /, *, axis: Any = None, correction: float = 0.0,
        keepdims: Any = False) -> Tensor:
    """Variance over the axes, divided by n - correction. DTypeError unless floating."""
    return _core.var(x, axis, correction, keepdims)


def cumulative_sum(x: Tensor, /, *, axis: int | None = None, dtype: Any = None,
                   include_initial: Any = False) -> Tensor:
    """Sum of the elements up to and with this one along an axis, which may be left out where there
    is one only; with a 0 in front on request. RangeError where the axis must be given."""
    if axis is None:
        if x.ndim != 1:
            raise _core.RangeError(f"[cumulative_sum] the axis must be given; got {x.shape}")
        axis = 0
    y = _core.cumulative_sum(x if dtype is None else x.astype(dtype), axis)
    if not include_initial:
        return y
    widths = [0] * (2 * x.ndim)
    widths[2 * (axis % x.ndim)] = 1
    return _core.pad(y, widths)


def argsort(x: Tensor, /, *, axis: int = -1, descending: Any = False,
            stable: Any = True) -> Tensor:
    """Positions (int64) of x in order along an axis; always stable, a NaN counts as largest."""
    return _core.argsort(x, axis, descending)


def sort(x: Tensor, /, *, axis: int = -1, descending: Any = False, stable: Any = True) -> Tensor:
    """x in order along an axis; always stable, a NaN counts as largest."""
    return _core.sort(x, axis, descending)[0]


def take(x: Tensor, indices: Tensor, /, *, axis: int | None = None) -> Tensor:
    """The slices of x at the indices [n] along an axis, counted from the end where negative.
    OutOfBoundsError for those outside, RangeError where the axis must be given."""
    if axis is None:
        if x.ndim != 1:
            raise _core.RangeError(f"[take] the axis must be given; got {x.shape}")
        axis = 0
    return _core.take(x, where(less(indices, 0), indices + x.shape[axis], indices), axis)


# ------------------------------------------------------------------------------------------ shapes


def concat(arrays: Sequence[Tensor], /, *, axis: int | None = 0) -> Tensor:
    """One after the other along an axis, in the dtype they promote to; None: of all as one line.
    ShapeError unless the other axes agree."""
    if axis is None:
        return _core.concat([a.reshape(-1) for a in arrays], 0)
    return _core.concat(arrays, axis)


def stack(arrays: Sequence[Tensor], /, *, axis: int = 0) -> Tensor:
    """Along a new axis, in the dtype they promote to. ShapeError unless of one shape."""
    return _core.stack(arrays, axis)


def _axes(who: str, axes: Any, x: Tensor) -> list[int]:
    """One axis or several, counted from the front."""
    found = [_operator.index(a) for a in ([axes] if hasattr(axes, "__index__") else axes)]
    for a in found:
        if not -x.ndim <= a < x.ndim:
            raise _core.OutOfBoundsError(f"[{who}] axis out of range; got {a}; expected an axis of "
                                         f"{list(x.shape)}")
    found = [a % x.ndim for a in found]
    if len({*found}) != len(found):
        raise _core.ShapeError(f"[{who}] an axis can be named once; got {axes}")
    return found


def moveaxis(x: Tensor, source: Any, destination: Any, /) -> Tensor:
    """The axes `source` at the places `destination`, the others in order: a view."""
    from_ = _axes("moveaxis", source, x)
    to = _axes("moveaxis", destination, x)
    if len(from_) != len(to):
        raise _core.ShapeError(f"[moveaxis] as many places as axes; got {source} and {destination}")
    order = [a for a in range(x.ndim) if a not in from_]
    for place, axis in sorted(zip(to, from_)):
        order.insert(place, axis)
    return permute_dims(x, tuple(order))


def repeat(x: Tensor, repeats: int, /, *, axis: int | None = None) -> Tensor:
    """Each element (of x as one line) or slice along an axis `repeats` times. RangeError for a
    negative count, DTypeError for counts in an array: the shape would depend on values."""
    if not isinstance(repeats, int):
        raise _core.DTypeError("[repeat] the count must be a number; got an array")
    if repeats < 0:
        raise _core.RangeError(f"[repeat] the count must not be negative; got {repeats}")
    if axis is None:
        x, axis = x.reshape(-1), 0
    [axis] = _axes("repeat", axis, x)
    shape = list(x.shape)
    wide = broadcast_to(expand_dims(x, axis + 1), shape[:axis + 1] + [repeats] + shape[axis + 1:])
    shape[axis] *= repeats
    return wide.reshape(tuple(shape))


def reshape(x: Tensor, /, shape: Any, *, copy: Any = None) -> Tensor:
    """The same elements in another shape; -1 stands for what is left. A view if it can be; `copy`:
    True always copies, False raises RangeError where a copy would be needed."""
    if copy is False:
        return x.view(shape)
    y = _core.reshape(x, shape)
    return y.clone() if copy else y


def roll(x: Tensor, /, shift: Any, *, axis: Any = None) -> Tensor:
    """Elements moved along the axes, round the end; without axes, of x as one line."""
    if axis is None:
        return _core.roll(x.reshape(-1), shift, 0).reshape(x.shape)
    if isinstance(axis, tuple) and isinstance(shift, int):
        shift = (shift,) * len(axis)
    return _core.roll(x, shift, axis)


def squeeze(x: Tensor, /, axis: Any) -> Tensor:
    """Without axes of size 1: a view. ShapeError for another size."""
    return _core.squeeze(x, axis)


def tile(x: Tensor, repetitions: Any, /) -> Tensor:
    """x repeated as a whole along each axis."""
    counts = list(repetitions)
    shape = list(x.shape)
    counts = [1] * (len(shape) - len(counts)) + counts
    shape = [1] * (len(counts) - len(shape)) + shape
    wide = x.reshape(tuple(n for s in shape for n in (1, s)))
    wide = broadcast_to(wide, tuple(n for c, s in zip(counts, shape) for n in (c, s)))
    return wide.reshape(tuple(c * s for c, s in zip(counts, shape)))


def unstack(x: Tensor, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices along an axis, without it: views. OutOfBoundsError for an axis x lacks."""
    return tuple(_core.squeeze(part, axis) for part in _core.split(x, 1, axis))


# ---------------------------------------------------------------------------------- linear algebra


def matrix_transpose(x: Tensor, /) -> Tensor:
    """The last two axes exchanged: a view. ShapeError below two axes."""
    if x.ndim < 2:
        raise _core.ShapeError(f"[matrix_transpose] a matrix has at least two axes; got {x.shape}")
    return x.mT


def tensordot(x1: Tensor, x2: Tensor, /, *, axes: Any = 2) -> Tensor:
    """Sum of products over the last `axes` axes of x1 and the first of x2, or over two lists of
    axes. ShapeError unless their sizes agree."""
    if isinstance(axes, int):
        left, right = list(range(x1.ndim - axes, x1.ndim)), list(range(axes))
    else:
        left, right = _axes("tensordot", axes[0], x1), _axes("tensordot", axes[1], x2)
    if [x1.shape[a] for a in left] != [x2.shape[a] for a in right]:
        raise _core.ShapeError(f"[tensordot] the axes must agree; got {x1.shape} and {x2.shape}")
    rows = [a for a in range(x1.ndim) if a not in left]
    columns = [a for a in range(x2.ndim) if a not in right]
    inner = _math.prod(x1.shape[a] for a in left)
    shape = [x1.shape[a] for a in rows] + [x2.shape[a] for a in columns]
    a = permute_dims(x1, tuple(rows + left)).reshape(
        (_math.prod(x1.shape[i] for i in rows), inner))
    b = permute_dims(x2, tuple(right + columns)).reshape(
        (inner, _math.prod(x2.shape[i] for i in columns)))
    return matmul(a, b).reshape(tuple(shape))


def vecdot(x1: Tensor, x2: Tensor, /, *, axis: int = -1) -> Tensor:
    """Sum of products along an axis, with broadcasting of the others. ShapeError unless the sizes
    agree."""
    if x1.shape[axis] != x2.shape[axis]:
        raise _core.ShapeError(f"[vecdot] the axes must agree; got {x1.shape} and {x2.shape}")
    product = multiply(x1, x2)
    return _core.sum(product, axis).astype(product.dtype)


# -------------------------------------------------------------------------------------- inspection


class __array_namespace_info__:
    """What this namespace can do, as the standard asks for it."""

    def capabilities(self) -> dict:
        """No indexing by conditions inside of a captured program; no shapes that depend on data."""
        return {"boolean indexing": False, "data-dependent shapes": False, "max dimensions": 8}

    def default_device(self) -> Any:
        """Where new arrays are made when no device is named."""
        return _core.get_default_device()

    def default_dtypes(self, *, device: Any = None) -> dict:
        """The dtypes of Python's floats and integers, and of positions."""
        return {"real floating": float32, "integral": int64, "indexing": int64}

    def devices(self) -> list:
        """The devices of this machine."""
        return [_core.Device(d) for d in ("cpu", "cuda") if _core.has_device(d)]

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict:
        """The standard's dtypes that are there, all or of a kind; float16 and bfloat16 are beyond
        it."""
        return {k: t for k, t in _dtypes.items() if kind is None or isdtype(t, kind)}


supported: tuple[str, ...] = tuple(sorted(
    name for name in set(globals()) - {
        "Any", "Sequence", "Tensor", "annotations", "differs", "finfo_object",
        "iinfo_object", "missing",
    } if not name.startswith("_")
)) + ("__array_namespace_info__",)
__all__ = [*supported, "differs", "finfo_object", "iinfo_object", "missing", "supported"]

"""Tensors from Python's values, and what Tensor takes from NumPy and pickle."""

from __future__ import annotations

import operator
from typing import Any, Callable

from . import _core
from ._composed import expand, masked_fill, nbytes, norm, ravel, swapaxes
from ._core import Tensor
from ._elementwise import clip
from ._structure import mapped


def tensor(data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A new tensor with the values of a number, nested lists, or an array; always a copy.

    Without a dtype: of Python numbers float32, int64 or bool; of arrays their own.
    Raises ShapeError for ragged lists, DTypeError for values that are no numbers.
    """
    t = _core._tensor(data, dtype, device, True)
    return t.requires_grad_() if requires_grad else t


def asarray(obj: Any, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Tensor:
    """`obj` as a tensor, over the same memory where that can be (NumPy arrays, DLPack, buffers).

    copy: True always copies; False raises RangeError where a copy would be needed.
    Source: Python array API standard.
    """
    return _core._tensor(obj, dtype, device, copy)


def cuda_is_available() -> bool:
    """Whether this build and this machine can compute on `cuda`."""
    return _core.has_device("cuda")


def _numpy(self: Tensor) -> Any:
    """The values as a NumPy array over the same memory.

    DeviceError unless on the CPU; AutogradError if it wants a gradient (detach() it first);
    BufferError for bfloat16, which NumPy lacks.
    """
    import numpy as np

    if self.requires_grad:
        raise _core.AutogradError(
            "[numpy] the tape does not follow into NumPy; got a tensor that wants a gradient; "
            "expected .detach().numpy()"
        )
    return np.asarray(memoryview(self))


def _array(self: Tensor, dtype: Any = None, copy: bool | None = None) -> Any:
    import numpy as np

    t = self.astype(_core.float32) if self.dtype is _core.bfloat16 else self
    a = t.to("cpu").numpy()
    if copy or (dtype is not None and a.dtype != dtype):
        return np.array(a, dtype=dtype)
    return a


# NumPy's functions of each element that are operations here, under other names or the same.
_UFUNCS: "dict[str, Callable]" = {
    name: getattr(_core, {"power": "pow", "absolute": "abs", "rint": "round", "arccos": "acos",
                          "arcsin": "asin", "arctan": "atan"}.get(name, name))
    for name in (
        "add subtract multiply divide floor_divide remainder power maximum minimum matmul "
        "logical_and logical_or logical_not "
        "negative absolute sign floor ceil rint square reciprocal exp log log1p sqrt sin cos "
        "arccos arcsin arctan tanh isnan"
    ).split()
}
# These take a number first as one, where the functions would make a tensor of it.
_COMPARISONS: "dict[str, Callable]" = {
    "less": operator.lt, "less_equal": operator.le, "greater": operator.gt,
    "greater_equal": operator.ge, "equal": operator.eq, "not_equal": operator.ne}
_UFUNCS.update(_COMPARISONS)
_UFUNCS.update(bitwise_and=operator.and_, bitwise_or=operator.or_, bitwise_xor=operator.xor,
               invert=operator.invert, positive=operator.pos, divmod=divmod)


def operation_of(ufunc: Any, method: str, options: dict) -> "Callable | None":
    """What a call of a NumPy function of each element is here, of the same inputs; None where it is
    no operation: of those that are not, and with options, as `array += t` has."""
    ours = _UFUNCS.get(ufunc.__name__)
    if ours is None or method != "__call__" or options:
        return None
    import numpy as np

    function = ours

    def operand(a: Any) -> Any:
        # Python's operators would ask NumPy's numbers again, which ask who is asked now. Where these
        # are compared they come as arrays, new ones each time.
        if isinstance(a, np.generic) or (isinstance(a, np.ndarray) and a.ndim == 0
                                         and ufunc.__name__ in _COMPARISONS):
            return a.item()
        return _core._tensor(a) if isinstance(a, np.ndarray) else a

    return lambda *inputs: function(*map(operand, inputs))


def _values(a: Any) -> Any:
    import numpy as np

    return mapped(lambda leaf: np.asarray(leaf) if isinstance(leaf, Tensor) else leaf, a)


def _array_ufunc(self: Tensor, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
    # np.exp(t) is td.exp(t), on the tape and in captures; what is no operation here is NumPy's, of
    # the values.
    ours = operation_of(ufunc, method, options)
    if ours is not None:
        return ours(*inputs)
    return getattr(ufunc, method)(*_values(inputs), **_values(options))


def _array_function(self: Tensor, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
    # np.concatenate([t, a]), np.mean(t): NumPy's, of the values.
    return function(*_values(tuple(args)), **_values(dict(kwargs)))


def _rebuild(values: bytes, shape: tuple, dtype: str, device: str, grad: bool, last: bool) -> Tensor:
    raw = _core._tensor(bytearray(values), _core.uint8, "cpu", False)
    t = _core._from_bytes(raw, shape, dtype)
    if last:
        t = t.to(_core.MemoryFormat.channels_last)
    t = t.to(device=device)
    return t.requires_grad_() if grad else t


def _reduce(self: Tensor) -> tuple:
    plain = self.detach().to("cpu").contiguous()
    return _rebuild, (
        bytes(_core._to_bytes(plain)),
        self.shape,
        self.dtype.name,
        str(self.device),
        self.requires_grad and self.is_leaf,
        self.is_channels_last() and not self.is_contiguous(),
    )


def _iter(self: Tensor) -> Any:
    if self.ndim == 0:
        raise TypeError("[iter] a 0-dim tensor cannot be iterated over")
    return (self[i] for i in range(self.shape[0]))


def _contains(self: Tensor, value: Any) -> bool:
    found = self == value
    return bool(found.any()) if isinstance(found, Tensor) else False


def _reversed(self: Tensor) -> Any:
    return reversed(list(_iter(self)))


def _round(self: Tensor, digits: int | None = None) -> Tensor:
    if digits is None:
        return self.round()
    digits = operator.index(digits)
    if not self.dtype.is_floating_point:
        return self if digits >= 0 else (self / 10 ** -digits).round().astype(self.dtype) * 10 ** (
            -digits)
    # In the widest type, where no factor that matters overflows.
    if abs(digits) > 300:
        return self if digits > 0 else self * 0
    wide, factor = self.astype(_core.float64), 10.0 ** abs(digits)
    rounded = (wide * factor).round() / factor if digits >= 0 else (wide / factor).round() * factor
    return _core.where(rounded - rounded == 0, rounded, wide).astype(self.dtype)


def _divmod(self: Tensor, other: Any) -> tuple[Tensor, Tensor]:
    return self // other, self % other


def _rdivmod(self: Tensor, other: Any) -> tuple[Tensor, Tensor]:
    return other // self, other % self


def _format(self: Tensor, spec: str) -> str:
    return format(self.item(), spec) if spec and self.ndim == 0 else str(self)


def _cpu(self: Tensor) -> Tensor:
    """On the CPU; itself if it is already."""
    return self.to("cpu")


def _cuda(self: Tensor) -> Tensor:
    """On the first CUDA device."""
    return self.to("cuda")


def _dim(self: Tensor) -> int:
    """Number of axes."""
    return self.ndim


def _numel(self: Tensor) -> int:
    """Number of elements."""
    return self.size


def _clip(self: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Each element brought into [min, max], numbers or tensors; None: no bound."""
    return clip(self, min, max)


def _norm(self: Tensor, ord: float = 2.0, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The norm of vectors along the axes; see tandem.norm."""
    return norm(self, ord, axis, keepdims)


def _in_place(name: str, operation: Callable, doc: str) -> Callable:
    def method(self: Tensor, other: Any) -> Tensor:
        result = operation(self, other)
        if result is not self:  # of something that knows better: a declared value
            raise _core.DTypeError(f"[{name}] writes numbers into a tensor; got "
                                   f"{type(other).__name__}; expected a tensor or a number")
        return self

    method.__doc__ = doc
    return method


_add_ = _in_place("add_", operator.iadd, """Writes self + other into this tensor, as `+=`. ShapeError
    where its shape would change, DTypeError for a floating result of an integral tensor,
    AutogradError where the tape cannot follow.""")
_sub_ = _in_place("sub_", operator.isub,
                  "Writes self - other into this tensor, as `-=`; errors as add_.")
_mul_ = _in_place("mul_", operator.imul,
                  "Writes self * other into this tensor, as `*=`; errors as add_.")


def _register_hook(self: Tensor, hook: Any) -> _core.HookHandle:
    """Calls hook(gradient) when this tensor's gradient is known; see autograd.register_hook."""
    return _core.register_hook(self, hook)


def _array_namespace(self: Tensor, /, *, api_version: str | None = None) -> Any:
    """tandem.array_api. RangeError for a version of the standard other than 2022.12 and 2023.12."""
    from . import array_api

    if api_version not in (None, "2022.12", array_api.__array_api_version__):
        raise _core.RangeError(
            f"[__array_namespace__] no such version of the standard here; got {api_version}; "
            f"expected {array_api.__array_api_version__}"
        )
    return array_api


def _to_device(self: Tensor, device: Any, /, *, stream: Any = None) -> Tensor:
    """The tensor on a device; itself if it is there already. DeviceError for one that is not
    there."""
    return self.to(device=device)


for _name, _function in {
    "numpy": _numpy,
    "__array__": _array,
    "__reduce__": _reduce,
    "__iter__": _iter,
    "__contains__": _contains,
    "__reversed__": _reversed,
    "__round__": _round,
    "__divmod__": _divmod,
    "__rdivmod__": _rdivmod,
    "__format__": _format,
    "cpu": _cpu,
    "cuda": _cuda,
    "dim": _dim,
    "numel": _numel,
    "add_": _add_,
    "sub_": _sub_,
    "mul_": _mul_,
    "clip": _clip,
    "expand": expand,
    "masked_fill": masked_fill,
    "nbytes": property(nbytes),
    "norm": _norm,
    "ravel": ravel,
    "swapaxes": swapaxes,
    "register_hook": _register_hook,
    "__array_namespace__": _array_namespace,
    "to_device": _to_device,
    "__array_ufunc__": _array_ufunc,
    "__array_function__": _array_function,
}.items():
    if callable(_function):
        _function.__name__ = _name
        _function.__qualname__ = f"Tensor.{_name}"
    setattr(Tensor, _name, _function)

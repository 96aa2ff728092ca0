"""The layers there are. Those with parameters are C++'s own."""

from __future__ import annotations

import copyreg
import inspect
import math
import operator
from typing import Any

from .. import _core
from .._arguments import between, number, whole
from .._core import Tensor
from .._scopes import no_grad
from .module import Module


def _generator(seed: int, offset: int, device: str) -> Any:
    g = _core.Generator(seed, device)
    g.set_state(seed, offset)
    return g


def _reduce_generator(g: Any) -> tuple:
    seed, offset = (v % 2**64 for v in g.state.tolist())
    return _generator, (seed, offset, str(g.state.device))


copyreg.pickle(_core.Generator, _reduce_generator)


def _sizes(value: Any) -> tuple:
    sizes = (value,) if hasattr(value, "__index__") else value
    return tuple(operator.index(s) for s in sizes)


def _pair(value: Any) -> tuple:
    sizes = _sizes(value)
    return sizes * 2 if len(sizes) == 1 else sizes


_SIZES = {name: _pair for name in ("kernel_size", "stride", "padding", "dilation",
                                   "output_padding")}
_SIZES["normalized_shape"] = _sizes
# They are those of the tensors.
_NOT_KEPT = ("dtype", "device", "generator")


class _NativeModule(Module):
    """A module of C++: its parameters are found by their paths. A class derived from it may have
    tensors and modules of its own beside them."""

    def __init__(self, make: Any, *args: Any):
        super().__init__()
        object.__setattr__(self, "_made_by", (make.__name__, args))
        self._take(make(*args))
        # What it was made with can be read: sizes as pairs, and None for a tensor it goes without.
        kind = next(k for k in type(self).__mro__ if k.__module__ == __name__)
        options = () if kind is _NativeModule else inspect.signature(kind).parameters
        for name, value in zip(options, args):
            if name in ("weight", "bias") or name in _NOT_KEPT:
                continue
            self.__dict__[name] = _SIZES[name](value) if name in _SIZES else value
        missing = {"bias": ("bias",), "affine": ("weight", "bias")}
        for option in set(options) & set(missing):
            for name in missing[option]:
                if name not in self._fixed:
                    self.__dict__[name] = None

    def _take(self, made: Any) -> None:
        parameters, buffers = made.parameters(), made.buffers()
        object.__setattr__(self, "_native", made)
        object.__setattr__(self, "_fixed", frozenset((*parameters, *buffers)))
        self._parameters.update(parameters)
        self._buffers.update(buffers)

    def __getstate__(self) -> dict:
        state = self.__dict__.copy()
        del state["_native"]
        return state

    def __setstate__(self, state: dict, shared: bool = False) -> None:
        # Made again as it was at first, without drawing random numbers, and then given what the
        # state's tensors are and hold.
        self.__dict__.update(state)
        values = {k: t for k, t in self._tensors().items() if k in self._fixed}
        name, args = self._made_by
        generators = [_core.default_generator()]
        generators += [_core.default_generator(a) for a in args if isinstance(a, _core.Device)]
        generators += [a for a in args if isinstance(a, _core.Generator)]
        before = [g.state.clone() for g in generators]
        self._take(getattr(_core, name)(*args))
        made = self._tensors()
        with no_grad():
            for generator, was in zip(generators, before):
                generator.state.copy_(was)
            for key, value in values.items():
                for what in ("dtype", "device"):
                    if getattr(made[key], what) != getattr(value, what):
                        self._native.to(getattr(value, what))
                if value.is_channels_last() and not value.is_contiguous():
                    self._native.to(_core.MemoryFormat.channels_last)
            for key, value in values.items():
                made[key].detach().copy_(value.detach())
                if made[key].requires_grad != value.requires_grad:
                    made[key].requires_grad_(value.requires_grad)
        if not shared:
            # Others that hold the state's tensors, to share them, go on sharing.
            for key, value in values.items():
                value._become(made[key])
                table = self._parameters if key in self._parameters else self._buffers
                table[key] = value
        self._native.train(self.training)

    def _restore(self, state: dict) -> None:
        self.__setstate__(state, shared=True)

    def forward(self, x: Tensor) -> Tensor:
        return self._native.forward(x)

    def _set_training(self, mode: bool) -> None:
        super()._set_training(mode)
        self._native.train(mode)

    def _to(self, what: Any, done: dict) -> None:
        self._native.to(what)  # in place: the tables hold the same tensors
        super()._to(what, done)

    def _tensors(self) -> dict:
        return {**self._parameters, **self._buffers}

    def _check_name(self, name: str) -> None:
        if name in self._fixed:
            raise AttributeError(
                f"[{type(self).__name__}] a layer's tensors can be written to (copy_), not "
                f"replaced; got {name}"
            )
        if name in ("weight", "bias") and name in self.__dict__:
            raise AttributeError(
                f"[{type(self).__name__}] a layer that was made without a tensor has none; got "
                f"{name}; expected a new layer"
            )
        # The layer of C++ would not hear of it.
        for kind in type(self).__mro__:
            if kind.__module__ == __name__ and name in inspect.signature(kind).parameters:
                raise AttributeError(
                    f"[{type(self).__name__}] options are fixed when a layer is made; got {name}; "
                    f"expected a new {kind.__name__}({name}=…)"
                )

    def __repr__(self) -> str:
        text = self._native.str()
        return text.rstrip("\n")


class Linear(_NativeModule):
    """x wᵀ + b: [..., in] -> [..., out]. `weight` [out, in], `bias` [out], uniform in
    ±1/sqrt(in) at first.

    ShapeError for sizes below 0, and when it is called for another last axis. Source: LeCun et al.,
    "Efficient BackProp", 1998, 4.6 (the first values)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, dtype: Any = None,
                 device: Any = None, generator: Any = None):
        super().__init__(_core._linear, in_features, out_features, bias, dtype, device, generator)


class Conv2d(_NativeModule):
    """[N, in, H, W] -> [N, out, H', W']; see conv2d. `weight` [out, in / groups, kh, kw] and `bias`
    [out] are uniform in ±1/sqrt(in / groups kh kw) at first. Sizes are numbers or pairs, in pixels.

    ShapeError for sizes, strides, dilations or groups below 1 and for channels that the groups do
    not divide, RangeError for a negative padding. Source: LeCun et al., "Gradient-based learning
    applied to document recognition", 1998."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1,
                 padding: Any = 0, dilation: Any = 1, groups: int = 1, bias: bool = True,
                 dtype: Any = None, device: Any = None, generator: Any = None):
        super().__init__(_core._conv2d, in_channels, out_channels, kernel_size, stride, padding,
                         dilation, groups, bias, dtype, device, generator)


class ConvTranspose2d(_NativeModule):
    """The adjoint of a Conv2d(out, in): [N, in, H, W] -> [N, out, H', W']; see conv_transpose2d.
    `weight` [in, out / groups, kh, kw], `bias` [out]. Sizes are numbers or pairs, in pixels.

    Errors as Conv2d; RangeError for an output_padding that is not below the stride.
    Source: Dumoulin and Visin 2016, arXiv:1603.07285."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1,
                 padding: Any = 0, output_padding: Any = 0, groups: int = 1, bias: bool = True,
                 dilation: Any = 1, dtype: Any = None, device: Any = None, generator: Any = None):
        super().__init__(_core._conv_transpose2d, in_channels, out_channels, kernel_size, stride,
                         padding, output_padding, groups, bias, dilation, dtype, device, generator)


def _eps(who: str, value: Any) -> float:
    return between(who, "eps", value, 0, math.inf)


def _share(who: str, value: Any) -> float:
    return between(who, "momentum", value, 0, 1)


class BatchNorm2d(_NativeModule):
    """Normalises every channel of [N, C, H, W]: over the batch in training, by running statistics
    in evaluation. `weight`, `bias` (if `affine`), `running_mean` and `running_var` are [C]; the new
    value of a running one counts `momentum` times.

    RangeError unless eps >= 0 and 0 <= momentum <= 1; when it is called, ShapeError for other
    inputs and for training with one value per channel. Source: Ioffe and Szegedy 2015,
    arXiv:1502.03167."""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1,
                 affine: bool = True, dtype: Any = None, device: Any = None):
        super().__init__(_core._batch_norm2d, num_features, _eps("BatchNorm2d", eps),
                         _share("BatchNorm2d", momentum), affine, dtype, device)


class BatchNorm1d(_NativeModule):
    """Normalises every channel of [N, C] or [N, C, L]; parameters, errors and source as
    BatchNorm2d."""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1,
                 affine: bool = True, dtype: Any = None, device: Any = None):
        super().__init__(_core._batch_norm1d, num_features, _eps("BatchNorm1d", eps),
                         _share("BatchNorm1d", momentum), affine, dtype, device)


class LayerNorm(_NativeModule):
    """Normalises over the last axes, whose sizes are `normalized_shape`; so are those of `weight`
    and `bias` (if `affine`). The result has the input's shape.

    RangeError unless eps >= 0; when it is called, ShapeError for other last axes. Source: Ba, Kiros
    and Hinton 2016, arXiv:1607.06450."""

    def __init__(self, normalized_shape: Any, eps: float = 1e-5, affine: bool = True,
                 dtype: Any = None, device: Any = None):
        super().__init__(_core._layer_norm, normalized_shape, _eps("LayerNorm", eps), affine, dtype,
                         device)


class Dropout(_NativeModule):
    """In training each value becomes 0 with probability p, and the others x / (1 - p); in
    evaluation all stay. Any shape.

    RangeError unless 0 <= p <= 1. Source: Srivastava et al., "Dropout", 2014."""

    def __init__(self, p: float = 0.5, generator: Any = None):
        super().__init__(_core._dropout, p, generator)


class Embedding(_NativeModule):
    """Rows of `weight` [num, dim] for ids [...] of int32 or int64: [..., dim]. Starts standard
    normal.

    OutOfBoundsError for an id outside [0, num). Source: Bengio et al., "A neural probabilistic
    language model", 2003."""

    def __init__(self, num_embeddings: int, embedding_dim: int, dtype: Any = None,
                 device: Any = None, generator: Any = None):
        super().__init__(_core._embedding, num_embeddings, embedding_dim, dtype, device, generator)


class _Activation(Module):
    """A layer that is a function of each element; documented as that is."""

    _function: Any = None

    def __init_subclass__(cls) -> None:
        if "_function" in vars(cls):
            # The text without the signature that stands before it.
            cls.__doc__ = cls._function.__doc__.partition("\n\n")[2]

    def forward(self, x: Tensor) -> Tensor:
        return self._function(x)


class ReLU(_Activation):
    _function = staticmethod(_core.relu)


class GELU(_Activation):
    _function = staticmethod(_core.gelu)


class SiLU(_Activation):
    _function = staticmethod(_core.silu)


class Sigmoid(_Activation):
    _function = staticmethod(_core.sigmoid)


class Tanh(_Activation):
    _function = staticmethod(_core.tanh)


class Softplus(_Activation):
    _function = staticmethod(_core.softplus)


class Identity(Module):
    """x itself, of any shape: what stands where a layer was taken out, as in PyTorch."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class _Options(Module):
    """A layer that is a function with fixed options."""

    _function: Any = None

    def __init__(self, **options: Any):
        super().__init__()
        object.__setattr__(self, "_names", tuple(options))
        self.__dict__.update(options)

    @property
    def options(self) -> dict:
        """What the layer was made with, by name."""
        return {name: self.__dict__[name] for name in self._names}

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._names:
            raise AttributeError(
                f"[{type(self).__name__}] options are fixed when a layer is made; got {name}"
            )
        super().__setattr__(name, value)

    def forward(self, x: Tensor) -> Tensor:
        return type(self)._function(x, **self.options)

    def extra_repr(self) -> str:
        return ", ".join(f"{k}={v}" for k, v in self.options.items())


class LeakyReLU(_Options):
    """x where x > 0, else slope * x; any shape. DTypeError for a slope that is no number. Source:
    Maas, Hannun and Ng, "Rectifier nonlinearities improve neural network acoustic models", 2013."""

    _function = staticmethod(_core.leaky_relu)

    def __init__(self, slope: float = 0.01):
        super().__init__(slope=number("LeakyReLU", "slope", slope))


class Softmax(_Options):
    """exp(x) / sum(exp(x)) along an axis; any shape. OutOfBoundsError for an axis x lacks. Source:
    Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990."""

    _function = staticmethod(_core.softmax)

    def __init__(self, axis: int = -1):
        super().__init__(axis=whole("Softmax", "axis", axis))


class MaxPool2d(_Options):
    """Largest element of each window of [N, C, H, W]; the stride is the kernel by default. Sizes are
    numbers or pairs, in pixels; errors and source as max_pool2d."""

    _function = staticmethod(_core.max_pool2d)

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0,
                 ceil_mode: bool = False):
        _core._MaxPool2d(kernel_size, stride, padding)
        super().__init__(kernel_size=kernel_size, padding=padding, ceil_mode=ceil_mode,
                         stride=kernel_size if stride is None else stride)


class AvgPool2d(_Options):
    """Mean of each window of [N, C, H, W]; the stride is the kernel by default. Sizes are numbers or
    pairs, in pixels; errors and source as avg_pool2d."""

    _function = staticmethod(_core.avg_pool2d)

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0,
                 ceil_mode: bool = False, count_include_pad: bool = True):
        _core._AvgPool2d(kernel_size, stride, padding)
        super().__init__(kernel_size=kernel_size, padding=padding, ceil_mode=ceil_mode,
                         stride=kernel_size if stride is None else stride,
                         count_include_pad=count_include_pad)


class AdaptiveAvgPool2d(_Options):
    """Mean over windows of [N, C, H, W] such that the result is [N, C, *output_size]; errors and
    source as adaptive_avg_pool2d."""

    _function = staticmethod(_core.adaptive_avg_pool2d)

    def __init__(self, output_size: Any):
        for size in output_size if isinstance(output_size, (tuple, list)) else (output_size,):
            whole("AdaptiveAvgPool2d", "output_size", size)
        super().__init__(output_size=output_size)


class Flatten(_Options):
    """The axes start_axis … end_axis as one: [N, C, H, W] -> [N, C H W] by default. OutOfBoundsError
    for axes x lacks; as in PyTorch."""

    _function = staticmethod(_core.flatten)

    def __init__(self, start_axis: int = 1, end_axis: int = -1):
        super().__init__(start_axis=whole("Flatten", "start_axis", start_axis),
                         end_axis=whole("Flatten", "end_axis", end_axis))


def _reduction(who: str, value: Any) -> str:
    if value not in ("mean", "sum", "none"):
        raise _core.RangeError(f"[{who}] no such reduction; got {value!r}; expected 'mean', 'sum' "
                               "or 'none'")
    return value


class CrossEntropyLoss(_Options):
    """cross_entropy as a module of (logits [N, C, ...], target [N, ...]), in nats; errors and source
    as there."""

    def __init__(self, label_smoothing: float = 0.0, reduction: str = "mean",
                 ignore_index: int = -100):
        who = "CrossEntropyLoss"
        super().__init__(label_smoothing=number(who, "label_smoothing", label_smoothing),
                         reduction=_reduction(who, reduction),
                         ignore_index=whole(who, "ignore_index", ignore_index))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return _core.cross_entropy(logits, target, **self.options)


class MSELoss(_Options):
    """mse_loss as a module of (a, b) of one shape; errors and source as there."""

    def __init__(self, reduction: str = "mean"):
        super().__init__(reduction=_reduction("MSELoss", reduction))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return _core.mse_loss(a, b, **self.options)

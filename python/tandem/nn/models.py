"""The nets of the experiments, and the ones everybody measures with."""

from __future__ import annotations

from typing import Any, Sequence

from .. import _core
from .._core import model_names
from .layers import _NativeModule
from .module import Module

__all__ = ["Model", "Net", "initialise", "lenet", "make_model", "model_names", "resnet", "resnet152",
           "resnet18", "resnet34", "resnet50", "vgg16", "vgg_cifar"]

_ROW_MAJOR = _core.MemoryFormat.contiguous


class Net(_NativeModule):
    """A net that C++ made. Its parameters are found by their paths ("layer1.0.conv1.weight")."""


class Model(Net):
    """A net by name, with what must be known to feed it: `input_shape` (C, H, W), `classes`.

    It is one module: its layers are C++'s. Their parameters have paths ("0.weight"), and summary()
    lists them, but modules(), hooks and get_submodule() stop at the net. RangeError for an unknown
    name."""

    def __init__(self, name: str, classes: int | None = None, layout: Any = None,
                 dtype: Any = None, device: Any = None, generator: Any = None):
        super().__init__(_core._model, name, classes, layout or _ROW_MAJOR, dtype, device,
                         generator)
        self.name = name

    def _take(self, made: Any) -> None:
        super()._take(made["net"])
        self.input_shape, self.classes = made["input"], made["classes"]


def make_model(name: str, **options: Any) -> Model:
    """One of model_names(): "lenet", "vgg-cifar", "resnet18-cifar", "resnet50", …"""
    return Model(name, **options)


# What the nets below have in common: `layout` is that of the convolutions' weights, `generator` that
# of the initial values.


def lenet(*, init: str = "fan_in_uniform", dropout: str = "after_relu",
          relu_after_pool: bool = False, layout: _core.MemoryFormat = _ROW_MAJOR, dtype: Any = None,
          device: Any = None, generator: Any = None) -> Net:
    """MNIST net: [N, 1, 28, 28] -> [N, 10]. Twice conv 5x5 (32, 64), ReLU, max-pool 2; then 1024
    units, ReLU, dropout 0.5; then 10. 3,274,634 parameters.

    The defaults are the net as described; the rest is what frameworks did differently.
    init: see initialise(). dropout: "after_relu", "before_relu" (of the 1024 units) or "none".
    relu_after_pool: the same values for a quarter of the work.
    RangeError for other names. Source: LeCun et al., "Gradient-based learning applied to document
    recognition", 1998 (its ancestor).
    """
    return Net(_core._lenet, init, dropout, relu_after_pool, layout, dtype, device, generator)


def vgg_cifar(*, init: str = "fan_in_uniform", dropout: str = "after_relu",
              relu_after_pool: bool = False, layout: _core.MemoryFormat = _ROW_MAJOR,
              dtype: Any = None, device: Any = None, generator: Any = None) -> Net:
    """CIFAR-10 net: [N, 3, 32, 32] -> [N, 10]. Two groups (50, 100) of two conv 3x3 + ReLU, max-pool
    2, dropout 0.25; then 512 units, ReLU, dropout 0.5; then 10. 3,441,592 parameters. Options and
    errors as lenet(); dropout "none" leaves out all three."""
    return Net(_core._vgg_cifar, init, dropout, relu_after_pool, layout, dtype, device, generator)


def resnet(blocks: Sequence[int] = (2, 2, 2, 2), bottleneck: bool = False, classes: int = 1000,
           width: int = 64, channels: int = 3, small_input: bool = False, zero_last: bool = False,
           layout: _core.MemoryFormat = _ROW_MAJOR, dtype: Any = None, device: Any = None,
           generator: Any = None) -> Net:
    """Residual net: [N, channels, H, W] -> [N, classes]. Convolutions start Kaiming-normal (fan
    out); names of parameters are those of torchvision's models.

    blocks: in each group; a group halves the size, but the first.
    bottleneck: blocks of 1x1, 3x3 (which has the stride), 1x1 (four times as wide at the end).
    width: channels of the first group; each of the others has twice those of the one before.
    small_input: for 32x32 images: a 3x3 convolution to begin with and no max-pool, instead of 7x7
    with stride 2 and a max-pool.
    zero_last: the scale of each block's last normalisation starts at 0, so that a block starts as
    the identity.
    RangeError without a group or for an empty one, ShapeError for sizes that make no sense. Source:
    He et al., "Deep residual learning for image recognition", 2016.
    """
    blocks = tuple(blocks) if isinstance(blocks, list) else blocks  # kept, to be made again
    return Net(_core._resnet, blocks, bottleneck, classes, width, channels, small_input, zero_last,
               layout, dtype, device, generator)


def resnet18(classes: int = 1000, small_input: bool = False, **options: Any) -> Net:
    """resnet() of 18 layers: 11,689,512 parameters; 11,173,962 for 32x32 and 10 classes. [N, 3, H, W] ->
    [N, classes]; `options`, errors and source are resnet()'s."""
    return _of_layers(18, classes, small_input=small_input, **options)


def resnet34(classes: int = 1000, **options: Any) -> Net:
    """resnet() of 34 layers: 21,797,672 parameters. [N, 3, H, W] ->
    [N, classes]; `options`, errors and source are resnet()'s."""
    return _of_layers(34, classes, **options)


def resnet50(classes: int = 1000, **options: Any) -> Net:
    """resnet() of 50 layers, with bottlenecks: 25,557,032 parameters. [N, 3, H, W] ->
    [N, classes]; `options`, errors and source are resnet()'s."""
    return _of_layers(50, classes, **options)


def resnet152(classes: int = 1000, **options: Any) -> Net:
    """resnet() of 152 layers, with bottlenecks: 60,192,808 parameters. [N, 3, H, W] ->
    [N, classes]; `options`, errors and source are resnet()'s."""
    return _of_layers(152, classes, **options)


def _of_layers(layers: int, classes: int, **options: Any) -> Net:
    blocks, bottleneck = _core._resnet_blocks(layers)
    return resnet(blocks, bottleneck, classes, **options)


def vgg16(classes: int = 1000, *, layout: _core.MemoryFormat = _ROW_MAJOR, dtype: Any = None,
          device: Any = None, generator: Any = None) -> Net:
    """[N, 3, 224, 224] -> [N, classes], configuration D: 138,357,544 parameters. Source: Simonyan
    and Zisserman, "Very deep convolutional networks for large-scale image recognition", 2015."""
    return Net(_core._vgg16, classes, layout, dtype, device, generator)


def initialise(net: Module, init: str, generator: Any = None) -> None:
    """Overwrites the weights and biases of every Linear and Conv2d in `net`.

    init: "fan_in_uniform" (both uniform in ±1/sqrt(fan in), the layers' own default),
    "glorot_uniform" (nn.init.xavier_uniform_, biases 0) or "truncated_normal" (standard deviation
    0.1, biases 0.1, as in TensorFlow's tutorials). RangeError for another; DTypeError for no Module.
    """
    if not isinstance(net, Module):
        raise _core.DTypeError(f"[initialise] net does not fit; got {net!r}; expected a Module")
    natives = [m._native for m in net.modules() if isinstance(m, _NativeModule)]
    _core._initialise(natives, init, generator)

"""The nets of the experiments, and the ones everybody measures with."""

from __future__ import annotations

from typing import Any

from .. import _core
from .._core import model_names
from .layers import _NativeModule

__all__ = ["Model", "make_model", "model_names"]


class Model(_NativeModule):
    """A net by name, with what must be known to feed it: `input_shape` (C, H, W), `classes`.

    It is one module: its layers are C++'s. Their parameters have paths ("0.weight"), and summary()
    lists them, but modules(), hooks and get_submodule() stop at the net. RangeError for an unknown
    name."""

    def __init__(self, name: str, classes: int | None = None, layout: Any = None,
                 dtype: Any = None, device: Any = None, generator: Any = None):
        super().__init__(_core._model, name, classes, layout or _core.MemoryFormat.contiguous,
                         dtype, device, generator)
        self.name = name

    def _take(self, made: Any) -> None:
        super()._take(made["net"])
        self.input_shape, self.classes = made["input"], made["classes"]


def make_model(name: str, **options: Any) -> Model:
    """One of model_names(): "lenet", "vgg-cifar", "resnet18-cifar", "resnet50", …"""
    return Model(name, **options)

"""Networks: modules with named parameters."""

from . import functional, init, models, utils
from .containers import ModuleDict, ModuleList, Sequential
from .layers import (
    GELU,
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    CrossEntropyLoss,
    Dropout,
    Embedding,
    Flatten,
    Identity,
    LayerNorm,
    LeakyReLU,
    Linear,
    MaxPool2d,
    MSELoss,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from .models import Model, make_model, model_names
from .module import Module, Parameter
from .._core import cross_entropy, mse_loss, nll_loss

__all__ = [
    "GELU", "AdaptiveAvgPool2d", "AvgPool2d", "BatchNorm1d", "BatchNorm2d", "Conv2d",
    "ConvTranspose2d", "CrossEntropyLoss", "Dropout", "Embedding", "Flatten", "Identity",
    "LayerNorm", "LeakyReLU", "Linear", "MSELoss", "MaxPool2d", "Model", "Module", "ModuleDict",
    "ModuleList", "Parameter", "ReLU", "Sequential", "SiLU", "Sigmoid", "Softmax", "Softplus",
    "Tanh", "cross_entropy", "functional", "init", "make_model", "model_names", "models",
    "mse_loss", "nll_loss", "utils",
]

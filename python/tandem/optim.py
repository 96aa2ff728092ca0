"""Optimisers, learning-rate schedules and loss scaling."""

from ._core import (
    SGD,
    Adam,
    AdamW,
    CosineAnnealingLR,
    GradScaler,
    LinearLR,
    LinearWarmup,
    MultiStepLR,
    OneCycleLR,
    Optimizer,
    Schedule,
    StepLR,
)

__all__ = ["SGD", "Adam", "AdamW", "CosineAnnealingLR", "GradScaler", "LinearLR", "LinearWarmup",
           "MultiStepLR", "OneCycleLR", "Optimizer", "Schedule", "StepLR"]

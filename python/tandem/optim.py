"""Optimisers, learning-rate schedules and loss scaling."""

from typing import Any

from . import _core
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
    ScheduleRule,
    StepLR,
)

__all__ = ["SGD", "Adam", "AdamW", "CosineAnnealingLR", "GradScaler", "LinearLR", "LinearWarmup",
           "MultiStepLR", "OneCycleLR", "Optimizer", "Schedule", "ScheduleRule", "StepLR"]


def _refuse_copies(self: Any) -> Any:
    # A copy would change the same parameters.
    raise _core.DTypeError(
        f"[{type(self).__name__}] it belongs to its parameters, and is neither copied nor pickled; "
        "got copy or pickle; expected state_dict() and load_state_dict() of a new one")


for _kind in (Optimizer, Schedule, GradScaler):
    _kind.__reduce__ = _refuse_copies  # type: ignore[method-assign]

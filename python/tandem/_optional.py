"""Packages that only some of Tandem needs."""

from __future__ import annotations

import importlib
from typing import Any


def optional(module: str, what: str, extra: str) -> Any:
    """The module, or an ImportError that says how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as e:
        package = module.split(".")[0]
        raise ImportError(
            f"[{what}] needs the package {package}, which is not installed; "
            f"pip install {package} (or tandem[{extra}])",
            name=package,
        ) from e

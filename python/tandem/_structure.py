"""Values in tuples, lists and dicts."""

from __future__ import annotations

from typing import Any, Callable, Iterator


def mapped(function: Callable[[Any], Any], value: Any, leaves: tuple = ()) -> Any:
    """The same structure with function(leaf) at its leaves: all that is no tuple, named tuple, list
    or dict, or is of one of the types in `leaves`."""
    if not isinstance(value, leaves):
        if isinstance(value, dict):
            return {k: mapped(function, v, leaves) for k, v in value.items()}
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*(mapped(function, v, leaves) for v in value))
        if isinstance(value, (tuple, list)):
            return type(value)(mapped(function, v, leaves) for v in value)
    return function(value)


def leaves(value: Any) -> Iterator[Any]:
    """The leaves that mapped() would find, in order."""
    found: list = []
    mapped(found.append, value)
    return iter(found)


def called(net: Callable, x: Any) -> Any:
    """net(x); net(*x) where x is a tuple or list."""
    return net(*x) if isinstance(x, (tuple, list)) else net(x)

"""Hooks of modules."""

from __future__ import annotations

from typing import Any, Callable, Iterator

from .. import _core
from .._capture import note_change
from .._core import Tensor
from .._structure import mapped


class Hook:
    """A registered hook; remove() takes it away."""

    def __init__(self, hooks: dict, key: int):
        self._hooks, self._key = hooks, key

    def remove(self) -> None:
        """The hook is not called any more."""
        if self._hooks.pop(self._key, None) is not None:
            note_change("hooks")


class Passage:
    """One call of a module whose backward hooks wait for the gradients: its tensors pass through
    functions that give them on as they are, in both directions."""

    def __init__(self, module: Any):
        self._module = module
        self._given: list[bool] = []  # of each tensor argument, whether it wants a gradient
        self._grad_output: tuple = ()

    def _through(self, tensors: list, backward: Callable) -> Iterator[Tensor]:
        name = type(self._module).__name__
        return iter(_core._custom(name, lambda t: (list(t), []), lambda g, _: backward(g), tensors))

    def into(self, args: tuple) -> tuple:
        """The arguments of forward(), whose gradients come past here."""
        tensors = [a for a in args if isinstance(a, Tensor)]
        self._given = [t.requires_grad for t in tensors]
        wanting = [t for t in tensors if t.requires_grad]
        if not wanting:
            return args
        passed = self._through(wanting, self._call_hooks)
        return tuple(next(passed) if isinstance(a, Tensor) and a.requires_grad else a for a in args)

    def out(self, result: Any) -> Any:
        """The result of forward(), whose gradients come past here."""
        tensors: list[Tensor] = []
        mapped(lambda t: tensors.append(t) if isinstance(t, Tensor) and t.requires_grad else None,
               result)
        if not tensors:
            return result
        passed = self._through(tensors, self._note)
        return mapped(lambda t: next(passed) if isinstance(t, Tensor) and t.requires_grad else t,
                      result)

    def _note(self, grads: list) -> list:
        self._grad_output = tuple(grads)
        if not any(self._given):
            self._call_hooks([])
        return grads

    def _call_hooks(self, grads: list) -> list:
        of_wanting = iter(grads)
        full = tuple(next(of_wanting) if wants else None for wants in self._given)
        for hook in list(self._module._backward_hooks.values()):
            changed = hook(self._module, full, self._grad_output)
            if changed is not None:
                full = changed if isinstance(changed, tuple) else (changed,)
        if len(full) != len(self._given):
            raise _core.AutogradError(
                f"[{type(self._module).__name__}] a backward hook returns a gradient for each "
                f"tensor argument; got {len(full)}; expected {len(self._given)}")
        return [g for g, wants in zip(full, self._given) if wants]

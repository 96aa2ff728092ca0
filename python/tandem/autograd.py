"""Gradients beyond Tensor.backward()."""

from __future__ import annotations

from typing import Any, Sequence

from . import _core
from ._core import HookHandle, backward, checkpoint, grad, gradcheck, gradgradcheck, register_hook

__all__ = ["Context", "Function", "HookHandle", "backward", "checkpoint", "grad", "gradcheck",
           "gradgradcheck", "register_hook"]


class Context:
    """What forward keeps for backward."""

    saved_tensors: tuple

    def __init__(self) -> None:
        self.saved_tensors = ()

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # type checkers take any name

    def save_for_backward(self, *tensors: _core.Tensor) -> None:
        """Keeps tensors; attributes of the context keep everything else. A result that is an
        attribute keeps its history, and itself, alive until backward has run."""
        self.saved_tensors = tensors


class Function:
    """A function with a gradient of one's own.

    class Square(td.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 2 * x * g

    y = Square.apply(x)

    forward runs without a tape; backward gets the gradients of the results (zeros for one that
    nobody used) and returns those of the tensor arguments, or of all (None: no gradient), made of
    Tandem's functions, so that it can itself be differentiated.
    """

    @staticmethod
    def forward(ctx: Context, *args: Any) -> Any:
        """The result, a tensor or a tuple of them, of what apply() was given."""
        raise NotImplementedError

    @staticmethod
    def backward(ctx: Context, *grads: Any) -> Any:
        """The gradient of each tensor argument, None for none, from those of the results."""
        raise NotImplementedError

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Runs forward, and backward when gradients flow back."""
        ctx = Context()
        made: list = []
        at = [i for i, a in enumerate(args) if isinstance(a, _core.Tensor)]
        # What the tape is to keep of the tensors is for forward to say.
        others = [None if isinstance(a, _core.Tensor) else a for a in args]
        single = [True]

        def forward(inputs: Sequence[_core.Tensor]) -> tuple:
            full = list(others)
            for i, t in zip(at, inputs):
                full[i] = t
            out = cls.forward(ctx, *full)
            single[0] = isinstance(out, _core.Tensor)
            made[:] = [(t.shape, t.dtype, t.device) for t in ([out] if single[0] else out)
                       if isinstance(t, _core.Tensor)]
            saved, ctx.saved_tensors = ctx.saved_tensors, ()
            return ([out] if single[0] else list(out)), list(saved)

        def backward(grads: Sequence[_core.Tensor], saved: Sequence[_core.Tensor]) -> list:
            ctx.saved_tensors = tuple(saved)
            full = [_core.zeros(*like) if g is None else g for g, like in zip(grads, made)]
            out = cls.backward(ctx, *full)
            ctx.saved_tensors = ()
            out = [out] if not isinstance(out, (tuple, list)) else list(out)
            if len(out) >= len(others) and all(g is None for g in out[len(others):]):
                out = [out[i] for i in at]  # PyTorch's way: one for each argument
            if len(out) != len(at):
                raise _core.AutogradError(
                    f"[{cls.__name__}] backward must return a gradient for each tensor argument; "
                    f"got {len(out)}; expected {len(at)}"
                )
            return out

        out = _core._custom(cls.__name__, forward, backward, [args[i] for i in at])
        return out[0] if single[0] else tuple(out)

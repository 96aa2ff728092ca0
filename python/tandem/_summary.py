"""What a network consists of."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Iterator, Sequence

from . import _core
from ._core import Tensor
from ._scopes import no_grad
from ._structure import called, mapped
from .nn.layers import _NativeModule
from .nn.module import Module

__all__ = ["LayerInfo", "Summary", "summary"]


@dataclass
class LayerInfo:
    """A module of a network. What its modules are worth is not counted again in it."""

    path: str  # "features.0"; "" of the network itself
    kind: str  # "Conv2d(1, 32, 5, padding=2)"
    output_shape: "tuple | None"  # of its last call; None: it was not called
    parameters: int  # of its own
    trainable: int
    flops: float  # of its own operations in one forward pass


@dataclass
class Summary:
    """What summary() found; prints as a table."""

    layers: list[LayerInfo]
    # That of the batch, or a tuple or dict of such; None: the network was not run.
    input_shape: Any
    parameter_bytes: int = 0
    buffers: int = 0

    @property
    def parameters(self) -> int:
        """Number of parameter values."""
        return sum(x.parameters for x in self.layers)

    @property
    def trainable(self) -> int:
        """Number of those that want a gradient."""
        return sum(x.trainable for x in self.layers)

    @property
    def flops(self) -> float:
        """Floating-point operations of one forward pass; a multiply-add counts as two."""
        return sum(x.flops for x in self.layers)

    def __str__(self) -> str:
        rows = [("", "module", "output", "parameters", "MFLOP")]
        for x in self.layers:
            shape = "" if x.output_shape is None else str(list(x.output_shape))
            rows.append((x.path or "(all)", x.kind, shape,
                         f"{x.parameters:,}" if x.parameters else "",
                         f"{x.flops / 1e6:,.3f}" if x.flops else ""))
        widths = [max(len(r[i]) for r in rows) for i in range(5)]
        lines = [
            "  ".join(cell.rjust(w) if i > 2 else cell.ljust(w)
                      for i, (cell, w) in enumerate(zip(r, widths))).rstrip()
            for r in rows
        ]
        rule = "-" * max(len(line) for line in lines)
        fixed = self.parameters - self.trainable
        ran = "no input_shape was given: what needs one is not known"
        if self.input_shape is not None:
            ran = (f"input {_shown(self.input_shape)}, {self.flops / 1e6:,.3f} MFLOP forward "
                   "(a multiply-add is two)")
        return "\n".join([
            lines[0], rule, *lines[1:], rule, ran,
            f"{self.parameters:,} parameters" + (f", {fixed:,} of them fixed" if fixed else "")
            + f", {self.parameter_bytes / 1e6:,.2f} MB; {self.buffers:,} values in buffers",
        ])

    __repr__ = __str__


def _shown(shapes: Any) -> str:
    if isinstance(shapes, dict):
        return ", ".join(f"{k}: {_shown(v)}" for k, v in shapes.items())
    if any(not isinstance(s, int) for s in shapes):
        return ", ".join(map(_shown, shapes))
    return str(list(shapes))


@contextmanager
def recorded(net: Module, keep: bool = False) -> Iterator[tuple[Any, dict]]:
    """Notes the operations of what runs inside under the paths of the modules that make them. Gives
    the recorder, and the shapes of the modules' last results by path, as they come in."""
    recorder = _core._CallRecorder(keep)
    shapes: dict[str, tuple] = {}
    open_: list[str] = []
    hooks = []

    def entered(path: str) -> Any:
        def hook(module: Module, args: tuple) -> None:
            open_.append(path)
            recorder.set_path(path)

        return hook

    def left(path: str) -> Any:
        def hook(module: Module, args: tuple, result: Any) -> None:
            open_.pop()
            recorder.set_path(open_[-1] if open_ else "")
            if isinstance(result, Tensor):
                shapes[path] = result.shape

        return hook

    try:
        for path, module in net.named_modules():
            hooks.append(module.register_forward_pre_hook(entered(path)))
            hooks.append(module.register_forward_hook(left(path)))
        recorder.enter()
        yield recorder, shapes
    finally:
        recorder.exit()
        for hook in hooks:
            hook.remove()


def example_input(net: Module, input_shape: Sequence[int] | None, dtype: Any,
                  batch_size: int) -> "Tensor | None":
    """Zeros that the network can be called with; None where no shape is given or known."""
    if input_shape is None:
        input_shape = getattr(net, "input_shape", None)
    if input_shape is None:
        return None
    first = next(iter(net.parameters()), None)
    device = None if first is None else first.device
    if dtype is None:
        dtype = _core.float32 if first is None else first.dtype
    return _core.zeros((batch_size, *input_shape), dtype=dtype, device=device)


def summary(net: Module, input_shape: Sequence[int] | None = None, batch_size: int = 1,
            dtype: Any = None) -> Summary:
    """The modules of a network with the shapes of their results, their parameters and what they
    compute. Runs it once, on zeros, in evaluation mode.

    input_shape: of one sample, without the batch: (C, H, W). A td.nn.Model knows its own. Without
        one the network is not run, and only modules and parameters are listed; Model.summary()
        knows the shape of what fit() was given.
    dtype: of the input; that of the first parameter if not given (int64 for ids).
    ShapeError for a shape that does not fit.

    >>> import tandem as td
    >>> s = td.summary(td.nn.Sequential(td.nn.Linear(3, 2), td.nn.ReLU()), (3,))
    >>> s.parameters, s.layers[1].output_shape
    (8, (1, 2))
    """
    x = example_input(net, input_shape, dtype, batch_size)
    try:
        return summary_of(net, x)
    except _core.ShapeError as e:
        raise _core.ShapeError(
            "[summary] the network takes no samples of this shape; got "
            f"{tuple(input_shape or ())}, in batches of {batch_size}; expected that of one sample, "
            f"without the batch: {e}") from e


def evaluated(net: Module, x: Any, keep: bool = False) -> tuple[Any, dict, Any]:
    """The operations of called(net, x) in evaluation mode, the shapes of its modules' results by
    path, and its result."""
    was_training = net.training
    net.eval()
    try:
        with no_grad(), recorded(net, keep) as (recorder, shapes):
            result = called(net, x)
    finally:
        net.train(was_training)
    return recorder.calls(), shapes, result


def summary_of(net: Module, x: Any) -> Summary:
    """What summary() gives, for an input; None: for none."""
    calls, shapes, _ = ([], {}, None) if x is None else evaluated(net, x)
    own: dict[str, float] = {}
    for c in calls:
        own[c["path"]] = own.get(c["path"], 0.0) + c["flops"]

    layers: list[LayerInfo] = []
    seen: set[int] = set()
    for path, kind, parameters in _modules(net):
        fresh = [p for p in parameters if hash(p) not in seen]
        seen.update(hash(p) for p in fresh)
        shape = shapes.get(path)
        if shape is None:
            below = [c for c in calls if c["path"] == path or c["path"].startswith(path + ".")]
            shape = below[-1]["outputs"][0][0] if below else None
        layers.append(LayerInfo(path, kind, shape, sum(p.size for p in fresh),
                                sum(p.size for p in fresh if p.requires_grad), own.pop(path, 0.0)))
    # Operations between modules belong to the network itself.
    layers[0].flops += sum(own.values())
    return Summary(layers, None if x is None else mapped(lambda t: t.shape, x),
                   sum(p.size * p.dtype.itemsize for p in net.parameters()),
                   sum(b.size for b in net.buffers()))


def _modules(net: Module) -> Iterator[tuple[str, str, list[Tensor]]]:
    # (path, what it is, its own parameters), those of C++ opened up.
    for path, module in net.named_modules():
        if not isinstance(module, _NativeModule):
            kind = f"{type(module).__name__}({module.extra_repr()})"
            yield path, kind, list(module._parameters.values())
            continue
        mine = module._parameters
        for below, kind in module._native.modules():
            prefix = below + "." if below else ""
            own = [t for name, t in mine.items()
                   if name.startswith(prefix) and "." not in name[len(prefix):]]
            yield ".".join(p for p in (path, below) if p), kind, own

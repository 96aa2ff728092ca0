"""Model: a network with its optimiser, loss and metrics, and the loops around them."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Mapping
from typing import Any, Callable, Iterable, Iterator, NamedTuple, Sequence

from . import _core, metrics as _metrics
from ._arguments import whole
from ._batches import Source, batches_of, inputs_of, split
from ._core import Tensor
from ._files import whole_file
from ._scopes import autocast as _autocast, no_grad
from ._summary import Summary, example_input, summary as _summary, summary_of
from ._structure import called, leaves, mapped
from .callbacks import Callback, History, _CallbackList
from .graph import compile as _compile
from .metrics import Mean, Metric
from .nn.module import Module
from .serialization import load as _load, save as _save

__all__ = ["Model"]

_LOSSES: dict[str, Callable] = {
    "cross_entropy": _core.cross_entropy,
    "mse": _core.mse_loss,
    "nll": _core.nll_loss,
}
_OPTIMIZERS: dict[str, Callable] = {
    "sgd": _core.SGD,
    "adam": _core.Adam,
    "adamw": _core.AdamW,
}


def _named(kind: str, table: dict, name: str) -> Any:
    if name not in table:
        raise _core.RangeError(
            f"[Model] no {kind} of this name; got {name!r}; expected {sorted(table)}"
        )
    return table[name]


def _at_least(who: str, **limits: "tuple[Any, int]") -> None:
    """Checks whole numbers, by name: (value, least). Of steps None is allowed."""
    for name, (value, least) in limits.items():
        if (value is not None or "steps" not in name) and whole(who, name, value) < least:
            raise _core.RangeError(f"[{who}] {name} is out of range; got {value}; expected {least} "
                                   "or more")


class _Like(NamedTuple):
    """What is remembered of an input."""

    shape: tuple
    dtype: Any


class _Logs(Mapping):
    """Losses and metrics by name. What a metric is worth is worked out when it is asked for, so
    that a loop over batches waits for the device only where somebody looks."""

    def __init__(self, sources: "dict[str, Metric]"):
        self._sources = sources

    def __getitem__(self, name: str) -> Any:
        return self._sources[name].compute()

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


def _steps(net: Module, optimizer: Any, loss: Any, cast: Callable,
           scaler: Any) -> tuple[Callable, Callable, Callable]:
    # Functions that know nothing of the Model: a compiled one keeps what it refers to alive from
    # C++, where Python's collector finds no cycles.
    def forward(x: Any) -> Any:
        with cast():
            return called(net, x)

    def train(x: Any, y: Any) -> tuple[Tensor, Any]:
        optimizer.zero_grad()
        with cast():
            pred = forward(x)
            value = loss(pred, y)
            if scaler is None:
                value.backward()
                optimizer.step()
            else:
                scaler.scale(value).backward()
                scaler.step(optimizer)
                scaler.update()
        return value, pred

    def test(x: Any, y: Any) -> tuple[Tensor, Any]:
        with cast():
            pred = forward(x)
            return loss(pred, y), pred

    return train, test, forward


class Model:
    """A network with what trains it.

    model = td.Model(net, optimizer=td.optim.Adam(net.parameters()), loss="cross_entropy",
                     metrics=["accuracy"])
    model.fit(x, y, epochs=5, validation_data=(x_test, y_test))
    model.evaluate(x_test, y_test)  # {"loss": 0.04, "accuracy": 0.987}
    model.predict(x_test)

    net: a Module; called as net(x), or net(*x) where x is a tuple or list. Where x is a dict of
        arrays, the net gets a dict of batches.
    optimizer: an Optimizer, "sgd", "adam" or "adamw" with its own defaults, or a function of the
        list of parameters that want a gradient; None for a model that is only evaluated.
    loss: function(pred, target) -> scalar, or "cross_entropy" (target: labels int64 [N]), "mse",
        "nll".
    metrics: names, functions and Metrics; see tandem.metrics.get().
    compile: training and evaluation steps are captured once for each shape of batch and replayed.
        False runs them eagerly, with the same numbers bit for bit; a dict gives options of
        tandem.compile.
    autocast: bfloat16 or float16: products and convolutions compute in that type, see
        tandem.autocast. With float16 the loss is scaled so that small gradients do not become 0:
        `model.scaler` is a GradScaler then (Micikevicius et al. 2018, arXiv:1710.03740).

    Batches are moved to the device of the network's parameters. RangeError for unknown names.
    """

    def __init__(self, net: Module, optimizer: Any = "adam", loss: Any = "cross_entropy",
                 metrics: Sequence[Any] = (), compile: "bool | dict" = True, autocast: Any = None):
        if not isinstance(net, Module):
            raise _core.DTypeError(f"[Model] net is a Module; got {net!r}; expected "
                                   "nn.Sequential(…), say")
        self._net = net
        if isinstance(optimizer, str):
            optimizer = _named("optimizer", _OPTIMIZERS, optimizer)
        if optimizer is not None and not isinstance(optimizer, _core.Optimizer):
            if not callable(optimizer):
                raise _core.DTypeError(f"[Model] optimizer does not fit; got {optimizer!r}; expected "
                                       f"an Optimizer, one of {sorted(_OPTIMIZERS)}, or None")
            optimizer = optimizer([p for p in net.parameters() if p.requires_grad])
        self._optimizer = optimizer
        self._loss = _named("loss", _LOSSES, loss) if isinstance(loss, str) else loss
        if not callable(self._loss):
            raise _core.DTypeError(f"[Model] loss does not fit; got {loss!r}; expected a function of "
                                   f"(pred, target), or one of {sorted(_LOSSES)}")
        several = hasattr(metrics, "__iter__") and not (
            isinstance(metrics, (str, Metric)) or callable(metrics))
        self.metrics: list[Metric] = [_metrics.get(m) for m in (metrics if several else [metrics])]
        names = ["loss", *(m.name for m in self.metrics)]
        if len(set(names)) != len(names):
            raise _core.RangeError(f"[Model] metrics must have different names; got {names[1:]}; "
                                   "expected each once, and none called loss")
        self.history = History()
        self.stop_training = False
        self._input_like: Any = None  # what the network was given last
        self._mean_loss = Mean("loss")
        self._sources: dict[str, Metric] = {"loss": self._mean_loss}
        self._sources.update((m.name, m) for m in self.metrics)
        if not isinstance(compile, (bool, dict)):
            raise _core.DTypeError(f"[Model] compile does not fit; got {compile!r}; expected True, "
                                   "False or a dict of td.compile()'s options")
        options = compile if isinstance(compile, dict) else {}
        self.compiled = compile is not False
        cast: Callable = contextlib.nullcontext
        self.scaler: Any = None
        if autocast is not None:
            cast = functools.partial(_autocast, autocast)
            try:
                kind = _core._conversion(autocast)
            except _core.Error:
                kind = None
            if kind is not _core.bfloat16 and kind is not _core.float16:
                raise _core.RangeError(f"[Model] autocast does not fit; got {autocast!r}; expected "
                                       "bfloat16 or float16")
            if kind is _core.float16 and self._optimizer is not None:
                device = next((p.device for p in net.parameters()), None)
                self.scaler = _core.GradScaler(device=device)
        steps = _steps(net, self._optimizer, self._loss, cast, self.scaler)
        self._plain_train = steps[0]
        self._train, self._test, self._forward = (
            _compile(f, **options) if self.compiled else f for f in steps
        )

    @property
    def net(self) -> Module:
        """The network; fixed, as the optimiser and the loss are: the steps are made of them."""
        return self._net

    @property
    def optimizer(self) -> Any:
        """The Optimizer, or None."""
        return self._optimizer

    @property
    def loss(self) -> Callable:
        """The loss, a function of (pred, target)."""
        return self._loss

    # -------------------------------------------------------------------------------- steps

    def train_step(self, x: Any, y: Any) -> Tensor:
        """Forward, backward and update on one batch; its loss, a scalar tensor.

        AutogradError without an optimizer."""
        return self._trained(x, y)[0]

    def _trained(self, x: Any, y: Any) -> tuple[Tensor, Any]:
        if self.optimizer is None:
            raise _core.AutogradError("[Model] training needs an optimizer; got none; expected "
                                      "Model(net, optimizer=…)")
        loss, pred = self._train(self._input(x), self._place(y))
        return loss.detach(), pred

    def _place(self, a: Any) -> Any:
        p = next((p for _, p in self._net.named_parameters()), None)

        def placed(leaf: Any) -> Tensor:
            t = leaf if isinstance(leaf, Tensor) else _core._tensor(leaf)
            if p is None:
                return t
            if t is not leaf and t.dtype.is_floating_point:
                t = t.astype(p.dtype)  # NumPy makes float64 of everything
            return t if t.device == p.device else t.to(p.device)

        return mapped(placed, a)

    def _input(self, x: Any) -> Any:
        placed = self._place(x)
        self._input_like = mapped(lambda t: _Like(t.shape, t.dtype), placed)
        return placed

    def _example(self, batch_size: int) -> Any:
        # Zeros of the network's own input_shape, or like what it was given last; None if neither is
        # known.
        own = example_input(self.net, None, None, batch_size)
        if own is not None or self._input_like is None:
            return own

        def zeros(like: _Like) -> Tensor:
            return _core.zeros((batch_size, *like.shape[1:]), dtype=like.dtype)

        return self._place(mapped(zeros, self._input_like, (_Like,)))

    def _begin(self) -> None:
        for source in self._sources.values():
            source.reset()

    def _note(self, loss: Tensor, pred: Any, y: Any) -> None:
        sizes = [t.shape[0] for t in leaves(y) if isinstance(t, Tensor) and t.ndim]
        n = sizes[0] if sizes else 1
        self._mean_loss.update(loss, n)
        if self.metrics:
            with no_grad():
                pred = pred.detach() if isinstance(pred, Tensor) else pred
                for m in self.metrics:
                    m.update(pred, y)

    def _logs(self) -> dict:
        return {name: s.compute() for name, s in self._sources.items()}

    # ---------------------------------------------------------------------------------- fit

    def fit(self, x: Any, y: Any = None, epochs: int = 1, batch_size: int | None = None,
            validation_data: Any = None, callbacks: Iterable[Callback] = (), verbose: int = 1,
            shuffle: bool = True, seed: int = 0, steps_per_epoch: int | None = None,
            validation_steps: int | None = None, initial_epoch: int = 0) -> History:
        """Trains, and returns what was seen of each epoch (also kept as `model.history`).

        x, y: arrays or tensors [N, …] (or tuples and dicts of them) that are cut into batches of
            `batch_size` (32), in a new order each epoch that depends on (seed, epoch) alone. Or `x`
            alone: a Dataset of samples (x, y), batched in the same way; or a DataLoader or another
            iterable of batches (x, y), which takes no batch_size. A list has samples where a
            batch_size is given, else batches. Of an iterator without an end, `steps_per_epoch`
            batches are an epoch.
        validation_data: (x, y), a Dataset, or an iterable of batches, evaluated after each epoch
            (logged with "val_" before the names).
        verbose: 1 shows a progress bar (with tqdm; without it, and with 2, a line per epoch), 0
            nothing.
        initial_epoch: epochs before it count as done, to go on with what a checkpoint saved.

        Ctrl-C stops after the step that runs: callbacks end as after any training, `history` has
        every whole epoch, the model can be used and trained on, and KeyboardInterrupt goes on to
        the caller. ShapeError where x and y differ in length, RangeError where there is no batch and
        for numbers that make no sense, DTypeError for callbacks that are none and for data that
        gives no batches.
        """
        _at_least("fit", epochs=(epochs, 0), initial_epoch=(initial_epoch, 0),
                  steps_per_epoch=(steps_per_epoch, 1), validation_steps=(validation_steps, 1),
                  verbose=(verbose, 0))
        if verbose > 2:
            raise _core.RangeError(f"[fit] there is no such verbosity; got {verbose}; expected 0, "
                                   "1 or 2")
        if isinstance(callbacks, str) or not hasattr(callbacks, "__iter__"):
            callbacks = [callbacks]  # type: ignore[list-item]
        callbacks = list(callbacks)
        for c in callbacks:
            if not isinstance(c, Callback):
                raise _core.DTypeError(f"[fit] callbacks are Callbacks; got {c!r}; expected an "
                                       "object of a class derived from td.callbacks.Callback")
        source = Source(batches_of("fit", x, y, batch_size, 32, shuffle, seed), steps_per_epoch)
        validation = None if validation_data is None else Source(
            batches_of("fit", validation_data, None, None, batch_size or 32), validation_steps)
        self.history = History()
        self.stop_training = False
        every = _CallbackList([self.history, *callbacks], self, verbose,
                              {"epochs": epochs, "steps": source.steps})
        was_training = self.net.training
        try:
            every.on_train_begin()
            for epoch in range(initial_epoch, epochs):
                self._fit_epoch(epoch, source, every, validation)
                if self.stop_training:
                    break
        except BaseException:
            self.net.train(was_training)
            every.end(failed=True)
            raise
        self.net.train(was_training)
        every.end(failed=False)
        return self.history

    def _fit_epoch(self, epoch: int, source: Source, every: _CallbackList,
                   validation: "Source | None") -> None:
        if hasattr(source.data, "set_epoch"):
            source.data.set_epoch(epoch)
        self._begin()
        self.net.train()
        every.on_epoch_begin(epoch)
        live = _Logs(self._sources)
        start, n = time.perf_counter(), 0
        for batch in source.epoch():
            bx, by = split("fit", batch)
            every.on_batch_begin(n)
            by = self._place(by)
            loss, pred = self._trained(bx, by)
            self._note(loss, pred, by)
            every.on_batch_end(n, live)
            n += 1
            if self.stop_training:
                break
        if n == 0:
            raise _core.RangeError(f"[fit] the data has no batch left; got none in epoch {epoch}; "
                                   "expected one or more")
        logs = self._logs()
        logs["seconds"] = time.perf_counter() - start
        if validation is not None:
            logs.update(("val_" + k, v) for k, v in self._evaluate(validation).items())
        every.on_epoch_end(epoch, logs)

    # ----------------------------------------------------------------------------- evaluate

    def evaluate(self, x: Any, y: Any = None, batch_size: int | None = None,
                 steps: int | None = None) -> dict:
        """The loss and the metrics, by name, over arrays x and y, a Dataset (in batches of
        `batch_size`, 256) or an iterable of batches (x, y) (at most `steps` of them), in evaluation
        mode and without a tape. Data and errors as of fit()."""
        _at_least("evaluate", steps=(steps, 1))
        return self._evaluate(Source(batches_of("evaluate", x, y, batch_size, 256), steps))

    def _evaluate(self, source: Source) -> dict:
        was_training = self.net.training
        self.net.eval()
        self._begin()
        seen = 0
        try:
            with no_grad():
                for batch in source.epoch():
                    bx, by = split("evaluate", batch)
                    by = self._place(by)
                    loss, pred = self._test(self._input(bx), by)
                    self._note(loss, pred, by)
                    seen += 1
        finally:
            self.net.train(was_training)
        if not seen:
            raise _core.RangeError("[evaluate] the data has no batch; got none; expected one or more")
        return self._logs()

    def predict(self, x: Any, batch_size: int | None = None) -> Tensor:
        """The network's results for x [N, …] (or a tuple or dict of such), in batches of
        `batch_size` (256), in evaluation mode: [N, …].

        x may also be a Dataset or an iterable of batches, of which (x, y) pairs lend their x."""
        was_training = self.net.training
        self.net.eval()
        out = []
        try:
            with no_grad():
                for bx in inputs_of(x, batch_size, 256):
                    out.append(self._forward(self._input(bx)).detach())
        finally:
            self.net.train(was_training)
        if not out:
            raise _core.RangeError("[predict] the data has no batch; got none; expected one or more")
        return out[0] if len(out) == 1 else _core.concat(out, 0)

    # -------------------------------------------------------------------------------- state

    def state_dict(self) -> dict:
        """What training changes of the network, the optimiser and the scaler, by name: "net.…",
        "optimizer.…"; the live tensors. Not the generators: training that goes on from a file draws
        other random numbers (dropout, the order of samples) than training that was not stopped."""
        state = {f"net.{k}": v for k, v in self.net.state_dict().items()}
        if self.optimizer is not None:
            state.update((f"optimizer.{k}", v) for k, v in self.optimizer.state_dict().items())
        if self.scaler is not None:
            state.update((f"scaler.{k}", v) for k, v in self.scaler.state_dict().items())
        return state

    def load_state_dict(self, state: Mapping) -> None:
        """Copies in what state_dict() gave. RangeError or ShapeError where it does not fit."""
        def part(prefix: str) -> dict:
            return {k[len(prefix):]: v for k, v in state.items() if k.startswith(prefix)}

        self.net.load_state_dict(part("net."))
        if self.optimizer is not None:
            self.optimizer.load_state_dict(part("optimizer."))
        # What was trained in another type has none.
        if self.scaler is not None and part("scaler."):
            self.scaler.load_state_dict(part("scaler."))

    def save(self, path: Any) -> None:
        """Writes state_dict() to a file, whole or not at all."""
        with whole_file(path) as part:
            _save(self.state_dict(), part)

    def load(self, path: Any) -> None:
        """Copies in what save() wrote. OSError without the file."""
        self.load_state_dict(_load(path))

    def __reduce__(self) -> Any:
        raise _core.DTypeError("[Model] a model's programs and optimiser are neither copied nor "
                               "pickled; got copy or pickle; expected save() and load(), or a "
                               "copy of its net")

    def summary(self, input_shape: Sequence[int] | None = None, batch_size: int = 1,
                dtype: Any = None) -> Summary:
        """See tandem.summary(); without a shape that of what the network was given last, if it was
        given anything."""
        if input_shape is None and dtype is None:
            return summary_of(self.net, self._example(batch_size))
        return _summary(self.net, input_shape, batch_size, dtype)

    def __repr__(self) -> str:
        loss = getattr(self.loss, "__name__", type(self.loss).__name__)
        mode = "compiled" if self.compiled else "eager"
        return (f"Model({type(self.net).__name__}, {type(self.optimizer).__name__}, {loss}, "
                f"{mode})")

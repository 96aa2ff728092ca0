"""What a function does beside computing while it is captured."""

from __future__ import annotations

import collections
import logging
import sys
import threading
import types
import warnings
from typing import Any, Callable

from . import _core
from ._core import Tensor


class CaptureWarning(UserWarning):
    """Something in a compiled function happens when it is captured, and not at each call."""


class _Capture(threading.local):
    """What the functions that this thread is capturing do beside computing; None outside."""

    prints: list[str] | None = None
    changes: list[str] | None = None


_capture = _Capture()


def _note_output(frame_module: Any, file: str, line: int) -> None:
    # Warnings are for whoever records the function; a log's lines are noted as records.
    if _capture.prints is None or frame_module in ("warnings", "logging"):
        return
    where = f"{file}:{line}"
    if where not in _capture.prints:
        _capture.prints.append(where)


class _Output:
    """sys.stdout or sys.stderr while a thread captures: passes everything on, and notes lines that
    print."""

    def __init__(self, to: Any):
        self._to = to

    def write(self, text: str) -> int:
        frame = sys._getframe(1)
        _note_output(frame.f_globals.get("__name__"), frame.f_code.co_filename, frame.f_lineno)
        return self._to.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._to, name)


class _Records:
    """What makes the records of logs, in the same way."""

    def __init__(self, to: Any):
        self._to = to

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        record = self._to(*args, **kwargs)
        _note_output(None, record.pathname, record.lineno)
        return record


class _Watch:
    """Puts these there while a thread captures."""

    _lock = threading.Lock()
    _users = 0

    @staticmethod
    def install() -> None:
        # Threads capture at the same time: the last one out puts back what the first one found.
        with _Watch._lock:
            _Watch._users += 1
            for name in ("stdout", "stderr"):
                if not isinstance(getattr(sys, name), _Output):
                    setattr(sys, name, _Output(getattr(sys, name)))
            if not isinstance(logging.getLogRecordFactory(), _Records):
                logging.setLogRecordFactory(_Records(logging.getLogRecordFactory()))

    @staticmethod
    def remove() -> None:
        with _Watch._lock:
            _Watch._users -= 1
            if _Watch._users > 0:
                return
            for name in ("stdout", "stderr"):
                if isinstance(now := getattr(sys, name), _Output):
                    setattr(sys, name, now._to)
            if isinstance(factory := logging.getLogRecordFactory(), _Records):
                logging.setLogRecordFactory(factory._to)


def note_change(what: str) -> None:
    """Something that programs may depend on changed: they are recorded again and compared at their
    next call. A change made by a function while it is captured is reported instead."""
    if _capture.changes is None:
        _core._note_host_change()
    elif what not in _capture.changes:
        _capture.changes.append(what)


class _Names:
    """Names a function may bind to something else: attributes of what it was given, and the places
    it reads. A capture's tensor must not stay there in the place of one with values."""

    def __init__(self, places: list, values: tuple):
        # What errors call it, the table, what it held, all its keys; a module's attributes.
        self._dicts: list[tuple[str, dict, dict, list, dict | None]] = []
        self._cells: list[tuple[str, Any, Tensor]] = []
        self._watched = {(name, id(where)): (label, name, where) for label, name, where in places}
        self._seen: set[int] = set()
        self._classes = {type(v): _core._class_version(type(v)) for v in values}
        for value in values:
            self._attributes(value)
        for label, name, where in places:
            self._place(label, name, where)
        self._spelled = _core._spelled(list(self._watched.values()))

    def _place(self, label: str, name: str, where: Any) -> None:
        if isinstance(where, dict):
            value = where.get(name)
            self._table(label[: len(label) - len(name)], where, [name] if name in where else [])
        elif isinstance(where, types.CellType):
            try:
                value = where.cell_contents
            except ValueError:  # not bound yet
                return
            if isinstance(value, Tensor):
                self._cells.append((label, where, value))
        else:
            return
        self._attributes(value)

    def _attributes(self, value: Any) -> None:
        from .graph import Compiled

        while isinstance(value, Compiled):
            value = value._function
        held = getattr(value, "__dict__", None)
        if not isinstance(held, dict) or isinstance(value, (types.ModuleType, types.FunctionType)):
            return
        if id(held) in self._seen:
            return
        self._seen.add(id(held))
        prefix = f"{type(value).__name__}."
        # Containers: a Module tells itself of attributes that are replaced.
        for k, v in held.items():
            if isinstance(v, (list, dict, set, collections.deque)) and not k.startswith("_"):
                self._watched.setdefault((k, id(held)), (prefix + k, k, held))
        self._table(prefix, held, list(held), held if "_parameters" in held else None)
        for part in ("_parameters", "_buffers"):
            if isinstance(held.get(part), dict):
                self._table(prefix, held[part], list(held[part]), held)
        for module in (held.get("_modules") or {}).values():
            self._attributes(module)

    def _table(self, prefix: str, table: dict, keys: list, module: dict | None = None) -> None:
        tensors = {
            k: table[k] for k in keys if isinstance(table[k], Tensor) and not _is_symbolic(table[k])
        }
        if tensors:
            self._dicts.append((prefix, table, tensors, keys, module))

    def changes(self) -> list[str]:
        """Places, and containers in attributes, that hold something else than they did."""
        watched = list(self._watched.values())
        changed = [place[0] for place, was, is_ in
                   zip(watched, self._spelled, _core._spelled(watched)) if was != is_]
        for kind, version in self._classes.items():
            if _core._class_version(kind) != version:
                changed.append(f"attributes of the class {kind.__qualname__}")
        return list(dict.fromkeys(changed))

    def put_back(self) -> list[str]:
        """Gives the names their tensors again; which ones had others."""
        changed = []
        for prefix, table, held, order, module in self._dicts:
            for name, tensor in held.items():
                now = table.get(name)
                if now is None and prefix and module is not table:
                    now = (module or {}).get(name)  # an attribute now, no parameter any more
                if not _is_symbolic(now):
                    continue
                if module is table and not _core._is_captured(tensor):
                    continue  # forward() notes something, and does not read what it noted before
                table[name] = tensor
                if module is not None and module is not table and name in module:
                    del module[name]
                changed.append(f"{prefix}{name}")
            if changed and module is not None and module is not table:
                for name in order:  # that of parameters()
                    if name in table:
                        table[name] = table.pop(name)
        for name, cell, tensor in self._cells:
            if _is_symbolic(cell.cell_contents):
                cell.cell_contents = tensor
                changed.append(name)
        return changed


def _is_symbolic(value: Any) -> bool:
    return isinstance(value, Tensor) and _core._is_symbolic(value)


def trace(function: Callable, args: tuple, kwargs: dict, owner: Any, places: list) -> Any:
    """Calls the function, and complains of what replay would not do. CaptureError where a name is
    left with a tensor of the capture; a CaptureWarning for everything else."""
    names = _Names(places, (owner, *args, *kwargs.values()))
    outer = _capture.prints, _capture.changes
    _capture.prints, _capture.changes = [], []
    _Watch.install()
    try:
        result = function(*args, **kwargs)
        prints, changes = _capture.prints, _capture.changes
        variables = names.changes()
    finally:
        _Watch.remove()
        _capture.prints, _capture.changes = outer
        lost = names.put_back()
    if lost:
        raise _core.CaptureError(
            "[compile] the function gives a name another tensor, which replay would not; got a new "
            f"value for {', '.join(lost)}; expected a write into the tensor (copy_), or the value "
            "as a result"
        )
    for done, what in (
        (prints, "prints"),
        (changes, "changes attributes of a Module"),
        (variables, "changes variables that are not its own"),
    ):
        if done:
            warnings.warn(
                f"a compiled function {what} when it is captured only ({', '.join(done)}); "
                "return the value and use it outside",
                CaptureWarning,
                stacklevel=3,
            )
    return result

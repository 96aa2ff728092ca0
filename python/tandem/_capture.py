"""What a function does beside computing while it is captured."""

from __future__ import annotations

import logging
import sys
import threading
import types
import warnings
import weakref
from typing import Any, Callable

from . import _core
from ._core import Tensor
from ._reads import Reads
from ._values import CONTAINERS, attributes_of, is_, is_array, of_libraries, of_type


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


def note_write() -> None:
    """Something is written that replay would not write, by the line of the user's that is run."""
    if _capture.prints is None:
        return
    frame = sys._getframe(1)
    while frame.f_back is not None and of_libraries[frame.f_code.co_filename]:
        frame = frame.f_back
    _note_output(None, frame.f_code.co_filename, frame.f_lineno)


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


def note_change(what: str, module: Any = None, attribute: str = "") -> None:
    """Something that programs may depend on changed, an attribute of a Module or something that
    concerns all: they are recorded again and compared at their next call, unless they know that
    nothing comes of it. A change made by a function while it is captured is reported instead."""
    if _capture.changes is None:
        _core._note_host_change(what, module, attribute)
    elif what not in _capture.changes:
        _capture.changes.append(what)


def tell_cost(function: Any, what: str) -> None:
    """What a compiled function may depend on changes again and again, and its program does not."""
    warnings.warn(
        f"{what} changes between calls of the compiled function "
        f"{getattr(function, '__qualname__', function)}, which may depend on it: each time it is "
        "recorded again, so far to find the same program (see ledger()). What need not be read in it "
        "is better read outside, or given as a tensor", CaptureWarning, stacklevel=2)


_MOST_BYTES = 1 << 24  # of arrays whose values are compared


class _Names:
    """Names a function may bind to something else: attributes of what it was given, and the places
    it reads. A capture's tensor must not stay there in the place of one with values."""

    def __init__(self, places: Any, values: tuple):
        # What errors call it, the table, what it held, all its keys; a module's attributes.
        self._dicts: list[tuple[str, dict, dict, list, dict | None]] = []
        self._places = places
        self._before: list[tuple[_Held, Any]] = []  # what was there
        self._arrays: list[tuple[str, Any, Any]] = []  # of NumPy, and what they held
        self._caches: list[tuple[dict, dict]] = []  # and what they held
        self._seen: set[int] = set()
        for value in values:
            self._attributes(value)

    def place(self, label: str, name: str, where: Any) -> None:
        """A place that is about to be read or written."""
        self._places.add(label, name, where)
        if is_(where, types.FunctionType):
            return
        held = _Held(label, name, where() if is_(where, weakref.ref) else where)
        value = held.get()
        self._before.append((held, value))
        self._note_cache(value)
        if is_array(value) and value.nbytes <= _MOST_BYTES:
            self._arrays.append((label, value, value.copy()))
        self._attributes(value)

    def _attributes(self, value: Any) -> None:
        from .graph import Compiled

        while is_(value, Compiled):
            value = value._function
        held = attributes_of(value)  # without asking the value
        if not held or is_(value, (types.ModuleType, types.FunctionType, type)):
            return
        if id(held) in self._seen:
            return
        self._seen.add(id(held))
        prefix = f"{type(value).__name__}."
        # Containers: a Module tells itself of attributes that are replaced.
        tensors = False
        for k, v in list(held.items()):
            kind = type(v)
            if issubclass(kind, Tensor):
                tensors = True
            elif issubclass(kind, CONTAINERS) and not k.startswith("_"):
                self._note_cache(v)
                self._places.add(prefix + k, k, held, False)
        if tensors:
            self._table(prefix, held, list(held), held if "_parameters" in held else None)
        for part in ("_parameters", "_buffers"):
            if held.get(part) and is_(held[part], dict):
                self._table(prefix, held[part], list(held[part]), held)
        for module in (held.get("_modules") or {}).values():
            self._attributes(module)

    def _table(self, prefix: str, table: dict, keys: list, module: dict | None = None) -> None:
        tensors = {
            k: table[k] for k in keys if is_(table[k], Tensor) and not _is_symbolic(table[k])
        }
        if tensors:
            self._dicts.append((prefix, table, tensors, keys, module))

    def _note_cache(self, value: Any) -> None:
        if type(value) is dict and len(value) <= 1024:
            self._caches.append((value, value.copy()))

    def empty_caches(self) -> None:
        """Takes tensors of a capture that failed out of the dicts it put them into."""
        for cache, before in self._caches:
            for key in [k for k, v in cache.items() if _is_symbolic(v)]:
                if key in before and not _is_symbolic(before[key]):
                    cache[key] = before[key]
                else:
                    del cache[key]

    def changes(self, classes: dict[type, int]) -> list[str]:
        """Places, and containers in attributes, that hold something else than they did."""
        changed = self._places.changed()
        changed += [label for label, array, was in self._arrays
                    if array.shape != was.shape or array.tobytes() != was.tobytes()]
        for kind, version in classes.items():
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
        for held, before in self._before:
            if _is_symbolic(held.get()) and not _is_symbolic(before):
                held.put(before)
                if held.label not in changed:
                    changed.append(held.label)
        return changed


class _Held:
    """What a place holds: a dict, a closure's cell, a class or an object, by a name."""

    def __init__(self, label: str, name: str, owner: Any):
        self.label = label
        self._name, self._owner = name, owner
        if not is_(owner, (types.CellType, dict, type)) and type(owner).__dictoffset__ != 0 and \
                not is_(of_type(type(owner), name), types.MemberDescriptorType):
            self._owner = attributes_of(owner)

    def get(self) -> Any:
        """_MISSING where there is nothing."""
        if is_(self._owner, types.CellType):
            try:
                return self._owner.cell_contents
            except ValueError:  # not bound yet
                return _MISSING
        if is_(self._owner, dict):
            return self._owner.get(self._name, _MISSING)
        kind = self._owner if is_(self._owner, type) else type(self._owner)
        found = of_type(kind, self._name)
        if kind is self._owner or not is_(found, types.MemberDescriptorType):
            return found
        return getattr(self._owner, self._name, _MISSING)

    def put(self, value: Any) -> None:
        """Sets it, or takes away what is there."""
        name = "cell_contents" if is_(self._owner, types.CellType) else self._name
        if is_(self._owner, dict):
            self._owner[name] = value
            if value is _MISSING:
                del self._owner[name]
        elif value is _MISSING:
            delattr(self._owner, name)
        else:
            setattr(self._owner, name, value)


_MISSING = object()


def _is_symbolic(value: Any) -> bool:
    return is_(value, Tensor) and _core._is_symbolic(value)


def _random_states() -> dict[str, Any]:
    """Of Python's and NumPy's own random numbers, which nobody draws at replay."""
    states: dict[str, Any] = {}
    for name, get in (("random", "getstate"), ("numpy.random", "get_state")):
        found = getattr(sys.modules.get(name), get, None)  # which another thread may be importing
        if found is not None:
            state = found()
            states[f"the state of {name}"] = repr(state) if isinstance(state, dict) else [
                part.tobytes() if is_array(part) else part
                for part in state]
    return states


def _place_of(function: Any) -> str:
    code = getattr(function, "__code__", None)
    return f" in {code.co_name} (at {code.co_filename}:{code.co_firstlineno})" if code else ""


def trace(function: Callable, args: tuple, kwargs: dict, owner: Any, places: Any) -> Any:
    """Calls the function, and complains of what replay would not do. CaptureError where a name is
    left with a tensor of the capture; a CaptureWarning for everything else. `places` gets what it
    reads."""
    arguments = (*args, *kwargs.values())
    names = _Names(places, (owner, *arguments))
    reads = Reads(function, owner, arguments, names.place, places.note_read)
    drawn = _random_states()
    outer = _capture.prints, _capture.changes
    _capture.prints, _capture.changes = [], []
    _Watch.install()
    try:
        with _core._CallWatch(reads.enter, reads.leave, of_libraries) as watch:
            result = function(*args, **kwargs)
        reads.finish()
        if not watch.went_on:
            warnings.warn(
                "a compiled function changes the profiler (sys.setprofile, cProfile), by which it is "
                "watched while it is captured; what it reads from then on is not looked at",
                CaptureWarning, stacklevel=2)
        prints, changes = _capture.prints, _capture.changes
        variables = names.changes(reads.classes)
        variables += [name for name, state in _random_states().items() if drawn.get(name) != state]
    except BaseException as e:
        names.empty_caches()
        if isinstance(e, Exception) and not isinstance(e, _core.CaptureError) and \
                _core._writes_outside():
            warnings.warn(
                f"{type(e).__name__} leaves a compiled function while it is captured, and nothing of "
                "what it had written into tensors and gradients by then is done, as it would be "
                "eagerly; check before what is computed", CaptureWarning, stacklevel=2)
        raise
    finally:
        _Watch.remove()
        _capture.prints, _capture.changes = outer
        lost = names.put_back()
    if lost:
        raise _core.CaptureError(
            "[compile] the function gives a name another tensor, which replay would not; got a new "
            f"value for {', '.join(lost)}{_place_of(function)}; expected a write into the tensor "
            "(copy_), or the value as a result"
        )
    for done, what in (
        (prints, "prints or writes"),
        (changes, "changes attributes of a Module"),
        (variables, "changes variables that are not its own"),
    ):
        if done:
            warnings.warn(
                f"a compiled function {what} when it is captured only ({', '.join(done)}); "
                "return the value and use it outside",
                CaptureWarning,
                stacklevel=2,
            )
    return result

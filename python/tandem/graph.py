"""Compiled functions, and programs declared before they are run."""

from __future__ import annotations

import builtins
import collections
import dis
import functools
import logging
import sys
import threading
import types
import warnings
import weakref
from typing import Any, Callable

from . import _core
from ._core import Tensor, pass_names

__all__ = ["CaptureWarning", "Compiled", "Expression", "Graph", "compile", "pass_names", "variable"]


class CaptureWarning(UserWarning):
    """Something in a compiled function happens when it is captured, and not at each call."""


class _Strong:
    """Like a weak reference, for what can have none."""

    def __init__(self, value: Any):
        self._value = value

    def __call__(self) -> Any:
        return self._value


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


def _note_change(what: str) -> None:
    """Something that programs may depend on changed: they are recorded again and compared at their
    next call. A change made by a function while it is captured is reported instead."""
    if _capture.changes is None:
        _core._note_host_change()
    elif what not in _capture.changes:
        _capture.changes.append(what)


class _Names:
    """Names a function may bind to other tensors: attributes of what it was given or closes over,
    its nonlocal and its global variables. A capture's tensor must not stay there in the place of
    one with values."""

    def __init__(self, function: Any, owner: Any, args: tuple, kwargs: dict):
        # What errors call it, the table, what it held, all its keys; a module's attributes.
        self._dicts: list[tuple[str, dict, dict, list, dict | None]] = []
        self._cells: list[tuple[str, Any, Tensor]] = []
        # What errors call it, its name, and the cell or table it is in; what it held.
        self._variables: list[tuple[str, str, Any]] = []
        self._seen: set[int] = set()
        for value in (owner, *args, *kwargs.values()):
            self._attributes(value)
        self._function(function)
        self._spelled = _core._spelled([v[1:] for v in self._variables])

    def _function(self, function: Any) -> None:
        while not hasattr(function, "__code__"):
            self._attributes(getattr(function, "__self__", function))
            inner = getattr(function, "__func__", None) or getattr(function, "__wrapped__", None)
            if inner is None:
                return
            function = inner
        if id(function) in self._seen:
            return
        self._seen.add(id(function))
        code, names = function.__code__, function.__globals__
        for name, cell in zip(code.co_freevars, function.__closure__ or ()):
            try:
                value = cell.cell_contents
            except ValueError:  # not bound yet
                continue
            if isinstance(value, Tensor):
                self._cells.append((name, cell, value))
            elif isinstance(value, types.FunctionType):
                self._function(value)
            else:
                self._variables.append((name, name, cell))
                self._attributes(value)
        used = [n for n in code.co_names if n in names]
        self._table("", names, used)
        for name in used:
            if not isinstance(names[name], (Tensor, types.FunctionType)):
                self._variables.append((name, name, names))
            self._attributes(names[name])

    def _attributes(self, value: Any) -> None:
        while isinstance(value, Compiled):
            value = value._function
        held = getattr(value, "__dict__", None)
        if not isinstance(held, dict) or isinstance(value, types.ModuleType):
            return
        if id(held) in self._seen:
            return
        self._seen.add(id(held))
        prefix = f"{type(value).__name__}."
        # Containers: a Module tells itself of attributes that are replaced.
        self._variables += [(prefix + k, k, held) for k, v in held.items()
                            if isinstance(v, (list, dict, set, collections.deque))
                            and not k.startswith("_")]
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
        """Variables, and containers in attributes, that hold something else than they did."""
        now = _core._spelled([v[1:] for v in self._variables])
        return [v[0] for v, was, is_ in zip(self._variables, self._spelled, now) if was != is_]

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


def _globals_of(code: types.CodeType) -> set[str]:
    names = {i.argval for i in dis.get_instructions(code) if i.opname in _LOADS}
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            names |= _globals_of(inner)
    return names


_LOADS = ("LOAD_GLOBAL", "LOAD_NAME")


def _variables(function: Any) -> list[tuple[str, Any]]:
    """What a function, and those it is wrapped around, read besides arguments: names with the cells
    of a closure, or with the dict of the globals. (Not those of functions that are called.)"""
    found: dict[tuple[str, int], Any] = {}
    seen = set()
    while function is not None and id(function) not in seen:
        seen.add(id(function))
        code = getattr(function, "__code__", None)
        if isinstance(code, types.CodeType):
            names = function.__globals__
            where = dict(zip(code.co_freevars, function.__closure__ or ()))
            where.update((n, names) for n in _globals_of(code) if not hasattr(builtins, n))
            found.update(((n, id(w)), w) for n, w in sorted(where.items(), key=lambda e: e[0]))
        inner = (getattr(function, "__func__", None) or getattr(function, "__wrapped__", None)
                 or (function.func if isinstance(function, functools.partial) else None))
        if inner is None and code is None:  # an object that can be called, a Module
            kind = type(function)
            inner = getattr(kind, "forward", None) or getattr(kind, "__call__", None)
        function = inner
    return [(name, where) for (name, _), where in found.items()]


def _is_symbolic(value: Any) -> bool:
    return isinstance(value, Tensor) and _core._is_symbolic(value)


def _trace(function: Callable, args: tuple, kwargs: dict, owner: Any) -> Any:
    names = _Names(function, owner, args, kwargs)
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


class Compiled:
    """A function captured at its first call for each signature, and replayed from then on."""

    def __init__(self, function: Callable, *, _owner: Any = None, **options: Any):
        self._function = function
        self._options = options
        if _owner is None:
            # A method that was asked for before, or an object that can be called.
            owner = getattr(function, "__self__", None)
            if owner is None and not isinstance(function, (types.FunctionType, type)):
                owner = function
            if owner is not None:
                _owner = _Strong(owner)
        self._core = _core._Compiled(function, _owner, _variables(function), **options)
        self._bound: dict[int, tuple[Any, Compiled]] = {}
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._core(*args, **kwargs)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        # A method: each instance has programs of its own, whatever it is equal to.
        if instance is None:
            return self
        key, all_bound = id(instance), self._bound
        known = all_bound.get(key) or all_bound.setdefault(key, self._bind(instance))
        # Holds the instance, which may have no other name: make().method(x).
        view = object.__new__(Compiled)
        view.__dict__.update(known[1].__dict__, _instance=instance)
        return view

    def _bind(self, instance: Any) -> tuple[Any, "Compiled"]:
        key, all_bound = id(instance), self._bound
        try:
            ref: Any = weakref.ref(instance, lambda _: all_bound.pop(key, None))
        except TypeError:  # __slots__ without __weakref__: it stays as long as the class
            ref = _Strong(instance)
        function = self._function

        def method(*args: Any, **kwargs: Any) -> Any:
            return function(ref(), *args, **kwargs)

        return ref, Compiled(functools.wraps(function)(method), _owner=ref, **self._options)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Compiled) and self._core is other._core

    def __hash__(self) -> int:
        return hash(self._core)

    def explain(self) -> str:
        """Passes, memory plan, launches, and why each program was captured."""
        return self._core.explain()

    def ledger(self) -> list[dict]:
        """Why each program was captured, and what that cost (times in milliseconds)."""
        return self._core.ledger()

    def dump(self) -> str:
        """The program of the last call as text."""
        return self._core.dump()

    def dump_dot(self) -> str:
        """The program of the last call as Graphviz."""
        return self._core.dump_dot()

    def clear(self) -> None:
        """Forgets all captured programs."""
        self._core.clear()

    def __len__(self) -> int:
        return len(self._core)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<compiled {getattr(self._function, '__qualname__', self._function)!s}>"


def compile(function: Any = None, /, **options: Any) -> Any:
    """The same function, compiled; as a decorator or a call, of a function or a Module. Compiled, a
    Module is still one: with the parameters, modes and names of the one that was given.

    It runs once to be recorded for each signature (structure, shapes, dtypes, devices, other
    arguments, policy) and is replayed afterwards, equal to the eager one bit for bit. Arguments
    and results are tensors in dicts, lists, tuples and dataclasses; numbers, strings and sets are
    part of the signature. Of other objects, and of the object whose method is compiled, the
    attributes are looked at, those of their classes too, and so are the variables of its closure
    and the globals it names:
    when one changed, the function is recorded again and compared. So it is when something of a
    Module changed. A value that changes where nobody looks is a CaptureError, at the latest when
    calls 4, 8, 16, … and every check_interval-th (128) look: so are attributes of attributes,
    containers of more than 64 elements, the values of NumPy arrays, and variables of the functions
    it calls.

    A function may write into tensors and return values. Other things that it does replay would not
    do: changing what it was given and binding names to new tensors are CaptureErrors; changing
    other variables and writing to stdout or stderr happens when it is recorded only, and a
    CaptureWarning says so.

    Options: without (passes to leave out, see pass_names()), fast (also passes that round
    differently), memory_plan, device_graph, check_capture, check_interval, verify (run eagerly
    beside, and raise at the first difference), max_signatures.
    """
    if function is None:
        return lambda f: compile(f, **options)
    own = getattr(type(function), "__tandem_compile__", None)  # of an Expression, of a Module
    if own is not None:
        return own(function, **options)
    if isinstance(function, (list, tuple)) and function and isinstance(function[0], Expression):
        return Expression._compile_all(list(function), **options)
    if not callable(function):
        raise _core.DTypeError(f"[compile] what is compiled can be called; got {function!r}; "
                               "expected a function, a Module or an expression")
    return Compiled(function, **options)


# ------------------------------------------------------------------------------- declared


class Expression:
    """A value that is declared but not computed: variables, and operations on them."""

    def __init__(self, evaluate: Callable[[dict], Any], names: tuple, text: str):
        self._evaluate, self._names, self._text = evaluate, names, text

    @staticmethod
    def _call(function: Callable, text: str, *args: Any, **kwargs: Any) -> "Expression":
        names: dict = {}

        def collect(a: Any) -> None:
            if isinstance(a, Expression):
                names.update(dict.fromkeys(a._names))
            elif type(a) in (tuple, list):
                for x in a:
                    collect(x)
            elif isinstance(a, slice):
                collect((a.start, a.stop, a.step))

        # Once: a program that meets another tensor each time is none.
        args = tuple(
            _core._tensor(a) if not isinstance(a, (Tensor, Expression))
            and hasattr(a, "__array__") and getattr(a, "ndim", 0) else a
            for a in args
        )
        collect((*args, *kwargs.values()))

        def value(a: Any, feeds: dict) -> Any:
            if type(a) in (tuple, list):
                return type(a)(value(x, feeds) for x in a)
            if isinstance(a, slice):
                return slice(*(value(x, feeds) for x in (a.start, a.stop, a.step)))
            if not isinstance(a, Expression):
                return a
            if a not in feeds["memo"]:
                feeds["memo"][a] = a._evaluate(feeds)
            return feeds["memo"][a]

        def evaluate(feeds: dict) -> Any:
            return function(
                *(value(a, feeds) for a in args), **{k: value(a, feeds) for k, a in kwargs.items()}
            )

        return Expression(evaluate, tuple(names), text)

    @staticmethod
    def _compile_all(expressions: list, **options: Any) -> Callable:
        names: dict = {}
        for x in expressions:
            names.update(dict.fromkeys(x._names))

        def program(feeds: dict) -> Any:
            state = {"feeds": feeds, "memo": {}}
            return [x._evaluate(state) for x in expressions]

        core = Compiled(program, **options)

        def function(**feeds: Any) -> Any:
            if set(feeds) != set(names):
                raise _core.RangeError(
                    f"[graph] every variable must be given; got {sorted(feeds)}; "
                    f"expected {sorted(names)}"
                )
            return core({k: _core._tensor(feeds[k]) for k in names})

        function.core = core  # type: ignore[attr-defined]
        return function

    def __tandem_compile__(self, **options: Any) -> Callable:
        several = Expression._compile_all([self], **options)

        def function(**feeds: Any) -> Tensor:
            return several(**feeds)[0]

        function.core = several.core  # type: ignore[attr-defined]
        return function

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(Tensor, name):
            raise AttributeError(name)
        attribute = getattr(Tensor, name)
        if not callable(attribute):
            return Expression._call(lambda t: getattr(t, name), f"{self._text}.{name}", self)
        return lambda *a, **k: Expression._call(
            attribute, f"{self._text}.{name}(…)", self, *a, **k
        )

    __hash__ = object.__hash__
    # NumPy's arrays leave operators with an expression to the expression.
    __array_ufunc__ = None

    def __repr__(self) -> str:
        return f"<expression {self._text}>"


def _refusal(name: str) -> Callable:
    def method(self: Expression, *args: Any) -> Any:
        raise _core.CaptureError(
            f"[graph] a declared value has no {name} before the program runs; got {self!r}; "
            "expected operations on it (where, gather, …), or compile() of a function"
        )

    return method


for _name, _what in {
    "bool": "truth", "iter": "elements", "len": "length", "contains": "elements",
    "float": "number", "int": "number", "index": "number", "complex": "number",
}.items():
    setattr(Expression, f"__{_name}__", _refusal(_what))


def _operator(name: str) -> Callable:
    def method(self: Expression, *args: Any) -> Expression:
        import operator

        reflected = name.startswith("__r")
        plain = getattr(operator, f"__{name[3:]}" if reflected else name)
        operands = (*args, self) if reflected else (self, *args)
        return Expression._call(plain, name.strip("_"), *operands)

    return method


for _name in (
    "add sub mul truediv floordiv mod pow matmul and or xor radd rsub rmul rtruediv rfloordiv rmod "
    "rpow rmatmul rand ror rxor lt le gt ge eq ne neg pos abs invert getitem"
).split():
    setattr(Expression, f"__{_name}__", _operator(f"__{_name}__"))


def variable(name: str) -> Expression:
    """An argument of a declared program, of any shape; see compile(). With shapes known
    beforehand, a Graph checks the program while it is written.

    >>> A, B = variable("A"), variable("B")
    >>> compile(B * A)(A=[1.0, 2.0], B=[3.0, 4.0]).tolist()
    [3.0, 8.0]
    """
    return Expression(lambda state: state["feeds"][name], (name,), name)


class Graph:
    """A program declared over variables of known shape and dtype."""

    def __init__(self) -> None:
        self._core = _core._Graph()

    def variable(self, name: str, shape: Any, dtype: Any = _core.float32,
                 device: Any = "cpu") -> Tensor:
        """A named argument: a symbolic tensor that all functions take."""
        return self._core.variable(name, shape, dtype, device)

    def compile(self, results: Any, without: Any = (), fast: bool = False,
                memory_plan: bool = True, device_graph: bool = True) -> Callable:
        """A function of the variables by name that computes one result or a list of them."""
        single = isinstance(results, Tensor)
        program = self._core.compile([results] if single else list(results), list(without), fast,
                                     memory_plan, device_graph)

        def function(**feeds: Any) -> Any:
            out = program._run({k: _core._tensor(v) for k, v in feeds.items()})
            return out[0] if single else out

        function.program = program  # type: ignore[attr-defined]
        return function

"""Where a function looks up values besides its arguments, as far as its byte code tells."""

from __future__ import annotations

import builtins
import collections
import dis
import functools
import os
import sysconfig
import types
from typing import Any

from . import _core

# A compiled function looks at these places before every call.
_MOST = 256
_UNKNOWN = object()
_CONTAINERS = (list, dict, set, collections.deque)
_IGNORED = ("EXTENDED_ARG", "PUSH_NULL", "NOP", "CACHE", "COPY", "DUP_TOP")

# (What errors call it; the name, and where it is looked up: a dict, a type, a closure's cell, an
# object with slots.)
Place = tuple  # of (str, str, Any)


@functools.lru_cache(maxsize=1024)
def _steps(code: types.CodeType) -> tuple:
    """What of a code object is about names: pairs of a kind and a name, or a code object."""
    steps: list[tuple[str, Any]] = []
    for i in dis.get_instructions(code):
        op, arg = i.opname, i.argval
        if op in _IGNORED:
            continue
        if op in ("LOAD_GLOBAL", "LOAD_NAME"):
            steps.append(("global", arg))
        elif op in ("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"):
            steps.append(("deref", arg))
        elif op.startswith("LOAD_FAST"):
            steps += [("local", name) for name in (arg if _is(arg, tuple) else (arg,))]
        elif op in ("LOAD_ATTR", "LOAD_METHOD"):
            steps.append(("attribute", arg))
        elif op == "STORE_FAST":
            steps.append(("store", arg))
        elif op == "LOAD_CONST" and _is(arg, types.CodeType):
            steps.append(("code", arg))
        else:
            steps.append(("other", ""))
    return tuple(steps)


def _folder(path: str) -> str:
    return os.path.join(os.path.realpath(path), "")


_OTHERS = tuple(_folder(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))
_OWN = _folder(os.path.dirname(__file__))


@functools.lru_cache(maxsize=4096)
def _is_of_a_library(file: str) -> bool:
    """Whether code in a file is Tandem's, Python's, or an installed package's: not to change."""
    path = os.path.realpath(file)
    installed = f"{os.sep}site-packages{os.sep}" in path or f"{os.sep}dist-packages{os.sep}" in path
    return installed or path.startswith((*_OTHERS, _OWN))


def _is(value: Any, kinds: Any) -> bool:
    """isinstance() that asks the value nothing."""
    return issubclass(type(value), kinds)


def _of_type(kind: type, name: str) -> Any:
    """What a class has under a name, as it is there: nothing is bound or run."""
    return next((vars(k)[name] for k in kind.__mro__ if name in vars(k)), _UNKNOWN)


class _Reads:
    """Follows names, attributes and calls through the byte code without running anything."""

    def __init__(self) -> None:
        self.places: dict[tuple[str, int], Place] = {}
        self._seen: set = set()
        self._kept: list = []  # whose numbers are in _seen
        self._pending: collections.deque = collections.deque()  # functions yet to be followed

    def _is_new(self, *objects: Any) -> bool:
        key = tuple(map(id, objects))
        if key in self._seen:
            return False
        self._seen.add(key)
        self._kept.append(objects)
        return True

    def _place(self, label: str, name: str, where: Any) -> None:
        if len(self.places) < _MOST:
            self.places.setdefault((name, id(where)), (label, name, where))

    def root(self, function: Any) -> None:
        """The function that is compiled, in whatever it is wrapped."""
        while function is not None and self._is_new(function, "root"):
            if _is(function, types.FunctionType):
                self._pending.append((function, _UNKNOWN, ""))
            else:
                self.value(function)
            function = (getattr(function, "__func__", None)
                        or getattr(function, "__wrapped__", None)
                        or (function.func if _is(function, functools.partial) else None))
        while self._pending:
            self._function(*self._pending.popleft())

    def value(self, v: Any, label: str = "") -> None:
        """Something that the function names: what it runs if it is called."""
        from .graph import Compiled
        from .nn.module import Module

        if _is(v, types.FunctionType):
            self._call(v, _UNKNOWN)
        elif _is(v, types.MethodType):
            self._call(v.__func__, v.__self__)
        elif _is(v, functools.partial):
            self.value(v.func)
        elif _is(v, Compiled):
            self.value(v._function)
        elif _is(v, Module):
            if self._is_new(v):
                for path, m in v.named_modules():
                    self._module(m, ".".join(filter(None, (label, path))))
        elif _is(v, (list, tuple, dict)):
            if len(v) <= 64 and self._is_new(v):
                for e in list(v.values() if _is(v, dict) else v):
                    self.value(e)
        elif not _is(v, (type, _core.Tensor)):
            self._call(_of_type(type(v), "__call__"), v)

    def _module(self, m: Any, label: str) -> None:
        overridden = vars(m).get("forward")
        self.value(overridden) if overridden else self._call(type(m).forward, m, label)
        for hooks in (m._forward_pre_hooks, m._forward_hooks, m._backward_hooks):
            for hook in list(hooks.values()):
                self.value(hook)

    def _call(self, function: Any, bound: Any, label: str = "") -> None:
        if not _is(function, types.FunctionType) or not self._is_new(function, bound):
            return
        if not _is_of_a_library(function.__code__.co_filename):
            self._pending.append((function, bound, label))
        if hasattr(function, "__wrapped__"):
            self.value(function.__wrapped__)

    def _function(self, function: types.FunctionType, bound: Any, label: str = "") -> None:
        code = function.__code__
        known = {}
        if bound is not _UNKNOWN and code.co_argcount:
            known[code.co_varnames[0]] = bound, label or type(bound).__name__
        cells = dict(zip(code.co_freevars, function.__closure__ or ()))
        self._code(code, function.__globals__, cells, known)

    def _code(self, code: types.CodeType, names: dict, cells: dict, known: dict,
              outer: "dict | None" = None) -> None:
        nothing = _UNKNOWN, ""
        current, label = nothing
        for kind, arg in _steps(code):
            if kind == "attribute":
                if current is not _UNKNOWN:
                    current, label = self._attribute(current, arg, f"{label}.{arg}"), f"{label}.{arg}"
            elif kind == "store":
                known[arg] = current, label
                current, label = nothing
            elif kind == "local":
                current, label = known.get(arg, nothing)
            elif kind == "global":
                current, label = names.get(arg, _UNKNOWN), arg
                if arg in names or not hasattr(builtins, arg):
                    self._place(arg, arg, names)
            elif kind == "deref" and arg in cells:
                self._place(arg, arg, cells[arg])
                try:
                    current, label = cells[arg].cell_contents, arg
                except ValueError:  # not bound yet
                    current, label = nothing
            elif kind == "deref":
                current, label = (known if arg in known else outer or {}).get(arg, nothing)
            else:
                if kind == "code":
                    self._code(arg, names, cells, {}, {**(outer or {}), **known})
                current, label = nothing
            if current is not _UNKNOWN and kind != "local":
                self.value(current, label)

    def _attribute(self, v: Any, name: str, label: str) -> Any:
        """The value of an attribute where that can be told, which is made a place."""
        from .graph import Compiled
        from .nn.module import Module

        while _is(v, Compiled):
            v = v._function
        if _is(v, types.ModuleType):
            file = vars(v).get("__file__")
            if not _is(file, str) or _is_of_a_library(file):
                return _UNKNOWN
            self._place(label, name, vars(v))
            return vars(v).get(name, _UNKNOWN)
        if _is(v, type):
            return self._of_class(v, name, label, v, _UNKNOWN)
        if _is(v, _core.Tensor) or name.startswith("__"):
            return _UNKNOWN
        held = object.__getattribute__(v, "__dict__") if type(v).__dictoffset__ != 0 else {}
        if _is(v, Module):  # which tells of what changes, but not of what changes within
            for table in ("_modules", "_parameters", "_buffers"):
                if name in held.get(table, ()):
                    return held[table][name]
            if isinstance(held.get(name), _CONTAINERS):
                self._place(label, name, held)
        elif type(v).__module__.partition(".")[0] in ("tandem", "numpy"):
            return _UNKNOWN
        elif type(v).__dictoffset__ != 0:
            self._place(label, name, held)
        if name in held:
            return held[name]
        return self._of_class(type(v), name, label, v, v)

    def _of_class(self, kind: type, name: str, label: str, where: Any, bound: Any) -> Any:
        # The class's number, which is spelled with its objects, tells of what is set in it.
        found = _of_type(kind, name)
        if _is(found, types.FunctionType):
            return found if bound is _UNKNOWN else types.MethodType(found, bound)
        if _is(found, staticmethod):
            return found.__func__
        if _is(found, classmethod):
            return types.MethodType(found.__func__, kind)
        if _is(found, (property, functools.cached_property)):
            get = found.fget if _is(found, property) else found.func
            self._call(get, bound)
            return _UNKNOWN
        if _is(found, types.MemberDescriptorType):  # a slot
            self._place(label, name, where)
            try:
                return found.__get__(where)
            except AttributeError:  # nothing in it
                return _UNKNOWN
        if hasattr(type(found), "__get__"):
            inner = getattr(found, "_function", None)
            self._call(inner, bound)  # a method that is compiled itself
            return _UNKNOWN
        if found is not _UNKNOWN:
            self._place(label, name, kind)
        return found


def places_of(function: Any) -> list:
    """The places a function, and functions of the user's that it calls, read besides arguments, as
    far as can be told: variables of closures, globals, attributes of both, of theirs."""
    reads = _Reads()
    reads.root(function)
    return list(reads.places.values())

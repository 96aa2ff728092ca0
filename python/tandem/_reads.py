"""What a captured function reads besides its arguments: the places where it looks names up."""

from __future__ import annotations

import builtins
import collections
import dis
import functools
import os
import sys
import sysconfig
import types
import weakref
from typing import Any, Callable, Iterable

from . import _core

CONTAINERS = (list, dict, set, collections.deque)
_IGNORED = ("EXTENDED_ARG", "PUSH_NULL", "NOP", "CACHE", "COPY", "DUP_TOP")
# Values that have nothing to look into.
_PLAIN = (_core.Tensor, type(None), bool, int, float, complex, str, bytes, _core.dtype, _core.Device)
_MOST_ELEMENTS = 64
_MOST_BY_GUESS = 512  # places: they are looked at before each call

_STEPS = {
    "LOAD_GLOBAL": "global", "LOAD_NAME": "global", "STORE_GLOBAL": "global",
    "DELETE_GLOBAL": "global", "LOAD_DEREF": "deref", "LOAD_CLASSDEREF": "deref",
    "LOAD_FROM_DICT_OR_DEREF": "deref", "STORE_DEREF": "store deref", "LOAD_ATTR": "attribute",
    "LOAD_METHOD": "attribute", "STORE_ATTR": "attribute", "DELETE_ATTR": "attribute",
    "LOAD_SUPER_ATTR": "loose", "IMPORT_FROM": "from",
    "STORE_FAST": "store",
}


@functools.lru_cache(maxsize=1024)
def _steps(code: types.CodeType) -> tuple:
    """What of a code object is about names: pairs of a kind and a name."""
    steps: list[tuple[str, Any]] = []
    instructions = list(dis.get_instructions(code))
    by_text = ({"getattr", "setattr", "hasattr", "delattr", "vars", "__dict__"} & set(code.co_names)
               or any(i.opname == "MATCH_CLASS" for i in instructions))
    constants: list = []
    for i in instructions:
        op, arg = i.opname, i.argval
        if op == "LOAD_CONST":
            constants.append(arg)
        if i.is_jump_target:  # what is there may be from elsewhere
            steps.append(("other", ""))
        if op in _IGNORED:
            continue
        if op.startswith("LOAD_FAST"):
            steps += [("local", n) for n in (arg if isinstance(arg, tuple) else (arg,))]
        elif op == "LOAD_CONST" and isinstance(arg, types.CodeType):
            steps.append(("code", arg))
        elif op == "LOAD_CONST" and by_text and isinstance(arg, (str, tuple, frozenset)):
            texts = [arg] if isinstance(arg, str) else arg
            steps += [("loose", text) for text in texts if isinstance(text, str)]
            steps.append(("other", ""))
        elif op == "IMPORT_NAME":  # behind the level and the names
            level = constants[-2] if len(constants) > 1 and isinstance(constants[-2], int) else 0
            steps.append(("import", (arg, level)))
        else:
            steps.append((_STEPS.get(op, "other"), arg))
    return tuple(steps)


def _folder(path: str) -> str:
    return os.path.join(os.path.realpath(path), "")


_OTHERS = tuple(_folder(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))
_OWN = _folder(os.path.dirname(__file__))


class _OfLibraries(dict):
    """By file: whether code in it is Tandem's, Python's, or an installed package's, and not to
    change."""

    def __missing__(self, file: str) -> bool:
        try:
            path = os.path.realpath(file)
        except (OSError, ValueError):
            path = file
        packages = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
        self[file] = (any(p in path for p in packages) or path.startswith((*_OTHERS, _OWN))
                      or file.startswith("<frozen "))
        return self[file]


of_libraries = _OfLibraries()


_of_partials: "weakref.WeakKeyDictionary[functools.partial, dict]" = weakref.WeakKeyDictionary()


def _containers_of(partial: functools.partial) -> dict:
    """Those among its arguments without names, by number: the same dict as long as they are the
    same."""
    now = {str(i): e for i, e in enumerate(partial.args) if is_(e, CONTAINERS)}
    known = _of_partials.setdefault(partial, now)
    if [*map(id, known.values())] != [*map(id, now.values())]:
        known = _of_partials[partial] = now
    return known


def _is_library(module: types.ModuleType) -> bool:
    file, name = vars(module).get("__file__"), vars(module).get("__name__")
    if isinstance(file, str):
        return of_libraries[file]
    return not isinstance(name, str) or name.partition(".")[0] in (
        "tandem", *sys.builtin_module_names, *getattr(sys, "stdlib_module_names", ()))


def is_(value: Any, kinds: Any) -> bool:
    """isinstance() that asks the value nothing."""
    return issubclass(type(value), kinds)


def is_array(value: Any) -> bool:
    """Whether it is an array of NumPy's, with numbers in it."""
    numpy = sys.modules.get("numpy")  # which another thread may be importing
    return type(value) is getattr(numpy, "ndarray", None) and value.dtype.kind in "biuf"


def of_type(kind: type, name: str) -> Any:
    """What a class has under a name, as it is there: nothing is bound or run."""
    return next((vars(k)[name] for k in type.mro(kind) if name in vars(k)), None)


def _plain_function(found: Any) -> Any:
    """The function in a class's attribute, or None."""
    if is_(found, (staticmethod, classmethod)):
        found = found.__func__
    elif is_(found, property):
        found = found.fget
    elif is_(found, functools.cached_property):
        found = found.func
    return found if is_(found, types.FunctionType) else None


def attributes_of(v: Any) -> Any:
    return object.__getattribute__(v, "__dict__") if type(v).__dictoffset__ != 0 else {}


# Modules that traces looked at, by id: some are equal to others, or cannot be hashed.
SEEN: Any = weakref.WeakValueDictionary()
_SORTS: Any = weakref.WeakKeyDictionary()  # by type


def _sort_of(kind: type) -> str:
    """What is looked at in a value of this type."""
    found = _SORTS.get(kind)
    if found is None:
        Compiled, Module = _classes()
        sorts = ((_PLAIN, "plain"), (types.FunctionType, "function"), (types.MethodType, "method"),
                 (functools.partial, "partial"), (Compiled, "compiled"),
                 ((list, tuple, set, frozenset, collections.deque), "elements"), (dict, "dict"),
                 (types.ModuleType, "module of Python"), (Module, "module"))
        own = "plain" if kind.__module__.partition(".")[0] in ("tandem", "numpy") else "object"
        found = next((sort for of, sort in sorts if issubclass(kind, of)), own)
        _SORTS[kind] = found
    return found


@functools.lru_cache(maxsize=None)
def _classes() -> tuple[type, type]:
    from .graph import Compiled  # which need this module
    from .nn.module import Module

    return Compiled, Module


class Reads:
    """Is told of the functions of the user's that a trace runs, before and after, and tells `place`
    (what errors call it, a name, and where that is looked up) of what their byte code names: of
    globals, closures, attributes of what they hold or get. `where` is a dict, a class, a closure's
    cell, a function (itself), an object with slots, or a weak reference to an object with attributes.
    `of_module` is told of attributes of Modules, which tell themselves when they change.

    Nothing of the user's is run. Places are of what was there before: given to the function, or found
    from a name; not of what the trace makes. Where the byte code does not tell whose
    attribute is meant, it is that of each such object.
    """

    def __init__(self, function: Any, owner: Any, arguments: Iterable,
                 place: Callable[[str, str, Any], None], of_module: Callable[[Any, str], None]):
        self._tell, self._tell_of_module = place, of_module
        self.classes: dict[type, int] = {}  # of the objects, with their versions at first sight
        self._done: set = set()
        self._kept: list = []  # whose numbers are in _done
        self._functions: dict[int, list] = {}  # by the number of their code
        self._there: set[int] = set()  # numbers of what was there before
        self._objects: list = []  # of those the ones with attributes, with what errors call them
        self._loose: dict[str, None] = {}  # attributes of who knows what
        self._by_guess = 0
        self._see(owner, "")
        for v in arguments:
            self._see_argument(v)
        self._root(function)

    def _see_argument(self, v: Any, depth: int = 0) -> None:
        # Containers and dataclasses are copies with the capture's tensors; what is in them is not.
        parts: Iterable = ()
        if depth > 8 or is_(v, type):
            return
        if is_(v, (tuple, list)):
            parts = tuple.__iter__(v) if is_(v, tuple) else list.__iter__(v)
        elif is_(v, dict):
            parts = list(dict.values(v))
        elif is_(v, (set, frozenset)):
            return
        elif _is_dataclass(v):
            slots = (_slot(v, name) for name in of_type(type(v), "__dataclass_fields__"))
            parts = [*attributes_of(v).values(), *slots]
        else:
            self._see(v, "")
        for part in parts:
            self._see_argument(part, depth + 1)

    def _is_new(self, *objects: Any) -> bool:
        key = tuple(map(id, objects))
        if key in self._done:
            return False
        self._done.add(key)
        self._kept.append(objects)
        return True

    def _place(self, label: str, name: str, where: Any) -> None:
        if (name, id(where)) not in self._done:
            self._done.add((name, id(where)))
            self._kept.append(where)
            self._tell(label, name, where)

    def _root(self, function: Any) -> None:
        # The function that is compiled, in whatever it is wrapped; of whatever file.
        while function is not None and self._is_new(function, None):
            self._see(function, "")
            if is_(function, types.FunctionType):
                self._place(function.__name__, "", function)  # its code and defaults
                self._code(function.__code__, function.__globals__, self._cells(function), {})
                function = vars(function).get("__wrapped__")
            elif is_(function, types.MethodType):
                function = function.__func__
            elif is_(function, functools.partial):
                function = function.func
            else:
                return

    # ------------------------------------------------------------------------- of each call

    def enter(self, frame: types.FrameType) -> None:
        """A function begins: what it reads is looked at before it does."""
        code, values = frame.f_code, frame.f_locals
        if not self._is_new_call(frame):
            return
        if code.co_argcount and code.co_varnames[0] in values:
            # A class's function, which may be replaced.
            first = values[code.co_varnames[0]]
            kinds = () if _sort_of(type(first)) == "plain" else type.mro(
                first if is_(first, type) else type(first))
            for kind in kinds:
                for name, found in list(vars(kind).items()):
                    function = _plain_function(found)
                    if function is not None and function.__code__ is code:
                        self._see(function, "")
                        # And what may come before it, in a class that is derived.
                        for of in (kind, kinds[0]):
                            self._place(f"{of.__name__}.{name}", name, of)
        self._frame(frame)

    def _is_new_call(self, frame: types.FrameType) -> bool:
        code, values = frame.f_code, frame.f_locals
        return self._is_new(code, *(v for n, v in values.items()
                                    if not is_(v, _PLAIN) or n in code.co_freevars))

    def leave(self, frame: types.FrameType, result: Any) -> None:
        """A function ends: by now its names hold something."""
        if self._is_new_call(frame):
            self._frame(frame)

    def finish(self) -> None:
        """Looks for the attributes of who knows what, in all that was seen."""
        i = 0
        while i < len(self._objects):
            v, label = self._objects[i]
            for name in list(self._loose):
                if self._by_guess >= _MOST_BY_GUESS:
                    return
                for found, _ in self._attribute(v, name, f"{label}.{name}", False):
                    self._by_guess += 1
                    self._see(found, f"{label}.{name}")
                for kind in type.mro(type(v)):  # what super() may mean
                    if name in vars(kind):
                        self._of_class(kind, name, f"{kind.__name__}.{name}")
            i += 1

    def _frame(self, frame: types.FrameType) -> None:
        code, values = frame.f_code, frame.f_locals
        known = {}
        for name, v in values.items():
            if not is_(v, _PLAIN):
                label = type(v).__name__ if name == "self" else name
                known[name] = [(v, label)]
            elif name in code.co_varnames[:code.co_argcount]:
                known[name] = []
        # It is one of the functions of this code that have what the frame has.
        closures = [self._cells(f) for f in self._functions.get(id(code), ())]
        closures = [cells for cells in closures
                    if all(_contents(c) is values.get(n) for n, c in cells.items())]
        for cells in closures or [{}]:
            self._code(code, frame.f_globals, cells, dict(known))

    @staticmethod
    def _cells(function: types.FunctionType) -> dict:
        return dict(zip(function.__code__.co_freevars, function.__closure__ or ()))

    def _code(self, code: types.CodeType, names: dict, cells: dict, known: dict) -> None:
        # Of each expression what it may be, as far as can be told; None: who knows.
        current: Any = None
        given = {n: v for n, v in known.items() if n not in cells}
        stored = collections.Counter(arg for kind, arg in _steps(code) if kind == "store")
        stored.update(code.co_varnames[:code.co_argcount])
        varying = False  # what `current` is of stands for several things, in a loop say
        for kind, arg in _steps(code):
            if kind == "attribute":
                if current is None or varying:
                    self._loose[arg] = None
                if current is not None:
                    found = [self._attribute(v, arg, f"{label}.{arg}") for v, label in current]
                    current = [f for fs in found for f in fs] or None
            elif kind == "local":
                current = known.get(arg)
                varying = stored[arg] > 1
                continue
            elif kind == "store":
                known[arg] = None if current is None else (known.get(arg) or []) + current
                continue
            elif kind == "global":
                v = names.get(arg)
                if not (is_(v, types.ModuleType) and _is_library(v)):
                    self._place(arg, arg, names)
                if arg not in names and _is_users(vars(builtins).get(arg)):
                    self._place(arg, arg, vars(builtins))
                current = [(v, arg)] if arg in names else None
            elif kind in ("deref", "store deref"):
                if arg not in cells or arg == "__class__":  # of this trace
                    current = given.get(arg)
                    varying = True
                    continue
                self._place(arg, arg, cells[arg])
                v = _contents(cells[arg])
                current = None if v is None else [(v, arg)]
            elif kind == "import":
                v, full = _imported(*arg, names)
                current = None if v is None else [(v, full)]
                continue
            elif kind == "from":
                for v, label in current or ():
                    self._attribute(v, arg, f"{label}.{arg}")
                continue
            elif kind == "code":
                self._code(arg, names, {}, {n: v for n, v in known.items() if n in arg.co_freevars})
                current = None
            elif kind == "loose":
                self._loose[arg] = None
                # Of what stands before it: hasattr(this, "name").
                found = [self._attribute(v, arg, f"{label}.{arg}") for v, label in current or ()]
                for v, label in [f for fs in found for f in fs]:
                    self._see(v, label)
                continue
            else:
                current = None
            varying = False
            for v, label in current or ():
                self._see(v, label)

    # -------------------------------------------------------------------------- of each value

    def _see(self, v: Any, label: str, depth: int = 0) -> None:
        sort = _sort_of(type(v))
        if sort == "plain" or id(v) in self._there or depth > 8:
            return
        self._there.add(id(v))
        self._kept.append(v)
        if sort == "function":
            self._functions.setdefault(id(v.__code__), []).append(v)
            for e in (*(v.__defaults__ or ()), *(v.__kwdefaults__ or {}).values()):
                self._see(e, label, depth + 1)
            if vars(v):
                self._objects.append((v, v.__name__))
        elif sort == "method":
            self._see(v.__func__, label, depth + 1)
            self._see(v.__self__, label, depth + 1)
        elif sort == "partial":
            for e in (v.func, *v.args, *v.keywords.values()):
                self._see(e, label, depth + 1)
            label = label or getattr(v.func, "__name__", "partial")
            for held in (_containers_of(v), v.keywords):
                for name, e in held.items():
                    if is_(e, CONTAINERS):
                        self._place(f"{label}({name})", name, held)
        elif sort == "compiled":
            self._see(vars(v).get("_function"), label, depth + 1)
        elif sort == "elements":
            kind = next(k for k in (list, tuple, set, frozenset, collections.deque) if is_(v, k))
            self._elements(list(kind.__iter__(v)), label, depth)
        elif sort == "dict":
            self._elements(list(dict.values(v)), label, depth)
        elif sort == "module of Python":
            if not _is_library(v):
                self._objects.append((v, label))
        elif sort in ("object", "module"):
            self._objects.append((v, label or type(v).__name__))
            kind = v if is_(v, type) else type(v)
            if kind not in self.classes:
                self.classes[kind] = _core._class_version(kind)
            if sort == "module":
                self._see_module(v, label)

    def _see_module(self, v: Any, label: str) -> None:
        SEEN[id(v)] = v
        if not of_libraries[_file_of(type(v).forward)]:
            self._place(f"{type(v).__name__}.forward", "forward", type(v))
        tables = attributes_of(v)
        for name, child in tables.get("_modules", {}).items():
            self._see(child, f"{label}.{name}")
        for table in ("_forward_pre_hooks", "_forward_hooks", "_backward_hooks"):
            if tables.get(table):
                self._see(list(tables[table].values()), "hook")

    def _elements(self, elements: list, label: str, depth: int) -> None:
        if len(elements) <= _MOST_ELEMENTS:
            for e in elements:
                self._see(e, label, depth + 1)

    def _attribute(self, v: Any, name: str, label: str, surely: bool = True) -> list:
        """What an attribute holds, which is made a place; unless it is not `surely` one of v."""
        Compiled, Module = _classes()
        while is_(v, Compiled):
            if name in vars(v) or (surely and not is_(v, Module)):
                self._place(label, name, _weak(v))
            if name in vars(v):
                return [(vars(v)[name], label)]
            v = vars(v)["_function"]
        if id(v) not in self._there and not is_(v, types.ModuleType):
            return []
        if is_(v, types.ModuleType):
            if _is_library(v) or not (surely or name in vars(v)):
                return []
            self._place(label, name, vars(v))
            return [(vars(v)[name], label)] if name in vars(v) else []
        if is_(v, type):
            return self._of_class(v, name, label)
        if _sort_of(type(v)) == "plain":
            return []
        held, of_class = attributes_of(v), surely
        found = of_type(type(v), name)
        # A value that the class has for those of its objects that have none of their own.
        surely = surely or (found is not None and _plain_function(found) is None)
        if is_(v, Module):  # which tells of what changes, but not of what changes within
            for table in ("_modules", "_parameters", "_buffers"):
                if name in held.get(table, ()):
                    return [(held[table][name], label)]
            if not is_(held.get(name), (*CONTAINERS, tuple)):
                if surely or name in held:
                    self._tell_of_module(v, name)
                if name in held:
                    return [(held[name], label)]
            surely = False
        if is_(found, types.MemberDescriptorType):  # a slot, which goes before what has its name
            self._place(label, name, _weak(v) or v)
            try:
                return [(found.__get__(v), label)]
            except AttributeError:  # nothing in it
                return []
        if name in held or (surely and type(v).__dictoffset__ != 0):
            self._place(label, name, _weak(v) or held)
        if name in held:
            return [(held[name], label)]
        return self._of_class(type(v), name, label, of_class)

    def _of_class(self, kind: type, name: str, label: str, surely: bool = False) -> list:
        found = of_type(kind, name)
        function = _plain_function(found)
        if function is not None:
            if not of_libraries[function.__code__.co_filename]:
                self._place(label, name, kind)
            self._see(function, label)
            return [(function, label)] if not is_(found, (property, functools.cached_property)) else []
        if found is None:
            if surely:
                self._place(label, name, kind)
            return []
        if of_type(type(found), "__get__") is not None:
            if of_type(type(found), "__dict__") is not None or type(found).__dictoffset__ != 0:
                self._place(label, name, kind)
                self._see(found, label)  # what it reads of itself
            return []
        self._place(label, name, kind)
        return [(found, label)]


def _is_dataclass(v: Any) -> bool:
    return of_type(type(v), "__dataclass_fields__") is not None and not is_(v, _classes()[1])


def _slot(v: Any, name: str) -> Any:
    found = of_type(type(v), name)
    try:
        return found.__get__(v) if is_(found, types.MemberDescriptorType) else None
    except AttributeError:  # nothing in it
        return None


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None


def _imported(name: str, level: int, names: dict) -> tuple[Any, str]:
    """The module that an import statement in these globals means, if it is there already."""
    if level:
        package = str(names.get("__package__") or names.get("__name__", ""))
        base = package.split(".")[: len(package.split(".")) - level + 1]
        name = ".".join([*base, *([name] if name else [])])
        module = sys.modules.get(name)
    else:
        module = sys.modules.get(name if name in sys.modules else name.partition(".")[0])
    return (module if is_(module, types.ModuleType) else None), name


def _file_of(function: Any) -> str:
    return function.__code__.co_filename if is_(function, types.FunctionType) else _OWN


def _is_users(builtin: Any) -> bool:
    """Whether somebody put it among the built-in names."""
    return getattr(builtin, "__module__", "builtins" if builtin is None else "") != "builtins"


def _weak(v: Any) -> Any:
    # An object is not kept by those that look at it.
    try:
        return weakref.ref(v)
    except TypeError:
        return None

"""What a captured function reads besides its arguments: the places where it looks names up."""

from __future__ import annotations

import builtins
import collections
import copyreg
import functools
import gc
import inspect
import sys
import types
import weakref
from typing import Any, Callable, Iterable

from . import _core
from ._bytecode import (asks_by_name, imported, is_resumed, names_in, steps,
                        takes_objects_apart)
from ._values import (CONTAINERS, GETTERS, PROXIES, asks_its_class, attributes_of, containers_of,
                      contents, custom_function, file_of, gives_what_it_holds, is_, is_dataclass,
                      is_library, is_users, module_name, of_a_package, of_libraries, of_type, own_classes,
                      plain_function, slot, slot_names, sort_of, weak, wrapped)

_MOST_ELEMENTS = 64
_MOST_BY_GUESS = 512  # places: they are looked at before each call

# Modules that traces looked at, by id: some are equal to others, or cannot be hashed.
SEEN: Any = weakref.WeakValueDictionary()
# A hook of a tensor's, which nobody holds but the tape, by id.
_hooks: Any = weakref.WeakValueDictionary()


def note_hook(hook: Any) -> None:
    """A tensor's hook was registered, by no function that is being captured."""
    v = hook.__self__ if is_(hook, types.MethodType) else hook
    if not is_(v, types.FunctionType) and weak(v) is not None:  # whose frame tells all
        _hooks[id(v)] = v


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
        self._taken: set[int] = set()  # of which all is read
        self._begun: set[int] = set()  # numbers of frames of generators that the trace made
        self._made: set[int] = set()  # numbers of cells that the trace made
        self._objects: list = []  # of those the ones with attributes, with what errors call them
        # Attributes of who knows what, and whether they are asked for where there may be none.
        self._loose: dict[str, bool] = {}
        self._by_guess = self._missing = 0
        self._see(owner, "")
        for v in arguments:
            self._see_argument(v)
        for hook in list(_hooks.values()):
            self._see(hook, "hook")
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
        elif is_dataclass(v):
            slots = (slot(v, name) for name in of_type(type(v), "__dataclass_fields__"))
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
            elif is_(function, own_classes()[0]):  # perhaps of a method
                function = vars(function).get("_function")
            else:
                return

    # ------------------------------------------------------------------------- of each call

    def enter(self, frame: types.FrameType) -> None:
        """A function begins: what it reads is looked at before it does."""
        code, values = frame.f_code, frame.f_locals
        cells = _core._frame_cells(frame)
        own = () if cells is None else cells[0]
        if not is_resumed(frame):
            self._made.update(map(id, own))
            self._kept.append(own)
            if code.co_flags & inspect.CO_GENERATOR:
                self._begun.add(id(frame))
                self._kept.append(frame)
        elif id(frame) not in self._begun:  # before this trace, with all that it has
            for name, v in values.items():
                self._see(v, name)
        if not self._is_new_call(frame, cells):
            return
        if code.co_argcount and code.co_varnames[0] in values:
            # A class's function, which may be replaced.
            first = values[code.co_varnames[0]]
            kinds = () if sort_of(type(first)) == "plain" else type.mro(
                first if is_(first, type) else type(first))
            for kind in kinds:
                for name, found in list(vars(kind).items()):
                    function = plain_function(found)
                    if any(f.__code__ is code for f in wrapped(function)):
                        self._see(function, "")
                        # And what may come before it, in a class that is derived.
                        for of in (kind, kinds[0]):
                            self._place(f"{of.__name__}.{name}", name, of)
        self._frame(frame, cells)

    def _is_new_call(self, frame: types.FrameType, cells: "tuple | None") -> bool:
        code, values = frame.f_code, frame.f_locals
        outer = {n: v for n, v in values.items() if n in code.co_freevars}
        return self._is_new(code, *(outer if cells is None else cells[1]).values(),
                            *(v for v in values.values() if sort_of(type(v)) != "plain"))

    def leave(self, frame: types.FrameType, result: Any) -> None:
        """A function ends: by now its names hold something."""
        cells = _core._frame_cells(frame)
        if self._is_new_call(frame, cells):
            self._frame(frame, cells)

    def finish(self) -> None:
        """Looks for the attributes of who knows what, in all that was seen."""
        i = 0
        while i < len(self._objects):
            v, label = self._objects[i]
            for name, may_miss in list(self._loose.items()):
                if self._by_guess >= _MOST_BY_GUESS:
                    return
                may_miss &= self._missing < _MOST_BY_GUESS
                all_found = self._attribute(v, name, f"{label}.{name}", may_miss)
                self._by_guess += len(all_found)
                self._missing += may_miss and not all_found
                for found, _ in all_found:
                    self._see(found, f"{label}.{name}")
                for kind in type.mro(type(v)):  # what super() may mean
                    if name in vars(kind):
                        self._of_class(kind, name, f"{kind.__name__}.{name}")
            i += 1

    def _frame(self, frame: types.FrameType, of_frame: "tuple | None") -> None:
        code, values = frame.f_code, frame.f_locals
        known = {}
        by_name = asks_by_name(code)
        for name, v in values.items():
            if by_name and is_(v, str):
                self._note_texts(v)
            if sort_of(type(v)) != "plain":
                label = type(v).__name__ if name == "self" else name
                known[name] = [(v, label)]
            elif name in code.co_varnames[:code.co_argcount]:
                known[name] = []
        for cells in self._closures(frame, of_frame):
            self._code(code, frame.f_globals, cells, dict(known))

    def _closures(self, frame: types.FrameType, cells: "tuple | None") -> list:
        """The cells by name that the function has, of those that were there before."""
        if cells is not None:
            return [{n: c for n, c in cells[1].items() if id(c) not in self._made}]
        # It is one of the functions of this code that have what the frame has.
        values = frame.f_locals
        closures = [self._cells(f) for f in self._functions.get(id(frame.f_code), ())]
        return [cells for cells in closures
                if all(contents(c) is values.get(n) for n, c in cells.items())] or [{}]

    @staticmethod
    def _cells(function: types.FunctionType) -> dict:
        return dict(zip(function.__code__.co_freevars, function.__closure__ or ()))

    def _code(self, code: types.CodeType, names: dict, cells: dict, known: dict) -> None:
        # Of each expression what it may be, as far as can be told; None: who knows.
        current: Any = None
        given = {n: v for n, v in known.items() if n not in cells}
        stored = collections.Counter(arg for kind, arg in steps(code) if kind == "store")
        stored.update(code.co_varnames[:code.co_argcount])
        varying = False  # what `current` is of stands for several things, in a loop say
        unsure: set[str] = set()  # names that may have held other things than the frame tells
        module: list = []  # of the import statement
        takes_all, by_name = takes_objects_apart(code), asks_by_name(code)
        may_miss = "AttributeError" in code.co_names
        for kind, arg in steps(code):
            if kind == "attribute":
                if current is None or varying:
                    self._note_loose(arg, may_miss)
                if current is not None:
                    found = [self._attribute(v, arg, f"{label}.{arg}") for v, label in current]
                    current = [f for fs in found for f in fs] or None
            elif kind == "local":
                current = known.get(arg)
                varying = stored[arg] > 1 or arg in unsure
                for v, label in current or ():
                    if takes_all:
                        self._all_of(v, label)
                    if by_name:
                        self._note_texts(v)
                continue
            elif kind == "store":
                if current is None:
                    unsure.add(arg)
                else:
                    known[arg] = (known.get(arg) or []) + current
                continue
            elif kind == "global":
                v = names.get(arg)
                self._place(arg, arg, names)
                if arg not in names and is_users(vars(builtins).get(arg)):
                    self._place(arg, arg, vars(builtins))
                current = [(v, arg)] if arg in names else None
            elif kind in ("deref", "store deref"):
                if arg not in cells or arg == "__class__":  # of this trace
                    current = given.get(arg)
                    varying = True
                    continue
                self._place(arg, arg, cells[arg])
                v = contents(cells[arg])
                current = None if v is None else [(v, arg)]
            elif kind == "import":
                v, full = imported(*arg, names)
                if v is not None:  # otherwise the trace imports it
                    self._place(full, full, sys.modules)
                module = [] if v is None else [(v, full)]
                current = module or None
                continue
            elif kind in ("from", "from there"):
                found = [self._attribute(v, arg, f"{label}.{arg}") for v, label in module]
                current = [f for fs in found for f in fs] or None
                if kind == "from there":
                    module = current or []
            elif kind == "code":
                inner = arg.co_freevars
                self._code(arg, names, {n: c for n, c in cells.items() if n in inner},
                           {n: v for n, v in known.items() if n in inner})
                current = None
            elif kind in ("loose", "asked"):
                self._note_loose(arg, kind == "asked" and (current is None or varying))
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
                if is_(v, GETTERS):
                    takes_all = True
                    self._note_texts(v.__reduce__()[1])
                if takes_all:
                    self._all_of(v, label)
                if by_name:
                    self._note_texts(v)

    def _note_loose(self, name: str, may_miss: bool = False) -> None:
        self._loose[name] = self._loose.get(name, False) or may_miss

    def _note_texts(self, v: Any) -> None:
        """Texts that functions which ask by name may ask for."""
        if type(v) in (tuple, list, set, frozenset) and len(v) <= _MOST_ELEMENTS:
            texts = [*v]
        elif type(v) is dict and len(v) <= _MOST_ELEMENTS:
            texts = [*v, *v.values()]
        else:
            texts = [v]
        for text in texts:
            for name in names_in(text) if is_(text, str) else ():
                self._note_loose(name)

    # -------------------------------------------------------------------------- of each value

    def _see(self, v: Any, label: str, depth: int = 0) -> None:
        sort = sort_of(type(v))
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
            for held in (containers_of(v), v.keywords):
                for name, e in held.items():
                    if is_(e, CONTAINERS):
                        self._place(f"{label}({name})", name, held)
        elif sort == "compiled":
            for name in ("_instance", "_function"):
                self._see(vars(v).get(name), label, depth + 1)
        elif sort == "reference":
            self._see(_core._referent(v), label, depth + 1)
        elif sort == "proxy":
            for held in gc.get_referents(v):
                self._see(held, label, depth + 1)
        elif sort == "elements":
            kind = next(k for k in (list, tuple, set, frozenset, collections.deque) if is_(v, k))
            self._elements(list(kind.__iter__(v)), label, depth)
            self._see_attributes(v, label)
        elif sort == "dict":
            self._elements(list(dict.values(v)), label, depth)
            self._elements(list(dict.keys(v)), label, depth)
            self._see_attributes(v, label)
        elif sort == "module of Python":
            if not is_library(v):
                self._objects.append((v, label))
        elif sort in ("object", "module"):
            kind = self._see_attributes(v, label)
            if sort == "module":
                self._see_module(v, label)
            elif kind is v and issubclass(v, custom_function()):  # whose apply() runs them
                for name in ("forward", "backward"):
                    self._of_class(v, name, f"{label or v.__name__}.{name}")
            elif kind is not v and gives_what_it_holds(kind):
                self._all_of(v, label, depth)

    def _see_attributes(self, v: Any, label: str) -> type:
        """Gives its class, or itself if it is one."""
        kind = v if is_(v, type) else type(v)
        if module_name(kind) != "builtins":
            self._objects.append((v, label or type(v).__name__))
            if kind not in self.classes:
                if not asks_its_class(kind):
                    # Whoever copies an object notes these in its class, which would be a change.
                    copyreg._slotnames(kind)  # type: ignore[attr-defined]
                self.classes[kind] = _core._class_version(kind)
        return kind

    def _see_module(self, v: Any, label: str) -> None:
        SEEN[id(v)] = v
        if not of_libraries[file_of(type(v).forward)]:
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

    def _all_of(self, v: Any, label: str, depth: int = 0) -> None:
        """All that an object holds is read, and what its values hold that are a library's."""
        if sort_of(type(v)) != "object" or is_(v, type) or id(v) in self._taken:
            return
        self._taken.add(id(v))
        self._kept.append(v)
        slots = [n for k in type.mro(type(v)) for n in slot_names(vars(k).get("__slots__", ()))]
        matched = of_type(type(v), "__match_args__")  # which the class may have values for
        names = [*attributes_of(v), *slots, *(matched if type(matched) is tuple else ())]
        for name in [n for n in names if is_(n, str)][:_MOST_ELEMENTS]:
            if self._by_guess >= _MOST_BY_GUESS or depth > 8:
                return
            self._by_guess += 1
            for found, where in self._attribute(v, name, f"{label}.{name}"):
                self._see(found, where, depth + 1)
                for e in dict.values(found) if is_(found, dict) else (found,):
                    if of_a_package(type(e)) or is_dataclass(e):
                        self._all_of(e, where, depth + 1)

    def _attribute(self, v: Any, name: str, label: str, surely: bool = True) -> list:
        """What an attribute holds, which is made a place; unless it is not `surely` one of v."""
        Compiled, Module = own_classes()
        if is_(v, PROXIES):
            v = _core._referent(v)
        while is_(v, Compiled):
            if name in vars(v) or (surely and not is_(v, Module)):
                self._place(label, name, weak(v))
            if name in vars(v):
                return [(vars(v)[name], label)]
            v = vars(v)["_function"]
        if id(v) not in self._there and not is_(v, types.ModuleType):
            return []
        if is_(v, types.ModuleType):
            if is_library(v) or not (surely or name in vars(v)):
                return []
            self._place(label, name, vars(v))
            return [(vars(v)[name], label)] if name in vars(v) else []
        if is_(v, type):
            return self._of_class(v, name, label, surely and of_type(type(v), name) is None)
        if sort_of(type(v)) == "plain":
            return []
        held, of_class = attributes_of(v), surely
        found = of_type(type(v), name)
        # A value that the class has for those of its objects that have none of their own.
        surely = surely or (found is not None and plain_function(found) is None)
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
            self._place(label, name, weak(v) or v)
            try:
                return [(found.__get__(v), label)]
            except AttributeError:  # nothing in it
                return []
        if found is not None and of_type(type(found), "__set__") is not None:
            if name in held:  # where properties may keep their values
                self._place(label, name, held)
            return self._of_class(type(v), name, label, of_class)
        if name in held or (surely and type(v).__dictoffset__ != 0):
            self._place(label, name, weak(v) or v)
        if name in held:
            return [(held[name], label)]
        return self._of_class(type(v), name, label, of_class)

    def _of_class(self, kind: type, name: str, label: str, surely: bool = False) -> list:
        found = of_type(kind, name)
        function = plain_function(found)
        if function is not None:
            if not all(of_libraries[f.__code__.co_filename] for f in wrapped(function)):
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

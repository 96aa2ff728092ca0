"""What of functions' byte code is about names."""

from __future__ import annotations

import dis
import functools
import sys
import types
from typing import Any

from ._values import is_

_IGNORED = ("EXTENDED_ARG", "PUSH_NULL", "NOP", "CACHE", "COPY", "DUP_TOP")
# Who takes objects apart.
TAKE_ALL = {"vars", "__dict__", "asdict", "astuple", "fields", "attrgetter"}

_STEPS = {
    "LOAD_GLOBAL": "global", "LOAD_NAME": "global", "STORE_GLOBAL": "global",
    "DELETE_GLOBAL": "global", "LOAD_DEREF": "deref", "LOAD_CLASSDEREF": "deref",
    "LOAD_FROM_DICT_OR_DEREF": "deref", "STORE_DEREF": "store deref", "LOAD_ATTR": "attribute",
    "LOAD_METHOD": "attribute", "STORE_ATTR": "attribute", "DELETE_ATTR": "attribute",
    "LOAD_SUPER_ATTR": "loose", "IMPORT_FROM": "from",
    "STORE_FAST": "store",
}

# What binds a name to something else, and methods of the standard's containers that change them.
_BIND = {
    "STORE_GLOBAL", "DELETE_GLOBAL", "STORE_DEREF", "DELETE_DEREF", "STORE_ATTR", "DELETE_ATTR",
    "STORE_NAME", "DELETE_NAME",
}
_CHANGE_CONTENTS = {
    "__delitem__", "__setitem__", "add", "append", "appendleft", "clear", "difference_update",
    "discard", "extend", "extendleft", "insert", "intersection_update", "pop", "popitem", "popleft",
    "remove", "reverse", "rotate", "setdefault", "sort", "symmetric_difference_update", "update",
}


@functools.lru_cache(maxsize=1024)
def takes_objects_apart(code: types.CodeType) -> bool:
    """Whether it reads attributes that it does not name."""
    return not TAKE_ALL.isdisjoint(code.co_names) or ("format" in code.co_names and any(
        isinstance(c, str) and "{" in c for c in code.co_consts))


@functools.lru_cache(maxsize=1024)
def _start(code: types.CodeType) -> int:
    return next((i.offset for i in dis.get_instructions(code) if i.opname == "RESUME"), -1)


def is_resumed(frame: types.FrameType) -> bool:
    """Whether a generator goes on in it."""
    return frame.f_lasti > _start(frame.f_code)


@functools.lru_cache(maxsize=1024)
def steps(code: types.CodeType) -> tuple:
    """What of a code object is about names: pairs of a kind and a name."""
    found: list[tuple[str, Any]] = []
    instructions = list(dis.get_instructions(code))
    by_text = ({"getattr", "setattr", "hasattr", "delattr", "vars", "__dict__"} & set(code.co_names)
               or any(i.opname == "MATCH_CLASS" for i in instructions))
    constants: list = []
    for i in instructions:
        op, arg = i.opname, i.argval
        if op == "LOAD_CONST":
            constants.append(arg)
        if i.is_jump_target:  # what is there may be from elsewhere
            found.append(("other", ""))
        if op in _IGNORED:
            continue
        if op.startswith("LOAD_FAST"):
            found += [("local", n) for n in (arg if isinstance(arg, tuple) else (arg,))]
        elif op == "LOAD_CONST" and isinstance(arg, types.CodeType):
            found.append(("code", arg))
        elif op == "LOAD_CONST" and by_text and isinstance(arg, (str, tuple, frozenset)):
            texts = [arg] if isinstance(arg, str) else arg
            found += [("loose", text) for text in texts if isinstance(text, str)]
            found.append(("other", ""))
        elif op == "IMPORT_NAME":  # behind the level and the names
            level = constants[-2] if len(constants) > 1 and isinstance(constants[-2], int) else 0
            found.append(("import", (arg, level)))
        else:
            found.append((_STEPS.get(op, "other"), arg))
    return tuple(found)


@functools.lru_cache(maxsize=1024)
def stores(code: types.CodeType) -> tuple[frozenset, frozenset]:
    """Names that it gives something else; and, if it changes what containers hold, all that it
    names: whose contents these are, nobody knows."""
    bound: set[str] = set()
    within = not _CHANGE_CONTENTS.isdisjoint(code.co_names)
    for i in dis.get_instructions(code):
        if i.opname in _BIND:
            bound.add(i.argval)
        within |= i.opname in ("STORE_SUBSCR", "DELETE_SUBSCR", "STORE_SLICE")
    if not {"setattr", "delattr", "__setattr__", "__delattr__"}.isdisjoint(code.co_names):
        bound.update(c for c in code.co_consts if isinstance(c, str))
    return frozenset(bound), frozenset((*code.co_names, *code.co_freevars) if within else ())


def imported(name: str, level: int, names: dict) -> tuple[Any, str]:
    """The module that an import statement in these globals means, if it is there already, and its
    name in sys.modules."""
    if level:
        package = str(names.get("__package__") or names.get("__name__", ""))
        base = package.split(".")[: len(package.split(".")) - level + 1]
        name = ".".join([*base, *([name] if name else [])])
    elif name not in sys.modules:
        name = name.partition(".")[0]
    module = sys.modules.get(name)
    return (module if is_(module, types.ModuleType) else None), name

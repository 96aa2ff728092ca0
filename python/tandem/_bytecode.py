"""What of functions' byte code is about names."""

from __future__ import annotations

import dis
import functools
import re
import sys
import types
from typing import Any

from ._values import is_

_IGNORED = ("EXTENDED_ARG", "PUSH_NULL", "NOP", "CACHE", "COPY", "DUP_TOP")
# Who takes objects apart.
TAKE_ALL = {"vars", "__dict__", "asdict", "astuple", "fields", "attrgetter"}
# Who is given names of attributes.
_BY_NAME = {"getattr", "setattr", "hasattr", "delattr", "attrgetter", "methodcaller"}

_STEPS = {
    "LOAD_GLOBAL": "global", "LOAD_NAME": "global", "STORE_GLOBAL": "global",
    "DELETE_GLOBAL": "global", "LOAD_DEREF": "deref", "LOAD_CLASSDEREF": "deref",
    "LOAD_FROM_DICT_OR_DEREF": "deref", "STORE_DEREF": "store deref", "LOAD_ATTR": "attribute",
    "LOAD_METHOD": "attribute", "STORE_ATTR": "attribute", "DELETE_ATTR": "attribute",
    "LOAD_SUPER_ATTR": "loose", "IMPORT_FROM": "from",
    "STORE_FAST": "store",
}


@functools.lru_cache(maxsize=1024)
def takes_objects_apart(code: types.CodeType) -> bool:
    """Whether it reads attributes that it does not name."""
    return not TAKE_ALL.isdisjoint(code.co_names) or _formats(code) or any(
        # Those without names are of the class's __match_args__.
        i.opname == "MATCH_CLASS" and i.arg for i in dis.get_instructions(code))


def _formats(code: types.CodeType) -> bool:
    return "format" in code.co_names and any(
        isinstance(c, str) and "{" in c for c in code.co_consts)


def asks_by_name(code: types.CodeType) -> bool:
    """Whether texts that it meets may be names of attributes."""
    return not _BY_NAME.isdisjoint(code.co_names)


def names_in(text: str) -> list[str]:
    """What may be names of attributes in "name", "a.b" or "{0.a.b}"."""
    return re.findall(r"[^\W\d]\w*", text) if len(text) <= 256 else []


@functools.lru_cache(maxsize=1024)
def _start(code: types.CodeType) -> int:
    return next((i.offset for i in dis.get_instructions(code) if i.opname == "RESUME"), -1)


def is_resumed(frame: types.FrameType) -> bool:
    """Whether a generator goes on in it."""
    return frame.f_lasti > _start(frame.f_code)


def is_second_of_a_call(following: list) -> bool:
    """Whether what was put on the stack before is: of getattr(…, "name", default), say, with which
    who asks need not find anything."""
    ops = [i for i in following if i.opname not in ("PRECALL", *_IGNORED)]
    for more, i in enumerate(ops[:2]):
        if i.opname == "CALL":
            return i.arg == 2 + more
        if not i.opname.startswith("LOAD_"):
            return False
    return False


@functools.lru_cache(maxsize=1024)
def steps(code: types.CodeType) -> tuple:
    """What of a code object is about names: pairs of a kind and a name."""
    found: list[tuple[str, Any]] = []
    instructions = list(dis.get_instructions(code))
    by_text = (asks_by_name(code) or _formats(code) or {"vars", "__dict__"} & set(code.co_names)
               or any(i.opname == "MATCH_CLASS" for i in instructions))
    constants: list = []
    for at, i in enumerate(instructions):
        op, arg = i.opname, i.argval
        following = tuple(n.opname for n in instructions[at + 1:at + 3])
        if op in ("LOAD_CONST", "LOAD_SMALL_INT"):
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
            kind = "asked" if is_second_of_a_call(instructions[at + 1:at + 5]) else "loose"
            found += [(kind, n) for t in texts if isinstance(t, str) for n in names_in(t)]
            found.append(("other", ""))
        elif op == "IMPORT_NAME":  # behind the level and the names
            level, names = constants[-2:] if len(constants) > 1 else (0, None)
            found.append(("import", (arg, level if isinstance(level, int) else 0, bool(names))))
        elif op == "IMPORT_FROM" and following in (("SWAP", "POP_TOP"), ("ROT_TWO", "POP_TOP")):
            found.append(("from there", arg))  # import a.b.c as d
        else:
            found.append((_STEPS.get(op, "other"), arg))
    return tuple(found)


def imported(name: str, level: int, names_of_it: bool, names: dict) -> tuple[Any, str]:
    """What an import statement in these globals begins with, if it is there already, and its name in
    sys.modules: the module itself if it wants `names_of_it`, else the package around it."""
    if level:
        package = str(names.get("__package__") or names.get("__name__", ""))
        base = package.split(".")[: len(package.split(".")) - level + 1]
        name = ".".join([*base, *([name] if name else [])])
    elif not names_of_it or name not in sys.modules:
        name = name.partition(".")[0]
    module = sys.modules.get(name)
    return (module if is_(module, types.ModuleType) else None), name

"""Checks of arguments, and what is said of a call of C++ whose arguments do not fit its signature.
"""

from __future__ import annotations

import math
import operator
import re
from dataclasses import dataclass
from typing import Any, Iterator

from . import _core


def whole(who: str, name: str, value: Any) -> int:
    """`value` as an int. DTypeError for what is no whole number."""
    try:
        return operator.index(value)
    except TypeError:
        raise _core.DTypeError(f"[{who}] {name} does not fit; got {value!r}; expected a whole "
                               "number") from None


def number(who: str, name: str, value: Any) -> float:
    """`value` as a float. DTypeError for what is no number."""
    if isinstance(value, str) or not (hasattr(value, "__float__") or hasattr(value, "__index__")):
        raise _core.DTypeError(f"[{who}] {name} does not fit; got {value!r}; expected a number")
    return float(value)


def between(who: str, name: str, value: Any, least: float, most: float) -> float:
    """`value` as a float from `least` to `most`. DTypeError for what is no number, RangeError for
    another one, NaN among these."""
    found = number(who, name, value)
    if not least <= found <= most:
        wanted = f"{least} or more" if most == math.inf else f"{least} to {most}"
        raise _core.RangeError(f"[{who}] {name} is out of range; got {value!r}; expected {wanted}")
    return found


_REFUSED = re.compile(r"(\w*)\(\): incompatible (function|constructor) arguments\.")
_SIGNATURE = re.compile(r"^    \d+\. ([\w.]*)\((.*)\)(?: -> .*)?$", re.MULTILINE)
# What of an argument's type can be told, and what to give instead.
_EXPECTED = {
    "Tensor": "a tensor: tandem.asarray(…)",
    "dtype": "tandem.float32, 'float32', …",
    "Device": "'cpu', 'cuda', 'cuda:1', or a Device",
    "int | Sequence[int]": "a number or a tuple of them",
    "Sequence[int]": "a tuple of whole numbers",
    "int | tuple[int, int]": "a number or two of them",
}


@dataclass
class _Parameter:
    name: str
    type: str
    needed: bool
    by_name: bool

    def __str__(self) -> str:
        return f"{self.name}: {self.type}" + ("" if self.needed else " = …")


def _parts(text: str) -> Iterator[str]:
    """What stands between commas outside of brackets."""
    depth, start = 0, 0
    for i, c in enumerate(text):
        depth += (c in "([{<") - (c in ")]}>")
        if c == "," and depth == 0:
            yield text[start:i].strip()
            start = i + 1
    if text[start:].strip():
        yield text[start:].strip()


def _parameters(text: str) -> "list[_Parameter] | None":
    """None for a function of any number of arguments."""
    found, by_name = [], False
    for part in _parts(text):
        if part in ("*", "/"):
            by_name = by_name or part == "*"
        elif part.startswith("*"):
            return None
        else:
            name, _, rest = part.partition(": ")
            kind, equals, default = rest.partition(" = ")
            kind = re.sub(r"typing\.Supports(Int|Float) \| typing\.SupportsIndex",
                          lambda m: m[1].lower(), kind)
            kind = re.sub(r"\b(?:tandem|typing|collections|_core|abc)\.|tandem::", "", kind)
            if default == "None" and not kind.endswith(" | None"):
                kind += " | None"
            found.append(_Parameter(name, kind, not equals, by_name))
    return found


def _is(value: Any, kind: str) -> bool:
    """Whether a value may be of a type, as far as its name tells."""
    if kind in ("dtype", "Device"):
        try:
            return isinstance(_core._conversion(value), getattr(_core, kind))
        except _core.Error:
            return False
    if kind == "int":
        return hasattr(value, "__index__") and not isinstance(value, _core.Tensor)
    if kind == "float":
        return hasattr(value, "__float__") or hasattr(value, "__index__")
    if kind in ("str", "bool"):
        return isinstance(value, str if kind == "str" else bool)
    if kind == "Sequence[int]":
        return isinstance(value, (tuple, list)) and all(_is(v, "int") for v in value)
    if kind == "int | Sequence[int]":
        return _is(value, "int") or _is(value, "Sequence[int]")
    if kind == "int | tuple[int, int]":
        return _is(value, "int | Sequence[int]") and (_is(value, "int") or len(value) in (1, 2))
    own = getattr(_core, kind, None)
    return not isinstance(own, type) or isinstance(value, own)


def _shown(value: Any) -> str:
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    kind = type(value)
    of = "" if kind.__module__ in ("builtins", "tandem", "tandem._core") else f"{kind.__module__}."
    return f"{of}{kind.__qualname__}"


def _problem(parameters: list, args: tuple, kwargs: dict) -> "tuple[str, str, str] | None":
    """The rule, what was given, and what to give."""
    names = [p.name for p in parameters]
    for k, v in kwargs.items():
        if k not in names:
            return f"there is no argument {k!r}", f"{k}={_shown(v)}", ", ".join(names) or "none"
    places = [p for p in parameters if not p.by_name]
    if places and places[0].type == "int | Sequence[int]" and len(args) > 1:
        if all(_is(a, "int") and not isinstance(a, bool) for a in args):
            return (f"{names[0]} is one argument", ", ".join(map(_shown, args)),
                    repr(tuple(args)))
    if len(args) > len(places):
        return "takes fewer arguments", f"{len(args)}", f"at most {len(places)}: {', '.join(names)}"
    given = {**dict(zip(names, args)), **kwargs}
    missing = [p.name for p in parameters if p.needed and p.name not in given]
    if missing:
        return "an argument is missing", ", ".join(given) or "none", ", ".join(missing)
    for p in parameters:
        kind = p.type.removesuffix(" | None")
        fits = p.name not in given or _is(given[p.name], kind)
        if not fits and not (given[p.name] is None and kind != p.type):
            return f"{p.name} does not fit", _shown(given[p.name]), _EXPECTED.get(kind, kind)
    for p in parameters:  # C++'s integers have fewer digits, and some no sign
        value = given.get(p.name)
        if p.type == "int" and not isinstance(value, bool) and isinstance(value, int):
            if not 0 <= value < 2**31:
                return (f"{p.name} is out of range", _shown(value),
                        "0 or more" if value < 0 else "a smaller number")
    return None


def _sizes(name: str, args: tuple) -> "tuple[tuple[str, str, str] | None, tuple]":
    """What is wrong with numbers one by one, and the arguments with these as one."""
    wrong = [a for a in args if not _is(a, "int")]
    if not wrong:
        return None, (args,)
    given = ", ".join(map(_shown, args))
    if len(args) == 2 and not isinstance(args[1], float):
        return None, args  # perhaps one, and what comes next
    if len(wrong) == 1 and wrong[0] is args[-1] and not isinstance(args[-1], float):
        return (f"beside {name} one by one the rest goes by name", given,
                f"({', '.join(map(_shown, args[:-1]))}, …=…)"), args
    return (f"{name} does not fit", given, "whole numbers"), args


# How the public function is called that is made of a constructor, and what that adds by itself.
_MADE_BY = {"Compiled": ("compile", ("function", "owner"))}


def explain(message: str, args: Any, kwargs: dict) -> "str | None":
    """An error's text in place of pybind11's `message`; None where it is about something else."""
    head = _REFUSED.match(message)
    if head is None:
        return None
    args = tuple(args)
    signatures = _SIGNATURE.findall(message.partition("\nInvoked with: ")[0])
    name = head[1]
    if head[2] == "constructor":
        name = signatures[0][0].rpartition(".")[2] if signatures else name
        args = args[1:]
    if not name.startswith("__"):
        name = name.lstrip("_")
    choices = [_parameters(text) for _, text in signatures]
    if name in _MADE_BY:
        name, hidden = _MADE_BY[name]
        args = args[len(hidden):]
        choices = [c and [p for p in c if p.name not in hidden] for c in choices]
    if not name and len(args) == 2 and choices and choices[0]:  # what sets an attribute
        kind = choices[0][-1].type
        return (f"[{type(args[0]).__name__}] the attribute cannot be this; got {_shown(args[1])}; "
                f"expected {_EXPECTED.get(kind.removesuffix(' | None'), kind)}")
    is_apart = None in choices
    if any(c is not None for c in choices):  # what takes anything is another way to say the same
        choices = [c for c in choices if c is not None]
    if all(c and c[0].name == "self" for c in choices):
        choices, args = [c[1:] for c in choices if c], args[1:]
    if len(choices) == 1 and choices[0] is not None:
        found = None
        if is_apart and len(args) > 1 and _is(args[0], "int"):
            found, args = _sizes(choices[0][0].name, args)
        found = found or _problem(choices[0], args, kwargs)
        if found:
            return f"[{name}] {found[0]}; got {found[1]}; expected {found[2]}"
    given = [_shown(a) for a in args] + [f"{k}={_shown(v)}" for k, v in kwargs.items()]
    takes = [f"({', '.join(map(str, c)) if c is not None else '…'})" for c in choices]
    return (f"[{name}] the arguments do not fit; got ({', '.join(given)}); "
            f"expected {' or '.join(takes)}")

"""What kind of value something is, found out without running anything of the user's."""

from __future__ import annotations

import collections
import functools
import operator
import os
import sys
import sysconfig
import types
import weakref
from typing import Any, Iterator

from . import _core

CONTAINERS = (list, dict, set, collections.deque)
GETTERS = (operator.attrgetter, operator.methodcaller)
PROXIES = (weakref.ProxyType, weakref.CallableProxyType)
# Values that have nothing to look into.
PLAIN = (_core.Tensor, type(None), bool, int, float, complex, str, bytes, _core.dtype, _core.Device)


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


def is_library(module: types.ModuleType) -> bool:
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


def asks_its_class(kind: type) -> bool:
    """Whether code of a metaclass runs when somebody asks for an attribute of the class."""
    return type(kind) is not type and (
        of_type(type(kind), "__getattr__") is not None
        or of_type(type(kind), "__getattribute__") is not type.__getattribute__)


def plain_function(found: Any) -> Any:
    """The function in a class's attribute, or None."""
    if is_(found, (staticmethod, classmethod)):
        found = found.__func__
    elif is_(found, property):
        found = found.fget
    elif is_(found, functools.cached_property):
        found = found.func
    return found if is_(found, types.FunctionType) else None


def wrapped(function: types.FunctionType) -> Iterator[types.FunctionType]:
    """The function, and those it says it wraps."""
    found: Any = function
    for _ in range(16):  # it may say so of itself
        if not is_(found, types.FunctionType):
            return
        yield found
        found = vars(found).get("__wrapped__")


def attributes_of(v: Any) -> Any:
    return object.__getattribute__(v, "__dict__") if type(v).__dictoffset__ != 0 else {}


_of_partials: "weakref.WeakKeyDictionary[functools.partial, dict]" = weakref.WeakKeyDictionary()


def containers_of(partial: functools.partial) -> dict:
    """Those among its arguments without names, by number: the same dict as long as they are the
    same."""
    now = {str(i): e for i, e in enumerate(partial.args) if is_(e, CONTAINERS)}
    known = _of_partials.setdefault(partial, now)
    if [*map(id, known.values())] != [*map(id, now.values())]:
        known = _of_partials[partial] = now
    return known


_SORTS: Any = weakref.WeakKeyDictionary()  # by type


def sort_of(kind: type) -> str:
    """What is looked at in a value of this type."""
    found = _SORTS.get(kind)
    if found is None:
        Compiled, Module = own_classes()
        sorts = ((_core.Tensor, "plain"), ((weakref.ref, *PROXIES), "reference"),
                 (types.MappingProxyType, "proxy"), (types.FunctionType, "function"), (types.MethodType, "method"),
                 (functools.partial, "partial"), (Compiled, "compiled"),
                 ((list, tuple, set, frozenset, collections.deque), "elements"), (dict, "dict"),
                 (types.ModuleType, "module of Python"), (Module, "module"))
        own = "plain" if kind in PLAIN or module_name(kind).partition(".")[0] in (
            "tandem", "numpy") else "object"
        found = next((sort for of, sort in sorts if issubclass(kind, of)), own)
        _SORTS[kind] = found
    return found


@functools.lru_cache(maxsize=None)
def own_classes() -> tuple[type, type]:
    from .graph import Compiled  # which need this module
    from .nn.module import Module

    return Compiled, Module


@functools.lru_cache(maxsize=None)
def custom_function() -> type:
    from .autograd import Function

    return Function


def module_name(kind: type) -> str:
    """Of the module that has the class. Of some that are made in C the attribute is another thing."""
    name = kind.__module__
    return name if is_(name, str) else ""


_of_packages: "weakref.WeakKeyDictionary[type, bool]" = weakref.WeakKeyDictionary()


def of_a_package(kind: type) -> bool:
    """Whether its functions are a library's, in which nothing is watched."""
    found = _of_packages.get(kind)
    if found is None:
        module = sys.modules.get(module_name(kind))
        found = _of_packages[kind] = module is not None and is_library(module)
    return found


def is_cache(kind: type, name: str) -> bool:
    """Whether what an object of this class keeps under a name is made again where it is missing."""
    return is_(of_type(kind, name), functools.cached_property) or (
        name.startswith("_") and of_a_package(kind))


def gives_what_it_holds(kind: type) -> bool:
    """Whether a library's functions look its objects' values up: those of a configuration, say."""
    def looks_up(base: type) -> bool:
        found = (vars(base).get("__getitem__"), vars(base).get("__getattr__"))
        return any(f is not None and not getattr(f, "__isabstractmethod__", False) for f in found)

    return any(of_a_package(base) and module_name(base) != "builtins" and looks_up(base)
               for base in type.mro(kind))


def is_dataclass(v: Any) -> bool:
    return of_type(type(v), "__dataclass_fields__") is not None and not is_(v, own_classes()[1])


def slot_names(slots: Any) -> tuple:
    return (slots,) if is_(slots, str) else tuple(slots)


def slot(v: Any, name: str) -> Any:
    found = of_type(type(v), name)
    try:
        return found.__get__(v) if is_(found, types.MemberDescriptorType) else None
    except AttributeError:  # nothing in it
        return None


def contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None


def file_of(function: Any) -> str:
    return function.__code__.co_filename if is_(function, types.FunctionType) else _OWN


def is_users(builtin: Any) -> bool:
    """Whether somebody put it among the built-in names."""
    return getattr(builtin, "__module__", "builtins" if builtin is None else "") != "builtins"


def weak(v: Any) -> Any:
    # An object is not kept by those that look at it.
    try:
        return weakref.ref(v)
    except TypeError:
        return None

"""Modules of modules: in a row, in a list, by name."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Iterator, TypeVar

from .. import _core
from .._arguments import whole
from .._capture import note_change
from .module import Module

_S = TypeVar("_S", bound="_Modules")


class _Modules(Module):
    """Modules named by their places."""

    def append(self: _S, module: Module) -> _S:
        """Adds a module at the end."""
        n = len(self)
        while str(n) in self._modules:  # of names somebody chose
            n += 1
        self.add_module(str(n), module)
        return self

    def extend(self: _S, modules: Iterable[Module]) -> _S:
        """Adds modules at the end."""
        listed = self._listed(modules)
        for i, module in enumerate(listed):
            self._check_child(str(i), module)
        for module in listed:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> None:
        """Adds a module in front of another one, as list.insert() does; names are places again."""
        place = whole(type(self).__name__, "index", index)
        self._arrange(lambda modules: modules.insert(place, module))

    def _listed(self, modules: Any) -> list:
        if not hasattr(modules, "__iter__"):
            raise _core.DTypeError(f"[{type(self).__name__}] modules come as a list; got "
                                   f"{modules!r}; expected [nn.Linear(2, 2), nn.ReLU()], say")
        return list(modules)

    def _checked(self, part: slice) -> slice:
        # list's own errors would not say what was given.
        who = type(self).__name__
        places = [None if place is None else whole(who, f"a slice's {name}", place)
                  for name, place in (("start", part.start), ("stop", part.stop),
                                      ("step", part.step))]
        if places[2] == 0:
            raise _core.RangeError(f"[{who}] a slice goes on from place to place; got a step of 0; "
                                   "expected 1, say")
        return slice(*places)

    def _arrange(self, change: Callable[[list], Any]) -> None:
        modules = list(self._modules.values())
        change(modules)
        new = {str(i): module for i, module in enumerate(modules)}
        for name, module in new.items():
            self._check_child(name, module)
        self._modules.clear()
        self._modules.update(new)
        note_change(f"{type(self).__name__}: its modules")

    def _key(self, i: int) -> str:
        keys = list(self._modules)
        if not hasattr(i, "__index__"):
            raise _core.DTypeError(f"[{type(self).__name__}] modules are found by their places; "
                                   f"got {i!r}; expected a whole number")
        if not -len(keys) <= i < len(keys):
            raise _core.OutOfBoundsError(f"[{type(self).__name__}] there is no such module; got "
                                         f"{i}; expected below {len(keys)}")
        return keys[i]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return self._part(dict(list(self._modules.items())[self._checked(i)]))
        return self._modules[self._key(i)]

    def __setitem__(self, i: Any, module: Any) -> None:
        if isinstance(i, slice):
            part, new = self._checked(i), self._listed(module)
            if part.step not in (None, 1) and len(new) != len(range(len(self))[part]):
                raise _core.RangeError(
                    f"[{type(self).__name__}] a slice with a step is replaced by as many modules; "
                    f"got {len(new)}; expected {len(range(len(self))[part])}")
            return self._arrange(lambda modules: modules.__setitem__(part, new))
        self.add_module(self._key(i), module)

    def __delitem__(self, i: Any) -> None:
        if isinstance(i, slice):
            i = self._checked(i)
        else:
            self._key(i)
        self._arrange(lambda modules: modules.__delitem__(i))

    def _part(self, modules: dict) -> Any:
        raise NotImplementedError


class Sequential(_Modules):
    """One module after the other: Sequential(a, b) or Sequential(OrderedDict(...)). Its result is
    that of the last one, given that of the one before; of none, x itself. Slices share the modules.
    DTypeError for what is no Module, RangeError for one that holds this one."""

    def __init__(self, *modules: Any):
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], dict):
            for name, module in modules[0].items():
                self.add_module(name, module)
        else:
            for i, module in enumerate(modules):
                self.add_module(str(i), module)

    def forward(self, x: Any) -> Any:
        for module in self._modules.values():
            x = module(x)
        return x

    def _part(self, modules: dict) -> "Sequential":
        return Sequential(modules)


class ModuleList(_Modules):
    """Modules in a list, which forward() of the module that has it calls as it likes. DTypeError for
    what is no Module, RangeError for one that holds this one, IndexError beyond its end."""

    def __init__(self, modules: Any = ()):
        super().__init__()
        self.extend(modules)

    def _part(self, modules: dict) -> "ModuleList":
        return ModuleList(modules.values())


class ModuleDict(Module):
    """Modules by names of one's own: ModuleDict({"conv": nn.Conv2d(3, 8, 3)}). DTypeError for what is
    no Module, RangeError for a name with a dot, KeyError for one that is not there."""

    def __init__(self, modules: Any = ()):
        super().__init__()
        self.update(modules)

    def update(self, modules: Any) -> None:
        """Adds or replaces modules: a dict, or pairs of names and modules."""
        pairs = modules.items() if hasattr(modules, "items") else modules
        try:
            named = dict(pairs)
        except (TypeError, ValueError):
            raise _core.DTypeError(f"[{type(self).__name__}] modules come with their names; got "
                                   f"{modules!r}; expected {{'relu': nn.ReLU()}}, say") from None
        for name, module in named.items():
            self.add_module(name, module)

    def keys(self) -> Any:
        """The names of the modules, in the order they were added."""
        return self._modules.keys()

    def values(self) -> Any:
        """The modules."""
        return self._modules.values()

    def items(self) -> Any:
        """Names and modules."""
        return self._modules.items()

    def pop(self, name: str) -> Module:
        """Takes a module out. KeyError if there is none of the name."""
        module = self._modules[name]
        del self[name]
        return module

    def __getitem__(self, name: str) -> Module:
        return self._modules[name]

    def __setitem__(self, name: str, module: Module) -> None:
        self.add_module(name, module)

    def __delitem__(self, name: str) -> None:
        del self._modules[name]
        note_change(f"{type(self).__name__}.{name}")

    def __contains__(self, name: object) -> bool:
        return name in self._modules

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

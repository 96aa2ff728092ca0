"""Module: a function with parameters."""

from __future__ import annotations

import copy
import functools
import inspect
from collections import OrderedDict
from typing import Any, Callable, Iterator

from .. import _core
from .._capture import note_change
from .._reads import SEEN
from .._core import Tensor
from ..graph import Compiled
from ._hooks import Hook, Passage

_MISSING = object()
_TABLES = ("_parameters", "_buffers", "_modules")
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_hooks")


def _same(old: Any, new: Any) -> bool:
    """Whether no program can tell the two apart. Forward functions that note something in an
    attribute at each call must not make programs look at themselves each time."""
    if old is new:
        return True
    if type(old) is not type(new):
        return False
    if isinstance(old, Tensor):
        return not _core._is_captured(old) and (
            old.shape, old.dtype, old.device, old.requires_grad
        ) == (new.shape, new.dtype, new.device, new.requires_grad)
    return type(old) in (bool, int, float, str) and repr(old) == repr(new)


def Parameter(data: Any, requires_grad: bool = True) -> Tensor:
    """A tensor to be trained: assigned to a Module's attribute, it is one of its parameters."""
    return _core._tensor(data).detach().requires_grad_(requires_grad)


def _changed(module: "Module", name: str, new: Any, old: Any) -> None:
    # A captured function's own tensors: whoever uses one outside is told.
    if isinstance(new, Tensor) and _core._is_symbolic(new):
        return
    # What was made just now no program knows yet.
    if old is _MISSING and SEEN.get(id(module)) is not module and not _core._is_capturing():
        return
    what = f"{type(module).__name__}.{name}"
    # What the package's own code reads, nobody sees it read.
    if name in _own_names(type(module)) or any(isinstance(v, (Tensor, Module)) for v in (new, old)):
        note_change(what)
    else:
        note_change(what, module, name)


@functools.lru_cache(maxsize=256)
def _own_names(kind: type) -> frozenset:
    """Attributes that a class of the package knows: its options, and what it has in common."""
    names: set[str] = set()
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] == "tandem":
            names.update(vars(base), inspect.signature(base.__init__).parameters)
    return frozenset(names)


class Module:
    """Base of layers and models.

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(784, 10)

        def forward(self, x):
            return self.fc(x.flatten(1))

    Modules, tensors that want a gradient (parameters) and what register_buffer() was given
    (state that is not trained) are found in attributes, by their names.
    """

    def __init__(self) -> None:
        for table in (*_TABLES, *_HOOKS):
            object.__setattr__(self, table, OrderedDict())
        # Compiled programs notice a change of what they read here.
        object.__setattr__(self, "_training", _core._Flag(1, "training mode"))

    # Names of tensors that a module of C++ holds too; of buffers that are not saved.
    _fixed: frozenset = frozenset()
    _unsaved: frozenset = frozenset()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; called by the module itself when it is called."""
        raise NotImplementedError(f"[{type(self).__name__}] forward is not defined")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not (self._forward_hooks or self._forward_pre_hooks or self._backward_hooks):
            return self.forward(*args, **kwargs)
        for hook in list(self._forward_pre_hooks.values()):
            changed = hook(self, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        if self._backward_hooks:
            passage = Passage(self)
            result = passage.out(self.forward(*passage.into(args), **kwargs))
        else:
            result = self.forward(*args, **kwargs)
        for hook in list(self._forward_hooks.values()):
            changed = hook(self, args, result)
            if changed is not None:
                result = changed
        return result

    # ------------------------------------------------------------------------- attributes

    def __setattr__(self, name: str, value: Any) -> None:
        tables = self.__dict__
        if "_parameters" not in tables:
            raise AttributeError(
                f"[{type(self).__name__}] super().__init__() must come before attributes"
            )
        old = self._held(name)
        if old is value and name not in tables:  # self.weight *= 2
            return
        self._check_name(name)
        child = isinstance(value, Module) and not (
            # self.fast = td.compile(self): itself in another form, not one of its parts.
            isinstance(value, CompiledModule) and value._function is self)
        if child:
            self._check_child(name, value)
        if not _same(old, value):
            _changed(self, name, value, old)
        if child:
            new = "_modules"
        elif isinstance(value, Tensor) and name in self._buffers:
            new = "_buffers"
        elif isinstance(value, Tensor) and value.requires_grad and value.is_leaf:
            new = "_parameters"
        else:
            new = ""
        for kind in _TABLES:
            if kind != new:
                tables[kind].pop(name, None)
        if new:
            tables.pop(name, None)
            tables[new][name] = value
        else:
            object.__setattr__(self, name, value)

    def _check_name(self, name: str) -> None:
        """AttributeError where an attribute may not get another value."""

    def __getattr__(self, name: str) -> Any:
        for table in _TABLES:
            found = self.__dict__.get(table, {})
            if name in found:
                return found[name]
        raise AttributeError(f"[{type(self).__name__}] no such attribute; got {name!r}")

    def __delattr__(self, name: str) -> None:
        self._check_name(name)
        _changed(self, name, None, self._held(name))
        for table in (self._parameters, self._buffers, self._modules):
            if name in table:
                del table[name]
                return
        object.__delattr__(self, name)

    def register_parameter(self, name: str, value: Tensor | None) -> None:
        """A tensor to be trained, under a name; None: the layer has none."""
        self._check_path(name)
        if value is not None:
            self._check_tensor(name, value)
        old = self._held(name)
        self._forget(name)
        _changed(self, name, value, old)
        if value is None:
            object.__setattr__(self, name, None)
        else:
            self._parameters[name] = value.requires_grad_()

    def _check_tensor(self, name: str, value: Any) -> None:
        if not isinstance(value, Tensor):
            raise _core.DTypeError(f"[{type(self).__name__}] what is registered is a tensor; got "
                                   f"{value!r} for {name!r}; expected tandem.asarray(…)")

    def _held(self, name: str) -> Any:
        tables = (self.__dict__, self._parameters, self._buffers, self._modules)
        return next((table[name] for table in tables if name in table), _MISSING)

    def _forget(self, name: str) -> None:
        # A name stands for one thing.
        for table in (self._parameters, self._buffers, self._modules, self.__dict__):
            table.pop(name, None)

    def register_buffer(self, name: str, value: Tensor, persistent: bool = True) -> None:
        """State that is not trained; in state_dict() unless it is not `persistent`."""
        self._check_path(name)
        self._check_tensor(name, value)
        old = self._held(name)
        self._forget(name)
        _changed(self, name, value, old)
        self._buffers[name] = value
        unsaved = self._unsaved - {name} if persistent else self._unsaved | {name}
        object.__setattr__(self, "_unsaved", unsaved)

    def add_module(self, name: str, module: "Module") -> None:
        """A module under a name that need not be an identifier. DTypeError for what is none,
        RangeError for a name with a dot."""
        self._check_child(name, module)
        old = self._held(name)
        if name not in self._modules:  # which keeps its place
            self._forget(name)
        _changed(self, name, module, old)
        self._modules[name] = module

    def _check_child(self, name: str, module: Any) -> None:
        if not isinstance(module, Module):
            what = getattr(module, "__name__", None) or repr(module)
            raise _core.DTypeError(
                f"[{type(self).__name__}] what is in a module is a Module; got {what} of type "
                f"{type(module).__name__} for {name!r}; expected nn.ReLU(), say, not relu"
            )
        if any(m is self for m in module.modules()):
            raise _core.RangeError(
                f"[{type(self).__name__}] a module cannot hold itself; got {name!r}, which does; "
                "expected another module"
            )
        self._check_path(name)

    def _check_path(self, name: Any) -> None:
        # Paths are names with dots between them.
        if not isinstance(name, str) or not name or "." in name:
            raise _core.RangeError(f"[{type(self).__name__}] a name is text without dots; got "
                                   f"{name!r}; expected 'conv1', say")
        self._check_name(name)

    def register_forward_hook(self, hook: Callable) -> Hook:
        """Calls hook(module, args, result) after forward; what it returns replaces the result."""
        return self._add_hook(self._forward_hooks, hook)

    def register_forward_pre_hook(self, hook: Callable) -> Hook:
        """Calls hook(module, args) before forward; what it returns replaces the arguments."""
        return self._add_hook(self._forward_pre_hooks, hook)

    def register_full_backward_hook(self, hook: Callable) -> Hook:
        """Calls hook(module, grad_input, grad_output) when the gradients of the arguments are known:
        tuples with an entry for each tensor among the arguments and the results, None where there
        is no gradient. What it returns replaces grad_input.

        The tape of a call refers to the module. A module that keeps a result of that call is thus
        in a circle of which Python does not see the part in C++: it is never collected, unless a
        backward pass used the tape up, or the result was detached."""
        return self._add_hook(self._backward_hooks, hook)

    @staticmethod
    def _add_hook(hooks: dict, hook: Callable) -> Hook:
        note_change("hooks")
        key = max(hooks, default=0) + 1
        hooks[key] = hook
        return Hook(hooks, key)

    # --------------------------------------------------------------------------- the tree

    def children(self) -> Iterator["Module"]:
        """The modules in this one."""
        return iter(self._modules.values())

    def named_children(self) -> Iterator[tuple[str, "Module"]]:
        """The modules in this one with their names."""
        return iter(self._modules.items())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, "Module"]]:
        """This module and all below it, each once, with their paths ("features.0"). Of compiled
        ones those that were compiled."""
        seen: set[int] = set()

        def walk(module: Module, path: str) -> Iterator[tuple[str, Module]]:
            while isinstance(module, CompiledModule):
                module = module._function
            if id(module) in seen:
                return
            seen.add(id(module))
            yield path, module
            for name, child in module._modules.items():
                yield from walk(child, f"{path}.{name}" if path else name)

        return walk(self, prefix)

    def modules(self) -> Iterator["Module"]:
        """This module and all below it."""
        return (m for _, m in self.named_modules())

    def _own(self, kind: str) -> dict:
        return self._parameters if kind == "parameters" else self._buffers

    def _named(self, kind: str, prefix: str, recurse: bool = True,
               saved: bool = False) -> Iterator[tuple[str, Tensor]]:
        seen: set[int] = set()
        modules = self.named_modules(prefix) if recurse else iter([(prefix, self)])
        for path, module in modules:
            for name, tensor in module._own(kind).items():
                if tensor is None or hash(tensor) in seen or (saved and name in module._unsaved):
                    continue
                seen.add(hash(tensor))
                yield (f"{path}.{name}" if path else name), tensor

    def named_parameters(self, prefix: str = "",
                         recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        """Every parameter once, with its path ("features.0.weight"); without `recurse` this
        module's own."""
        return self._named("parameters", prefix, recurse)

    def named_buffers(self, prefix: str = "",
                      recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        """Every buffer once, with its path; without `recurse` this module's own."""
        return self._named("buffers", prefix, recurse)

    def parameters(self, recurse: bool = True) -> list[Tensor]:
        """Every parameter once; without `recurse` this module's own."""
        return [p for _, p in self.named_parameters(recurse=recurse)]

    def buffers(self, recurse: bool = True) -> list[Tensor]:
        """Every buffer once; without `recurse` this module's own."""
        return [b for _, b in self.named_buffers(recurse=recurse)]

    def parameter_count(self) -> int:
        """Number of parameter values."""
        return sum(p.size for p in self.parameters())

    def get_submodule(self, path: str) -> "Module":
        """The module of a path ("features.0"; "" is this one). AttributeError if there is none."""
        module: Module = self
        for name in path.split(".") if path else []:
            found = module._modules.get(name)
            if found is None:
                raise AttributeError(f"[{type(self).__name__}] no such module; got {path!r}; "
                                     f"expected one of named_modules()")
            module = found
        return module

    def get_parameter(self, path: str) -> Tensor:
        """The parameter of a path ("features.0.weight"). AttributeError if there is none."""
        module, rest = self, path
        while rest not in module._parameters:  # a net of C++ has paths for names
            name, _, rest = rest.partition(".")
            if name not in module._modules or not rest:
                raise AttributeError(f"[{type(self).__name__}] no such parameter; got {path!r}; "
                                     "expected one of named_parameters()")
            module = module._modules[name]
        return module._parameters[rest]

    def apply(self, function: Callable[["Module"], Any]) -> "Module":
        """Calls function(module) for all modules below and this one."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    # ------------------------------------------------------------------------------- state

    def state_dict(self) -> "OrderedDict[str, Tensor]":
        """Parameters and buffers by path: over the same memory, not copies, and off the tape."""
        state = OrderedDict((name, p.detach()) for name, p in self.named_parameters())
        state.update(self._named("buffers", "", saved=True))
        return state

    def load_state_dict(self, state: Any, strict: bool = True) -> None:
        """Copies values in by path. RangeError naming what is missing or unexpected (unless
        `strict` is off), ShapeError, DTypeError for what is no tensor; nothing is changed then."""
        own = self.state_dict()
        if not hasattr(state, "keys"):
            raise _core.DTypeError(f"[load_state_dict] a dict is needed; got {type(state)}")
        missing = [k for k in own if k not in state]
        unexpected = [k for k in state if k not in own]
        if strict and (missing or unexpected):
            raise _core.RangeError(
                f"[load_state_dict] names must agree; got missing {missing}, "
                f"unexpected {unexpected}"
            )
        values = {k: _core._tensor(state[k]) for k in own if k in state}
        for name, value in values.items():
            if value.shape != own[name].shape:
                raise _core.ShapeError(
                    f"[load_state_dict] shapes must agree; got {value.shape} for {name}; "
                    f"expected {own[name].shape}"
                )
        from .._scopes import no_grad

        with no_grad():
            for name, value in values.items():
                own[name].detach().copy_(value)

    @property
    def training(self) -> bool:
        """Training (True) or evaluation mode. A compiled function that read it is captured anew
        for the other one."""
        return bool(self._training.get())

    def train(self, mode: bool = True) -> "Module":
        """Training mode of this module and all below it."""
        for module in self.modules():
            module._set_training(mode)
        return self

    def _set_training(self, mode: bool) -> None:
        self._training.set(int(mode))

    def eval(self) -> "Module":
        """Evaluation mode of this module and all below it."""
        return self.train(False)

    def to(self, what: Any) -> "Module":
        """Converts floating parameters and buffers in place to a dtype, device or memory format;
        what modules share stays shared. Give an optimiser the parameters afterwards. DTypeError for
        anything else."""
        from .._scopes import no_grad

        what = _core._conversion(what)
        done: dict = {}
        with no_grad():
            # Those of C++ first, which convert in place what others may hold, too.
            for module in sorted(self.modules(), key=lambda m: not m._fixed):
                module._to(what, done)
        return self

    def _to(self, what: Any, done: dict) -> None:
        # `done`: what became of each tensor, and the tensor, so that no other takes its hash.
        last = what == _core.MemoryFormat.channels_last
        for table in (self._parameters, self._buffers):
            for name, t in table.items():
                if t is None or name in self._fixed or (last and t.ndim != 4):
                    continue
                if not t.dtype.is_floating_point and isinstance(what, _core.dtype):
                    continue
                changed, _ = done.setdefault(hash(t), (t.to(what), t))
                if not changed._same(t):
                    _changed(self, name, changed, t)
                    table[name] = changed.requires_grad_() if t.requires_grad else changed

    def requires_grad_(self, on: bool = True) -> "Module":
        """Whether the parameters want gradients."""
        for p in self.parameters():
            p.requires_grad_(on)
        return self

    def zero_grad(self) -> None:
        """Drops every gradient."""
        for p in self.parameters():
            p.grad = None

    def __copy__(self) -> "Module":
        # Of the same parameters and modules, but with tables and a mode of its own. A layer of C++
        # cannot share its tensors: its copy has their values.
        state = getattr(self, "__getstate__", lambda: self.__dict__)()
        state = dict(state if isinstance(state, dict) else self.__dict__)
        for name in (*_TABLES, *_HOOKS):
            state[name] = state[name].copy()
        state["_training"] = _core._Flag(int(self.training), "training mode")
        new = type(self).__new__(type(self))
        new._restore(state)
        return new

    def _restore(self, state: dict) -> None:
        self.__dict__.update(state)

    # ---------------------------------------------------------------------------- printing

    def __tandem_compile__(self, **options: Any) -> "CompiledModule":
        return CompiledModule(self, **options)

    def extra_repr(self) -> str:
        """What stands between the brackets of repr()."""
        return ""

    def __repr__(self) -> str:
        lines = [
            f"  ({name}): " + repr(child).replace("\n", "\n  ")
            for name, child in self._modules.items()
        ]
        head = f"{type(self).__name__}({self.extra_repr()}"
        return head + ("\n" + "\n".join(lines) + "\n)" if lines else ")")


class CompiledModule(Compiled, Module):
    """A module that runs compiled when it is called. All else is the module's own: tensors, names,
    modes, hooks, and its attributes."""

    def __init__(self, module: Module, **options: Any):
        Compiled.__init__(self, module, **options)

    def __getattr__(self, name: str) -> Any:
        if name == "_function":  # while a copy is being made
            raise AttributeError(name)
        return getattr(self._function, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._function, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._function, name)

    def __copy__(self) -> "CompiledModule":
        return CompiledModule(copy.copy(self._function), **self._options)

    # Of containers; of other modules these are programs, and errors.
    def __len__(self) -> int:
        inner = self._function
        return len(inner) if hasattr(type(inner), "__len__") else super().__len__()

    def __getitem__(self, key: Any) -> Any:
        return self._function[key]

    def __setitem__(self, key: Any, module: Any) -> None:
        self._function[key] = module

    def __delitem__(self, key: Any) -> None:
        del self._function[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._function)

    def __contains__(self, key: Any) -> bool:
        return key in self._function


def _of_the_module(name: str, member: Any) -> Any:
    if not callable(member):
        return property(lambda self: getattr(self._function, name), doc=member.__doc__)

    @functools.wraps(member)
    def method(self: CompiledModule, *args: Any, **kwargs: Any) -> Any:
        result = getattr(self._function, name)(*args, **kwargs)
        return self if result is self._function else result

    return method


for _name, _member in list(vars(Module).items()):
    if callable(_member) or isinstance(_member, property):
        if not _name.startswith("__"):
            setattr(CompiledModule, _name, _of_the_module(_name, _member))

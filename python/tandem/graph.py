"""Compiled functions, and programs declared before they are run."""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import types
import weakref
from typing import TYPE_CHECKING, Any, Callable, Iterator, overload

from . import _core
from ._capture import CaptureWarning
from ._core import Function, Tensor, all_passes, pass_names
from ._tensor import operation_of

__all__ = ["CaptureWarning", "Compiled", "Expression", "Function", "Graph", "all_passes", "compile",
           "pass_names", "variable"]


class _Strong:
    """Like a weak reference, for what can have none."""

    def __init__(self, value: Any):
        self._value = value

    def __call__(self) -> Any:
        return self._value


class Compiled(_core._Compiled):
    """A function captured at its first call for each signature, and replayed from then on."""

    def __init__(self, function: Callable, *, _owner: Any = None, **options: Any):
        if "_function" in self.__dict__:
            raise ValueError("[compile] what is compiled stays compiled of its function; got another "
                             "__init__; expected a new compile()")
        if _owner is None:
            # A method that was asked for before, or an object that can be called.
            owner = getattr(function, "__self__", None)
            if owner is None and not isinstance(function, (types.FunctionType, type)):
                owner = function
            if owner is not None:
                _owner = _Strong(owner)
        _core._Compiled.__init__(self, function, _owner, **options)
        names = functools.update_wrapper(types.SimpleNamespace(), function, updated=())
        # Past __setattr__, which may be a module's.
        self.__dict__.update(vars(names), _function=function, _options=options, _bound={})

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        # A method: each instance has programs of its own, whatever it is equal to.
        if instance is None or not self._is_method(instance):
            return self
        key, all_bound = id(instance), self._bound
        known = (all_bound.get(key) or all_bound.setdefault(key, self._bind(instance)))[1]
        # Holds the instance, which may have no other name: make().method(x).
        view = Compiled.__new__(Compiled)
        view.__setstate__(known)
        view.__dict__.update(known.__dict__, _instance=instance, _descriptor=self)
        return view

    def _is_method(self, instance: Any) -> bool:
        """Whether it is one as it is, not compiled."""
        function = self._function
        if isinstance(function, types.FunctionType):
            return True
        if isinstance(function, staticmethod) or not hasattr(type(function), "__get__"):
            return False
        # What is bound already gives itself, and so does a partial of Python 3.13 (3.14 binds them).
        return type(function).__get__(function, instance, type(instance)) is not function

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

    def __reduce__(self) -> tuple:
        if "_instance" in self.__dict__:  # a method: that of the other instance
            descriptor = self._descriptor
            return lambda instance: descriptor.__get__(instance), (self._instance,)
        return functools.partial(type(self), **self._options), (self._function,)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Compiled) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        function = self.__dict__.get("_function", "nothing")  # before __init__
        return f"<compiled {getattr(function, '__qualname__', function)!s}>"


if TYPE_CHECKING:
    from typing import Concatenate, Generic, ParamSpec, Protocol, TypeVar

    from .nn.module import Module

    _P = ParamSpec("_P")
    _Q = ParamSpec("_Q")
    _R = TypeVar("_R")
    _R_co = TypeVar("_R_co", covariant=True)
    _M = TypeVar("_M", bound=Module)

    class _CompiledFunction(Compiled, Generic[_P, _R]):
        """What is compiled, for type checkers: with the arguments and results of the function."""

        def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...
        @overload  # type: ignore[overload-overlap]
        def __get__(self, instance: None, owner: Any = None) -> "_CompiledFunction[_P, _R]": ...
        @overload
        def __get__(self: "_CompiledFunction[Concatenate[Any, _Q], _R]", instance: object,
                    owner: Any = None) -> "_CompiledFunction[_Q, _R]": ...
        def __get__(self, instance: Any, owner: Any = None) -> Any: ...

    class _Decorator(Protocol):
        @overload
        def __call__(self, function: _M, /) -> _M: ...  # type: ignore[overload-overlap]
        @overload
        def __call__(self, function: Callable[_P, _R], /) -> _CompiledFunction[_P, _R]: ...

    class _OfFeeds(Protocol[_R_co]):
        """A declared program: a function of its variables by name."""

        def __call__(self, **feeds: Any) -> _R_co: ...


@overload
def compile(function: "_M", /, **options: Any) -> "_M": ...
@overload
def compile(function: "Expression", /, **options: Any) -> "_OfFeeds[Tensor]": ...
@overload
def compile(function: "list[Expression] | tuple[Expression, ...]", /,
            **options: Any) -> "_OfFeeds[list[Tensor]]": ...
@overload
def compile(function: "Callable[_P, _R]", /,
            **options: Any) -> "_CompiledFunction[_P, _R]": ...
@overload
def compile(function: None = None, /, **options: Any) -> "_Decorator": ...
def compile(function: Any = None, /, **options: Any) -> Any:
    """The same function, compiled; as a decorator or a call, of a function or a Module. Compiled, a
    Module is still one: with the parameters, modes and names of the one that was given.

    It runs once to be recorded for each signature (structure, shapes, dtypes, devices, other
    arguments, policy) and is replayed afterwards, equal to the eager one bit for bit. Arguments
    and results are tensors in dicts, lists, tuples and dataclasses; numbers, strings and sets are
    part of the signature. Of other arguments, and of the object whose method is compiled, the
    attributes are looked at, those of their classes too. So are the variables and attributes that
    the function and those it calls name in their byte code: of closures, globals, arguments,
    objects in these, modules of yours (not of installed packages). When one changed, the function
    is recorded again and compared; so it is when something of a Module changed. What changed before
    three recordings without changing the program, and is not known to be read, a counter of steps
    say, is forgiven from then on, for at most 128 calls without another recording. NumPy arrays that
    operations take are read at each call as they are then.
    A value that changes where nobody looks is a CaptureError, at the latest when calls 4, 8, 16, …
    and every check_interval-th (1024) look: numbers taken out of NumPy arrays, containers of more
    than 64 elements (256 with those within) or that hold themselves, views of dicts, attributes that
    vars() or __dict__ got later, those beyond 512 where the byte code does not tell of which object
    they are, what only code in C, Python's library, installed
    packages or other threads read (ContextVar, threading.local, what functools.lru_cache
    returns), attributes of metaclasses and those of a Module that are set in its __dict__,
    __getattribute__ of a class and __getattr__ of a module, names of builtins (in a namespace's own
    __builtins__, too), globals that a dict's __missing__ makes up, names that are put together,
    which module sys.modules[…] or importlib.import_module(…) gives, whether two elements of a
    container are one object, files, clocks.

    A function may write into tensors and return values. Other things that it does replay would not
    do: changing what it was given and binding names to new tensors are CaptureErrors; changing
    other variables, drawing from random or numpy.random, and writing to stdout, stderr, logs or
    TensorBoard happens when it is recorded only, and a CaptureWarning says so. What it changes in two
    recordings in a row is not looked at until one does not change it. Nobody sees other files,
    os.environ, events and queues of threads, and the state of other libraries. An exception that
    leaves the function ends the recording, with nothing done of what was computed before it; a
    CaptureWarning says where that was something. A function must not wait for a thread that calls it:
    there is one recording at a time.

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
    later = (inspect.isgeneratorfunction, inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    if any(f(function) for f in later):
        raise _core.DTypeError(f"[compile] what is compiled runs when it is called; got {function!r}; "
                               "expected a function that is no generator and not async")
    return Compiled(function, **options)


# ------------------------------------------------------------------------------- declared


class Expression:
    """A value that is declared but not computed: variables, and operations on them. Tandem's
    functions, modules and NumPy's functions of each element declare values when they are given
    some: relu(a), concat([a, b]), nn.Linear(2, 3)(a), numpy.exp(a)."""

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
    def __tandem_function__(function: Callable, args: tuple, kwargs: dict) -> Any:
        # Where C++ was given expressions in the place of tensors (see finish.cpp). What gives no
        # tensors, or writes into one, cannot be put off.
        return Expression._call(_declarable(function), f"{function.__name__}(…)", *args, **kwargs)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        ours = operation_of(ufunc, method, options)
        if ours is None:
            raise _core.CaptureError(f"[graph] NumPy computes at once; got {ufunc.__name__} of "
                                     f"{self!r}; expected a function of tandem's")
        return ours(*inputs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise _core.CaptureError(f"[graph] NumPy computes at once; got {function.__name__} of "
                                 f"{self!r}; expected a function of tandem's")

    @staticmethod
    def _compile_all(expressions: list, **options: Any) -> Callable:
        names: dict = {}
        for x in expressions:
            names.update(dict.fromkeys(x._names))

        def program(feeds: dict) -> Any:
            state = {"feeds": feeds, "memo": {}}
            return [x._evaluate(state) for x in expressions]

        core = Compiled(program, **options)

        def function(*unnamed: Any, **feeds: Any) -> Any:
            _refuse_unnamed(unnamed, names)
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

        def function(*unnamed: Any, **feeds: Any) -> Tensor:
            return several(*unnamed, **feeds)[0]

        function.core = several.core  # type: ignore[attr-defined]
        return function

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(Tensor, name):
            raise AttributeError(f"[graph] a declared value has no such attribute; got {name!r} of "
                                 f"{self!r}; expected a method of Tensor's")
        attribute = getattr(Tensor, name)
        if callable(attribute):
            _declarable(attribute)
            return lambda *a, **k: Expression._call(
                attribute, f"{self._text}.{name}(…)", self, *a, **k
            )
        return Expression._call(lambda t: getattr(t, name), f"{self._text}.{name}", self)

    __hash__ = object.__hash__

    if TYPE_CHECKING:  # They are set below.

        def _typed(self, other: Any) -> "Expression": ...
        def _typed_unary(self) -> "Expression": ...

        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _typed
        __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _typed
        __pow__ = __rpow__ = __matmul__ = __rmatmul__ = __getitem__ = _typed
        __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = _typed
        __lt__ = __le__ = __gt__ = __ge__ = _typed
        __neg__ = __pos__ = __abs__ = __invert__ = _typed_unary

    def __repr__(self) -> str:
        return f"<expression {self._text}>"


_GIVES_TENSORS = re.compile(r"-> (?:tuple\[|list\[)?Tensor\b")


def _declarable(function: Callable) -> Callable:
    """It, if a call can be put off: it gives tensors, and writes into none."""
    name, text = function.__name__, function.__doc__ or ""
    if isinstance(function, types.FunctionType):
        text = f"-> {function.__annotations__.get('return')}"
    if name.startswith("_") or name.endswith("_") or not _GIVES_TENSORS.search(text):
        raise _core.DTypeError(
            f"[{name.strip('_') or 'graph'}] this happens when it is called, and a declared value is "
            "not there yet; got an expression; expected a tensor, or operations that give new ones")
    return function


def _refused(what: str, value: Any) -> Exception:
    return _core.CaptureError(
        f"[graph] a declared value has no {what} before the program runs; got {value!r}; "
        "expected operations on it (where, gather, …), or compile() of a function")


def _refuse_unnamed(unnamed: tuple, names: Any) -> None:
    if unnamed:
        raise _core.DTypeError(f"[graph] variables are given by name; got {len(unnamed)} without; "
                               f"expected {', '.join(f'{n}=…' for n in names)}")


def _refusal(name: str) -> Callable:
    def method(self: Expression, *args: Any) -> Any:
        raise _refused(name, self)

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
    """A program declared over variables of known shape and dtype.

    >>> import tandem as td
    >>> g = td.graph.Graph()
    >>> x = g.variable("x", (2,))
    >>> with g.scope():
    ...     y = td.ones(2) + x
    >>> g.compile(y * 2)(x=[1.0, 2.0]).tolist()
    [4.0, 6.0]
    """

    def __init__(self) -> None:
        self._core = _core._Graph()
        self._names: list[str] = []

    def variable(self, name: str, shape: Any, dtype: Any = _core.float32, device: Any = "cpu",
                 layout: _core.MemoryFormat = _core.MemoryFormat.contiguous) -> Tensor:
        """A named argument: a symbolic tensor that all functions take. RangeError for a name that
        is empty or taken, ShapeError for a layout the shape cannot have."""
        made = self._core.variable(name, shape, dtype, device, layout)
        self._names.append(name)
        return made

    @contextlib.contextmanager
    def scope(self) -> Iterator["Graph"]:
        """Inside of `with`, every operation of this thread is part of the program: also those that
        make tensors, write into tensors from outside, and backward(). Expressions over variables
        need no scope."""
        self._core.enter()
        try:
            yield self
        finally:
            self._core.exit()

    def compile(self, results: Any, without: Any = (), fast: bool = False,
                memory_plan: bool = True, device_graph: bool = True) -> Callable:
        """A function of the variables by name that computes one result or a list of them; its
        `program` is a Function. Options as those of graph.compile(): the others are about what a
        function of Python might do. CaptureError for a result that depends on nothing declared
        here."""
        single = isinstance(results, Tensor)
        program = self._core.compile(self._listed(results), list(without), fast, memory_plan,
                                     device_graph)

        names = list(self._names)

        def function(*unnamed: Any, **feeds: Any) -> Any:
            _refuse_unnamed(unnamed, names)
            out = program._run({k: _core._tensor(v) for k, v in feeds.items()})
            return out[0] if single else out

        function.program = program  # type: ignore[attr-defined]
        return function

    def dump(self, results: Any) -> str:
        """The program of one result or a list of them as text, before any pass. CaptureError as
        compile()."""
        return self._core.dump(self._listed(results))

    @staticmethod
    def _listed(results: Any) -> list:
        return [results] if isinstance(results, Tensor) else list(results)

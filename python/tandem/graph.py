"""Compiled functions, and programs declared before they are run."""

from __future__ import annotations

import functools
import io
import sys
import traceback
import warnings
import weakref
from typing import Any, Callable

from . import _core
from ._core import Tensor, pass_names

__all__ = ["CaptureWarning", "Compiled", "Expression", "Graph", "compile", "pass_names", "variable"]


class CaptureWarning(UserWarning):
    """Something in a compiled function happens when it is captured, and not at each call."""


class _Output(io.TextIOBase):
    """Passes on what a captured function prints, and notes the line."""

    def __init__(self, to: Any):
        self._to = to
        self.lines: list[str] = []

    def write(self, text: str) -> int:
        for frame in reversed(traceback.extract_stack()[:-1]):
            where = f"{frame.filename}:{frame.lineno}"
            if where not in self.lines:
                self.lines.append(where)
            break
        return self._to.write(text)

    def flush(self) -> None:
        self._to.flush()


def _trace(function: Callable, args: tuple, kwargs: dict) -> Any:
    out = sys.stdout
    sys.stdout = note = _Output(out)
    try:
        result = function(*args, **kwargs)
    finally:
        sys.stdout = out
    if note.lines:
        warnings.warn(
            f"a compiled function prints when it is captured only ({', '.join(note.lines)}); "
            "return the value and print it outside",
            CaptureWarning,
            stacklevel=3,
        )
    return result


class Compiled:
    """A function captured at its first call for each signature, and replayed from then on."""

    def __init__(self, function: Callable, **options: Any):
        self._function = function
        self._options = options
        self._core = _core._Compiled(function, **options)
        self._bound: Any = weakref.WeakKeyDictionary()
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._core(*args, **kwargs)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        # A method: each instance has programs of its own.
        if instance is None:
            return self
        bound = self._bound.get(instance)
        if bound is None:
            ref = weakref.ref(instance)
            function = self._function

            def method(*args: Any, **kwargs: Any) -> Any:
                return function(ref(), *args, **kwargs)

            bound = Compiled(functools.wraps(function)(method), **self._options)
            self._bound[instance] = bound
        return bound

    def explain(self) -> str:
        """Passes, memory plan, launches, and why each program was captured."""
        return self._core.explain()

    def ledger(self) -> list[dict]:
        """Why each program was captured, and what that cost (times in milliseconds)."""
        return self._core.ledger()

    def dump(self) -> str:
        """The program of the last call as text."""
        return self._core.dump()

    def dump_dot(self) -> str:
        """The program of the last call as Graphviz."""
        return self._core.dump_dot()

    def clear(self) -> None:
        """Forgets all captured programs."""
        self._core.clear()

    def __len__(self) -> int:
        return len(self._core)

    def __repr__(self) -> str:
        return f"<compiled {getattr(self._function, '__qualname__', self._function)!s}>"


def compile(function: Any = None, /, **options: Any) -> Any:
    """The same function, compiled; as a decorator or a call, of a function or a Module.

    It runs once to be recorded for each signature (structure, shapes, dtypes, devices, other
    arguments, policy) and is replayed afterwards, equal to the eager one bit for bit. Arguments
    and results are tensors in dicts, lists, tuples and dataclasses; other values are part of the
    signature. A value that changes without being an argument is a CaptureError.

    Options: without (passes to leave out, see pass_names()), fast (also passes that round
    differently), memory_plan, device_graph, check_capture, verify (run eagerly beside, and raise
    at the first difference), max_signatures.
    """
    if function is None:
        return lambda f: compile(f, **options)
    if isinstance(function, Expression):
        return function._compile(**options)
    if isinstance(function, (list, tuple)) and function and isinstance(function[0], Expression):
        return Expression._compile_all(list(function), **options)
    return Compiled(function, **options)


# ------------------------------------------------------------------------------- declared


class Expression:
    """A value that is declared but not computed: variables, and operations on them."""

    def __init__(self, evaluate: Callable[[dict], Any], names: tuple, text: str):
        self._evaluate, self._names, self._text = evaluate, names, text

    @staticmethod
    def _call(function: Callable, text: str, *args: Any, **kwargs: Any) -> "Expression":
        names: dict = {}
        for a in (*args, *kwargs.values()):
            if isinstance(a, Expression):
                names.update(dict.fromkeys(a._names))

        def value(a: Any, feeds: dict) -> Any:
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
    def _compile_all(expressions: list, **options: Any) -> Callable:
        names: dict = {}
        for x in expressions:
            names.update(dict.fromkeys(x._names))

        def program(feeds: dict) -> Any:
            state = {"feeds": feeds, "memo": {}}
            return [x._evaluate(state) for x in expressions]

        core = Compiled(program, **options)

        def function(**feeds: Any) -> Any:
            if set(feeds) != set(names):
                raise _core.RangeError(
                    f"[graph] every variable must be given; got {sorted(feeds)}; "
                    f"expected {sorted(names)}"
                )
            return core({k: _core._tensor(feeds[k]) for k in names})

        function.core = core  # type: ignore[attr-defined]
        return function

    def _compile(self, **options: Any) -> Callable:
        several = Expression._compile_all([self], **options)

        def function(**feeds: Any) -> Tensor:
            return several(**feeds)[0]

        function.core = several.core  # type: ignore[attr-defined]
        return function

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(Tensor, name):
            raise AttributeError(name)
        attribute = getattr(Tensor, name)
        if not callable(attribute):
            return Expression._call(lambda t: getattr(t, name), f"{self._text}.{name}", self)
        return lambda *a, **k: Expression._call(
            attribute, f"{self._text}.{name}(…)", self, *a, **k
        )

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<expression {self._text}>"


def _operator(name: str) -> Callable:
    def method(self: Expression, *args: Any) -> Expression:
        import operator

        reflected = name.startswith("__r") and name not in ("__rshift__", "__round__")
        plain = getattr(operator, ("__" + name[3:]) if reflected else name)
        operands = (*args, self) if reflected else (self, *args)
        return Expression._call(plain, name.strip("_"), *operands)

    return method


for _name in (
    "add sub mul truediv floordiv mod pow matmul radd rsub rmul rtruediv rpow lt le gt ge eq ne "
    "neg abs getitem"
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
    """A program declared over variables of known shape and dtype."""

    def __init__(self) -> None:
        self._core = _core._Graph()

    def variable(self, name: str, shape: Any, dtype: Any = _core.float32,
                 device: Any = "cpu") -> Tensor:
        """A named argument: a symbolic tensor that all functions take."""
        return self._core.variable(name, shape, dtype, device)

    def compile(self, results: Any, without: Any = (), fast: bool = False,
                memory_plan: bool = True, device_graph: bool = True) -> Callable:
        """A function of the variables by name that computes one result or a list of them."""
        single = isinstance(results, Tensor)
        program = self._core.compile([results] if single else list(results), list(without), fast,
                                     memory_plan, device_graph)

        def function(**feeds: Any) -> Any:
            out = program._run({k: _core._tensor(v) for k, v in feeds.items()})
            return out[0] if single else out

        function.program = program  # type: ignore[attr-defined]
        return function

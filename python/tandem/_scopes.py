"""Settings that hold inside of a `with` block, or of a decorated function."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Callable, TypeVar, overload

from . import _core


_F = TypeVar("_F", bound=Callable[..., Any])


class _Setting:
    """A setting of this thread from __enter__ to __exit__; also a decorator."""

    def _make(self) -> Any:
        raise NotImplementedError

    def __enter__(self) -> "_Setting":
        self.__dict__.setdefault("_open", []).append(self._make())
        self._open[-1].__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if not getattr(self, "_open", None):
            raise RuntimeError(f"[{type(self).__name__}] __exit__ comes after __enter__; got a "
                               "scope that is not open; expected `with`")
        self._open.pop().__exit__(*error)

    def __call__(self, function: _F) -> _F:
        later = (inspect.isgeneratorfunction, inspect.iscoroutinefunction,
                 inspect.isasyncgenfunction, inspect.isclass)
        if not callable(function) or any(f(function) for f in later):
            raise _core.DTypeError(
                f"[{type(self).__name__}] what is decorated runs when it is called; got "
                f"{function!r}; expected a function that is no generator and not async"
            )

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self._make():  # threads may be in here at the same time
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]


class _GradMode(_Setting):
    """Also a decorator without brackets."""

    @overload
    def __new__(cls, function: None = None) -> "_GradMode": ...
    @overload
    def __new__(cls, function: _F) -> _F: ...  # type: ignore[misc]
    def __new__(cls, function: Any = None) -> Any:
        if function is None:
            return super().__new__(cls)
        return cls()(function)


class no_grad(_GradMode):
    """Operations are not put on the tape.

    >>> import tandem as td
    >>> w = td.tensor([1.0, 2.0], requires_grad=True)
    >>> with td.no_grad():
    ...     (2 * w).requires_grad
    False
    >>> @td.no_grad
    ... def twice(x):
    ...     return 2 * x
    >>> twice(w).requires_grad
    False
    """

    def _make(self) -> Any:
        return _core._NoGrad()


class enable_grad(_GradMode):
    """Operations are put on the tape again, inside of no_grad."""

    def _make(self) -> Any:
        return _core._EnableGrad()


class anomaly_mode(_Setting):
    """The first NaN or infinity raises an error that names the operation and its line. Slow."""

    def __init__(self, enabled: bool = True):
        self._enabled = enabled

    def _make(self) -> Any:
        return _core._AnomalyScope(self._enabled)


class autocast(_Setting):
    """Matrix products and convolutions compute in `dtype` (bfloat16 or float16), losses and
    normalisations in float32. The rules are those of C++ and of compiled functions alike. DTypeError
    for another dtype. Source: Micikevicius et al. 2018, arXiv:1710.03740."""

    def __init__(self, dtype: Any = _core.bfloat16, enabled: bool = True):
        self._dtype, self._enabled = dtype, enabled

    def _make(self) -> Any:
        return _core._AutocastScope(self._dtype, self._enabled)


class device(_core.Device, _Setting):
    """A Device; inside of `with td.device("cuda"):` new tensors are made on it when none is
    named."""

    def _make(self) -> Any:
        return _core._DeviceScope(self)


class policy(_Setting):
    """Which kernels may be chosen: policy(vendor=False), policy(tf32=True); see Policy."""

    def __init__(self, **options: Any):
        now = _core.get_policy()
        for name in ("deterministic", "tf32", "fast_math", "vendor", "search"):
            options.setdefault(name, getattr(now, name))
        self._policy = _core.Policy(**options)

    def _make(self) -> Any:
        return _core._PolicyScope(self._policy)

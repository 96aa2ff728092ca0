"""Elementwise functions of the array API standard that are made of others."""

from __future__ import annotations

import math as _math
from math import inf
from typing import Any, Callable

from . import _core
from ._core import (
    Tensor, abs, atan, ceil, cos, divide, equal, exp, floor, full, greater, less, log, log1p,
    logical_not, logical_or, maximum, minimum, multiply, negative, not_equal, ones_like, sign, sin,
    sqrt, square, subtract, tanh, where, zeros_like,
)
from ._composed import real


def _array(x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else full((), x)


def _odd(function: Callable, x: Tensor) -> Tensor:
    """A function that knows positive numbers, of all of them."""
    x = real(x)
    below = signbit(x)  # zeros have one, too
    y = function(where(below, negative(x), x))
    return where(below, negative(y), y)


def acosh(x: Tensor, /) -> Tensor:
    """The inverse of cosh for x of at least 1, elementwise, to a few units in the last place; NaN
    below."""
    def up_to(x: Tensor) -> Tensor:
        t = x - 1
        return log1p(t + multiply(sqrt(t), sqrt(t + 2)))

    return _not_too_large(up_to, real(x))


def asinh(x: Tensor, /) -> Tensor:
    """The inverse of sinh, elementwise, to a few units in the last place."""
    def up_to(x: Tensor) -> Tensor:
        return log1p(x + divide(square(x), sqrt(square(x) + 1) + 1))

    return _odd(lambda x: _not_too_large(up_to, x), x)


def _not_too_large(function: Callable, x: Tensor) -> Tensor:
    # Beyond, log(2 x) is what both inverses round to, and squares of x soon overflow.
    large = greater(x, 200.0 if x.dtype is _core.float16 else 1e9)
    far = log(where(large, x, ones_like(x))) + _math.log(2)
    return where(large, far, function(where(large, ones_like(x), x)))


def atan2(x1: Any, x2: Any, /) -> Tensor:
    """The angle of the point (x2, x1) in radians, -pi to pi, elementwise, with broadcasting; to a
    few units in the last place. Signs of zeros and infinities count, as in C."""
    y, x = real(_array(x1)), real(_array(x2))
    steep = greater(abs(y), abs(x))
    small, large = where(steep, x, y), where(steep, y, x)
    # Where the quotient would be NaN: of two zeros it is a zero, of two infinities 1 or -1.
    none, both = equal(large, 0), isinf(small)
    plain = logical_or(none, both)
    quotient = divide(small, where(plain, ones_like(large), large))
    angle = atan(where(both, multiply(sign(small), sign(large)), quotient))
    half = multiply(where(signbit(y), negative(ones_like(angle)), ones_like(angle)), _math.pi / 2)
    return where(steep, subtract(half, angle), where(signbit(x), angle + half * 2, angle))


def atanh(x: Tensor, /) -> Tensor:
    """The inverse of tanh, elementwise, to a few units in the last place; NaN outside [-1, 1]."""
    return _odd(lambda x: log1p(divide(x * 2, 1 - x)) / 2, x)


def cosh(x: Tensor, /) -> Tensor:
    """(exp(x) + exp(-x)) / 2, elementwise, to a few units in the last place."""
    h = exp(x / 2)  # exp(x) overflows before cosh(x) does
    return multiply(h / 2, h) + 0.5 / h / h


def sinh(x: Tensor, /) -> Tensor:
    """(exp(x) - exp(-x)) / 2, elementwise, to a few units in the last place."""
    return multiply(tanh(x), cosh(x))


def expm1(x: Tensor, /) -> Tensor:
    """exp(x) - 1, elementwise, to a few units in the last place near 0, too."""
    return multiply(tanh(x / 2), exp(x) + 1)


def hypot(x1: Any, x2: Any, /) -> Tensor:
    """sqrt(x1^2 + x2^2) without overflow, elementwise, with broadcasting."""
    x1, x2 = abs(real(_array(x1))), abs(real(_array(x2)))
    large, small = maximum(x1, x2), minimum(x1, x2)
    infinite = logical_or(isinf(x1), isinf(x2))
    plain = logical_or(infinite, equal(large, 0))  # where the quotient would be NaN
    quotient = divide(small, where(plain, ones_like(large), large))
    return where(infinite, inf, where(plain, large, multiply(large, sqrt(square(quotient) + 1))))


def clip(x: Tensor, /, min: Any = None, max: Any = None) -> Tensor:
    """x limited to [min, max], numbers or arrays that broadcast with it; None leaves a side
    open."""
    if not isinstance(min, Tensor) and not isinstance(max, Tensor):
        return _core.clamp(x, min, max)
    x = x if min is None else maximum(x, min)
    return x if max is None else minimum(x, max)


def copysign(x1: Any, x2: Any, /) -> Tensor:
    """|x1| with the sign of x2, elementwise, with broadcasting."""
    x1, x2 = _array(x1), _array(x2)
    return where(signbit(x2), negative(abs(x1)), abs(x1))


def isfinite(x: Tensor, /) -> Tensor:
    """Whether each element is neither infinite nor NaN."""
    if not x.dtype.is_floating_point:
        return ones_like(x, _core.bool)
    return less(abs(x), inf)


def isinf(x: Tensor, /) -> Tensor:
    """Whether each element is infinite."""
    if not x.dtype.is_floating_point:
        return zeros_like(x, _core.bool)
    return equal(abs(x), inf)


def log2(x: Tensor, /) -> Tensor:
    """The logarithm to base 2, elementwise, to a few units in the last place."""
    return multiply(log(x), 1 / _math.log(2))


def log10(x: Tensor, /) -> Tensor:
    """The logarithm to base 10, elementwise, to a few units in the last place."""
    return multiply(log(x), 1 / _math.log(10))


def logaddexp(x1: Any, x2: Any, /) -> Tensor:
    """log(exp(x1) + exp(x2)) without overflow, elementwise, with broadcasting."""
    x1, x2 = real(_array(x1)), real(_array(x2))
    larger = maximum(x1, x2)
    # Of two infinities the difference would be NaN.
    return where(equal(x1, x2), larger + _math.log(2),
                 larger + log1p(exp(negative(abs(subtract(x1, x2))))))


def logical_xor(x1: Any, x2: Any, /) -> Tensor:
    """Whether exactly one of two elements is non-zero: bool."""
    return not_equal(logical_not(_array(x1)), logical_not(_array(x2)))


def positive(x: Tensor, /) -> Tensor:
    """x itself: what +x gives."""
    return x


def signbit(x: Tensor, /) -> Tensor:
    """Whether each element is negative, -0.0 included: bool."""
    if not x.dtype.is_floating_point:
        return less(x, 0)
    return logical_or(less(x, 0), less(_core.reciprocal(x), 0))


def tan(x: Tensor, /) -> Tensor:
    """The tangent, elementwise; radians."""
    return divide(sin(x), cos(x))


def trunc(x: Tensor, /) -> Tensor:
    """Each element without its fraction."""
    return where(less(x, 0), ceil(x), floor(x)) if x.dtype.is_floating_point else x

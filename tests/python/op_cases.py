"""The table of operations as Python sees them: how to call each, and what NumPy says."""

import math
from dataclasses import dataclass
from typing import Any, Callable

import numpy as np

import tandem as td

FLOATS = ("float64", "float32", "float16", "bfloat16")
INTEGERS = ("int64", "int32", "uint8")
NUMBERS = FLOATS + INTEGERS
ALL = (*NUMBERS, "bool")


@dataclass(frozen=True)
class Case:
    """One way to call an operation.

    `call` takes tensors and `reference` the same as NumPy arrays, in float64 where they are
    floating. `inputs` draws arrays for a dtype. `ulps` is how many units in the last place of the
    largest value results may differ: sums are added in another order than NumPy's.
    """

    name: str
    id: str
    call: Callable
    reference: Callable
    inputs: Callable[[str, np.random.Generator], list]
    dtypes: tuple = FLOATS
    gradient: bool = True
    ulps: float = 4.0


CASES: list[Case] = []


def add(name: str, call: Callable, reference: Callable, inputs: Callable, id: str = "",
        **options: Any) -> None:
    n = sum(c.name == name for c in CASES)
    CASES.append(Case(name, f"{name}-{id or n}", call, reference, inputs, **options))


def draw(shape: tuple, dtype: str, rng: np.random.Generator, kind: str = "real") -> np.ndarray:
    """Numbers of a kind: real, positive, small (within ±1), index."""
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype in INTEGERS:
        low = 0 if dtype == "uint8" or kind == "positive" else -6
        return rng.integers(low + (kind == "positive"), 7, shape).astype(dtype)
    x = rng.normal(size=shape) * 2
    if kind == "positive":
        x = np.abs(x) + 0.3
    elif kind == "small":
        x = np.tanh(x) * 0.9
    # Bfloat16 is what keeps its value there; NumPy has no such type.
    return td.tensor(x, dtype=td.bfloat16).astype(td.float32).numpy() if dtype == "bfloat16" \
        else x.astype(dtype)


def arrays(*shapes: tuple, kind: str = "real") -> Callable:
    return lambda dtype, rng: [draw(s, dtype, rng, kind) for s in shapes]


def vector(f: Callable) -> Callable:
    return lambda x: np.vectorize(f, otypes=[np.float64])(x)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


# ----------------------------------------------------------------------------------- elementwise

for _shape in ((3, 5), (), (0, 4), (1000,)):
    for _name, _f in {
        "negative": np.negative, "abs": np.abs, "sign": np.sign, "floor": np.floor,
        "ceil": np.ceil, "round": np.round, "square": np.square,
        "relu": lambda x: np.maximum(x, 0),
    }.items():
        _smooth = _name in ("negative", "abs", "square", "relu")
        add(_name, getattr(td, _name), _f, arrays(_shape), dtypes=NUMBERS, gradient=_smooth)
    for _name, _f, _kind in (
        ("reciprocal", lambda x: 1 / x, "positive"), ("exp", np.exp, "real"),
        ("log", np.log, "positive"), ("log1p", np.log1p, "positive"),
        ("sqrt", np.sqrt, "positive"), ("rsqrt", lambda x: 1 / np.sqrt(x), "positive"),
        ("sin", np.sin, "real"), ("cos", np.cos, "real"), ("erf", vector(math.erf), "real"),
        ("tanh", np.tanh, "real"), ("sigmoid", sigmoid, "real"),
        ("gelu", lambda x: x * (1 + vector(math.erf)(x / math.sqrt(2))) / 2, "real"),
        ("silu", lambda x: x * sigmoid(x), "real"),
        ("softplus", lambda x: np.log1p(np.exp(x)), "real"),
        ("leaky_relu", lambda x: np.where(x > 0, x, 0.01 * x), "real"),
    ):
        # NumPy would compute those of uint8 in float16.
        add(_name, getattr(td, _name), lambda x, f=_f: f(np.asarray(x, np.float64)),
            arrays(_shape, kind=_kind), dtypes=NUMBERS, ulps=8)
    for _name, _f in (("acos", np.arccos), ("asin", np.arcsin), ("atan", np.arctan)):
        add(_name, getattr(td, _name), lambda x, f=_f: f(np.asarray(x, np.float64)),
            arrays(_shape, kind="small"), ulps=8)
add("atan", td.atan, np.arctan, arrays((7,)))
add("leaky_relu", lambda x: td.leaky_relu(x, 0.3), lambda x: np.where(x > 0, x, 0.3 * x),
    arrays((7,)))
add("clamp", lambda x: td.clamp(x, -1, 2), lambda x: np.clip(x, -1, 2), arrays((4, 5)),
    dtypes=("float64", "float32", "float16", "bfloat16", "int64", "int32"))
add("clamp", lambda x: x.clamp(min=1), lambda x: np.maximum(x, 1), arrays((9,)))
add("isnan", td.isnan, np.isnan, lambda t, rng: [np.array([1, math.nan, math.inf], t)],
    dtypes=("float64", "float32", "float16"), gradient=False)
add("logical_not", td.logical_not, np.logical_not, arrays((3, 4)), dtypes=ALL, gradient=False)

_PAIRS = (((3, 4), (3, 4)), ((3, 4), (4,)), ((3, 1), (1, 4)), ((), (5,)), ((0, 4), (4,)),
          ((2, 3, 4), (3, 1)))
for _a, _b in _PAIRS:
    for _name, _f in {
        "add": np.add, "multiply": np.multiply, "maximum": np.maximum, "minimum": np.minimum,
    }.items():
        add(_name, getattr(td, _name), _f, arrays(_a, _b), dtypes=NUMBERS)
    add("subtract", td.subtract, np.subtract, arrays(_a, _b),
        dtypes=(*FLOATS, "int64", "int32"))
    add("divide", td.divide, np.true_divide, arrays(_a, _b, kind="positive"), dtypes=NUMBERS)
    add("pow", td.pow, np.power, arrays(_a, _b, kind="positive"), dtypes=("float64", "float32"),
        ulps=16)
    for _name, _f in {"floor_divide": np.floor_divide, "remainder": np.remainder}.items():
        add(_name, getattr(td, _name), _f, arrays(_a, _b), dtypes=("float64", "float32"),
            gradient=False)
        # Away from 0, where differences would step over whole quotients.
        add(_name, getattr(td, _name), _f, arrays(_a, _b, kind="positive"), dtypes=("float64",))
        add(_name, getattr(td, _name), _f, arrays(_a, _b, kind="positive"),
            dtypes=("int64", "int32", "uint8"))
    for _name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
        add(_name, getattr(td, _name), getattr(np, _name), arrays(_a, _b), dtypes=ALL,
            gradient=False)
    for _name in ("logical_and", "logical_or"):
        add(_name, getattr(td, _name), getattr(np, _name), arrays(_a, _b), dtypes=ALL,
            gradient=False)
# A number on either side.
for _name, _f in {"add": np.add, "subtract": np.subtract, "multiply": np.multiply}.items():
    _g = getattr(td, _name)
    add(_name, lambda x, g=_g: g(x, 3), lambda x, f=_f: f(x, 3), arrays((2, 3)))
    add(_name, lambda x, g=_g: g(3, x), lambda x, f=_f: f(3, x), arrays((2, 3)))
add("divide", lambda x: td.divide(2.0, x), lambda x: 2.0 / x, arrays((5,), kind="positive"))
add("pow", lambda x: td.pow(x, 3), lambda x: x**3, arrays((5,)), ulps=8)
add("pow", lambda x: td.pow(2.0, x), lambda x: 2.0**x, arrays((5,)), ulps=8)
_mask = np.array([[True], [False], [True]])
_tmask = td.tensor(_mask)
add("where", lambda a, b: td.where(_tmask, a, b), lambda a, b: np.where(_mask, a, b),
    arrays((3, 4), (4,)), dtypes=ALL)
add("where", lambda a: td.where(_tmask, a, 0), lambda a: np.where(_mask, a, 0), arrays((3, 4)))

# ------------------------------------------------------------------------------------ reductions

for _shape, _axis, _keep in (((2, 3, 4), None, False), ((2, 3, 4), 1, False),
                             ((2, 3, 4), (0, -1), True), ((4, 1000), -1, False),
                             ((3, 0), 0, False), ((2, 0), 1, True)):
    def _reduces(name, f, **options):
        add(name, lambda x, g=getattr(td, name), a=_axis, k=_keep: g(x, a, k),
            lambda x, a=_axis, k=_keep: f(x, axis=a, keepdims=k), arrays(_shape), **options)

    _nonempty = 0 not in _shape or _axis == 0
    _reduces("sum", np.sum, dtypes=(*NUMBERS, "bool"), ulps=16)
    add("prod", lambda x, a=_axis, k=_keep: td.prod(x, a, k),
        lambda x, a=_axis, k=_keep: np.prod(x, axis=a, keepdims=k),
        arrays((2, 3, 2) if len(_shape) == 3 else (2, 3), kind="positive"),
        dtypes=("float64", "float32", "int64"), ulps=16)
    _reduces("any", np.any, dtypes=ALL, gradient=False)
    _reduces("all", np.all, dtypes=ALL, gradient=False)
    if _shape != (2, 0):
        _reduces("mean", np.mean, ulps=16)
        add("var", lambda x, a=_axis, k=_keep: td.var(x, a, 1.0, k),
            lambda x, a=_axis, k=_keep: np.var(x, axis=a, keepdims=k, ddof=1),
            arrays(tuple(n + 2 if n else 0 for n in _shape)), ulps=16)
        add("std", lambda x, a=_axis, k=_keep: td.std(x, a, keepdims=k),
            lambda x, a=_axis, k=_keep: np.std(x, axis=a, keepdims=k),
            arrays(_shape), ulps=16, gradient=0 not in _shape)
        for _name in ("max", "min"):
            if 0 not in _shape:
                _reduces(_name, getattr(np, _name), dtypes=NUMBERS)
for _axis in (None, 0, -1):
    for _name in ("argmax", "argmin"):
        add(_name, lambda x, g=getattr(td, _name), a=_axis: g(x, a),
            lambda x, g=getattr(np, _name), a=_axis: g(x, a), arrays((4, 6)), dtypes=NUMBERS,
            gradient=False)
    add("cumulative_sum", lambda x, a=_axis or 0: td.cumulative_sum(x, a),
        lambda x, a=_axis or 0: np.cumsum(x, a), arrays((4, 6)), ulps=16,
        dtypes=("float64", "float32", "int64"))

# --------------------------------------------------------------------------------------- creation

for _t in (td.float64, td.float32, td.int64, td.uint8):
    _n = _t.name
    def _made(name, call, value):
        add(name, lambda c=call: c(), lambda v=value: v, lambda t, rng: [], id=f"{_n}",
            dtypes=(_n,), gradient=False)

    _made("full", lambda t=_t: td.full((2, 3), 7, t), np.full((2, 3), 7, _n))
    _made("zeros", lambda t=_t: td.zeros((2, 0), t), np.zeros((2, 0), _n))
    _made("ones", lambda t=_t: td.ones(4, t), np.ones(4, _n))
    _made("eye", lambda t=_t: td.eye(3, 4, t), np.eye(3, 4, dtype=_n))
    _made("arange", lambda t=_t: td.arange(2, 20, 3, t), np.arange(2, 20, 3, _n))
    add("zeros_like", td.zeros_like, np.zeros_like, arrays((2, 3)), dtypes=(_n,), gradient=False)
    add("ones_like", td.ones_like, np.ones_like, arrays((2, 3)), dtypes=(_n,), gradient=False)
    add("full_like", lambda x: td.full_like(x, 5), lambda x: np.full_like(x, 5), arrays((2, 3)),
        dtypes=(_n,), gradient=False)
    add("empty", lambda t=_t: td.zeros_like(td.empty((3, 2), t)), lambda n=_n: np.zeros((3, 2), n),
        lambda t, rng: [], dtypes=(_n,), gradient=False)
for _t in (td.float64, td.float32):
    add("linspace", lambda t=_t: td.linspace(-1, 2, 7, t),
        lambda n=_t.name: np.linspace(-1, 2, 7, dtype=n), lambda t, rng: [], dtypes=(_t.name,),
        gradient=False)

# ----------------------------------------------------------------------------------------- shapes

_EVERY = dict(dtypes=ALL)
add("reshape", lambda x: td.reshape(x, (4, -1)), lambda x: x.reshape(4, -1), arrays((2, 6)),
    **_EVERY)
add("reshape", lambda x: x.T.reshape(-1), lambda x: x.T.reshape(-1), arrays((2, 6)), **_EVERY)
add("flatten", lambda x: td.flatten(x, 1), lambda x: x.reshape(2, 12), arrays((2, 3, 4)), **_EVERY)
add("transpose", lambda x: td.transpose(x, 0, 2), lambda x: x.swapaxes(0, 2), arrays((2, 3, 4)),
    **_EVERY)
add("permute_dims", lambda x: td.permute_dims(x, (2, 0, 1)), lambda x: x.transpose(2, 0, 1),
    arrays((2, 3, 4)), **_EVERY)
add("squeeze", lambda x: td.squeeze(x, 1), lambda x: x.squeeze(1), arrays((2, 1, 4)), **_EVERY)
add("expand_dims", lambda x: td.expand_dims(x, -1), lambda x: x[..., None], arrays((2, 3)),
    **_EVERY)
add("broadcast_to", lambda x: td.broadcast_to(x, (2, 3, 4)),
    lambda x: np.broadcast_to(x, (2, 3, 4)), arrays((3, 1)), **_EVERY)
add("concat", lambda *x: td.concat(x, 1), lambda *x: np.concatenate(x, 1),
    arrays((2, 3), (2, 0), (2, 4)), **_EVERY)
add("stack", lambda *x: td.stack(x, -1), lambda *x: np.stack(x, -1), arrays((2, 3), (2, 3)),
    **_EVERY)
add("split", lambda x: td.split(x, 2, 1), lambda x: [x[:, :2], x[:, 2:4], x[:, 4:]],
    arrays((3, 5)), **_EVERY)
add("split", lambda x: td.split(x, [1, 4], 1), lambda x: [x[:, :1], x[:, 1:]], arrays((3, 5)),
    **_EVERY)
add("chunk", lambda x: td.chunk(x, 2, 1), lambda x: [x[:, :3], x[:, 3:]], arrays((3, 5)), **_EVERY)
add("pad", lambda x: td.pad(x, [1, 0, 2, 3], 1), lambda x: np.pad(x, [(1, 0), (2, 3)],
    constant_values=1), arrays((2, 3)), **_EVERY)
add("flip", lambda x: td.flip(x, (0, 2)), lambda x: np.flip(x, (0, 2)), arrays((2, 3, 4)),
    **_EVERY)
add("flip", td.flip, np.flip, arrays((2, 3)), **_EVERY)
add("roll", lambda x: td.roll(x, (1, -2), (0, 1)), lambda x: np.roll(x, (1, -2), (0, 1)),
    arrays((3, 5)), **_EVERY)

_at = np.array([[0, 2], [1, 1], [2, 0]])
_rows = np.array([2, 0, 2])
_tat, _trows = td.tensor(_at), td.tensor(_rows)


def scattered(x: np.ndarray, src: np.ndarray) -> np.ndarray:
    out = x.copy()
    for (i, j), to in np.ndenumerate(_at):
        out[i, to] += src[i, j]
    return out


def added(x: np.ndarray, src: np.ndarray) -> np.ndarray:
    out = x.copy()
    np.add.at(out, _rows, src)
    return out


add("gather", lambda x: td.gather(x, 1, _tat), lambda x: np.take_along_axis(x, _at, 1),
    arrays((3, 4)), **_EVERY)
add("scatter_add", lambda x, s: td.scatter_add(x, 1, _tat, s), scattered, arrays((3, 4), (3, 2)),
    dtypes=("float64", "float32", "int64"))
add("take", lambda x: td.take(x, _trows), lambda x: x[_rows], arrays((3, 4)), **_EVERY)
add("take", lambda x: td.take(x, _trows, 1), lambda x: x[:, _rows], arrays((2, 3, 2)), **_EVERY)
add("index_add", lambda x, s: td.index_add(x, 0, _trows, s), added, arrays((3, 4), (3, 4)),
    dtypes=("float64", "float32", "int64"))
add("embedding", lambda w: td.embedding(w, _tat), lambda w: w[_at], arrays((3, 4)))
add("one_hot", lambda x: td.one_hot(x, 7), lambda x: np.eye(7, dtype=np.int64)[x],
    arrays((3, 2), kind="positive"), dtypes=("int64", "int32"), gradient=False)
add("sort", lambda x: td.sort(x, 0), lambda x: (np.sort(x, 0), np.argsort(x, 0, kind="stable")),
    arrays((5, 4)), dtypes=NUMBERS)
add("argsort", lambda x: td.argsort(x, descending=True),
    lambda x: np.argsort(-x, -1, kind="stable"), arrays((4, 6)), gradient=False,
    dtypes=("float64", "float32", "int64"))
add("topk", lambda x: td.topk(x, 2), lambda x: (
    -np.sort(-x, -1)[..., :2], np.argsort(-x, -1, kind="stable")[..., :2]), arrays((4, 6)),
    dtypes=("float64", "float32", "int64"))

# --------------------------------------------------------------------------------------- networks

for _a, _b in (((3, 4), (4, 5)), ((4,), (4, 5)), ((3, 4), (4,)), ((4,), (4,)),
               ((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (5, 4, 2)), ((0, 4), (4, 5)),
               ((3, 0), (0, 5)), ((33, 65), (65, 17))):
    add("matmul", td.matmul, np.matmul, arrays(_a, _b), dtypes=(*FLOATS, "int64"), ulps=32)
add("linear", td.linear, lambda x, w, b: x @ w.T + b, arrays((5, 4), (3, 4), (3,)), ulps=32)
add("linear", td.linear, lambda x, w: x @ w.T, arrays((2, 5, 4), (3, 4)), ulps=32)


def windows(x: np.ndarray, k: int, stride: int, dilation: int = 1) -> np.ndarray:
    """[N, C, H, W] -> [N, C, OH, OW, k, k]."""
    v = np.lib.stride_tricks.sliding_window_view(x, ((k - 1) * dilation + 1,) * 2, axis=(2, 3))
    return v[:, :, ::stride, ::stride, ::dilation, ::dilation]


def correlation(x: np.ndarray, w: np.ndarray, b: Any = None, stride: int = 1, padding: int = 0,
                dilation: int = 1, groups: int = 1) -> np.ndarray:
    x = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    parts = [
        np.einsum("nchwij,ocij->nohw", windows(xg, w.shape[2], stride, dilation), wg)
        for xg, wg in zip(np.split(x, groups, 1), np.split(w, groups, 0))
    ]
    y = np.concatenate(parts, 1)
    return y if b is None else y + b[:, None, None]


def transposed(x: np.ndarray, w: np.ndarray, stride: int, padding: int) -> np.ndarray:
    n, _, h, wide = x.shape
    k = w.shape[2]
    y = np.zeros((n, w.shape[1], (h - 1) * stride + k, (wide - 1) * stride + k))
    for i in range(h):
        for j in range(wide):
            y[:, :, i * stride:i * stride + k, j * stride:j * stride + k] += np.einsum(
                "nc,cokl->nokl", x[:, :, i, j], w)
    return y[:, :, padding:y.shape[2] - padding, padding:y.shape[3] - padding]


_CONV = dict(dtypes=("float64", "float32"), ulps=64)
add("conv2d", td.conv2d, correlation, arrays((2, 3, 6, 5), (4, 3, 3, 3), (4,)), **_CONV)
add("conv2d", lambda x, w: td.conv2d(x, w, stride=2, padding=1),
    lambda x, w: correlation(x, w, stride=2, padding=1), arrays((2, 3, 7, 6), (4, 3, 3, 3)),
    **_CONV)
add("conv2d", lambda x, w: td.conv2d(x, w, dilation=2, groups=2),
    lambda x, w: correlation(x, w, dilation=2, groups=2), arrays((1, 4, 6, 6), (4, 2, 2, 2)),
    **_CONV)
add("conv2d", lambda x, w: td.conv2d(x, w), lambda x, w: np.zeros((0, 2, 3, 3)),
    arrays((0, 1, 5, 5), (2, 1, 3, 3)), id="empty", **_CONV)
add("conv_transpose2d", lambda x, w: td.conv_transpose2d(x, w, stride=2, padding=1),
    lambda x, w: transposed(x, w, 2, 1), arrays((2, 3, 4, 3), (3, 2, 3, 3)), **_CONV)
_POOL = dict(dtypes=("float64", "float32"), ulps=8)
add("max_pool2d", lambda x: td.max_pool2d(x, 2), lambda x: windows(x, 2, 2).max((-1, -2)),
    arrays((2, 3, 6, 5)), **_POOL)
add("max_pool2d", lambda x: td.max_pool2d(x, 3, 2, 1), lambda x: windows(np.pad(
    x, [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=-np.inf), 3, 2).max((-1, -2)),
    arrays((2, 2, 6, 5)), **_POOL)


def _maxima(x):
    """Of windows of two by two, and their places in row-major planes."""
    each = windows(x, 2, 2)
    at = each.reshape(*each.shape[:-2], 4).argmax(-1)
    rows, columns = np.indices(at.shape)[-2:]
    return each.max((-1, -2)), (2 * rows + at // 2) * x.shape[-1] + 2 * columns + at % 2


add("max_pool2d_with_indices", lambda x: td.max_pool2d_with_indices(x, 2), _maxima,
    arrays((2, 3, 6, 5)), **_POOL)
add("avg_pool2d", lambda x: td.avg_pool2d(x, 3, 2), lambda x: windows(x, 3, 2).mean((-1, -2)),
    arrays((2, 3, 7, 6)), **_POOL)
add("adaptive_avg_pool2d", lambda x: td.adaptive_avg_pool2d(x, (2, 3)),
    lambda x: x.reshape(2, 3, 2, 2, 3, 2).mean((3, 5)), arrays((2, 3, 4, 6)), **_POOL)


def normalised(x: np.ndarray, axes: tuple, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5) * w + b


_NORM = dict(dtypes=("float64", "float32"), ulps=32)
add("batch_norm", td.batch_norm, lambda x, w, b: normalised(
    x, (0, 2, 3), w[:, None, None], b[:, None, None]), arrays((4, 3, 2, 5), (3,), (3,)), **_NORM)
add("batch_norm", td.batch_norm, lambda x, w, b: normalised(x, (0,), w, b),
    arrays((6, 3), (3,), (3,)), **_NORM)
_mean, _var = np.array([0.5, -1.0, 2.0], np.float64), np.array([1.0, 2.0, 0.5], np.float64)
for _n in ("float64", "float32"):
    add("batch_norm", lambda x, w, b, m=td.tensor(_mean.astype(_n)), v=td.tensor(_var.astype(_n)):
        td.batch_norm(x, w, b, m, v, training=False),
        lambda x, w, b: (x - _mean) / np.sqrt(_var + 1e-5) * w + b, arrays((6, 3), (3,), (3,)),
        id=f"eval-{_n}", dtypes=(_n,), ulps=32)
add("layer_norm", lambda x, w, b: td.layer_norm(x, (3, 4), w, b),
    lambda x, w, b: normalised(x, (1, 2), w, b), arrays((5, 3, 4), (3, 4), (3, 4)), **_NORM)


def log_softmax(x: np.ndarray, axis: int) -> np.ndarray:
    x = x - x.max(axis, keepdims=True)
    return x - np.log(np.exp(x).sum(axis, keepdims=True))


for _axis in (0, -1):
    add("softmax", lambda x, a=_axis: td.softmax(x, a),
        lambda x, a=_axis: np.exp(log_softmax(x, a)), arrays((5, 4)), ulps=16)
    add("log_softmax", lambda x, a=_axis: td.log_softmax(x, a),
        lambda x, a=_axis: log_softmax(x, a), arrays((5, 4)), ulps=16)
_labels = np.array([1, 0, 3, 3, -100])
_tlabels = td.tensor(_labels)
_kept = _labels >= 0


def picked(logp: np.ndarray) -> np.ndarray:
    return -logp[np.arange(5)[_kept], _labels[_kept]]


def every(logp: np.ndarray) -> np.ndarray:
    out = np.zeros(5)
    out[_kept] = picked(logp)
    return out


for _r, _f in (("mean", lambda p: picked(p).mean()), ("sum", lambda p: picked(p).sum()),
               ("none", every)):
    add("cross_entropy", lambda x, r=_r: td.cross_entropy(x, _tlabels, reduction=r),
        lambda x, f=_f: f(log_softmax(x, 1)), arrays((5, 4)), id=_r, dtypes=("float64", "float32"),
        ulps=16)
    add("nll_loss", lambda x, r=_r: td.nll_loss(x, _tlabels, reduction=r),
        lambda x, f=_f: f(x), arrays((5, 4)), id=_r, dtypes=("float64", "float32"), ulps=16)
    add("mse_loss", lambda a, b, r=_r: td.mse_loss(a, b, r), lambda a, b, r=_r: {
        "mean": np.mean, "sum": np.sum, "none": lambda d: d}[r]((a - b) ** 2),
        arrays((3, 4), (3, 4)), id=_r, ulps=16)
add("cross_entropy", lambda x, y: td.cross_entropy(x, td.softmax(y, 1), 0.1), lambda x, y: -np.mean(
    np.sum((np.exp(log_softmax(y, 1)) * 0.9 + 0.1 / 4) * log_softmax(x, 1), 1)),
    arrays((5, 4), (5, 4)), id="probabilities", dtypes=("float64", "float32"), ulps=16)

# Those that draw are tested by what they promise about chance.
RANDOM = ("rand", "uniform", "randn", "normal", "randint", "bernoulli", "dropout")

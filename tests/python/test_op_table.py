"""Every operation against NumPy, its gradient against differences, and compiled against eager."""

import inspect

import numpy as np
import pytest

import tandem as td
from op_cases import CASES, INTEGERS, RANDOM

# Of a stored value: half the spacing of numbers between 1 and 2.
EPS = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
EACH = [pytest.param(c, t, id=f"{c.id}-{t}") for c in CASES for t in c.dtypes]
SMOOTH = [pytest.param(c, id=c.id) for c in CASES if c.gradient and "float64" in c.dtypes]


def listed(x):
    return list(x) if isinstance(x, (list, tuple)) else [x]


def drawn(case, dtype):
    # Of the same name the same numbers, in every run.
    return case.inputs(dtype, np.random.default_rng(sum(map(ord, case.id))))


def to_tensor(a, dtype):
    return td.tensor(a, dtype=getattr(td, dtype))


def wide(a):
    """Bfloat16 as float32, exactly."""
    return np.asarray(a.detach().to(td.float32) if a.dtype is td.bfloat16 else a.detach())


def bits(tensors):
    return [(t.dtype, t.shape, wide(t).tobytes()) for t in listed(tensors)]


def scattered(t):
    """The same values in memory with gaps, its axes in reverse order."""
    if t.ndim == 0:
        return t
    shape = t.shape[::-1]
    room = td.zeros((*shape[:-1], shape[-1] * 2), t.dtype)
    view = room[..., ::2].permute(tuple(range(t.ndim))[::-1])
    view.copy_(t)
    return view


def check(case, dtype, results, expected):
    assert len(results) == len(expected)
    for got, want in zip(results, expected):
        want = np.asarray(want)
        assert got.shape == want.shape
        assert not got.is_symbolic
        if got.dtype.is_floating_point:
            # A floating result of integers is float32.
            eps = EPS[got.dtype.name]
            assert got.dtype.name == (dtype if dtype in EPS else "float32")
            scale = max(1.0, float(np.max(np.abs(want), initial=0.0)))
            np.testing.assert_allclose(wide(got).astype(np.float64), want, rtol=0,
                                       atol=case.ulps * eps * scale)
        else:
            np.testing.assert_array_equal(wide(got), want)


def expected_of(case, arrays):
    wide_arrays = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
    with np.errstate(all="ignore"):
        return listed(case.reference(*wide_arrays))


@pytest.mark.parametrize("case, dtype", EACH)
def test_against_numpy(case, dtype):
    arrays = drawn(case, dtype)
    expected = expected_of(case, arrays)
    tensors = [to_tensor(a, dtype) for a in arrays]
    check(case, dtype, listed(case.call(*tensors)), expected)
    # Where the values lie makes no difference.
    check(case, dtype, listed(case.call(*[scattered(t) for t in tensors])), expected)


@pytest.mark.parametrize("case, dtype", EACH)
def test_compiled_equals_eager(case, dtype):
    arrays = drawn(case, dtype)
    tensors = [to_tensor(a, dtype) for a in arrays]
    fast = td.compile(lambda *x: listed(case.call(*x)))
    eager = bits(case.call(*tensors))
    assert bits(fast(*tensors)) == eager
    assert bits(fast(*tensors)) == eager  # a replay, too
    assert len(fast) == 1


def loss(case, tensors, weights):
    """A number of all results that are floating."""
    out = [r for r in listed(case.call(*tensors)) if r.dtype.is_floating_point]
    assert len(out) == len(weights)
    total = td.zeros((), td.float64)
    for r, w in zip(out, weights):
        total = total + (r * w).sum()
    return total


def with_gradient(case):
    tensors = [to_tensor(a, "float64") for a in drawn(case, "float64")]
    rng = np.random.default_rng(7)
    weights = [
        td.tensor(rng.normal(size=r.shape))
        for r in listed(case.call(*tensors)) if r.dtype.is_floating_point
    ]
    return tensors, weights


@pytest.mark.parametrize("case", SMOOTH)
def test_gradient_against_central_differences(case):
    tensors, weights = with_gradient(case)
    leaves = [t.clone().requires_grad_() for t in tensors]
    grads = td.autograd.grad(loss(case, leaves, weights), leaves)
    h = 1e-6
    rng = np.random.default_rng(3)
    for k, (t, g) in enumerate(zip(tensors, grads)):
        assert g.shape == t.shape and g.dtype is t.dtype
        flat = t.numpy().reshape(-1)
        # Of large inputs a sample.
        for i in rng.permutation(t.size)[:24]:
            sides = []
            for d in (h, -h):
                moved = flat.copy()
                moved[i] += d
                inputs = list(tensors)
                inputs[k] = td.tensor(moved.reshape(t.shape))
                sides.append(loss(case, inputs, weights).item())
            numeric = (sides[0] - sides[1]) / (2 * h)
            value = g.numpy().reshape(-1)[i]
            assert value == pytest.approx(numeric, rel=1e-5, abs=1e-6), f"input {k}, element {i}"


@pytest.mark.parametrize("case", SMOOTH)
def test_compiled_gradient_equals_eager(case):
    tensors, weights = with_gradient(case)

    def gradient(*inputs):
        leaves = [t.detach().requires_grad_() for t in inputs]
        return td.autograd.grad(loss(case, leaves, weights), leaves)

    fast = td.compile(gradient)
    eager = bits(gradient(*tensors))
    assert bits(fast(*tensors)) == eager and bits(fast(*tensors)) == eager


# ----------------------------------------------------------------------------------------- chance

DRAWS = {
    "rand": lambda: td.rand((20000,)),
    "uniform": lambda: td.uniform((20000,), -1, 3, td.float64),
    "randn": lambda: td.randn((20000,)),
    "normal": lambda: td.normal((20000,), 2, 0.5, td.float64),
    "randint": lambda: td.randint(-3, 5, (20000,)),
    "bernoulli": lambda: td.bernoulli(td.full((20000,), 0.3)),
    "dropout": lambda: td.dropout(td.ones(20000), 0.25),
}
# Mean and standard deviation.
MOMENTS = {
    "rand": (0.5, 12**-0.5), "uniform": (1, 4 * 12**-0.5), "randn": (0, 1), "normal": (2, 0.5),
    "randint": (0.5, (63 / 12) ** 0.5), "bernoulli": (0.3, 0.21**0.5),
    "dropout": (1, (1 / 0.75 - 1) ** 0.5),
}


@pytest.mark.parametrize("name", RANDOM)
def test_what_is_drawn(name):
    td.manual_seed(5)
    x = DRAWS[name]().numpy().astype(np.float64)
    mean, deviation = MOMENTS[name]
    assert abs(x.mean() - mean) < 4 * deviation / np.sqrt(x.size)
    assert x.std() == pytest.approx(deviation, rel=0.03)
    td.manual_seed(5)
    np.testing.assert_array_equal(DRAWS[name]().numpy(), x)


@pytest.mark.parametrize("name", RANDOM)
def test_compiled_draws_the_same(name):
    fast = td.compile(DRAWS[name])
    td.manual_seed(9)
    eager = [bits(DRAWS[name]()) for _ in range(4)]
    td.manual_seed(9)
    assert [bits(fast()) for _ in range(4)] == eager
    assert eager[0] != eager[1]


def test_gradient_of_a_cast():
    x = td.randn((5,)).requires_grad_()
    w = td.randn((5,), td.float64)
    (x.astype(td.float64) * w).sum().backward()
    assert x.grad.dtype is td.float32
    np.testing.assert_array_equal(x.grad.numpy(), w.numpy().astype(np.float32))


def test_gradient_of_dropout():
    x = td.randn((1000,)).requires_grad_()
    y = td.dropout(x, 0.5)
    y.sum().backward()
    kept = y.detach().numpy() != 0
    np.testing.assert_array_equal(x.grad.numpy(), np.where(kept, 2.0, 0.0))


# ----------------------------------------------------------------------------------- completeness

def test_every_public_operation_is_in_the_table():
    tested = {c.name for c in CASES} | set(RANDOM)
    assert set(td._core._documented_operations()) - tested == set()


def test_what_has_a_gradient_is_tested_for_it():
    """An op with a gradient rule that no differentiable case calls would go untested."""
    called, differentiated = set(), set()
    for case in CASES:
        with td.profiler.costs() as c:
            case.call(*[to_tensor(a, case.dtypes[0]) for a in drawn(case, case.dtypes[0])])
        called |= {x.op for x in c.calls}
        if case.gradient and "float64" in case.dtypes:
            differentiated |= {x.op for x in c.calls}
    for draw in DRAWS.values():
        with td.profiler.costs() as c:
            draw()
        called |= {x.op for x in c.calls}
    rules = {i["name"] for i in td._core._op_info() if i["differentiable"]}
    flat = {"sign", "floor", "ceil", "round"}  # their gradient is zero, and so is the difference
    drawn_ops = {"dropout", "rand_uniform", "rand_normal"}
    elsewhere = {"cast"}  # test_gradient_of_a_cast
    assert (called & rules) - differentiated - flat - drawn_ops - elsewhere == set()


# Ops that no function of the table calls, and where they are tested instead.
ELSEWHERE = {
    "fused_elementwise": "made by a pass: test_compiled_equals_eager",
    "sgd_step": "test_nn.py, by the optimisers",
    "adam_step": "test_nn.py, by the optimisers",
    "fill": "test_tensor.py, fill_",
    "assign": "test_tensor.py, copy_",
    "as_strided": "made by the tracer where views alias: test_compile.py",
    "copy": "here, by contiguous()",
    "cast": "here, by astype()",
    "slice": "test_tensor.py, by slices",
    "where": "here",
}


def test_every_op_of_the_list_is_called():
    called = set()
    for case in CASES:
        for dtype in {case.dtypes[0], "float64"} & set(case.dtypes):
            with td.profiler.costs() as c:
                tensors = [to_tensor(a, dtype) for a in drawn(case, dtype)]
                if case.gradient and dtype == "float64":
                    leaves = [t.requires_grad_() for t in tensors]
                    out = [r for r in listed(case.call(*leaves)) if r.dtype.is_floating_point]
                    weights = [td.ones(r.shape, r.dtype).requires_grad_() for r in out]
                    total = sum(((r * w).sum() for r, w in zip(out, weights)),
                                td.zeros((), out[0].dtype))
                    grads = td.autograd.grad(total, leaves, create_graph=True)
                    second = [g for g in grads if g.requires_grad]
                    if second:
                        # What gradients of gradients call.
                        s = sum(((g * g).sum() for g in second), td.zeros((), td.float64))
                        td.autograd.grad(s, leaves + weights, allow_unused=True)
                else:
                    case.call(*tensors)
            called |= {x.op for x in c.calls}
    for draw in DRAWS.values():
        with td.profiler.costs() as c:
            draw()
        called |= {x.op for x in c.calls}
    names = set(td.op_names())
    assert called <= names
    assert names - called - set(ELSEWHERE) == set()
    assert set(ELSEWHERE) <= names


def test_the_table_is_of_public_functions():
    for case in CASES:
        assert callable(getattr(td, case.name)), case.id
        assert not inspect.isclass(getattr(td, case.name))
    assert {t for c in CASES for t in c.dtypes} == {*EPS, *INTEGERS, "bool"}

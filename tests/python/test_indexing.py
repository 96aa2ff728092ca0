"""x[key] and x[key] = value against NumPy's, with thousands of random keys."""

import random

import numpy as np
import pytest

import tandem as td

SHAPES = [(2, 3, 4), (3, 3), (4,), (2, 1, 3, 2), (0, 3), ()]


def axis_part(rng, n):
    """A part of a key for an axis of n elements, as NumPy and as Tandem take it."""
    kind = rng.randrange(8)
    if kind <= 2 or n == 0:
        ends = [rng.choice([None, rng.randint(-n - 2, n + 2)]) for _ in range(2)]
        return slice(*ends, rng.choice([None, 1, 2, -1, -2]))
    if kind == 3:
        return rng.randrange(-n, n)
    if kind == 4:
        return [bool(rng.randrange(2)) for _ in range(n)]
    at = np.array([rng.randrange(-n, n) for _ in range(rng.choice([1, 2, 2, 3]))])
    if rng.randrange(3) == 0:
        at = at.reshape(at.size, 1)
    return at


def random_key(rng, shape):
    parts, axis = [], 0
    stop = rng.randint(0, len(shape))
    while axis < stop:
        special = rng.randrange(14)
        if special == 0:
            parts.append(None)
        elif special == 1:
            parts.append(rng.choice([True, False, np.True_, np.array(True)]))
        elif special == 2 and axis + 1 < stop:
            mask = np.array([rng.randrange(2) for _ in range(shape[axis] * shape[axis + 1])], bool)
            parts.append(mask.reshape(shape[axis : axis + 2]))
            axis += 2
        else:
            parts.append(axis_part(rng, shape[axis]))
            axis += 1
    if rng.randrange(3) == 0:
        # What stands behind the ellipsis names the last axes.
        at = rng.randint(0, len(parts))
        tail = random_tail(rng, shape, parts[at:])
        if tail is not None:
            parts[at:] = [..., *tail]
    return parts[0] if len(parts) == 1 and rng.randrange(2) else tuple(parts)


def random_tail(rng, shape, parts):
    axes = list(shape[::-1])
    tail = []
    for part in reversed(parts):
        if part is None or np.ndim(part) == 0 and isinstance(part, (bool, np.bool_, np.ndarray)):
            tail.append(part)
        elif isinstance(part, np.ndarray) and part.dtype == bool:
            return None
        else:
            tail.append(axis_part(rng, axes.pop(0)))
    return tail[::-1]


def outcome(f):
    try:
        return f()
    except (IndexError, ValueError) as e:
        return e


def tandems(key, rng):
    """The key with some of its arrays as tensors."""
    def one(p):
        return td.tensor(p) if isinstance(p, np.ndarray) and rng.randrange(2) else p

    return tuple(map(one, key)) if isinstance(key, tuple) else one(key)


def test_random_keys_read_as_in_numpy():
    rng = random.Random(1)
    read = refused = 0
    for _ in range(6000):
        shape = rng.choice(SHAPES)
        a = np.arange(np.prod(shape, dtype=int)).reshape(shape)
        key = random_key(rng, shape)
        want = outcome(lambda: a[key])
        got = outcome(lambda: td.tensor(a)[tandems(key, rng)])
        if isinstance(want, Exception):
            assert isinstance(got, Exception), (shape, key, got)
            refused += 1
        else:
            assert isinstance(got, td.Tensor), (shape, key, got)
            assert got.shape == np.shape(want), (shape, key)
            assert np.array_equal(got.numpy(), want), (shape, key)
            read += 1
    assert read > 4000 and refused > 100


def test_random_keys_write_as_in_numpy():
    rng = random.Random(2)
    written = 0
    for _ in range(6000):
        shape = rng.choice(SHAPES)
        a = np.arange(np.prod(shape, dtype=int)).reshape(shape)
        key = random_key(rng, shape)
        target = outcome(lambda: a[key])
        # Whether NumPy takes an array for one element depends on its version.
        if isinstance(target, Exception) or np.ndim(target) == 0:
            continue
        # The value broadcasts; sometimes it does not.
        size = [rng.choice([n, n, 1]) for n in np.shape(target)][rng.randint(0, np.ndim(target)) :]
        if rng.randrange(4) == 0:
            size = [1, *size]
        if rng.randrange(8) == 0:
            size = [*size, 5]
        value = -1 - np.arange(np.prod(size, dtype=int)).reshape(size)
        t = td.tensor(a)

        def write(x, k, v):
            x[k] = v
            return x

        try:
            want = outcome(lambda: write(a.copy(), key, value))
        except TypeError:  # for masks of several axes NumPy takes values of one axis only
            continue
        got = outcome(lambda: write(t, tandems(key, rng), td.tensor(value)))
        if isinstance(want, Exception):
            assert isinstance(got, Exception), (shape, key, size, got)
            assert np.array_equal(t.numpy(), a)
        else:
            assert isinstance(got, td.Tensor), (shape, key, size, got)
            assert np.array_equal(got.numpy(), want), (shape, key, size)
            written += 1
    assert written > 3000


def test_bools_are_masks():
    x = td.arange(4).reshape((2, 2))
    assert x[True].shape == (1, 2, 2) and x[False].shape == (0, 2, 2)
    assert x[np.True_].shape == (1, 2, 2) and x[td.tensor(True)].shape == (1, 2, 2)
    x[np.array(False)] = 7
    assert x.tolist() == [[0, 1], [2, 3]]
    x[True] = 0
    assert x.tolist() == [[0, 0], [0, 0]]


def test_arrays_beside_integers_and_ellipses():
    a = np.arange(24).reshape(2, 3, 4)
    x = td.tensor(a)
    assert x[0, :, [0, 1]].shape == (2, 3)
    assert x[:, [0, 1], ..., [0, 1]].shape == a[:, [0, 1], ..., [0, 1]].shape
    mask = a[0] > 5
    assert np.array_equal(x[..., mask].numpy(), a[..., mask])
    assert x[(0, 1),].shape == (2, 3, 4) and x[range(1)].shape == (1, 3, 4)
    x[0] = np.ones((1, 1, 3, 4))
    assert x[0].tolist() == np.ones((3, 4)).tolist()
    with pytest.raises(ValueError):
        x[[]] = np.ones(5)


def test_positions_out_of_range():
    x = td.zeros((3, 4))
    for key in ((0, 4), ([0], [5]), ([0], [-5]), ([3], 0), [3], td.tensor([-4]), (2**70,)):
        with pytest.raises(IndexError):
            x[key]
        with pytest.raises(IndexError):
            x[key] = 1.0


# ------------------------------------------------------------------------------- captured


@pytest.mark.parametrize("key", [([0], [5]), ([0], [-5]), ([3], [0]), ([-4], [1]), ([-4], [7])])
def test_positions_out_of_one_axis_are_not_inside_of_another_at_replay(key):
    x = td.arange(12).reshape((3, 4))
    f = td.compile(lambda x, i, j: x[i, j])
    for good in (([1], [2]), ([-1], [-4]), ([2], [3])):
        assert f(x, *map(td.tensor, good)).tolist() == x[good].tolist()
    with pytest.raises(IndexError):
        f(x, *map(td.tensor, key))


def test_one_captured_position():
    f = td.compile(lambda x, i: (x[i], x[:, i], x[0, i]))
    x = td.arange(9).reshape((3, 3))
    for i in (0, 2, -1):
        a, b, c = f(x, td.tensor(i))
        assert a.tolist() == x[i].tolist() and b.tolist() == x[:, i].tolist()
        assert c.item() == x[0, i].item()
    with pytest.raises(IndexError):
        f(x, td.tensor(3))


def test_lists_inside_captures():
    def f(x):
        y = x * 1
        y[[0, 2]] = 5.0
        y[[True, False, False], 1:] = -1.0
        y[range(1, 2), (0,)] = 7.0
        return y, x[[True, False, True]], x[[0, 1], [1, 0]], x[[2, -1]], x[True]

    x = td.tensor(np.arange(9.0).reshape(3, 3))
    g = td.compile(f)
    for _ in range(5):
        x += 1
        for got, want in zip(g(x), f(x)):
            assert got.shape == want.shape and got.tolist() == want.tolist()
    assert len(g.ledger()) == 1
    with pytest.raises(IndexError):
        td.compile(lambda x: x[[0], [3]])(x)


def test_arrays_inside_captures_are_read_at_each_run():
    at = td.tensor([0, 1])
    f = td.compile(lambda x: x[at])
    x = td.tensor([5, 6, 7])
    assert f(x).tolist() == [5, 6]
    at.copy_(td.tensor([2, -1]))
    assert f(x).tolist() == [7, 7]
    mask = td.tensor([True, False, True])
    with pytest.raises(td.CaptureError):
        td.compile(lambda x: x[mask])(x)

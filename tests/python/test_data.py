"""Data sets written in Python, and the loader over whatever has a length and items."""

import collections
import threading
import time

import numpy as np
import pytest
import tandem as td
from tandem import data, nn, optim


class Points(data.Dataset):
    """(point, index) pairs; remembers who asked for them."""

    def __init__(self, n=10, fail_at=None):
        self.x = np.random.default_rng(0).random((n, 3), dtype="f")
        self.fail_at, self.threads, self.asked = fail_at, set(), []

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        self.threads.add(threading.current_thread().name)
        self.asked.append(i)
        if i == self.fail_at:
            raise KeyError(f"sample {i}")
        return self.x[i], i


def test_a_data_set_needs_both_methods():
    class Half(data.Dataset):
        def __len__(self):
            return 1

    with pytest.raises(TypeError, match="__getitem__"):
        Half()
    train, _ = data.load_dataset("synthetic-digits")
    assert isinstance(train, data.Dataset) and not isinstance([], data.Dataset)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_every_sample_once_an_epoch(workers):
    points = Points()
    loader = data.DataLoader(points, batch_size=4, num_workers=workers, seed=2)
    assert len(loader) == 3
    orders = []
    for epoch in range(2):
        xs, ys = zip(*loader)
        assert [x.shape for x in xs] == [(4, 3), (4, 3), (2, 3)]
        assert xs[0].dtype is td.float32 and ys[0].dtype is td.int64
        y = np.concatenate([b.numpy() for b in ys])
        assert sorted(y) == list(range(10)) and list(y) == list(loader.order(epoch))
        assert np.array_equal(np.concatenate([b.numpy() for b in xs]), points.x[y])
        orders.append(list(y))
    assert orders[0] != orders[1]
    loader.set_epoch(0)
    assert [int(v) for _, y in loader for v in y] == orders[0]
    mine = threading.current_thread().name
    assert (points.threads == {mine}) == (workers == 0)
    assert len(data.DataLoader(points, batch_size=4, drop_last=True)) == 2
    assert [int(v) for _, y in data.DataLoader(points, shuffle=False) for v in y] == list(range(10))


def test_batches_have_the_form_of_the_samples():
    Pair = collections.namedtuple("Pair", "a b")
    samples = [{"x": [1.5, True], "name": "one", "t": td.ones(2), "p": Pair(1, 2.0), "n": np.int32(7)},
               {"x": [2.5, False], "name": "two", "t": td.zeros(2), "p": Pair(3, 4.0), "n": np.int32(8)}]
    (batch,) = data.DataLoader(samples, shuffle=False)
    assert batch["x"][0].tolist() == [1.5, 2.5] and batch["x"][0].dtype is td.float32
    assert batch["x"][1].tolist() == [True, False] and isinstance(batch["x"], list)
    assert batch["name"] == ["one", "two"]
    assert batch["t"].tolist() == [[1, 1], [0, 0]]
    assert isinstance(batch["p"], Pair) and batch["p"].a.dtype is td.int64
    assert batch["p"].b.tolist() == [2.0, 4.0]
    assert batch["n"].dtype is td.int32 and batch["n"].tolist() == [7, 8]
    # Whole and broken numbers in one place are broken ones; NumPy's keep their types.
    (mixed,) = data.DataLoader([1, 2.5], shuffle=False)
    assert mixed.tolist() == [1.0, 2.5]
    (wide,) = data.DataLoader(np.array([1.0, 2.5]), shuffle=False)
    assert wide.dtype is td.float64
    assert list(data.DataLoader([True, 2.5], shuffle=False)) == [[True, 2.5]]
    assert list(data.DataLoader([1, None], shuffle=False)) == [[1, None]]
    assert list(data.DataLoader([])) == []


def test_collate_makes_batches_otherwise():
    words = [np.arange(n) for n in (3, 1, 2)]

    def padded(samples):
        longest = max(map(len, samples))
        return np.stack([np.pad(s, (0, longest - len(s))) for s in samples]), len(samples)

    (batch, n), = data.DataLoader(words, shuffle=False, collate=padded)
    assert batch.tolist() == [[0, 1, 2], [0, 0, 0], [0, 1, 0]] and n == 3
    images, _ = data.load_dataset("synthetic-digits")
    x, y = next(iter(data.DataLoader(images, batch_size=2, shuffle=False)))
    u, v = next(iter(data.DataLoader(images, batch_size=2, shuffle=False, collate=lambda s: (
        td.stack([x for x, _ in s]), [int(y) for _, y in s]))))
    assert u.tolist() == x.tolist() and v == y.tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_reaches_who_asks_for_its_batch(workers):
    loader = data.DataLoader(Points(12, fail_at=7), batch_size=3, shuffle=False,
                             num_workers=workers)
    batches = iter(loader)
    assert next(batches)[1].tolist() == [0, 1, 2]
    assert next(batches)[1].tolist() == [3, 4, 5]
    with pytest.raises(KeyError, match="sample 7"):
        next(batches)
    with pytest.raises(td.ShapeError, match=r"\[DataLoader\] samples of a batch have one shape"):
        next(iter(data.DataLoader([np.ones(2), np.ones(3)], num_workers=workers)))
    for samples, text in [([(1, 2), (1,)], "as many parts"), ([(1, 2), 3], "as many parts"),
                          ([{"a": 1}, {"b": 1}], "the same keys"), ([{"a": 1}, 2], "the same keys"),
                          ([td.ones(2), td.ones(3)], "one shape")]:
        with pytest.raises(td.ShapeError, match=rf"{text}; got .*; expected a `collate`"):
            next(iter(data.DataLoader(samples, shuffle=False, num_workers=workers)))


def test_an_epoch_begins_with_its_first_batch():
    loader = data.DataLoader(Points(), batch_size=10)
    iter(loader)
    (_, first), = loader
    assert first.tolist() == list(loader.order(0))
    (_, second), = loader
    assert second.tolist() == list(loader.order(1))
    assert loader.batch_size == 10 and len(loader.dataset) == 10


def test_workers_run_ahead_no_further_than_asked_and_stop():
    points = Points(100)
    batches = iter(data.DataLoader(points, batch_size=1, shuffle=False, num_workers=2, prefetch=3))
    next(batches)
    until = time.monotonic() + 30
    while len(points.asked) < 4 and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(points.asked) == 4  # one was given, three are ready
    batches.close()
    asked = len(points.asked)
    for _ in range(100):
        if not any(t.name.startswith("tandem-loader") for t in threading.enumerate()):
            break
        time.sleep(0.02)
    else:
        pytest.fail("threads of a loader that was left are still there")
    assert len(points.asked) <= asked + 2


def test_options_that_do_not_fit():
    for options, text in [({"flip": "random"}, "got flip"), ({"mean": [0.5]}, "got mean"),
                          ({"dtype": "float16"}, "got dtype"), ({"translate": 2}, "got translate"),
                          ({"layout": td.channels_last}, "got layout"),
                          ({"batch_size": 0}, "at least one sample; got 0"),
                          ({"num_workers": -1}, "num_workers is out of range; got -1; expected 0 to 1024"),
                          ({"prefetch": 0}, "prefetch is out of range; got 0; expected 1 to"),
                          ({"seed": -1}, "seed is not negative; got -1; expected 0 or more")]:
        with pytest.raises(td.RangeError, match=text):
            data.DataLoader([1, 2], **options)
    with pytest.raises(td.DeviceError):
        data.DataLoader([1], device="cuda" if not td.cuda_is_available() else "cuda:99")
    for wrong, text in [(lambda: data.DataLoader(3), "dataset does not fit; got 3"),
                        (lambda: data.DataLoader([1], batch_size=2.5), "batch_size does not fit"),
                        (lambda: data.DataLoader([1], batch_size=None), "batch_size does not fit"),
                        (lambda: data.DataLoader([1], num_workers="2"), "num_workers does not"),
                        (lambda: data.DataLoader([1], seed=1.5), "seed does not fit; got 1.5"),
                        (lambda: data.DataLoader([1]).set_epoch("x"), "epoch does not fit")]:
        with pytest.raises(TypeError, match=rf"\[DataLoader\] {text}"):
            wrong()
    with pytest.raises(td.RangeError, match=r"\[ArrayLoader\] epoch is not negative; got -1"):
        data.ArrayLoader(np.ones(3)).order(-1)
    images, _ = data.load_dataset("synthetic-digits")
    with pytest.raises(td.RangeError, match="got mean with collate; expected a `collate`"):
        data.DataLoader(images, mean=[0.5], collate=list)
    loader = data.DataLoader([1, 2])

    @td.compile
    def draws(x):
        return x + next(iter(loader))

    with pytest.raises(td.CaptureError, match="a batch cannot be drawn inside a capture"):
        draws(td.ones(2))
    begun = iter(data.DataLoader([1, 2, 3], batch_size=1))
    next(begun)
    with pytest.raises(td.CaptureError, match="a batch cannot be drawn inside a capture"):
        td.compile(lambda x: x + next(begun))(td.ones(2))


def test_image_data_sets_give_samples_by_number():
    train, _ = data.load_dataset("synthetic-digits")
    image, label = train[3]
    images, labels = train.get([3])
    assert image.shape == (1, 28, 28) and image.tolist() == images[0].tolist()
    assert int(label) == int(labels[0]) and label.shape == ()
    assert train[-1][0].tolist() == train[len(train) - 1][0].tolist()
    with pytest.raises(IndexError):
        train[len(train)]
    assert repr(train) == ("<tandem.ImageDataset 'synthetic digits (generated)': 60000 images "
                           "[1, 28, 28], 10 classes>")


def test_a_net_trains_on_a_data_set_of_ones_own():
    class Line(data.Dataset):
        def __len__(self):
            return 64

        def __getitem__(self, i):
            x = np.float32(i / 64)
            return np.array([x]), np.array([3 * x + 1])

    td.manual_seed(0)
    net = nn.Linear(1, 1)
    model = td.Model(net, optim.Adam(net.parameters(), lr=0.1), loss=nn.functional.mse_loss)
    model.fit(data.DataLoader(Line(), batch_size=16), epochs=60, verbose=0)
    assert abs(net.weight.item() - 3) < 0.1 and abs(net.bias.item() - 1) < 0.1

"""Images: the readers, the generated sets, what is done to them on their way, and the loader's
options."""

import gzip
import struct

import numpy as np
import pytest
import tandem as td
from tandem import data


def idx(array, code):
    """A file of the format of MNIST."""
    a = np.asarray(array)
    return struct.pack(">HBB", 0, code, a.ndim) + struct.pack(f">{a.ndim}I", *a.shape) + \
        a.astype(a.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("dtype, code", [("uint8", 8), ("int32", 12), ("float32", 13),
                                         ("float64", 14)])
def test_idx_files(tmp_path, dtype, code):
    values = np.arange(6).reshape(2, 3).astype(dtype)
    plain, zipped = tmp_path / "a", tmp_path / "a.gz"
    plain.write_bytes(idx(values, code))
    zipped.write_bytes(gzip.compress(idx(values, code)))
    for path in (plain, str(plain), zipped):
        t = data.read_idx(path)
        assert t.dtype.name == dtype and t.shape == (2, 3) and t.tolist() == values.tolist()
    size = values.nbytes
    assert data.read_idx(plain, max_bytes=size).shape == (2, 3)
    with pytest.raises(td.DataError, match=rf"\[read_idx\].*expected at most {size - 1} bytes"):
        data.read_idx(plain, max_bytes=size - 1)
    plain.write_bytes(idx(values, code)[:-1])
    with pytest.raises(td.DataError, match=r"\[read_idx\]"):
        data.read_idx(plain)
    (tmp_path / "none").write_bytes(idx(np.zeros((0, 4), dtype), code))
    assert data.read_idx(tmp_path / "none").shape == (0, 4)
    with pytest.raises(td.DataError, match=r"\[read_idx\]"):
        data.read_idx(tmp_path / "nowhere")


def test_mnist_and_cifar_from_their_files(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (3, 28, 28), np.uint8), np.array([7, 0, 9], np.uint8)
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(images, 8))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels, 8))
    for train, test in (data.load_mnist(tmp_path, name="digits"),
                        data.load_dataset("mnist", root=tmp_path)):
        assert len(train) == len(test) == 3 and not train.synthetic
        assert np.array_equal(train.pixels().numpy()[:, 0], images)
        assert train.labels().tolist() == labels.tolist()
    assert data.load_mnist(str(tmp_path), "digits")[0].name.startswith("digits")

    rows = rng.integers(0, 256, (2, 3073), np.uint8)
    rows[:, 0] = [9, 4]
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        (tmp_path / f"{name}.bin").write_bytes(rows.tobytes())
    train, test = data.load_cifar10(tmp_path)
    assert (len(train), len(test)) == (10, 2) and test.labels().tolist() == [9, 4]
    assert np.array_equal(test.pixels().numpy().reshape(2, -1), rows[:, 1:])
    for load in (data.load_mnist, data.load_cifar10):
        with pytest.raises(td.DataError):
            load(tmp_path / "nowhere")
        with pytest.raises(TypeError):
            load(3)


@pytest.mark.parametrize("make, shape", [(data.synthetic_digits, (1, 28, 28)),
                                         (data.synthetic_cifar, (3, 32, 32))])
def test_generated_sets_of_any_size(make, shape):
    few, more = make(5, seed=1), make(size=8, seed=1)
    assert len(few) == 5 and few.image_shape == shape and few.synthetic and few.classes == 10
    assert few.pixels().tolist() == more.pixels()[:5].tolist()
    assert few.labels().tolist() == more.labels()[:5].tolist()
    assert make(5, 2).pixels().tolist() != few.pixels().tolist()
    with pytest.raises(td.RangeError, match="size is too small; got 0"):
        make(0, 1)


def test_the_bytes_of_a_data_set():
    pixels = td.randint(0, 256, (4, 3, 2, 5), dtype=td.uint8)
    mine = data.byte_images("mine", pixels, td.tensor([2, 0, 1, 1]), 3)
    assert (mine.name, mine.image_shape, mine.classes, mine.synthetic) == ("mine", (3, 2, 5), 3,
                                                                           False)
    p, labels = mine.pixels(), mine.labels()
    assert p.dtype is td.uint8 and p.tolist() == pixels.tolist()
    assert labels.dtype is td.int64 and labels.tolist() == [2, 0, 1, 1]
    p.fill_(0)  # a copy
    assert mine.pixels().tolist() == pixels.tolist()
    x, y = mine.get([1, 3])
    assert np.array_equal(x.numpy(), pixels.numpy()[[1, 3]].astype("f") / np.float32(255))
    assert y.tolist() == [0, 1]
    assert data.byte_images("made", pixels, td.arange(4), 4, synthetic=True).synthetic


# ------------------------------------------------------------------------------ augmentation


def shifted(image, dy, dx, border):
    """NumPy's: what padding by as much and cropping gives."""
    t = max(abs(dy), abs(dx))
    if t == 0:
        return image
    wide = np.pad(image, ((0, 0), (t, t), (t, t)),
                  mode="reflect" if border == "reflect" else "constant")
    _, h, w = image.shape
    return wide[:, t + dy:t + dy + h, t + dx:t + dx + w]


@pytest.mark.parametrize("border", ["zero", "reflect"])
def test_what_is_moved_in_at_the_border(border):
    image = np.random.default_rng(0).random((2, 4, 5), dtype="f") + 1
    augmenter = data.Augmenter((2, 4, 5), translate=2, border=border, seed=3)
    places = set()
    for index in range(60):
        got = augmenter.apply(td.tensor(image), 0, index).numpy()
        found = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)
                 if np.array_equal(got, shifted(image, dy, dx, border))]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) > 15
    # The loader does the same to the same sample, whatever the order.
    few = data.byte_images("few", td.randint(0, 256, (6, 2, 4, 5), dtype=td.uint8), td.arange(6), 6)
    loader = data.DataLoader(few, batch_size=6, seed=3, translate=2, border=border)
    loader.set_epoch(4)
    (x, y), = loader
    for image, label in zip(x, y.tolist()):
        assert image.tolist() == augmenter.apply(few[label][0], 4, label).tolist()


def test_flips_by_epoch():
    image = td.arange(6, dtype=td.float32).reshape((1, 2, 3))
    turned = td.flip(image, axis=2).tolist()
    alternating = data.Augmenter((1, 2, 3), flip="alternating")
    for index in range(8):
        seen = [alternating.apply(image, epoch, index).tolist() for epoch in range(4)]
        assert seen[0] == seen[2] and seen[1] == seen[3]
        assert sorted([seen[0], seen[1]]) == sorted([image.tolist(), turned])
    random = data.Augmenter((1, 2, 3), flip="random")
    assert {str(random.apply(image, 0, i).tolist()) for i in range(30)} == {
        str(image.tolist()), str(turned)}
    assert image.tolist() == [[[0, 1, 2], [3, 4, 5]]]
    same = data.Augmenter((1, 2, 3)).apply(image.astype(td.float64), 0, 0)
    assert same.dtype is td.float32 and same.tolist() == image.tolist()


def test_augmentation_that_does_not_fit():
    few = data.synthetic_digits(2, 1)
    for make in (lambda **o: data.Augmenter((1, 28, 28), **o),
                 lambda **o: data.DataLoader(few, **o)):
        with pytest.raises(td.RangeError, match="no such border; got wrap; expected 'zero' or "
                                                "'reflect'"):
            make(border="wrap")
        with pytest.raises(td.RangeError, match="no such flip; got up; expected 'none', 'random' "
                                                "or 'alternating'"):
            make(flip="up")
        with pytest.raises(td.RangeError, match="smaller than the image; got 28"):
            make(translate=28)
    with pytest.raises(td.ShapeError, match=r"\[Augmenter\] an image has three axes; got \[28, 28\]"):
        data.Augmenter((28, 28))
    augmenter = data.Augmenter((1, 2, 2))
    with pytest.raises(td.ShapeError, match=r"got \[1, 2, 3\]; expected \[1, 2, 2\]"):
        augmenter.apply(td.zeros((1, 2, 3)), 0, 0)
    with pytest.raises(td.DTypeError, match=r"\[Augmenter\] an image is floating; got u8"):
        augmenter.apply(td.zeros((1, 2, 2), dtype=td.uint8), 0, 0)
    for epoch, index in ((-1, 0), (0, -1)):
        with pytest.raises(td.RangeError, match=f"not negative; got {epoch} and {index}"):
            augmenter.apply(td.zeros((1, 2, 2)), epoch, index)


# ------------------------------------------------------------------------------- the loader


@pytest.mark.parametrize("make", [
    lambda: data.DataLoader(data.synthetic_digits(6, 1), batch_size=3),
    lambda: data.DataLoader([1, 2, 3, 4], batch_size=2),
    lambda: data.ArrayLoader(np.arange(4), batch_size=2),
])
def test_the_epoch_is_known(make):
    loader = make()
    assert loader.epoch == 0
    list(loader)
    assert loader.epoch == 1
    loader.set_epoch(7)
    assert loader.epoch == 7
    with pytest.raises(AttributeError):
        loader.epoch = 3


def test_what_a_loader_was_made_with():
    images = data.synthetic_cifar(3, 1)
    given = {"batch_size": 2, "shuffle": False, "seed": 5, "drop_last": True, "num_workers": 2,
             "prefetch": 6, "layout": td.channels_last, "dtype": td.float16, "mean": (0.5,) * 3,
             "std": (0.2,) * 3, "flip": "random", "translate": 1, "border": "reflect"}
    options = data.DataLoader(images, **given).options
    assert options == {**given, "device": td.Device("cpu"), "collate": None}
    options.clear()
    plain = data.DataLoader([1, 2], collate=list)
    assert plain.options["collate"] is list and plain.options["batch_size"] == 64
    assert plain.options["dtype"] is td.float32 and plain.options["border"] == "zero"
    again = data.DataLoader([1, 2], **plain.options)
    assert again.options == plain.options
    with pytest.raises(td.RangeError, match="got border; expected a __getitem__"):
        data.DataLoader([1, 2], border="reflect")

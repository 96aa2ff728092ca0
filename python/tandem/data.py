"""Data sets and the loaders."""

from __future__ import annotations

import contextlib
import itertools
from abc import ABC, abstractmethod
from collections import deque
from typing import Any, Callable, Generator, Iterator, Sequence

from . import _core
from ._arguments import whole
from ._core import (Augmenter, ImageDataset, Tensor, byte_images, dataset_names, load_cifar10,
                    load_dataset, load_mnist, read_idx, synthetic_cifar, synthetic_digits)
from ._structure import leaves, mapped

__all__ = ["ArrayLoader", "Augmenter", "DataLoader", "Dataset", "ImageDataset", "byte_images",
           "dataset_names", "load_cifar10", "load_dataset", "load_mnist", "read_idx",
           "synthetic_cifar", "synthetic_digits"]


class Dataset(ABC):
    """Samples by number, for a DataLoader: a subclass has `__len__` and `__getitem__(index)`, which
    gives a sample: a tensor, an array, a number, or a tuple, list or dict of such. Where workers
    read it, several threads call `__getitem__` at once.

    Anything with these two methods can be loaded, also a list. What load_dataset() gives is a
    Dataset, too.

    >>> import tandem as td
    >>> class Squares(td.data.Dataset):
    ...     def __len__(self):
    ...         return 5
    ...     def __getitem__(self, i):
    ...         return float(i), i * i
    >>> for x, y in td.data.DataLoader(Squares(), batch_size=3, shuffle=False):
    ...     print(x.tolist(), y.tolist())
    [0.0, 1.0, 2.0] [0, 1, 4]
    [3.0, 4.0] [9, 16]
    """

    @abstractmethod
    def __len__(self) -> int:
        """How many samples there are."""

    @abstractmethod
    def __getitem__(self, index: int) -> Any:
        """The sample of a number, 0 to len() - 1."""


Dataset.register(ImageDataset)


class _Epochs:
    """The order of n samples, cut into batches: it depends on (seed, epoch) alone."""

    def __init__(self, name: str, n: int, batch_size: int, shuffle: bool, seed: int,
                 drop_last: bool):
        batch_size = whole(name, "batch_size", batch_size)
        if batch_size < 1:
            raise _core.RangeError(f"[{name}] a batch has at least one sample; got {batch_size}; "
                                   "expected 1 or more")
        seed = _not_negative(name, "seed", seed)
        self._name = name
        self._n, self._batch, self._shuffle, self._seed = n, batch_size, shuffle, seed
        self._drop_last = drop_last
        self._epoch = 0

    def __len__(self) -> int:
        n = self._n // self._batch
        return n if self._drop_last or n * self._batch == self._n else n + 1

    @property
    def epoch(self) -> int:
        """The number of the epoch that the next `for` runs, from 0."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """The number of the next epoch, from 0."""
        self._epoch = _not_negative(self._name, "epoch", epoch)

    def order(self, epoch: int) -> Any:
        """The samples of an epoch in the order they are given: int64 [N], a NumPy array."""
        import numpy as np

        epoch = _not_negative(self._name, "epoch", epoch)
        if not self._shuffle:
            return np.arange(self._n)
        return np.random.default_rng([self._seed, epoch]).permutation(self._n)

    def _next(self) -> Iterator[Any]:
        """The samples of each batch of the next epoch."""
        order = self.order(self._epoch)
        self._epoch += 1
        return (order[i * self._batch:(i + 1) * self._batch] for i in range(len(self)))


class ArrayLoader(_Epochs):
    """Runs over arrays or tensors [N, …] in batches, as DataLoader does over data sets: gives
    tuples with a batch of each. Where a tuple or dict of arrays is given, one is in the batch.

    Every `for` is one epoch. The order depends on (seed, epoch) alone. ShapeError where lengths
    differ, RangeError for a batch size below 1.
    """

    def __init__(self, *arrays: Any, batch_size: int = 32, shuffle: bool = True, seed: int = 0,
                 drop_last: bool = False):
        # A list is an array of what is in it.
        self._arrays = [mapped(_kept, a, (list,)) for a in arrays]
        lengths = [a.shape[0] for a in leaves(self._arrays)]
        if not lengths or len(set(lengths)) != 1:
            raise _core.ShapeError(
                f"[ArrayLoader] all arrays must have the same length; got {lengths}"
            )
        super().__init__("ArrayLoader", lengths[0], batch_size, shuffle, seed, drop_last)

    def __iter__(self) -> Iterator[tuple]:
        for order in self._next():
            index = order
            if not self._shuffle:
                index = slice(int(order[0]), int(order[-1]) + 1)
            yield tuple(mapped(lambda a: _taken(a, index), self._arrays))


class _SampleLoader(_Epochs):
    """Over what has `__len__` and `__getitem__`; samples are fetched and stacked by threads."""

    def __init__(self, dataset: Any, batch_size: int, shuffle: bool, seed: int, drop_last: bool,
                 workers: int, prefetch: int, device: Any, collate: Callable[[list], Any]):
        super().__init__("DataLoader", len(dataset), batch_size, shuffle, seed, drop_last)
        self._dataset, self._workers = dataset, workers
        self._ahead = max(workers, prefetch)
        self._collate = collate
        self.device = _core.zeros((0,), device=device).device  # DeviceError where there is none

    def _fetch(self, order: Any) -> Any:
        return self._collate([self._dataset[int(i)] for i in order])

    def __iter__(self) -> Iterator[Any]:
        # A generator: the epoch begins with its first batch.
        _refuse_capture()
        fetched = self._fetched_here() if self._workers == 0 else self._fetched_by_workers()
        with contextlib.closing(fetched):
            for batch in fetched:
                yield _tensors(batch, self.device)
                _refuse_capture()

    def _fetched_here(self) -> Generator[Any, None, None]:
        for order in self._next():
            yield self._fetch(order)

    def _fetched_by_workers(self) -> Generator[Any, None, None]:
        from concurrent.futures import ThreadPoolExecutor

        pool = ThreadPoolExecutor(self._workers, "tandem-loader")
        orders = self._next()
        waiting: deque = deque()
        try:
            for order in itertools.islice(orders, self._ahead):
                waiting.append(pool.submit(self._fetch, order))
            while waiting:
                batch = waiting.popleft().result()
                for order in itertools.islice(orders, 1):
                    waiting.append(pool.submit(self._fetch, order))
                yield batch
        finally:
            # Whoever leaves the loop early does not wait for what is being fetched.
            pool.shutdown(wait=False, cancel_futures=True)


def _refuse_capture() -> None:
    if _core._is_capturing():
        raise _core.CaptureError(
            "[DataLoader] a batch cannot be drawn inside a capture; got a loader used by the "
            "captured function; expected batches as arguments of it")


# What images are like that nothing is done to.
_UNCHANGED = {"layout": _core.MemoryFormat.contiguous, "dtype": _core.float32, "mean": (), "std": (),
              "flip": "none", "translate": 0, "border": "zero"}


class DataLoader:
    """Runs over a data set in batches. Every `for` is one epoch; which samples the batches hold
    depends on (seed, epoch) alone, not on the workers. They are handed out on `device` (None: the
    default one).

    dataset: a Dataset, or anything with `__len__` and `__getitem__`. Samples that are tuples, lists
    or dicts become batches of the same form; numbers become [N], arrays and tensors of one shape
    are stacked to [N, …], anything else is a list. `collate(samples)` makes the batch of a list of
    samples otherwise; its arrays become tensors.
    num_workers: threads that fetch samples; 0: none. prefetch: batches that may be ready or in the
    making at a time; as many as there are workers at least.

    Of images that load_dataset() and byte_images() give, batches are (images [N, C, H, W], labels
    int64 [N]), made without Python, and copied to a GPU from page-locked memory while it works on
    the batch before. Only these can be laid out (`layout`), converted (`dtype`), normalised
    ((x - mean) / std, a number per channel), flipped (`flip`: "none", "random" or "alternating")
    and moved by up to `translate` pixels (`border`, what is moved in: "zero" or "reflect").

    DTypeError and RangeError for options that do not fit; an exception of `__getitem__` is raised to
    whoever asks for that batch; CaptureError inside a compiled function. Modes and scopes
    (no_grad, device) are a thread's: those of the caller are not those of the workers.
    """

    def __init__(self, dataset: Any, batch_size: int = 64, shuffle: bool = True, seed: int = 0,
                 drop_last: bool = False, num_workers: int = 1, prefetch: int = 4,
                 layout: _core.MemoryFormat = _core.MemoryFormat.contiguous,
                 dtype: Any = _core.float32, mean: Sequence[float] = (),
                 std: Sequence[float] = (), flip: str = "none", translate: int = 0,
                 border: str = "zero", device: Any = None,
                 collate: "Callable[[list], Any] | None" = None):
        who = "DataLoader"
        self._dataset, self._batch_size = dataset, whole(who, "batch_size", batch_size)
        workers, prefetch = (_within(who, n, v, least, most) for n, v, least, most in (
            ("num_workers", num_workers, 0, 1024), ("prefetch", prefetch, 1, 1 << 20)))
        for name, value in (("mean", mean), ("std", std)):
            if isinstance(value, str) or not hasattr(value, "__len__"):
                raise _core.DTypeError(f"[DataLoader] {name} does not fit; got {value!r}; expected "
                                       "a number for each channel: (0.5, 0.5, 0.5)")
        if collate is not None and not callable(collate):
            raise _core.DTypeError(f"[DataLoader] collate does not fit; got {collate!r}; expected "
                                   "a function of a list of samples")
        images = isinstance(dataset, ImageDataset)
        self._loader: Any = None
        if images and collate is None:
            self._loader = _core._ImageLoader(dataset, batch_size, shuffle, seed, drop_last,
                                              workers, prefetch, layout, dtype, mean, std, flip,
                                              translate, border, device)
        elif not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise _core.DTypeError(f"[DataLoader] dataset does not fit; got {dataset!r}; expected "
                                   "a Dataset, or samples with len() and [index]")
        changes = {"layout": layout, "dtype": _core.zeros((0,), dtype=dtype).dtype,
                   "mean": tuple(mean), "std": tuple(std), "flip": flip, "translate": translate,
                   "border": border}
        wrong = ", ".join(name for name, value in changes.items() if value != _UNCHANGED[name])
        if self._loader is None and wrong:
            raise _core.RangeError(
                f"[DataLoader] only images that load_dataset() gives can be changed; got {wrong}"
                + (" with collate; expected a `collate` that does it" if images else
                   "; expected a __getitem__ that does it"))
        if self._loader is None:
            self._loader = _SampleLoader(dataset, self._batch_size, shuffle, seed, drop_last,
                                         workers, prefetch, device, collate or _stacked)
        self._options = {"batch_size": self._batch_size, "shuffle": bool(shuffle),
                         "seed": whole(who, "seed", seed), "drop_last": bool(drop_last),
                         "num_workers": workers, "prefetch": prefetch, **changes,
                         "device": self._loader.device, "collate": collate}

    def __iter__(self) -> Iterator[Any]:
        return iter(self._loader)

    def __len__(self) -> int:
        """Batches per epoch."""
        return len(self._loader)

    @property
    def dataset(self) -> Any:
        """What it runs over."""
        return self._dataset

    @property
    def options(self) -> dict:
        """What it was made with, by name."""
        return dict(self._options)

    @property
    def batch_size(self) -> int:
        """Samples of a batch; of the last one of an epoch there may be fewer."""
        return self._batch_size

    @property
    def device(self) -> _core.Device:
        """Where the batches are."""
        return self._loader.device

    @property
    def epoch(self) -> int:
        """The number of the epoch that the next `for` runs, from 0."""
        return self._loader.epoch

    def set_epoch(self, epoch: int) -> None:
        """The number of the next epoch, from 0."""
        self._loader.set_epoch(epoch)

    def order(self, epoch: int) -> Any:
        """The samples of an epoch in the order they are given."""
        return self._loader.order(epoch)


def _within(who: str, name: str, value: Any, least: int, most: int) -> int:
    number = whole(who, name, value)
    if not least <= number <= most:
        raise _core.RangeError(f"[{who}] {name} is out of range; got {number}; expected {least} to "
                               f"{most}")
    return number


def _not_negative(who: str, name: str, value: Any) -> int:
    number = whole(who, name, value)
    if number < 0:
        raise _core.RangeError(f"[{who}] {name} is not negative; got {number}; expected 0 or more")
    return number


def _unlike(what: str, got: Any) -> _core.ShapeError:
    return _core.ShapeError(f"[DataLoader] samples of a batch have {what}; got {got}; expected a "
                            "`collate` that makes them fit, or an ArrayLoader of arrays side by side")


def _stacked(samples: list) -> Any:
    """A batch of samples that are alike: stacked arrays, and lists of tensors yet to be stacked."""
    import numpy as np

    first = samples[0]
    if isinstance(first, dict):
        if any(not isinstance(s, dict) or s.keys() != first.keys() for s in samples):
            raise _unlike("the same keys", [sorted(map(str, s)) if isinstance(s, dict) else s
                                            for s in samples[:8]])
        return {k: _stacked([s[k] for s in samples]) for k in first}
    if isinstance(first, (tuple, list)):
        if any(not isinstance(s, (tuple, list)) or len(s) != len(first) for s in samples):
            raise _unlike("as many parts", [len(s) if hasattr(s, "__len__") else s
                                            for s in samples[:8]])
        parts = [_stacked(list(p)) for p in zip(*samples)]
        if hasattr(first, "_fields"):
            return type(first)(*parts)
        return tuple(parts) if isinstance(first, tuple) else parts
    # Python's numbers; NumPy's, some of which are these, too, have types of their own.
    for kind, result in ((bool, np.bool_), (int, np.int64), ((int, float), np.float32)):
        if all(isinstance(s, kind) and not isinstance(s, np.generic)
               and isinstance(s, bool) == (kind is bool) for s in samples):
            return np.asarray(samples, result)
    tensors = all(isinstance(s, Tensor) for s in samples)
    if tensors or all(hasattr(s, "__array__") for s in samples):
        arrays = samples if tensors else [np.asarray(s) for s in samples]
        shapes = sorted({tuple(a.shape) for a in arrays})
        if len(shapes) != 1:
            raise _unlike("one shape", shapes)
        return _Stack(arrays) if tensors else np.stack(arrays)
    return samples


class _Stack(list):
    """Tensors to be stacked by the thread that asked for them: devices and modes are a thread's."""


def _tensors(batch: Any, device: Any) -> Any:
    """The batch with its arrays as tensors on the device."""
    import numpy as np

    def tensor(leaf: Any) -> Any:
        if isinstance(leaf, _Stack):
            return _core.stack(leaf, 0).to(device)
        if isinstance(leaf, Tensor):
            return leaf.to(device)
        if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biuf":
            return _core._tensor(leaf).to(device)
        return leaf

    return mapped(tensor, batch, (_Stack,))


def _kept(a: Any) -> Any:
    import numpy as np

    a = a if isinstance(a, Tensor) else np.asarray(a)
    if a.ndim == 0:
        raise _core.ShapeError("[ArrayLoader] an array of samples has at least one axis; got none")
    return a


def _taken(a: Any, index: Any) -> Any:
    if isinstance(a, Tensor) and not isinstance(index, slice):
        return _core.take(a, _core._tensor(index).to(a.device), 0)
    return a[index]

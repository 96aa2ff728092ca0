"""Data sets and the loaders."""

from __future__ import annotations

from typing import Any, Iterator

from . import _core
from ._core import DataLoader, Dataset, Tensor, byte_images, dataset_names, load_dataset

__all__ = ["ArrayLoader", "DataLoader", "Dataset", "byte_images", "dataset_names", "load_dataset"]


class ArrayLoader:
    """Runs over arrays or tensors [N, …] in batches, as DataLoader does over data sets: gives
    tuples with a batch of each. Where a tuple of arrays is given, a tuple is in the batch.

    Every `for` is one epoch. The order depends on (seed, epoch) alone. ShapeError where lengths
    differ, RangeError for a batch size below 1.
    """

    def __init__(self, *arrays: Any, batch_size: int = 32, shuffle: bool = True, seed: int = 0,
                 drop_last: bool = False):
        self._arrays = [_kept(a) for a in arrays]
        self._batch, self._shuffle, self._seed = batch_size, shuffle, seed
        self._drop_last = drop_last
        self._epoch = 0
        lengths = [n for a in self._arrays for n in _lengths(a)]
        if not lengths or len(set(lengths)) != 1:
            raise _core.ShapeError(
                f"[ArrayLoader] all arrays must have the same length; got {lengths}"
            )
        if batch_size < 1:
            raise _core.RangeError(
                f"[ArrayLoader] a batch has at least one sample; got {batch_size}"
            )
        self._n = lengths[0]

    def __len__(self) -> int:
        n = self._n // self._batch
        return n if self._drop_last or n * self._batch == self._n else n + 1

    def set_epoch(self, epoch: int) -> None:
        """The number of the next epoch, from 0."""
        self._epoch = epoch

    def order(self, epoch: int) -> Any:
        """The samples of an epoch in the order they are given: int64 [N], a NumPy array."""
        import numpy as np

        if not self._shuffle:
            return np.arange(self._n)
        return np.random.default_rng([self._seed, epoch]).permutation(self._n)

    def __iter__(self) -> Iterator[tuple]:
        order = self.order(self._epoch)
        self._epoch += 1
        for i in range(len(self)):
            at = slice(i * self._batch, min((i + 1) * self._batch, self._n))
            index = order[at] if self._shuffle else at
            yield tuple(_taken(a, index) for a in self._arrays)


def _kept(a: Any) -> Any:
    import numpy as np

    if isinstance(a, tuple):
        return tuple(_kept(e) for e in a)
    a = a if isinstance(a, Tensor) else np.asarray(a)
    if a.ndim == 0:
        raise _core.ShapeError("[ArrayLoader] an array of samples has at least one axis; got none")
    return a


def _lengths(a: Any) -> list[int]:
    return [n for e in a for n in _lengths(e)] if isinstance(a, tuple) else [a.shape[0]]


def _taken(a: Any, index: Any) -> Any:
    if isinstance(a, tuple):
        return tuple(_taken(e, index) for e in a)
    if isinstance(a, Tensor) and not isinstance(index, slice):
        return _core.take(a, _core._tensor(index).to(a.device), 0)
    return a[index]

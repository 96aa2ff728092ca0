"""Data sets and the loader."""

from ._core import DataLoader, Dataset, byte_images, dataset_names, load_dataset

__all__ = ["DataLoader", "Dataset", "byte_images", "dataset_names", "load_dataset"]

"""Labelled images: the MNIST that ships with the package, or any ``.npz`` file in the same layout."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from device_models import stream

SHIPPED = ("mnist",)
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
MAX_BYTES = 2 << 30  # of all arrays together, unpacked
MAX_CLASSES = 100_000


class DatasetError(ValueError):
    """Images that cannot be used; the message names the file, the array and the fix."""


@dataclass(frozen=True)
class Dataset:
    """Images and labels in three parts: to train on, to choose by, and to report on.

    Attributes:
        name: ``mnist`` or the path that was given.
        train_x, validation_x, test_x: float32 ``[n, channels, height, width]``, 0 to 1.
        train_y, validation_y, test_y: int64 ``[n]``, classes from 0.
    """

    name: str
    train_x: torch.Tensor
    train_y: torch.Tensor
    validation_x: torch.Tensor
    validation_y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor

    @property
    def classes(self) -> int:
        """Number of classes, from the largest label of any part."""
        return 1 + max(int(y.max()) for y in (self.train_y, self.validation_y, self.test_y) if len(y))


def load_dataset(name_or_path: str | Path, validation: int, seed: int) -> Dataset:
    """Load a shipped dataset by name, or a ``.npz`` file in the layout that Keras uses for MNIST.

    Such a file holds ``x_train`` and ``x_test`` (uint8 ``[n, height, width]`` or ``[n, height, width,
    channels]``) and ``y_train`` and ``y_test`` (integers ``[n]``).

    Args:
        name_or_path: ``mnist``, or a path that ends in ``.npz``.
        validation: how many training images to hold back, drawn by a permutation that ``seed`` fixes.
        seed: seed of the permutation.

    Raises:
        DatasetError: if there is no such dataset, or the file is not in this layout.
    """
    name = str(name_or_path)
    if name.endswith(".npz"):
        arrays = _read_npz(Path(name), name)
    elif name in SHIPPED:
        with resources.as_file(resources.files("hwloop") / "data" / f"{name}.npz") as path:
            arrays = _read_npz(path, name)
    else:
        raise DatasetError(f"no dataset {name!r}: shipped is {', '.join(SHIPPED)}; or give a .npz file")
    train_x, train_y = _images(arrays, "train", name)
    test_x, test_y = _images(arrays, "test", name)
    if train_x.shape[1:] != test_x.shape[1:]:
        raise DatasetError(f"{name}: x_train and x_test hold images of different sizes")
    if not 0 <= validation < len(train_x):
        raise DatasetError(f"{name}: validation = {validation}, but there are {len(train_x)} training images")
    order = torch.from_numpy(stream(seed, "data", "validation").permutation(len(train_x)))
    held_back, rest = order[:validation].sort().values, order[validation:].sort().values
    return Dataset(name, train_x[rest], train_y[rest], train_x[held_back], train_y[held_back], test_x, test_y)


def _read_npz(path: Path, name: str) -> dict[str, np.ndarray]:
    """Read the four arrays, after a look at how large they are unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        missing = [array for array in ARRAYS if f"{array}.npy" not in sizes]
        if missing:
            raise DatasetError(f"{name}: lacks {', '.join(missing)}; needed are {', '.join(ARRAYS)}")
        if sum(sizes.values()) > MAX_BYTES:
            raise DatasetError(f"{name}: larger than {MAX_BYTES >> 30} GiB unpacked")
        with np.load(path, allow_pickle=False) as file:
            return {array: file[array] for array in ARRAYS}
    except FileNotFoundError:
        raise DatasetError(f"{name}: no such file") from None
    except OSError as error:
        raise DatasetError(f"{name}: cannot be read ({error.strerror or error})") from error
    except (zipfile.BadZipFile, EOFError) as error:
        raise DatasetError(f"{name}: not a complete .npz file ({error})") from error
    except ValueError as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{name}: an array cannot be read ({error})") from error


def _images(arrays: dict[str, np.ndarray], part: str, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Check one part and give it the shapes and types of :class:`Dataset`."""
    x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
    if x.dtype != np.uint8 or x.ndim not in (3, 4) or 0 in x.shape:
        raise DatasetError(
            f"{name}: x_{part} is {x.dtype} {list(x.shape)}; needed is uint8 "
            "[n, height, width] or [n, height, width, channels]"
        )
    if y.dtype.kind not in "iu" or y.shape != x.shape[:1]:
        raise DatasetError(
            f"{name}: y_{part} is {y.dtype} {list(y.shape)}; needed is one integer for each of "
            f"{len(x)} images"
        )
    if y.min() < 0 or y.max() >= MAX_CLASSES:
        raise DatasetError(f"{name}: y_{part} must lie between 0 and {MAX_CLASSES - 1}")
    x = x[:, None] if x.ndim == 3 else np.moveaxis(x, 3, 1)
    return torch.from_numpy(x.astype(np.float32) / np.float32(255)), torch.from_numpy(y.astype(np.int64))

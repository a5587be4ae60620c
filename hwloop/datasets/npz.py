"""``.npz`` files in the layout that Keras uses for MNIST."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from .part import DatasetError, Part, check_bytes

ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def read_npz(path: Path, name: str) -> tuple[Part, Part]:
    """Read the images to train on and to test with.

    The file holds ``x_train`` and ``x_test`` (uint8 ``[n, height, width]`` or ``[n, height, width,
    channels]``) and ``y_train`` and ``y_test`` (integers ``[n]``).

    Args:
        path: the file.
        name: what messages call it.

    Raises:
        DatasetError: if it is not in this layout.
    """
    arrays = _arrays(path, name)
    return _part(arrays, "train", name), _part(arrays, "test", name)


def _arrays(path: Path, name: str) -> dict[str, np.ndarray]:
    """Read the four arrays, after a look at how large they are unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        missing = [array for array in ARRAYS if f"{array}.npy" not in sizes]
        if missing:
            raise DatasetError(f"{name}: lacks {', '.join(missing)}; needed are {', '.join(ARRAYS)}")
        check_bytes(name, sum(sizes.values()), "use a part of it")
        with np.load(path, allow_pickle=False) as file:
            return {array: file[array] for array in ARRAYS}
    except OSError as error:
        raise DatasetError(f"{name}: cannot be read ({error.strerror or error})") from error
    except (zipfile.BadZipFile, EOFError) as error:
        raise DatasetError(f"{name}: not a complete .npz file ({error})") from error
    except ValueError as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{name}: an array cannot be read ({error})") from error


def _part(arrays: dict[str, np.ndarray], part: str, name: str) -> Part:
    """Check the shapes and types of one part."""
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
    return Part.of(x[:, None] if x.ndim == 3 else np.moveaxis(x, 3, 1), y, f"{name}: y_{part}")

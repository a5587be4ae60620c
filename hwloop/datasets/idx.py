"""IDX files, the format that MNIST is published in: a folder with its four files, plain or as ``.gz``."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from .part import DatasetError, Part, check_bytes

_BYTE = 8  # type code of unsigned bytes
_PARTS = {"train": "train", "test": "t10k"}


def holds_idx(folder: Path) -> bool:
    """Say whether a folder holds any file with such a name."""
    return any(folder.glob("*idx?-ubyte*"))


def read_idx(folder: Path) -> tuple[Part, Part]:
    """Read the images to train on and to test with.

    Raises:
        DatasetError: if a file is missing, or is not what its header says.
    """
    return _part(folder, _PARTS["train"]), _part(folder, _PARTS["test"])


def _part(folder: Path, stem: str) -> Part:
    images, labels = _find(folder, f"{stem}-images", 3), _find(folder, f"{stem}-labels", 1)
    pixels, classes = _array(images, 3), _array(labels, 1)
    if len(pixels) != len(classes):
        raise DatasetError(f"{labels}: {len(classes)} labels, but {images.name} holds {len(pixels)} images")
    return Part.of(pixels[:, None], classes, str(labels))


def _find(folder: Path, stem: str, dimensions: int) -> Path:
    """Return the file of a name as it is published, or as it is often renamed."""
    for joint in "-.":
        for suffix in ("", ".gz"):
            path = folder / f"{stem}{joint}idx{dimensions}-ubyte{suffix}"
            if path.is_file():
                return path
    raise DatasetError(f"{folder}: lacks {stem}-idx{dimensions}-ubyte (or the same as .gz)")


def _array(path: Path, dimensions: int) -> np.ndarray:
    """Return the array of a file, uint8; the file must be exactly as long as its header says."""
    length = 4 + 4 * dimensions
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(length)
            if len(header) < length or header[:4] != bytes([0, 0, _BYTE, dimensions]):
                raise DatasetError(
                    f"{path}: not an IDX file of unsigned bytes in {dimensions} dimensions; get it anew"
                )
            shape = struct.unpack(f">{dimensions}I", header[4:])
            size = math.prod(shape)
            if size == 0:
                raise DatasetError(f"{path}: holds nothing (its shape is {list(shape)})")
            check_bytes(str(path), size, "use a part of it")
            if path.suffix != ".gz" and path.stat().st_size < length + size:
                raise DatasetError(f"{path}: cut off; its header promises {size} bytes; get it anew")
            data = file.read(size + 1)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error}); get it anew") from error
    except (EOFError, zlib.error) as error:
        raise DatasetError(f"{path}: not a complete .gz file ({error}); get it anew") from error
    if len(data) != size:
        fault = "cut off" if len(data) < size else "too long"
        raise DatasetError(f"{path}: {fault}; its header promises {size} bytes; get it anew")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)

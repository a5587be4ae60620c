"""The binary files of CIFAR-10 and CIFAR-100. Their Python version is pickles, which are never opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .part import DatasetError, Part, check_bytes, read_bytes

SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32

CIFAR10 = (tuple(f"data_batch_{number}.bin" for number in range(1, 6)), ("test_batch.bin",))
CIFAR100 = (("train.bin",), ("test.bin",))

_PICKLES = ("data_batch_1", "test_batch", "batches.meta", "meta")


def holds_cifar(folder: Path) -> bool:
    """Say whether a folder holds any of the binary files."""
    return any((folder / name).is_file() for names in (*CIFAR10, *CIFAR100) for name in names)


def refuse_pickles(folder: Path) -> None:
    """Raise DatasetError if a folder holds CIFAR as it is published for Python."""
    for name in _PICKLES:
        if (folder / name).is_file():
            raise DatasetError(
                f"{folder}: {name} is of the Python version of CIFAR, whose pickles can run any code when "
                "they are opened; use its binary version (cifar-10-binary, cifar-100-binary)"
            )


def read_cifar(folder: Path) -> tuple[Part, Part]:
    """Read the images to train on and to test with; of CIFAR-100 with its 100 fine labels.

    A record is one label (CIFAR-100: a coarse and a fine one), and then all red, all green and all blue
    pixels of an image.

    Raises:
        DatasetError: if a file is missing, cut off, or holds labels that there are not.
    """
    ten = any((folder / name).is_file() for names in CIFAR10 for name in names)
    (train, test), labels, classes = (CIFAR10, 1, 10) if ten else (CIFAR100, 2, 100)
    return _part(folder, train, labels, classes), _part(folder, test, labels, classes)


def _part(folder: Path, names: tuple[str, ...], labels: int, classes: int) -> Part:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise DatasetError(f"{folder}: lacks {', '.join(missing)}")
    check_bytes(str(folder), sum((folder / name).stat().st_size for name in names), "use a part of it")
    records = np.concatenate([_records(folder / name, labels, classes) for name in names])
    return Part.of(records[:, labels:].reshape(-1, *SHAPE), records[:, labels - 1], str(folder))


def _records(path: Path, labels: int, classes: int) -> np.ndarray:
    """Return the records of one file, uint8 ``[n, labels + pixels]``."""
    data, length = read_bytes(path), labels + _PIXELS
    if not data or len(data) % length:
        raise DatasetError(
            f"{path}: {len(data)} bytes are no whole number of records of {length} bytes; get it anew"
        )
    records = np.frombuffer(data, dtype=np.uint8).reshape(-1, length)
    if (largest := int(records[:, labels - 1].max())) >= classes:
        raise DatasetError(f"{path}: holds label {largest}, but there are {classes} classes; get it anew")
    return records

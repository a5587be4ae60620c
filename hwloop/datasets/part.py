"""One part of a data set as a reader found it, and what every reader checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from device_models import stream

MAX_BYTES = 2 << 30  # of the pixels of all images together, one byte each
MAX_CLASSES = 100_000


class DatasetError(ValueError):
    """Images that cannot be used; the message names the file and the fix."""


@dataclass(frozen=True)
class Part:
    """The images to train on, or those to test with.

    Attributes:
        labels: int64 ``[n]``, classes from 0.
        shape: channels, height and width of an image.
        pixels: gives the images of an index ``[k]``, uint8 ``[k, channels, height, width]``.
    """

    labels: np.ndarray
    shape: tuple[int, int, int]
    pixels: Callable[[np.ndarray], np.ndarray]

    @classmethod
    def of(cls, pixels: np.ndarray, labels: np.ndarray, where: str) -> Part:
        """Return a part whose images are in memory.

        Args:
            pixels: uint8 ``[n, channels, height, width]``.
            labels: integers ``[n]``.
            where: what messages call the labels.

        Raises:
            DatasetError: if a label is out of range.
        """
        if labels.min() < 0 or labels.max() >= MAX_CLASSES:
            raise DatasetError(f"{where} must lie between 0 and {MAX_CLASSES - 1}")
        _, channels, height, width = pixels.shape
        return cls(labels.astype(np.int64), (channels, height, width), lambda index: pixels[index])

    def mixed(self) -> Part:
        """Return the part in an order in which its first images are not all of one class.

        That is its own, unless it lies in order of its classes, as folders of images do: then a fixed
        random one.
        """
        if (np.diff(self.labels) < 0).any():
            return self
        order = stream(0, "data", "order").permutation(len(self.labels))
        return replace(self, labels=self.labels[order], pixels=lambda index: self.pixels(order[index]))


def check_bytes(name: str, size: int, fix: str) -> None:
    """Raise DatasetError if images of ``size`` bytes are too large for memory."""
    if size > MAX_BYTES:
        raise DatasetError(
            f"{name}: the images are {size / (1 << 30):.1f} GiB, larger than {MAX_BYTES >> 30} GiB; {fix}"
        )


def read_bytes(path: Path) -> bytes:
    """Return what a file holds, after a look at its size.

    Raises:
        DatasetError: if it cannot be read, or is too large.
    """
    try:
        check_bytes(str(path), path.stat().st_size, "use a part of it")
        return path.read_bytes()
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from error

"""Data sets: where images come from, and how they are split into three parts."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from device_models import stream
from hwloop.factories import module_file

from .cifar import holds_cifar, read_cifar, refuse_pickles
from .factory import is_factory, make_parts
from .folders import holds_images, read_folders
from .goal import Goal
from .idx import holds_idx, read_idx
from .npz import read_npz
from .part import DatasetError, Part, check_bytes, read_bytes

SHIPPED = ("mnist",)

KNOWN = (
    f"{', '.join(SHIPPED)}, package.module:factory, a .npz file in the layout of Keras, or a folder of IDX "
    "files, of binary CIFAR files, or of images (train/CLASS/*.jpg and val/CLASS/*.jpg)"
)


@dataclass(frozen=True)
class Dataset:
    """Images and labels in three parts: to train on, to choose by, and to report on.

    Attributes:
        name: ``mnist`` or the path that was given.
        train_x, validation_x, test_x: float32 ``[n, channels, height, width]``, 0 to 1; from a factory what
            it gives, ``[n, ...]``.
        train_y, validation_y, test_y: int64 ``[n]``, classes from 0; from a factory what it gives.
        goal: what is wanted of a network's outputs.
    """

    name: str
    train_x: torch.Tensor
    train_y: torch.Tensor
    validation_x: torch.Tensor
    validation_y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor
    goal: Goal = field(default_factory=Goal)

    @property
    def classes(self) -> int:
        """Number of classes, from the largest label of any part; 0 where targets are no classes."""
        if self.train_y.is_floating_point():
            return 0
        return 1 + max(int(y.max()) for y in (self.train_y, self.validation_y, self.test_y) if len(y))


def load_dataset(
    name_or_path: str | Path,
    validation: int,
    seed: int,
    *,
    train_images: int | None = None,
    test_images: int | None = None,
    image_size: int | None = None,
) -> Dataset:
    """Load a shipped dataset by name, or the user's own files.

    Args:
        name_or_path: ``mnist``, ``package.module:factory``, a path that ends in ``.npz``, or a folder;
            ``docs/networks.md`` has what a folder may hold.
        validation: how many training images to hold back, drawn by a permutation that ``seed`` fixes; a
            factory that has a part for that gives all of it.
        seed: seed of the permutation.
        train_images: how many of the others to train on, drawn by the same permutation; None = all.
        test_images: how many test images to load, the first ones; None = all.
        image_size: height and width that the images of an image folder are scaled and cut to; None = as
            they are.

    Images that lie in order of their classes are taken in a fixed random order.

    Raises:
        DatasetError: if there is no such dataset, or a file is not in its layout.
    """
    name = str(name_or_path)
    if is_factory(name):
        return _made(name, validation, seed, train_images, test_images, image_size)
    train, test = (part.mixed() for part in _read(name, image_size))
    if train.shape != test.shape:
        raise DatasetError(
            f"{name}: images to train on and to test with are of different sizes: {list(train.shape)} and "
            f"{list(test.shape)} (channels, height, width)"
        )
    held_back, rest = _split(name, len(train.labels), validation, train_images, seed)
    tested = np.arange(len(test.labels))[:test_images]
    total = (len(held_back) + len(rest) + len(tested)) * math.prod(train.shape)
    check_bytes(name, total, "use fewer (data.train_images, data.validation, evaluate.images)")
    parts = [_tensors(part, index) for part, index in ((train, rest), (train, held_back), (test, tested))]
    return Dataset(name, *parts[0], *parts[1], *parts[2])


def _split(
    name: str, images: int, validation: int, train_images: int | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return which training images are held back, and which of the others are trained on."""
    if not 0 <= validation < images:
        raise DatasetError(f"{name}: validation = {validation}, but there are {images} training images")
    if train_images is not None and train_images > images - validation:
        raise DatasetError(
            f"{name}: train_images = {train_images}, but there are {images} training images, of which "
            f"{validation} are held back"
        )
    order = stream(seed, "data", "validation").permutation(images)
    return np.sort(order[:validation]), np.sort(order[validation:][:train_images])


def _made(
    name: str,
    validation: int,
    seed: int,
    train_images: int | None,
    test_images: int | None,
    image_size: int | None,
) -> Dataset:
    """Return what a factory makes, split as files are."""
    if image_size is not None:
        raise DatasetError(f"{name}: is no folder of images, so data.image_size has no meaning")
    train, *held, test = make_parts(name)
    held_back, rest = _split(name, len(train[1]), 0 if held else validation, train_images, seed)
    kept_x, kept_y = held[0] if held else (train[0][held_back], train[1][held_back])
    tested = slice(test_images)
    return Dataset(name, train[0][rest], train[1][rest], kept_x, kept_y, test[0][tested], test[1][tested])


def _read(name: str, image_size: int | None) -> tuple[Part, Part]:
    """Find out what ``name`` is, and read it."""
    path = Path(name)
    if name not in SHIPPED:
        if not path.exists():
            raise DatasetError(f"{name}: no such file; data.name is {KNOWN}")
        if path.is_dir():
            refuse_pickles(path)
            if holds_images(path):
                return read_folders(path, image_size)
    if image_size is not None:
        raise DatasetError(f"{name}: is no folder of images, so data.image_size has no meaning")
    if name in SHIPPED:
        with resources.as_file(resources.files("hwloop") / "data" / f"{name}.npz") as shipped:
            return read_npz(shipped, name)
    if path.suffix == ".npz":
        return read_npz(path, name)
    if path.is_dir():
        if holds_cifar(path):
            return read_cifar(path)
        if holds_idx(path):
            return read_idx(path)
    raise DatasetError(f"{name}: in no known layout; give {KNOWN}")


def _tensors(part: Part, index: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images and labels of an index, in the types of :class:`Dataset`."""
    pixels = torch.from_numpy(np.ascontiguousarray(part.pixels(index)))
    return pixels.float().div_(255), torch.from_numpy(part.labels[index])


def fingerprint(name: str) -> dict[str, str]:
    """Return SHA-256 by path of the files behind a dataset, to tell whether they are as they were.

    For a folder it is one for all files in it; of a folder of images, for their names and sizes. A shipped
    dataset has none: it belongs to the code. A factory has that of its module; files that it reads are not
    looked at.
    """
    path = Path(name)
    if name in SHIPPED:
        return {}
    if is_factory(name):
        origin = module_file(name.partition(":")[0])
        return {} if origin is None else {name: hashlib.sha256(read_bytes(origin)).hexdigest()}
    if not path.is_dir():
        return {name: hashlib.sha256(read_bytes(path)).hexdigest()}
    total = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        total.update(f"{file.relative_to(path).as_posix()}\n{file.stat().st_size}\n".encode())
        if not holds_images(path):
            total.update(file.read_bytes())
    return {name: total.hexdigest()}

"""Image folders: ``train/CLASS/*.jpg`` (or ``.png``) and likewise ``val`` or ``test``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .part import DatasetError, Part

SUFFIXES = (".jpg", ".jpeg", ".png")
MAX_PIXELS = 1 << 26  # of one image as its file has it

_GREY = ("1", "L", "LA")
_COLOUR = ("RGB", "RGBA", "P", "CMYK", "YCbCr")


def holds_images(folder: Path) -> bool:
    """Say whether a folder is laid out like this."""
    return (folder / "train").is_dir()


def read_folders(folder: Path, image_size: int | None) -> tuple[Part, Part]:
    """List the images to train on and to test with; they are opened when they are asked for.

    Classes are the folders of ``train`` in the order of their names. The first image to train on decides
    whether images are grey or in colour.

    Args:
        folder: the folder with ``train``.
        image_size: the shorter side of each image is scaled to so many pixels, and the middle of the longer
            one is kept; None = images must all be of one size.

    Raises:
        DatasetError: if the folder is laid out otherwise, or the first image cannot be read. ``pixels`` of
            the parts raise it as well.
    """
    tests = [part for part in ("test", "val") if (folder / part).is_dir()]
    if len(tests) != 1:
        fault = "needs a folder test or val" if not tests else "has both test and val; move one of them away"
        raise DatasetError(f"{folder}: beside train it {fault}")
    classes = sorted(entry.name for entry in _entries(folder / "train") if entry.is_dir())
    if not classes:
        raise DatasetError(f"{folder / 'train'}: holds no folders; one for each class is needed")
    paths, labels = _listed(folder / "train", classes)
    test_paths, test_labels = _listed(folder / tests[0], classes)
    reader = _Reader.like(paths[0], image_size)
    return (
        Part(labels, reader.shape, lambda index: reader.read([paths[i] for i in index])),
        Part(test_labels, reader.shape, lambda index: reader.read([test_paths[i] for i in index])),
    )


def _entries(folder: Path) -> list[Path]:
    """Return what a folder holds, in the order of the names, without hidden files."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read ({error.strerror or error})") from error


def _listed(folder: Path, classes: list[str]) -> tuple[list[Path], np.ndarray]:
    """Return the images below ``folder`` and the numbers of their classes."""
    paths: list[Path] = []
    labels: list[int] = []
    for entry in _entries(folder):
        if not entry.is_dir():
            raise DatasetError(f"{entry}: lies in no folder of a class; move it into one, or away")
        if entry.name not in classes:
            raise DatasetError(f"{entry}: no such class among those to train on")
        found = _entries(entry)
        strange = [path for path in found if path.suffix.lower() not in SUFFIXES]
        if strange:
            raise DatasetError(f"{strange[0]}: not {', '.join(SUFFIXES)}; convert it, or move it away")
        paths += found
        labels += [classes.index(entry.name)] * len(found)
    if not paths:
        raise DatasetError(f"{folder}: holds no images")
    return paths, np.array(labels, dtype=np.int64)


@dataclass(frozen=True)
class _Reader:
    """Opens images and gives them one shape.

    Attributes:
        shape: channels, height, width.
        resized: whether images are scaled and cut to that, or must have it.
        first: the image that the others must be like.
    """

    shape: tuple[int, int, int]
    resized: bool
    first: Path

    @classmethod
    def like(cls, first: Path, image_size: int | None) -> _Reader:
        with _opened(first) as image:
            width, height = image.size if image_size is None else (image_size, image_size)
            channels = 1 if image.mode in _GREY else 3
        return cls((channels, height, width), image_size is not None, first)

    def read(self, paths: list[Path]) -> np.ndarray:
        """Return images, uint8 ``[n, channels, height, width]``."""
        result = np.empty((len(paths), *self.shape), dtype=np.uint8)
        for place, path in enumerate(paths):
            result[place] = self._one(path)
        return result

    def _one(self, path: Path) -> np.ndarray:
        channels, height, width = self.shape
        try:
            with _opened(path) as image:
                if channels == 1 and image.mode not in _GREY:
                    raise DatasetError(f"{path}: in colour, but {self.first} is grey; convert one of them")
                plain: Image.Image = image.convert("L" if channels == 1 else "RGB")
        except (OSError, SyntaxError, ValueError) as error:
            if isinstance(error, DatasetError):
                raise
            raise DatasetError(f"{path}: damaged ({error})") from error
        if self.resized:
            plain = _cut(plain, height)
        if plain.size != (width, height):
            raise DatasetError(
                f"{path}: {plain.width}x{plain.height} pixels, but {self.first} is {width}x{height}; "
                "give data.image_size"
            )
        return np.atleast_3d(np.asarray(plain)).transpose(2, 0, 1)


def _opened(path: Path) -> Image.Image:
    """Open an image far enough to know its size and kind."""
    try:
        image = Image.open(path, formats=("JPEG", "PNG"))
    except Image.DecompressionBombError as error:
        raise DatasetError(f"{path}: more than {MAX_PIXELS} pixels") from error
    except (OSError, SyntaxError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no JPEG or PNG image"
        raise DatasetError(f"{path}: cannot be read ({reason})") from error
    if image.width * image.height > MAX_PIXELS:
        raise DatasetError(f"{path}: {image.width}x{image.height} is more than {MAX_PIXELS} pixels")
    if image.mode not in _GREY + _COLOUR:
        raise DatasetError(f"{path}: pixels of kind {image.mode}; save it with 8 bits a channel")
    return image


def _cut(image: Image.Image, size: int) -> Image.Image:
    """Scale the shorter side to ``size`` and keep the middle of the longer one."""
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    scaled = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return scaled.crop((left, top, left + size, top + size))

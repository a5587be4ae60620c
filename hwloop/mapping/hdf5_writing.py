"""Writing HDF5 files that a reader never sees half of, and that describe themselves."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import secrets
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from .map_errors import MAX_CHUNK_BYTES, MapProblemError, guarded

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# Codes repeat in runs and conductances not at all: looking for other repeats costs twice the time and, as its
# codes for lengths and distances are never rare, makes files a tenth larger.
_COMPRESSION_LEVEL = 2
_STRATEGY = zlib.Z_RLE
_SLAB_BYTES = 1 << 20


@contextlib.contextmanager
def creating(path: str | Path) -> Iterator[h5py.File]:
    """Create a file under a temporary name beside ``path``; once on disk it takes its name.

    Raises:
        MapFileError: if that fails; ``path`` is then as it was before and nothing else is left behind.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with guarded(str(path), "cannot be written"):
        try:
            with _Disk(temporary) as disk:
                # The structures of HDF5 1.10 carry checksums, and every viewer of today reads them.
                with h5py.File(disk, "w", libver=("v110", "v110")) as file:
                    yield file
                disk.finish()
            temporary.replace(path)
            _flush(path.parent)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


class _Disk(io.FileIO):
    """A new file that keeps the first error of the disk to itself until :meth:`finish`.

    HDF5 does not survive a write that fails: it may crash when the process ends. After an error nothing more
    is written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "x+")
        self._error: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of ``data``."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest and self._error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self._error = error
        return size

    def truncate(self, size: int | None = None, /) -> int:
        """Set the file's size."""
        try:
            return super().truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size or 0

    def finish(self) -> None:
        """Wait until all is on disk; raises the first OSError that writing met, if any."""
        if self._error is not None:
            raise self._error
        os.fsync(self.fileno())


def put_attributes(owner: h5py.HLObject, **values: str | float | tuple[int, ...]) -> None:
    """Write attributes: strings of fixed length, 64-bit integers and floats, lists of 64-bit integers."""
    for name, value in values.items():
        if isinstance(value, str):
            data = _fixed(value)
        elif isinstance(value, float):
            data = np.asarray(value, dtype="<f8")
        else:
            data = np.asarray(value, dtype="<i8")
        owner.attrs.create(name, data)


def put_text(group: h5py.Group, name: str, text: str, description: str) -> None:
    """Write a data set that is one string, with its checksum."""
    dataset = group.create_dataset(name, data=_fixed(text))
    put_attributes(dataset, description=description, sha256=hashlib.sha256(text.encode()).hexdigest())


class ArrayWriter:
    """A data set that is written slab by slab along its first axis, with unit, description and checksum.

    Args:
        group: where.
        name: its name.
        shape: of the whole.
        dtype: of the file, little-endian; the data must be convertible.
        slab: length of a slab along the first axis.
        unit: SI unit; ``1`` where there is none.
        description: one sentence.
    """

    def __init__(
        self,
        group: h5py.Group,
        name: str,
        shape: tuple[int, ...],
        dtype: str,
        slab: int,
        unit: str,
        description: str,
    ) -> None:
        self._name, self._shape, self._kind, self._slab = name, shape, np.dtype(dtype), slab
        self._described = {"description": description, "unit": unit}
        self._digest, self._done = hashlib.sha256(), 0
        if slab * math.prod(shape[1:]) * self._kind.itemsize > MAX_CHUNK_BYTES:
            raise MapProblemError(f"one entry of its first axis takes more than {MAX_CHUNK_BYTES} bytes")
        self._chunked = shape != () and math.prod(shape) > 0
        layout: dict[str, Any] = {}
        if self._chunked:
            layout = {"chunks": (slab, *shape[1:]), "shuffle": True, "compression": _COMPRESSION_LEVEL}
        self._dataset = group.create_dataset(name, shape=shape, dtype=self._kind, **layout)

    def add(self, part: np.ndarray) -> None:
        """Write the next slab; only the last may be shorter. A scalar is one slab, an empty array none."""
        data = np.asarray(part, dtype=self._kind, order="C")
        self._digest.update(data.tobytes())
        if not self._chunked:
            self._dataset[...] = data
            return
        full = data
        if len(data) < self._slab:
            full = np.zeros((self._slab, *self._shape[1:]), dtype=self._kind)
            full[: len(data)] = data
        self._dataset.id.write_direct_chunk((self._done, *[0] * len(self._shape[1:])), pack(full))
        self._done += len(data)

    def finish(self) -> None:
        """Seal the data set; raises MapProblemError if slabs are missing."""
        if self._chunked and self._done != self._shape[0]:
            raise MapProblemError(f"{self._name}: {self._done} of {self._shape[0]} entries were written")
        put_attributes(self._dataset, **self._described, sha256=self._digest.hexdigest())


def put_array(
    group: h5py.Group,
    name: str,
    data: np.ndarray,
    dtype: str,
    unit: str,
    description: str,
) -> None:
    """Write a data set that is in memory, in slabs of about 1 MiB; arguments as of :class:`ArrayWriter`."""
    length = slab_length(data)
    writer = ArrayWriter(group, name, data.shape, dtype, length, unit, description)
    for slab in slabs_of(data, length):
        writer.add(slab)
    writer.finish()


def slab_length(data: np.ndarray) -> int:
    """Return how many entries of the first axis make a chunk of about 1 MiB."""
    if data.size == 0 or data.ndim == 0:
        return 1
    return min(len(data), max(1, _SLAB_BYTES * len(data) // data.nbytes))


def slabs_of(data: np.ndarray, length: int) -> Iterable[np.ndarray]:
    """Cut an array for :func:`put_array`."""
    if data.ndim == 0:
        return [data]
    return (data[start : start + length] for start in range(0, len(data) if data.size else 0, length))


def pack(data: np.ndarray) -> bytes:
    """Return a chunk as HDF5's shuffle and deflate filters would store it."""
    planes = np.ascontiguousarray(data).view(np.uint8).reshape(-1, data.dtype.itemsize).T
    deflate = zlib.compressobj(_COMPRESSION_LEVEL, strategy=_STRATEGY)
    return deflate.compress(planes.tobytes()) + deflate.flush()


def _fixed(text: str) -> np.ndarray:
    """Return a string as a scalar of fixed length in bytes."""
    data = text.encode()
    return np.array(data, dtype=h5py.string_dtype("utf-8", max(len(data), 1)))


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""Reading HDF5 files that may come from strangers: nothing is followed, run or allocated on the file's word.

Only hard links are walked, only the expected types are read, no filter of the HDF5 library is run (chunks are
inflated here, to their known size and no further), and sizes are bounded by the file before any allocation.
"""

from __future__ import annotations

import hashlib
import math
import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from device_models.hdf5_screen import ScreenError, screen

from .map_errors import MAX_CHUNK_BYTES, NAME, MapProblemError, guarded

MAX_ATTRIBUTE_BYTES = 1 << 16
MAX_DIMENSIONS = 8
# Deflate cannot shrink by more; a data set that claims to is not backed by the file.
MAX_COMPRESSION = 1032

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_FILTERS = (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE)


@contextmanager
def opening(path: str | Path) -> Iterator[SafeGroup]:
    """Open a file for reading; yields its root group.

    Raises:
        MapFileError: if there is no such file or it is not HDF5 as :func:`~.hdf5_writing.creating` writes it.
    """
    path = Path(path)
    with guarded(str(path)):
        size = _check_file(path)
        _screen(path)
        # The file is never changed in place, so no lock is needed (and read-only media grant none).
        with h5py.File(path, "r", locking=False) as file:
            yield SafeGroup(file, str(path), size)


def _screen(path: Path) -> None:
    """Raise unless another process has walked the file's structures and lived."""
    try:
        screen(path)
    except ScreenError as error:
        raise MapProblemError(str(error)) from error


def _check_file(path: Path) -> int:
    """Return the file's size after checking that it is a regular file that begins as HDF5 1.10 does."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise MapProblemError("no such file") from None
    if not stat.S_ISREG(status.st_mode):
        raise MapProblemError(
            "a folder, not a file" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        )
    with path.open("rb") as file:
        start = file.read(len(_SIGNATURE) + 1)
    if start[:-1] != _SIGNATURE:
        raise MapProblemError("not an HDF5 file")
    # Since superblock 2 all structures of an HDF5 file carry checksums; older ones can crash the library.
    if start[-1] not in (2, 3):
        raise MapProblemError(f"HDF5 superblock version {start[-1]}; conductance maps have 3")
    return status.st_size


class SafeAttributes:
    """The attributes of a group or data set of a file from a stranger.

    Args:
        owner: the group or data set.
        where: its file and path, for messages.
    """

    def __init__(self, owner: h5py.HLObject, where: str) -> None:
        self._owner, self.where = owner, where

    def string(self, name: str) -> str:
        """Return an attribute that is one string of fixed length."""
        with guarded(f"{self.where}: attribute {name}"):
            kind, shape = self._attribute(name)
            if not isinstance(kind, h5py.h5t.TypeStringID) or kind.is_variable_str() or shape != ():
                raise MapProblemError("must be one string of fixed length")
            return bytes(self._owner.attrs[name]).decode()

    def integers(self, name: str) -> tuple[int, ...]:
        """Return an attribute that is a list of 64-bit integers."""
        with guarded(f"{self.where}: attribute {name}"):
            kind, shape = self._attribute(name)
            if not kind.equal(h5py.h5t.STD_I64LE) or len(shape) != 1:
                raise MapProblemError("must be a list of 64-bit integers")
            return tuple(int(value) for value in self._owner.attrs[name])

    def integer(self, name: str) -> int:
        """Return an attribute that is one 64-bit integer."""
        with guarded(f"{self.where}: attribute {name}"):
            kind, shape = self._attribute(name)
            if not kind.equal(h5py.h5t.STD_I64LE) or shape != ():
                raise MapProblemError("must be one 64-bit integer")
            return int(self._owner.attrs[name])

    def real(self, name: str) -> float:
        """Return an attribute that is one 64-bit float."""
        with guarded(f"{self.where}: attribute {name}"):
            kind, shape = self._attribute(name)
            if not kind.equal(h5py.h5t.IEEE_F64LE) or shape != ():
                raise MapProblemError("must be one 64-bit float")
            return float(self._owner.attrs[name])

    def _attribute(self, name: str) -> tuple[h5py.h5t.TypeID, tuple[int, ...]]:
        """Return type and shape of an attribute of bounded size."""
        if not h5py.h5a.exists(self._owner.id, name.encode()):
            raise MapProblemError("missing")
        attribute = h5py.h5a.open(self._owner.id, name.encode())
        kind = attribute.get_type()
        if math.prod(attribute.shape) * kind.get_size() > MAX_ATTRIBUTE_BYTES:
            raise MapProblemError("too large")
        return kind, attribute.shape


class SafeGroup(SafeAttributes):
    """A group of a file from a stranger.

    Args:
        group: the group.
        where: its file and path, for messages.
        file_bytes: size of the file, which bounds what it can hold.
    """

    def __init__(self, group: h5py.Group, where: str, file_bytes: int) -> None:
        super().__init__(group, where)
        self._group, self._file_bytes = group, file_bytes

    def names(self, most: int) -> list[str]:
        """Return the members' names, sorted; more than ``most``, or odd characters in one, are an error."""
        with guarded(self.where):
            if len(self._group) > most:
                raise MapProblemError(f"has {len(self._group)} members; at most {most} are read")
            names = sorted(self._group)
            for name in names:
                if not NAME.fullmatch(name):
                    raise MapProblemError(f"name {ascii(name)[:80]} is not allowed")
            return names

    def group(self, name: str) -> SafeGroup:
        """Return a subgroup."""
        with guarded(self._below(name)):
            return SafeGroup(self._member(name, h5py.Group), self._below(name), self._file_bytes)

    def array(self, name: str, dtypes: Sequence[str], shape: tuple[int, ...] | None = None) -> SafeArray:
        """Return a data set of one of ``dtypes`` and of ``shape`` (None: any), not yet read."""
        with guarded(self._below(name)):
            dataset = self._member(name, h5py.Dataset)
            return SafeArray(dataset, self._below(name), self._file_bytes, dtypes, shape)

    def text(self, name: str, most: int) -> str:
        """Return a data set that is one string of fixed length and at most ``most`` bytes."""
        with guarded(self._below(name)):
            dataset = self._member(name, h5py.Dataset)
            kind = dataset.id.get_type()
            if not isinstance(kind, h5py.h5t.TypeStringID) or kind.is_variable_str() or dataset.shape != ():
                raise MapProblemError("must be one string of fixed length")
            _check_plain(dataset, kind.get_size(), most)
            data = bytes(dataset[()])
            if hashlib.sha256(data).hexdigest() != self.checksum(name):
                raise MapProblemError("checksum differs: the text was changed")
            return data.decode()

    def shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        """Return the shape of a data set, which must have so many dimensions."""
        with guarded(self._below(name)):
            shape = self._member(name, h5py.Dataset).shape
            if shape is None or len(shape) != dimensions:
                raise MapProblemError(f"must have {dimensions} dimensions")
            return tuple(int(extent) for extent in shape)

    def checksum(self, name: str) -> str:
        """Return the checksum that a data set states."""
        with guarded(self._below(name)):
            return SafeAttributes(self._member(name, h5py.Dataset), self._below(name)).string("sha256")

    def _member(self, name: str, kind: type) -> h5py.HLObject:
        """Return a member of the expected kind that is neither a soft nor an external link."""
        links = self._group.id.links
        if not links.exists(name.encode()):
            raise MapProblemError("missing")
        if links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            raise MapProblemError("is a link to somewhere else, which is not followed")
        member = self._group[name]
        if not isinstance(member, kind):
            raise MapProblemError(f"must be a {'group' if kind is h5py.Group else 'data set'}")
        # Before anything else is asked of it: even the shape may depend on the files that it is made of.
        if isinstance(member, h5py.Dataset) and member.id.get_create_plist().get_layout() == h5py.h5d.VIRTUAL:
            raise MapProblemError("is made of data in other files, which are not followed")
        return member

    def _below(self, name: str) -> str:
        return f"{self.where}: {name}" if isinstance(self._group, h5py.File) else f"{self.where}/{name}"


class SafeArray(SafeAttributes):
    """A data set of a file from a stranger, checked when made and read slab by slab along its first axis.

    Attributes:
        dtype, shape, nbytes: of the data.
        slab: length of one slab along the first axis.
        unit, sha256: as the file states them.
    """

    def __init__(
        self,
        dataset: h5py.Dataset,
        where: str,
        file_bytes: int,
        dtypes: Sequence[str],
        shape: tuple[int, ...] | None,
    ) -> None:
        super().__init__(dataset, where)
        kind = dataset.id.get_type()
        known = [name for name in dtypes if kind.equal(h5py.h5t.py_create(np.dtype(name), logical=True))]
        if not known:
            raise MapProblemError(f"must hold {' or '.join(np.dtype(name).name for name in dtypes)}")
        if dataset.shape is None or len(dataset.shape) > MAX_DIMENSIONS:
            raise MapProblemError(f"must have at most {MAX_DIMENSIONS} dimensions")
        if dataset.maxshape != dataset.shape:
            raise MapProblemError(f"can grow to {list(dataset.maxshape)}; its shape must be fixed")
        if shape is not None and dataset.shape != shape:
            raise MapProblemError(f"shape is {list(dataset.shape)}, must be {list(shape)}")
        self._dataset = dataset
        self.dtype, self.shape = np.dtype(known[0]), tuple(dataset.shape)
        self.nbytes = math.prod(self.shape) * self.dtype.itemsize
        if self.nbytes > MAX_COMPRESSION * file_bytes:
            raise MapProblemError(
                f"claims {self.nbytes} bytes, more than a file of {file_bytes} bytes can hold"
            )
        self._chunked = self.nbytes > 0 and self.shape != ()
        if self._chunked:
            self.slab = self._check_chunks()
        else:
            self.slab = 1
            _check_plain(dataset, self.nbytes, MAX_ATTRIBUTE_BYTES)
        self.unit, self.sha256 = self.string("unit"), self.string("sha256")

    def slabs(self) -> Iterator[np.ndarray]:
        """Yield the data in order; raises MapFileError at the end if the checksum differs."""
        digest = hashlib.sha256()
        starts = range(0, self.shape[0], self.slab) if self._chunked else range(self.nbytes > 0)
        for start in starts:
            with guarded(self.where):
                slab = self._read_chunk(start) if self._chunked else np.asarray(self._dataset[()])
                digest.update(slab.tobytes())
            yield slab
        with guarded(self.where):
            if digest.hexdigest() != self.sha256:
                raise MapProblemError("checksum differs: the data were changed")

    def read(self) -> np.ndarray:
        """Return all data; the caller has bounded ``nbytes``."""
        with guarded(self.where):
            data = np.empty(self.shape, dtype=self.dtype)
        for index, slab in enumerate(self.slabs()):
            part = slice(index * self.slab, (index + 1) * self.slab) if self._chunked else ...
            data[part] = slab
        return data

    def _check_chunks(self) -> int:
        """Return the chunk length along the first axis, after checking the storage layout."""
        plan = self._dataset.id.get_create_plist()
        filters = tuple(plan.get_filter(index)[0] for index in range(plan.get_nfilters()))
        if plan.get_layout() != h5py.h5d.CHUNKED or filters != _FILTERS:
            raise MapProblemError("must be stored in chunks, shuffled and deflated")
        length, *rest = plan.get_chunk()
        if tuple(rest) != self.shape[1:] or not 1 <= length <= self.shape[0]:
            raise MapProblemError("chunks must span all axes but the first")
        if length * math.prod(rest) * self.dtype.itemsize > MAX_CHUNK_BYTES:
            raise MapProblemError(f"chunks of more than {MAX_CHUNK_BYTES} bytes are not read")
        return int(length)

    def _read_chunk(self, start: int) -> np.ndarray:
        """Return the slab that begins at ``start``."""
        shape = (self.slab, *self.shape[1:])
        most = math.prod(shape) * self.dtype.itemsize
        # Into a buffer: whatever size the file states for the chunk, no more than one can need is allocated.
        buffer = bytearray(most + most // 8 + 1024)
        skipped, packed = self._dataset.id.read_direct_chunk((start, *[0] * len(self.shape[1:])), out=buffer)
        if skipped:
            raise MapProblemError("a chunk is stored without its filters")
        return unpack(packed, self.dtype, shape)[: self.shape[0] - start]


def unpack(packed: bytes | memoryview, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Inflate and unshuffle one chunk to exactly ``shape``, never allocating more than that."""
    count = math.prod(shape)
    inflate = zlib.decompressobj()
    data = inflate.decompress(packed, count * dtype.itemsize + 1)
    if len(data) != count * dtype.itemsize or not inflate.eof:
        raise MapProblemError("a chunk does not inflate to its size")
    values = np.frombuffer(data, dtype=np.uint8).reshape(dtype.itemsize, count).T.copy()
    if dtype == np.bool_:
        return (values != 0).reshape(shape)
    return values.view(dtype).reshape(shape)


def _check_plain(dataset: h5py.Dataset, size: int, most: int) -> None:
    """Raise unless all ``size`` bytes lie in this file, unfiltered, and are at most ``most``."""
    plan = dataset.id.get_create_plist()
    if plan.get_layout() not in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT) or plan.get_external_count():
        raise MapProblemError("must be stored in this file, in one piece")
    if size > most:
        raise MapProblemError(f"takes {size} bytes; at most {most} are read")
    if dataset.id.get_storage_size() != size:
        raise MapProblemError("is not stored in full")

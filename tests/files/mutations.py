"""Ways to damage a file, or to make it deceive; each takes a generator of random numbers and bytes."""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numba
import numpy as np

Mutation = Callable[[random.Random, bytes], bytes]

EXTREMES = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0xFFFFFFFF,
    1 << 40,
    (1 << 63) - 1,
    (1 << 64) - 1,
)
NUMBERS = (
    "0", "-0.0", "-1", "1e-320", "1e308", "1e999", "-1e999", "nan", "inf", "-inf", "0x7fffffffffffffff",
    "9223372036854775808", "1" * 5000, "0." + "1" * 5000, "1_000", "true", '"1"', "[]", "{}", "[1, [2]]",
)  # fmt: skip
TEXTS = (
    "",
    "..",
    "../../x",
    "/etc/passwd",
    "a\x00b",
    "\x1b[2J",
    ".include x",
    "x\n.end",
    "µ",
    "\u202e",
    "x" * 70000,
)


def flip(rng: random.Random, data: bytes) -> bytes:
    """Change a few bytes."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8, 40])):
        changed[rng.randrange(len(changed))] ^= rng.randrange(1, 256)
    return bytes(changed)


def cut(rng: random.Random, data: bytes) -> bytes:
    """Leave out the end, or a piece."""
    start = rng.randrange(len(data))
    return data[:start] + (data[start + rng.randrange(1, 200) :] if rng.random() < 0.5 else b"")


def repeat(rng: random.Random, data: bytes) -> bytes:
    """Put a piece of the file somewhere else."""
    start, at, length = rng.randrange(len(data)), rng.randrange(len(data)), rng.randrange(1, 300)
    piece = data[start : start + length]
    return data[:at] + piece + data[at + (length if rng.random() < 0.5 else 0) :]


def extreme(rng: random.Random, data: bytes) -> bytes:
    """Write a number at the edge of what an integer can hold."""
    size = rng.choice([1, 2, 4, 8])
    value = (rng.choice(EXTREMES) & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    at = rng.randrange(max(1, len(data) - size))
    return data[:at] + value + data[at + size :]


BYTES: tuple[Mutation, ...] = (flip, cut, repeat, extreme)


def text(rng: random.Random, data: bytes) -> bytes:
    """Change lines, numbers, strings or keys of a text file."""
    lines = data.decode().split("\n")
    at = rng.randrange(len(lines))
    kind = rng.randrange(8)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(rng.randrange(len(lines)), lines[at])
    elif kind == 2:
        other = rng.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == 3:
        lines.insert(
            at, rng.choice(["[" * 3000, "a = " + "[" * 3000, ".".join("a" * 2000) + " = 1", "a = {" * 900])
        )
    elif kind == 4:
        lines[at] = _replaced(rng, r"[-+]?\d[\d.e+-]*", lines[at], rng.choice(NUMBERS))
    elif kind == 5:
        lines[at] = _replaced(rng, r'"[^"]*"', lines[at], json.dumps(rng.choice(TEXTS)))
    elif kind == 6:
        lines[at] = _replaced(rng, r"[\w.-]+", lines[at], rng.choice(TEXTS))
    else:
        lines[at] = _replaced(rng, r"[=,:\[\]{}]", lines[at], rng.choice("=,:[]{}\"'#"))
    return "\n".join(lines).encode("utf-8", "replace")


def _replaced(rng: random.Random, pattern: str, line: str, by: str) -> str:
    found = list(re.finditer(pattern, line))
    if not found:
        return line + by
    match = rng.choice(found)
    return line[: match.start()] + by + line[match.end() :]


def tensors(rng: random.Random, data: bytes) -> bytes:
    """Change the header of a safetensors file."""
    (length,) = struct.unpack("<Q", data[:8])
    header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    name = rng.choice(list(header))
    entry = header[name]
    kind = rng.randrange(7)
    if kind == 0:
        header[rng.choice(TEXTS)] = header.pop(name)
    elif kind == 1:
        header.pop(name)
    elif kind == 2 or name == "__metadata__":
        header["__metadata__"] = {"sha256": rng.choice(TEXTS[:-1])}
    elif kind == 3:
        entry["dtype"] = rng.choice(["F16", "F64", "BF16", "I64", "BOOL", "U64", "F8_E4M3", "C64", "X"])
    elif kind == 4:
        entry["shape"] = [rng.choice(EXTREMES) for _ in range(rng.randrange(5))]
    elif kind == 5:
        entry["data_offsets"] = sorted(rng.choice(EXTREMES) for _ in range(2))
    else:
        other = rng.choice(list(header))
        header[name], header[other] = header[other], entry
    packed = json.dumps(header).encode()
    return struct.pack("<Q", len(packed) if rng.random() < 0.9 else rng.choice(EXTREMES)) + packed + rest


# HDF5: inner structures with their checksums made right again, and edits through the library.

_SIGNATURES = (
    *(b"OHDR", b"OCHK", b"FRHP", b"FHDB", b"FHIB", b"BTHD", b"BTLF", b"BTIN"),
    *(b"FAHD", b"FADB", b"EAHD", b"EAIB", b"EASB", b"EADB", b"\x89HDF"),
)
_MAX_STRUCTURE = 1 << 13


class Structures:
    """The inner structures of an HDF5 file that carry a checksum: where each begins and how long it is."""

    def __init__(self, data: bytes) -> None:
        starts = sorted(m.start() for mark in _SIGNATURES for m in re.finditer(re.escape(mark), data))
        array = np.frombuffer(data, np.uint8)
        lengths = [_sealed_length(array[start : start + _MAX_STRUCTURE]) for start in starts]
        self.places = [(start, length) for start, length in zip(starts, lengths, strict=True) if length]

    def __call__(self, rng: random.Random, data: bytes) -> bytes:
        """Change bytes of some structures and seal them again."""
        changed = bytearray(data)
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            start, length = rng.choice(self.places)
            body = bytes(changed[start + 4 : start + length])
            for _ in range(rng.choice([1, 1, 2, 4])):
                body = rng.choice([flip, extreme])(rng, body)[:length]
            changed[start + 4 : start + length] = body
            block = np.frombuffer(bytes(changed[start : start + length]), np.uint8)
            changed[start + length : start + length + 4] = int(_lookup3(block)).to_bytes(4, "little")
        return bytes(changed)


@numba.njit(cache=True)
def _lookup3(data):
    """Bob Jenkins' hash of 2006 in its little-endian form, which HDF5 uses for its structures."""
    mask = np.uint64(0xFFFFFFFF)
    n = len(data)
    a = b = c = np.uint64((0xDEADBEEF + n) & 0xFFFFFFFF)
    i = 0
    while n > 12:
        k0 = (
            np.uint64(data[i])
            | np.uint64(data[i + 1]) << 8
            | np.uint64(data[i + 2]) << 16
            | np.uint64(data[i + 3]) << 24
        )
        k1 = (
            np.uint64(data[i + 4])
            | np.uint64(data[i + 5]) << 8
            | np.uint64(data[i + 6]) << 16
            | np.uint64(data[i + 7]) << 24
        )
        k2 = (
            np.uint64(data[i + 8])
            | np.uint64(data[i + 9]) << 8
            | np.uint64(data[i + 10]) << 16
            | np.uint64(data[i + 11]) << 24
        )
        a = (a + k0) & mask
        b = (b + k1) & mask
        c = (c + k2) & mask
        a = ((a - c) & mask) ^ (((c << 4) | (c >> 28)) & mask)
        c = (c + b) & mask
        b = ((b - a) & mask) ^ (((a << 6) | (a >> 26)) & mask)
        a = (a + c) & mask
        c = ((c - b) & mask) ^ (((b << 8) | (b >> 24)) & mask)
        b = (b + a) & mask
        a = ((a - c) & mask) ^ (((c << 16) | (c >> 16)) & mask)
        c = (c + b) & mask
        b = ((b - a) & mask) ^ (((a << 19) | (a >> 13)) & mask)
        a = (a + c) & mask
        c = ((c - b) & mask) ^ (((b << 4) | (b >> 28)) & mask)
        b = (b + a) & mask
        i += 12
        n -= 12
    if n == 0:
        return c
    for k in range(n):
        value = np.uint64(data[i + k]) << np.uint64(8 * (k % 4))
        if k < 4:
            a = (a + value) & mask
        elif k < 8:
            b = (b + value) & mask
        else:
            c = (c + value) & mask
    c = ((c ^ b) - (((b << 14) | (b >> 18)) & mask)) & mask
    a = ((a ^ c) - (((c << 11) | (c >> 21)) & mask)) & mask
    b = ((b ^ a) - (((a << 25) | (a >> 7)) & mask)) & mask
    c = ((c ^ b) - (((b << 16) | (b >> 16)) & mask)) & mask
    a = ((a ^ c) - (((c << 4) | (c >> 28)) & mask)) & mask
    b = ((b ^ a) - (((a << 14) | (a >> 18)) & mask)) & mask
    return ((c ^ b) - (((b << 24) | (b >> 8)) & mask)) & mask


@numba.njit(cache=True)
def _sealed_length(data):
    """Return the length after which the checksum of a structure follows; 0 if there is none."""
    for length in range(4, len(data) - 3):
        stated = (
            np.uint64(data[length])
            | np.uint64(data[length + 1]) << 8
            | np.uint64(data[length + 2]) << 16
            | np.uint64(data[length + 3]) << 24
        )
        if stated == _lookup3(data[:length]):
            return length
    return 0


class Edits:
    """Edits of an HDF5 file through the library.

    Args:
        folder: for the file that is edited.
        seal: makes the file's own checksums right again after an edit, if given.
    """

    def __init__(self, folder: Path, seal: Callable[[h5py.File], None] | None = None) -> None:
        self._path, self._seal = folder / "edited.h5", seal

    def __call__(self, rng: random.Random, data: bytes) -> bytes:
        """Change attributes, data, types, shapes or links."""
        self._path.write_bytes(data)
        try:
            with h5py.File(self._path, "r+") as file:
                for _ in range(rng.choice([1, 1, 2])):
                    _edit(rng, file)
                if self._seal is not None:
                    self._seal(file)
        except (LookupError, ValueError, TypeError, OSError, RuntimeError, OverflowError):
            pass  # what the edit so far left is a file like any other
        return self._path.read_bytes()


def _edit(rng: random.Random, file: h5py.File) -> None:
    names: list[str] = []
    file.visit(names.append)
    name = rng.choice(names)
    item = file[name]
    kind = rng.randrange(9)
    if kind == 0:
        attribute = rng.choice([*item.attrs, "extra"])
        value = rng.choice(
            [*EXTREMES[:-1], float("nan"), 1e-300, *TEXTS[:-1], [1, 2], np.zeros(0), h5py.Empty("f4")]
        )
        item.attrs[attribute] = value
    elif kind == 1 and len(item.attrs):
        del item.attrs[rng.choice(list(item.attrs))]
    elif kind == 2:
        del file[name]
    elif kind == 3:
        del file[name]
        target = rng.choice(names)
        file[name] = rng.choice([h5py.SoftLink("/" + target), h5py.ExternalLink("/etc/passwd", "/" + target)])
    elif kind == 4:
        file.move(name, f"{name}{rng.choice(['x', '..', ' ', 'µ', '-' * 300])}")
    elif kind == 5 and isinstance(item, h5py.Group):
        item.create_dataset(f"new{rng.randrange(99)}", data=np.zeros(rng.choice([(), (3,), (0, 4)])))
    elif isinstance(item, h5py.Dataset) and item.shape and item.size:
        if kind in (6, 7):
            index = tuple(rng.randrange(extent) for extent in item.shape)
            item[index] = rng.choice([0, 1, 16, 255, -1, np.nan, 1e-6, np.inf])
        else:
            _retype(rng, file, name, item)


def _retype(rng: random.Random, file: h5py.File, name: str, item: h5py.Dataset) -> None:
    """Put a data set of another type, shape or storage in the place of one."""
    data, attributes = item[()], dict(item.attrs)
    data = (
        data.astype(rng.choice(["u1", ">i4", "f2", "f8", "i8"]))
        if rng.random() < 0.5
        else data[: len(data) // 2]
    )
    del file[name]
    storage = rng.choice(
        [{}, {"compression": 4, "shuffle": True}, {"compression": "lzf"}, {"fletcher32": True}]
    )
    new = file.create_dataset(name, data=data, **(storage if data.size else {}))
    for key, value in attributes.items():
        new.attrs.create(key, value)

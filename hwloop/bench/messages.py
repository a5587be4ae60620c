"""Bytes on the wire: definite-length blocks of IEEE 488.2, and numbered transactions with checksums.

A transaction is one program message with a number that its sender chose. Both directions carry a CRC-32, so
that bytes that were garbled on the way are never taken for a command or an answer, and an instrument that
gets the number and message of its last transaction again repeats the answer and does nothing twice.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

import numpy as np

MAX_MESSAGE_BYTES = 1 << 23
"""Longest message, in either direction."""

_REQUEST = struct.Struct("<QI")
_ANSWER = struct.Struct("<QiI")


class MessageError(ValueError):
    """Bytes that are not what they should be."""


class Answer(NamedTuple):
    """What an instrument answers to a transaction.

    Attributes:
        number: of the transaction.
        status: 0, or the code of the first error.
        data: the response message, or the error in words.
    """

    number: int
    status: int
    data: bytes


def block(data: bytes) -> bytes:
    """Return data as a definite-length block: ``#``, number of digits, length, data."""
    length = b"%d" % len(data)
    return b"#%d%s%s" % (len(length), length, data)


def array_block(values: np.ndarray, kind: str) -> bytes:
    """Return numbers as a block; ``kind`` is a NumPy type such as ``<f4``."""
    return block(np.ascontiguousarray(values, dtype=kind).tobytes())


def open_block(data: bytes, start: int = 0) -> tuple[bytes, int]:
    """Return the content of the block that begins at ``start``, and where it ends.

    Raises:
        MessageError: if no whole block is there.
    """
    digits = data[start + 1 : start + 2]
    if data[start : start + 1] != b"#" or not digits.isdigit() or digits == b"0":
        raise MessageError("no definite-length block")
    first = start + 2 + int(digits)
    length = data[start + 2 : first]
    if len(length) != int(digits) or not length.isdigit():
        raise MessageError("a block without its length")
    end = first + int(length)
    if end > len(data):
        raise MessageError("a block that is cut short")
    return data[first:end], end


def read_array(data: bytes, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the numbers of a block's content; raises MessageError unless they fill ``shape``."""
    expected = int(np.prod(shape)) * np.dtype(kind).itemsize
    if len(data) != expected:
        raise MessageError(f"a block of {len(data)} bytes, not {expected}")
    return np.frombuffer(data, dtype=kind).reshape(shape)


def pack_request(number: int, message: bytes) -> bytes:
    """Return the content of a transaction's block."""
    return _REQUEST.pack(number, _checksum(number, message)) + message


def open_request(data: bytes) -> tuple[int, bytes]:
    """Return number and message of a transaction; raises MessageError if it was garbled."""
    if len(data) < _REQUEST.size:
        raise MessageError("a transaction without number and checksum")
    number, checksum = _REQUEST.unpack_from(data)
    message = data[_REQUEST.size :]
    if checksum != _checksum(number, message):
        raise MessageError("checksum of a transaction differs")
    return number, message


def pack_answer(answer: Answer) -> bytes:
    """Return the content of the block that answers a transaction."""
    checksum = _checksum(answer.number, answer.data, answer.status)
    return _ANSWER.pack(answer.number, answer.status, checksum) + answer.data


def open_answer(data: bytes) -> Answer:
    """Return what was answered; raises MessageError if it was garbled."""
    if len(data) < _ANSWER.size:
        raise MessageError("an answer without number and checksum")
    number, status, checksum = _ANSWER.unpack_from(data)
    answer = Answer(number, status, data[_ANSWER.size :])
    if checksum != _checksum(number, answer.data, status):
        raise MessageError("checksum of an answer differs")
    return answer


def _checksum(number: int, data: bytes, status: int = 0) -> int:
    return zlib.crc32(data, zlib.crc32(struct.pack("<Qi", number, status)))

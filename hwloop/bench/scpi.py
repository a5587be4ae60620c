"""SCPI as an instrument hears it: a stream of bytes cut into messages, and messages into commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from .messages import MAX_MESSAGE_BYTES, MessageError, open_block

MAX_TEXT_BYTES = 1 << 16
"""Longest message, and longest parameter, that is not a block."""
MAX_CHANNELS = 4096

_MARK = re.compile(rb"[\n#]")
_HEADER = re.compile(rb"\s*([*:]?[A-Za-z][A-Za-z0-9_:]*\??)\s*")
_WORD = re.compile(rb"[^,;#(]*")
_LIST = re.compile(rb"\(@([0-9,:\s]*)\)")


class ScpiError(ValueError):
    """A command that cannot be carried out.

    Attributes:
        code: of SCPI-1999; positive ones are the instrument's own.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Command(NamedTuple):
    """One command of a message: its header in upper case, and its parameters, blocks as bytes."""

    header: str
    parameters: list[str | bytes]


class MessageReader:
    """Cuts a stream of bytes into messages: each ends with a newline that lies in no block."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._next = 0  # nothing before it ends a message

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the messages that are complete now, without their newline.

        Raises:
            ScpiError: if a message or block is longer than an instrument takes; the stream is lost then.
        """
        self._bytes += data
        while (end := self._end()) is not None:
            message = bytes(self._bytes[:end])
            del self._bytes[: end + 1]
            self._next = 0
            yield message

    def _end(self) -> int | None:
        """Return where the first message ends; None if it is not complete."""
        while self._next <= len(self._bytes):
            found = _MARK.search(self._bytes, self._next)
            if found is None:
                self._next = len(self._bytes)
                self._check(self._next)
                return None
            place = found.start()
            if self._bytes[place] == 0x0A:
                return place
            header = bytes(self._bytes[place + 1 : place + 11])
            digits = int(header[:1]) if header[:1].isdigit() else 0
            if not header or (digits and len(header) <= digits and header.isdigit()):
                self._next = place  # the length of the block is still to come
                self._check(place)
                return None
            length = header[1 : digits + 1]
            if digits and length.isdigit():
                self._next = place + 2 + digits + int(length)
                self._check(self._next)
            else:
                self._next = place + 1
        return None

    def _check(self, size: int) -> None:
        if size > MAX_MESSAGE_BYTES:
            raise ScpiError(-363, f"Input buffer overrun;a message has at most {MAX_MESSAGE_BYTES} bytes")


def parse(message: bytes) -> Iterator[Command]:
    """Yield the commands of a message; a header without a leading colon goes on where the last one was.

    Raises:
        ScpiError: at the first that cannot be understood.
    """
    place, path = 0, ""
    while message[place:].strip():
        found = _HEADER.match(message, place)
        if found is None:
            raise ScpiError(-102, "Syntax error;a command begins with a letter, a colon or an asterisk")
        header = found[1].decode().upper()
        parameters, place = _parameters(message, found.end())
        if header.startswith("*"):
            yield Command(header, parameters)
        else:
            header = header[1:] if header.startswith(":") else path + header
            path = header[: header.rfind(":") + 1]
            yield Command(header, parameters)


def _parameters(message: bytes, place: int) -> tuple[list[str | bytes], int]:
    """Return the parameters from ``place`` to the end of the command, and where the next one begins."""
    parameters: list[str | bytes] = []
    if place >= len(message) or message[place : place + 1] == b";":
        return parameters, place + 1
    while True:
        value: str | bytes
        if message[place : place + 1] == b"#":
            try:
                value, place = open_block(message, place)
            except MessageError as error:
                raise ScpiError(-161, f"Invalid block data;{error}") from error
        elif message[place : place + 1] == b"(":
            found = _LIST.match(message, place)
            if found is None:
                raise ScpiError(-171, "Invalid expression;a channel list is such as (@0,4:7)")
            value, place = found[0].decode(), found.end()
        else:
            found = _WORD.match(message, place)
            raw = found[0] if found else b""
            if len(raw) > MAX_TEXT_BYTES:
                raise ScpiError(-223, f"Too much data;a parameter has at most {MAX_TEXT_BYTES} bytes")
            value, place = raw.decode("ascii", "replace").strip(), place + len(raw)
        parameters.append(value)
        rest = message[place:].lstrip()
        place = len(message) - len(rest)
        if not rest or rest[:1] == b";":
            return parameters, place + 1
        if rest[:1] != b",":
            raise ScpiError(-103, "Invalid separator;parameters are separated by commas")
        place += 1 + len(rest[1:]) - len(rest[1:].lstrip())


def channels(text: str) -> list[int]:
    """Return the lines of a channel list such as ``(@0,4:7)``.

    Raises:
        ScpiError: if it is none, or names more than ``MAX_CHANNELS``.
    """
    found = _LIST.fullmatch(text.encode("ascii", "replace"))
    if found is None:
        raise ScpiError(-171, "Invalid expression;a channel list is such as (@0,4:7)")
    lines: list[int] = []
    for part in found[1].decode().split(","):
        ends = [end.strip() for end in part.split(":")]
        if ends == [""]:
            continue
        if len(ends) > 2 or not all(end.isdigit() and len(end) < 7 for end in ends):
            raise ScpiError(-171, "Invalid expression;a channel list is such as (@0,4:7)")
        first, last = int(ends[0]), int(ends[-1])
        if last - first + len(lines) >= MAX_CHANNELS:
            raise ScpiError(-223, f"Too much data;a channel list names at most {MAX_CHANNELS} lines")
        lines.extend(range(first, last + 1))
    return lines


def channel_list(lines: list[int]) -> str:
    """Return a channel list of lines in rising order, runs of neighbours as ranges."""
    parts: list[str] = []
    start = 0
    for place in range(1, len(lines) + 1):
        if place == len(lines) or lines[place] != lines[place - 1] + 1:
            first, last = lines[start], lines[place - 1]
            parts.append(str(first) if first == last else f"{first}:{last}")
            start = place
    return f"(@{','.join(parts)})"

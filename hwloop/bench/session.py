"""What an instrument keeps for one connection, and the parameters of one command."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from .scpi import Command, ScpiError, channels

MAX_ERRORS = 30
OPERATION_COMPLETE = 1
"""Bit of the event status register."""

_QUERY, _DEVICE, _EXECUTION, _COMMAND = 4, 8, 16, 32


@dataclass
class Session:
    """What the instrument keeps for one connection.

    Attributes:
        place: how many connections there were before.
        errors: queue of codes and words.
        status: event status register.
        array: the array that is selected.
        word_lines: those that are closed onto the source.
        volts: of the source.
        compliance: amperes at which a measurement is cut off; None = the instrument's limit.
        number: of the transaction that is carried out, or of the command that came without one.
        step: commands carried out in it.
        nested: whether this is within a transaction.
    """

    place: int
    errors: deque[tuple[int, str]] = field(default_factory=deque)
    status: int = 0
    array: int = 0
    word_lines: list[int] = field(default_factory=list)
    volts: float = 0.0
    compliance: float | None = None
    number: int = 0
    step: int = 0
    nested: bool = False

    def report(self, error: ScpiError) -> None:
        """Put an error into the queue; a full one says so at its end."""
        if len(self.errors) < MAX_ERRORS:
            self.errors.append((error.code, str(error)))
        else:
            self.errors[-1] = (-350, "Queue overflow")
        code = error.code
        kinds = {1: _COMMAND, 2: _EXECUTION, 3: _DEVICE, 4: _QUERY}
        self.status |= _DEVICE if code > 0 else kinds.get(-code // 100, _DEVICE)


class Parameters:
    """The parameters of a command, taken one after the other."""

    def __init__(self, command: Command) -> None:
        self._rest = list(command.parameters)

    def number(self, least: float, most: float) -> float:
        """Take a number within a range."""
        text = self._take()
        try:
            value = float(text) if isinstance(text, str) else math.nan
        except ValueError:
            value = math.nan
        if value != value:
            raise ScpiError(-104, "Data type error;a number is wanted")
        if not least <= value <= most:
            raise ScpiError(-222, f"Data out of range;{value:g} is not within {least:g} to {most:g}")
        return value

    def whole(self, least: int, most: int) -> int:
        """Take a whole number within a range."""
        value = self.number(least, most)
        if value != int(value):
            raise ScpiError(-104, "Data type error;a whole number is wanted")
        return int(value)

    def data(self) -> bytes:
        """Take the content of a block."""
        value = self._take()
        if isinstance(value, str):
            raise ScpiError(-104, "Data type error;a block is wanted")
        return value

    def lines(self, extent: int) -> list[int]:
        """Take a channel list of lines below ``extent``."""
        value = self._take()
        lines = channels(value) if isinstance(value, str) else [extent]
        if lines and max(lines) >= extent:
            raise ScpiError(-222, f"Data out of range;an array has lines 0 to {extent - 1}")
        return lines

    def end(self) -> None:
        """There must be no more."""
        if self._rest:
            raise ScpiError(-108, "Parameter not allowed")

    def _take(self) -> str | bytes:
        if not self._rest or self._rest[0] == "":
            raise ScpiError(-109, "Missing parameter")
        return self._rest.pop(0)

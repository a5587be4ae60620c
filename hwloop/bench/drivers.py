"""Drivers: one small class for each kind of instrument, which knows its commands and nothing of networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from device_models.card import DeviceCard
from device_models.parts import Parts
from hwloop.hardware import Capabilities

from .errors import BenchError
from .limits import check_pulses
from .link import Link
from .messages import MessageError, array_block, open_block, read_array
from .scpi import channel_list


class Driver(Protocol):
    """What a bench needs of an instrument: write one array, and read it.

    An operation has a number of its own, which counts what was done to the array since the bench was set up:
    an instrument that knows transactions is told it, so that nothing is done twice when the wire fails.
    """

    @property
    def identity(self) -> str:
        """What the instrument says it is."""
        ...

    @property
    def simulated(self) -> bool:
        """Whether there are no devices behind it."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """Arrays, their shape, levels and converters."""
        ...

    def prepare(self, card: DeviceCard) -> None:
        """Tell the instrument the safe limits of a card, and keep to them.

        Raises:
            LimitError: if the driver cannot work within them.
        """
        ...

    def program(self, array: int, target: np.ndarray, number: int) -> np.ndarray:
        """Bring the cells of an array to their targets and return what was measured then.

        Args:
            array: which one.
            target: siemens, float64 ``[rows, cols]``; 0 = no cell.
            number: of this write to the array, from 0.

        Returns:
            Siemens, float64 ``[rows, cols]``.

        Raises:
            BenchError: if the instrument does not answer or refuses.
        """
        ...

    def read(self, array: int, codes: np.ndarray, bits: int, full_scale: float, first: int) -> np.ndarray:
        """Multiply input codes with the conductances of an array.

        Args:
            array: which one.
            codes: whole numbers below ``2^bits``, ``[vectors, rows]``.
            bits: of a code.
            full_scale: siemens that a converter should span in one cycle.
            first: number of the first vector among all that the array was read with since it was written.

        Returns:
            Sum over the word lines of code times conductance, siemens, float64 ``[vectors, cols]``.

        Raises:
            BenchError: as :meth:`program`.
        """
        ...

    def close(self) -> None:
        """Let the instrument go."""
        ...


_READS = 1 << 62  # added to the numbers of measurements that are reads, to tell them from those of writing
_VECTOR_BYTES = 1 << 16  # of one message: what any socket takes without waiting


class _Instrument:
    """What the two drivers share: who the instrument is, and arrays that are selected in each transaction."""

    def __init__(self, link: Link) -> None:
        self._link = link
        # In a transaction, so that a garbled figure is never taken for another.
        self.identity, _, told = (
            link.transact(0, b"*IDN?;:SYST:CAP?").decode("ascii", "replace").partition(";")
        )
        self.simulated = "virtual" in self.identity
        try:
            rows, cols, arrays, levels, adc_bits = (int(figure) for figure in told.split(","))
        except ValueError as error:
            raise BenchError(f"bench {link.address}: does not say what arrays it has ({error})") from error
        self._shape, self._bits = (rows, cols), adc_bits
        self._arrays, self._levels = arrays, levels
        self._volts = 0.0

    @property
    def capabilities(self) -> Capabilities:
        """See :class:`Driver`."""
        return Capabilities(self._shape, self._arrays, self._levels, self._bits)

    def prepare(self, card: DeviceCard) -> None:
        """See :class:`Driver`."""
        limits = card.safe_limits
        pulse = limits.program_voltage
        volts = max(limits.read_voltage.value, pulse.value if pulse is not None else 0.0)
        amperes = limits.cell_current.value * self._shape[0]
        self._link.transact(0, f"LIM:VOLT {volts:.9g};:LIM:CURR {amperes:.9g}".encode())
        self._volts = card.read_voltage.value

    def close(self) -> None:
        """See :class:`Driver`."""
        self._link.close()

    def _do(self, array: int, number: int, message: bytes) -> bytes:
        return self._link.transact(number, b"ARR:SEL %d;:%s" % (array, message))

    def _numbers(self, response: bytes, kind: str, shape: tuple[int, ...]) -> np.ndarray:
        """Return the numbers of a response that is one block."""
        try:
            data, end = open_block(response)
            if end != len(response):
                raise MessageError("more than one block")
            return read_array(data, kind, shape)
        except MessageError as error:
            raise BenchError(f"bench {self._link.address}: unexpected answer ({error})") from error


class TileBoard(_Instrument):
    """A board that takes whole tiles: it writes them with verify, applies vectors bit by bit, converts."""

    name = "tile"

    def program(self, array: int, target: np.ndarray, number: int) -> np.ndarray:
        """See :class:`Driver`."""
        message = b"ARR:PROG " + array_block(target, "<f4") + b";:ARR:COND?"
        return self._numbers(self._do(array, number, message), "<f4", self._shape).astype(np.float64)

    def read(self, array: int, codes: np.ndarray, bits: int, full_scale: float, first: int) -> np.ndarray:
        """See :class:`Driver`."""
        rows, cols = self._shape
        kind = "|u1" if bits <= 8 else "<u2"
        size = max(1, _VECTOR_BYTES // (rows * np.dtype(kind).itemsize))
        lsb = full_scale / ((1 << self._bits) - 1)
        amperes = full_scale * self._volts
        sums = np.empty((len(codes), cols))
        for start in range(0, len(codes), size):
            part = codes[start : start + size]
            message = f"ARR:APPL? {self._volts:.9g},{amperes:.9g},{bits},".encode()
            response = self._do(array, first + start, message + array_block(part, kind))
            sums[start : start + size] = self._numbers(response, "<i4", (len(part), cols))
        return sums * lsb


class SwitchMatrixSmu(_Instrument):
    """A switching matrix and a source-measure unit: one cell is pulsed, one bit line measured, at a time.

    Slow, and generic. Writing goes in rounds of pulses and measurements until every cell is within
    ``tolerance`` of its target or ``rounds`` are over; the width of a cell's pulses is halved whenever it
    has overshot. Reading closes the word lines whose input bit is set onto the source, measures every bit
    line in turn, and adds the cycles up; the currents are those of the unit, no converter is in the way.

    Args:
        link: the wire.
        volts: amplitude of the pulses.
        width: of the longest pulse, in seconds.
        tolerance: relative to the card's g_max.
        rounds: of pulses, at most.
    """

    name = "smu"

    def __init__(
        self,
        link: Link,
        *,
        volts: float = 2.5,
        width: float = 1e-6,
        tolerance: float = 0.01,
        rounds: int = 40,
    ) -> None:
        super().__init__(link)
        self._pulse_volts, self._width, self._rounds = volts, width, rounds
        self._relative_tolerance, self._tolerance = tolerance, 0.0
        self._compliance = 0.0

    def prepare(self, card: DeviceCard) -> None:
        """See :class:`Driver`."""
        check_pulses(card, self._pulse_volts)
        super().prepare(card)
        self._tolerance = self._relative_tolerance * card.g_max.value
        self._compliance = card.safe_limits.cell_current.value * self._shape[0]

    def program(self, array: int, target: np.ndarray, number: int) -> np.ndarray:
        """See :class:`Driver`."""
        step = number << 32
        self._do(array, step, b"ARR:ERAS")
        widths = np.full(self._shape, self._width)
        before = np.zeros(self._shape)
        wanted = target > 0
        measured = np.zeros(self._shape)
        for _ in range(self._rounds):
            error = np.where(wanted, target - measured, 0.0)
            widths[(error * before < 0) & wanted] /= 2
            before = error
            due = np.abs(error) > self._tolerance
            if not due.any():
                break
            for row in np.flatnonzero(due.any(axis=1)).tolist():
                step += 1
                measured[row] = self._pulse_row(array, row, due[row], error[row], widths[row], step)
        return measured

    def read(
        self,
        array: int,
        codes: np.ndarray,
        bits: int,
        full_scale: float,  # noqa: ARG002 one call for all drivers
        first: int,
    ) -> np.ndarray:
        """See :class:`Driver`; the unit's range follows the current, so ``full_scale`` is not needed."""
        sums = np.zeros((len(codes), self._shape[1]))
        for vector, code in enumerate(codes):
            for bit in range(bits):
                lines = np.flatnonzero((code >> bit) & 1)
                if lines.size:
                    number = _READS + (first + vector) * bits + bit
                    sums[vector] += self._measure(array, lines.tolist(), number) * (1 << bit)
        return sums

    def _pulse_row(
        self, array: int, row: int, due: np.ndarray, error: np.ndarray, widths: np.ndarray, number: int
    ) -> np.ndarray:
        """Pulse the cells of a word line that are due, and measure all of it: siemens ``[cols]``."""
        pulses = ";:".join(
            f"PULS {np.copysign(self._pulse_volts, error[col]):.6g},{widths[col]:.6g},{row},{col}"
            for col in np.flatnonzero(due).tolist()
        )
        return self._measure(array, [row], number, f"{pulses};:")

    def _measure(self, array: int, lines: list[int], number: int, before: str = "") -> np.ndarray:
        """Measure all bit lines with word lines at the read voltage: siemens ``[cols]``."""
        cols = self._shape[1]
        message = (
            f"{before}ROUT:OPEN:ALL;:ROUT:CLOS {channel_list(lines)};:SOUR:VOLT {self._volts:.9g};"
            f":SENS:CURR:PROT {self._compliance:.9g};:MEAS:CURR? (@0:{cols - 1})"
        )
        response = self._do(array, number, message.encode())
        try:
            currents = np.array([float(current) for current in response.split(b",")])
        except ValueError as error:
            raise BenchError(f"bench {self._link.address}: unexpected answer ({error})") from error
        if currents.shape != (cols,) or not np.isfinite(currents).all():
            raise BenchError(f"bench {self._link.address}: {len(currents)} currents, not {cols}")
        return currents / self._volts


DRIVERS: Parts[Callable[[Link], Driver]] = Parts(
    "hwloop.drivers",
    "driver",
    __name__,
    lambda part: "" if callable(part) else f"is {type(part).__name__}, not a class that takes a Link",
)
"""Every driver by its name on the command line."""

DRIVERS.add(TileBoard.name)(TileBoard)
DRIVERS.add(SwitchMatrixSmu.name)(SwitchMatrixSmu)

"""The arrays behind the virtual instrument: simulated, and nobody outside knows their parameters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from device_models.card import DeviceCard
from device_models.crossbar import Wires, effective_conductance
from device_models.memristor import program_cells, read_noise_variance
from device_models.random import stream, stream_key
from hwloop.hardware.bit_serial import standard_normals

PULSE_WIDTH = 1e-6
"""Width in seconds of a pulse that makes its whole step; a shorter one makes as much less."""

_GAIN_SIGMA, _OFFSET_SIGMA = 0.02, 0.5  # of ADCs: relative, and in LSB
_STEP, _STEP_SPREAD, _CYCLE_SPREAD = 0.25, 0.3, 0.2  # of pulses: part of the way to the bound
_THRESHOLD = 0.4  # part of the largest programming voltage below which a pulse does nothing
_VECTORS = 256  # that are converted at a time


@dataclass
class _Array:
    """One array.

    Attributes:
        g: conductances in siemens, float64 ``[rows, cols]``.
        wires: figures of its lines.
    """

    g: np.ndarray
    wires: Wires

    @cached_property
    def effective(self) -> np.ndarray:
        """The conductances as seen through the wires."""
        solved: np.ndarray = effective_conductance(torch.from_numpy(self.g), self.wires).numpy()
        return solved


class ArrayBank:
    """Arrays of one seeded chip: cells, wires, and an ADC with gain and offset of its own at every bit line.

    What is random in an operation is drawn from a stream that is named by the operation, the array and the
    number that it is given: the same operation with the same number ends in the same way, however often it
    is done.

    Args:
        card: device card; its uncertain figures are drawn.
        arrays: how many there are.
        array_shape: word lines and bit lines of each.
        adc_bits: resolution of the converters.
        seed: which of the possible chips.

    Raises:
        ValueError: if the card does not say where a cell lands.
    """

    def __init__(
        self, card: DeviceCard, *, arrays: int, array_shape: tuple[int, int], adc_bits: int, seed: int
    ) -> None:
        self.card, self.arrays, self.array_shape, self.adc_bits = card, arrays, array_shape, adc_bits
        self._seed = seed
        self._drawn = card.drawn(seed, "bench")
        lines = stream(seed, "wires", "bench")
        segment, ends = lines.uniform(0.5, 2.0), lines.uniform(50.0, 150.0, 2)
        self._wires = Wires(segment, segment, driver=float(ends[0]), sense=float(ends[1]))
        self._held: dict[int, _Array] = {}
        program_cells(np.zeros((1, 1)), self._drawn, lambda _: stream(seed, "check"))

    def erase(self, array: int) -> None:
        """Bring an array to its pristine state: no cell is formed."""
        self._held.pop(array, None)

    def erase_all(self) -> None:
        """Bring all arrays to their pristine state."""
        self._held.clear()

    def program(self, array: int, target: np.ndarray, number: int) -> None:
        """Write all cells of an array, with verify.

        Args:
            array: which one.
            target: conductances in siemens ``[rows, cols]``; 0 = not formed.
            number: of this write.

        Raises:
            ValueError: if a target is not within the card's range.
        """
        g_max = self.card.g_max.value
        if not bool(((target >= 0) & (target <= g_max * (1 + 1e-6))).all()):
            raise ValueError(f"targets must lie between 0 and {g_max:g} S")

        def draws(effect: str) -> np.random.Generator:
            if effect == "wafer":
                return stream(self._seed, effect, "bench")
            # What is new in every write; all else belongs to the devices.
            write = (number,) if effect in ("program", "cycles") else ()
            return stream(self._seed, effect, "bench", array, *write)

        g = program_cells(target.astype(np.float64), self._drawn, draws)
        self._held[array] = _Array(g, self._wires)

    def pulse(self, array: int, cell: tuple[int, int], volts: float, seconds: float, number: str) -> None:
        """Apply one pulse to a cell: positive ones raise its conductance, negative ones lower it.

        A pulse goes a part of the way to its bound, 0 or 1.2 times g_max, that grows with voltage and width
        and differs from device to device and from pulse to pulse. A stuck cell does not move.
        """
        rates = self._rates(array)
        limit = self.card.safe_limits.program_voltage
        nominal = limit.value if limit is not None else np.inf
        strength = np.clip((abs(volts) / nominal - _THRESHOLD) / (1 - _THRESHOLD), 0.0, 1.0)
        spread = 1 + _CYCLE_SPREAD * stream(self._seed, "pulse", array, number).standard_normal()
        part = _STEP * rates[cell] * strength * min(1.0, seconds / PULSE_WIDTH) * max(0.0, spread)
        g = self._array(array).g.copy()
        bound = 1.2 * self.card.g_max.value if volts > 0 else 0.0
        g[cell] += min(1.0, part) * (bound - g[cell])
        if self._drawn.stuck is not None:
            g[cell] = self._drawn.stuck.hold(g, stream(self._seed, "stuck", "bench", array))[cell]
        self._held[array] = _Array(g, self._wires)

    def conductances(self, array: int, number: int) -> np.ndarray:
        """Measure every cell on its own, through the wires: siemens, float64 ``[rows, cols]``."""
        seen = self._array(array).effective
        draws = stream(self._seed, "measure", array, number).standard_normal(seen.shape)
        return seen + self._sigma(seen) * draws

    def currents(self, array: int, volts: np.ndarray, lines: list[int], number: str) -> np.ndarray:
        """Measure bit lines one after the other: amperes, float64 ``[lines]``.

        Args:
            array: which one.
            volts: on the word lines ``[rows]``.
            lines: bit lines.
            number: of this measurement.
        """
        seen = self._array(array).effective[:, lines]
        draws = stream(self._seed, "current", array, number).standard_normal(len(lines))
        noise = np.sqrt(volts**2 @ self._sigma(seen) ** 2)
        result: np.ndarray = volts @ seen + noise * draws
        return result

    def apply(self, array: int, codes: np.ndarray, bits: int, full_scale: float, first: int) -> np.ndarray:
        """Apply vectors bit by bit, convert every bit line in every cycle, and add the codes up, shifted.

        Args:
            array: which one.
            codes: input codes, whole numbers below ``2^bits``, ``[vectors, rows]``.
            bits: cycles.
            full_scale: conductance in siemens that the converters' largest code stands for.
            first: number of the first vector.

        Returns:
            int32 ``[vectors, cols]``.
        """
        held = self._array(array)
        gain, offset = self._converters(array)
        top = (1 << self.adc_bits) - 1
        idle = np.clip(np.floor(offset + 0.5), 0, top) * ((1 << bits) - 1)
        sums = np.tile(idle.astype(np.int32), (len(codes), 1))
        live = np.flatnonzero(held.effective.any(axis=0))
        g = held.effective[:, live] * (top / full_scale)
        variances = (self._sigma(held.effective[:, live]) * (top / full_scale)) ** 2
        key = stream_key(self._seed, "read", array) % 2**64
        for start in range(0, len(codes) if live.size else 0, _VECTORS):
            part = codes[start : start + _VECTORS]
            draws = standard_normals(len(part), bits * live.size, key, first + start).numpy()
            total = np.zeros((len(part), live.size))
            for bit in range(bits):
                plane = ((part >> bit) & 1).astype(np.float64)
                noise = draws[:, bit * live.size : (bit + 1) * live.size] * np.sqrt(plane @ variances)
                seen = plane @ g + noise
                total += np.clip(np.floor(seen * gain[live] + offset[live] + 0.5), 0, top) * (1 << bit)
            sums[start : start + _VECTORS, live] = total
        return sums

    def _sigma(self, g: np.ndarray) -> np.ndarray:
        """Return the standard deviation of conductances from read to read, in siemens."""
        noise = self._drawn.white_noise or self._drawn.read_noise.value
        sigma: np.ndarray = read_noise_variance(torch.from_numpy(g), noise).sqrt().numpy()
        return sigma

    def _array(self, array: int) -> _Array:
        if array not in self._held:
            self._held[array] = _Array(np.zeros(self.array_shape), self._wires)
        return self._held[array]

    def _converters(self, array: int) -> tuple[np.ndarray, np.ndarray]:
        """Return gain, and offset in LSB, of the converters of an array ``[cols]``."""
        rng = stream(self._seed, "converters", array)
        cols = self.array_shape[1]
        return 1 + _GAIN_SIGMA * rng.standard_normal(cols), _OFFSET_SIGMA * rng.standard_normal(cols)

    def _rates(self, array: int) -> np.ndarray:
        """Return how far pulses move each cell, relative to the average ``[rows, cols]``."""
        return np.exp(_STEP_SPREAD * stream(self._seed, "rates", array).standard_normal(self.array_shape))

"""What changes from one read to the next: white noise, 1/f noise and random telegraph noise."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import model_validator

from device_models.figures import Number, NumberList, Second, Siemens

from .base import Array, Effect
from .programming import Spread


class WhiteNoise(Spread):
    """White noise whose standard deviation depends on the conductance; it stands in for ``read_noise``."""

    disturbs: ClassVar[Literal["conductance", "current"]] = "current"


class FlickerNoise(Effect):
    """1/f noise: what has gathered by a time t after programming, relative to the conductance.

    sigma / G = Q sqrt(ln((t + t_read) / (2 t_read))), Q = min(amplitude (G / g_reference)^-power, highest)
    (Nandakumar et al., ICECS 2019).

    Attributes:
        amplitude: amplitude, power and highest Q.
        t_read: duration of a read.
    """

    disturbs: ClassVar[Literal["conductance", "current"]] = "current"
    amplitude: NumberList
    g_reference: Siemens
    t_read: Second

    @model_validator(mode="after")
    def _check(self) -> FlickerNoise:
        if len(self.amplitude.value) != 3:
            raise ValueError("amplitude is [amplitude, power, highest]")
        if not (self.t_read.value > 0 and self.g_reference.value > 0):
            raise ValueError("t_read and g_reference must be positive")
        return self

    def variance(self, g: Array, elapsed: float) -> Array:
        """Return the variance in siemens squared of conductances ``g`` (S) at ``elapsed`` seconds."""
        amplitude, power, highest = self.amplitude.value
        x = np.maximum(self.within(g) / self.g_reference.value, 1e-12)
        q = np.minimum(amplitude * x**-power, highest)
        gathered = np.log((elapsed + self.t_read.value) / (2 * self.t_read.value))
        return (np.asarray(g) * q) ** 2 * max(float(gathered), 0.0)

    def trace(self, reads: int, rng: np.random.Generator) -> Array:
        """Return relative noise over ``reads`` equally spaced reads with the spectrum amplitude^2 / f.

        f counts cycles per read, one-sided; the mean over the trace (f = 0) has none. Drawn in frequency.
        """
        f = np.arange(1, reads // 2 + 1) / reads
        draws = rng.standard_normal((2, len(f)))
        spectrum = np.zeros(reads // 2 + 1, dtype=complex)
        spectrum[1:] = self.amplitude.value[0] * np.sqrt(reads / (4 * f)) * (draws[0] + 1j * draws[1])
        if reads % 2 == 0:
            spectrum[-1] = np.sqrt(2) * spectrum[-1].real
        return np.fft.irfft(spectrum, reads)


class TelegraphNoise(Effect):
    """Random telegraph noise: some cells jump between two conductances at random times.

    Attributes:
        fraction: of the cells that show it.
        amplitude: of the jump, relative to the conductance, which is that of the upper state.
        time_high: mean time in the upper state.
        time_low: mean time in the lower state.
    """

    disturbs: ClassVar[Literal["conductance", "current"]] = "current"
    fraction: Number
    amplitude: Number
    time_high: Second
    time_low: Second

    @model_validator(mode="after")
    def _check(self) -> TelegraphNoise:
        if not 0 <= self.fraction.value <= 1 or not 0 <= self.amplitude.value < 1:
            raise ValueError("fraction and amplitude must lie between 0 and 1")
        if not (self.time_high.value > 0 and self.time_low.value > 0):
            raise ValueError("time_high and time_low must be positive")
        return self

    @property
    def occupancy_low(self) -> float:
        """Fraction of the time that a cell which jumps spends in the lower state."""
        return self.time_low.value / (self.time_high.value + self.time_low.value)

    def jumps(self, g: Array, rng: np.random.Generator) -> Array:
        """Return conductances (S) of one read long after the last: which cells jump, and where they are."""
        low = rng.random(g.shape) < self.fraction.value * self.occupancy_low
        return np.where(low, g * (1 - self.amplitude.value), g)

    def trace(self, reads: int, period: float, rng: np.random.Generator) -> Array:
        """Return the relative conductance (1 or 1 - amplitude) of one jumping cell every ``period`` seconds.

        Exact at the reads: the chance of another state after a period is that of the continuous process.
        """
        rate = 1 / self.time_high.value + 1 / self.time_low.value
        relaxed = -np.expm1(-rate * period)
        to_low, to_high = self.occupancy_low * relaxed, (1 - self.occupancy_low) * relaxed
        u = rng.random(reads)
        low = np.empty(reads, dtype=bool)
        state = bool(u[0] < self.occupancy_low)
        low[0] = state
        for k in range(1, reads):
            state = bool(u[k] >= to_high) if state else bool(u[k] < to_low)
            low[k] = state
        return np.where(low, 1 - self.amplitude.value, 1.0)

"""Where a programmed cell lands: mean and spread of the conductance, by target and by elapsed time."""

from __future__ import annotations

import itertools
from typing import ClassVar, Literal

import numpy as np
from pydantic import model_validator

from device_models.figures import Second, Siemens, SiemensList

from .base import Array, Effect, RangeError, polynomial


class Spread(Effect):
    """Mean shift and standard deviation at one time after programming, as functions of the target.

    With x = g / g_reference the standard deviation is ``sum_k c_k x^k`` (form ``polynomial``) or
    ``c_0 (1 - exp(-x))`` (form ``saturating``), not below 0; the shift of the mean is ``sum_k s_k x^k``.
    """

    disturbs: ClassVar[Literal["conductance", "current"]] = "conductance"
    form: Literal["polynomial", "saturating"] = "polynomial"
    coefficients: SiemensList
    g_reference: Siemens
    shift: SiemensList | None = None
    elapsed: Second | None = None

    @model_validator(mode="after")
    def _check(self) -> Spread:
        if not 0 < self.g_reference.value <= 1e-2:
            raise ValueError("g_reference must lie between 0 and 1e-2 S")
        if self.form == "saturating" and len(self.coefficients.value) != 1:
            raise ValueError("the saturating form has one coefficient")
        return self

    def sigma(self, g: Array | float) -> Array:
        """Return the standard deviation in siemens for target conductances ``g`` in siemens, any shape."""
        return self.sigma_about(g, g)

    def sigma_about(self, g: Array | float, mean: Array | float) -> Array:
        """As :meth:`sigma`; the saturating form counts with the shifted ``mean`` instead of the target."""
        if self.form == "saturating":
            self.within(g)
            x = np.asarray(mean, dtype=np.float64) / self.g_reference.value
            return (self.coefficients.value[0] * -np.expm1(-x)).clip(0.0)
        return polynomial(self.coefficients, self.within(g) / self.g_reference.value).clip(0.0)

    def mean_shift(self, g: Array | float) -> Array:
        """Return the mean of landed less target conductance, in siemens."""
        if self.shift is None:
            return np.zeros_like(np.asarray(g, dtype=np.float64))
        return polynomial(self.shift, self.within(g) / self.g_reference.value)


class ProgrammingError(Spread):
    """Spread right after programming, and in ``later`` at longer times.

    Between two times mean and standard deviation go in a straight line over log(1 + t / 1 s).
    """

    later: tuple[Spread, ...] = ()

    @model_validator(mode="after")
    def _check_times(self) -> ProgrammingError:
        if not self.later:
            return self
        times = [s.elapsed.value if s.elapsed is not None else -1.0 for s in (self, *self.later)]
        if times[0] < 0 or any(b <= a for a, b in itertools.pairwise(times)):
            raise ValueError("with later spreads, each needs its elapsed time, and the times must rise")
        return self

    def at(self, g: Array | float, elapsed: float | None = None) -> tuple[Array, Array]:
        """Return mean shift and standard deviation in siemens at ``elapsed`` seconds after programming.

        Args:
            g: target conductances in siemens.
            elapsed: None is the first time that the card knows.

        Raises:
            RangeError: if the card does not reach to that time, or a target is out of range.
        """
        spreads = (self, *self.later)
        if elapsed is None or not self.later:
            return self._one(self, g)
        times = [s.elapsed.value for s in spreads if s.elapsed is not None]
        if not times[0] <= elapsed <= times[-1]:
            raise RangeError(
                f"programming_error is known from {times[0]:g} to {times[-1]:g} s, not at {elapsed:g} s"
            )
        after = min(int(np.searchsorted(times, elapsed, side="right")), len(times) - 1)
        start, end = np.log1p(times[after - 1]), np.log1p(times[after])
        part = (np.log1p(elapsed) - start) / (end - start)
        early, late = self._one(spreads[after - 1], g), self._one(spreads[after], g)
        return (1 - part) * early[0] + part * late[0], (1 - part) * early[1] + part * late[1]

    @staticmethod
    def _one(spread: Spread, g: Array | float) -> tuple[Array, Array]:
        shift = spread.mean_shift(g)
        return shift, spread.sigma_about(g, np.asarray(g) + shift)

    def land(self, g: Array, rng: np.random.Generator, elapsed: float | None = None) -> Array:
        """Draw where cells with targets ``g`` (S) land, not below 0; absent cells (0 S) stay absent."""
        formed = g > 0
        if not formed.any():
            return np.zeros_like(g)
        draws = rng.standard_normal(g.shape)
        shift, sigma = self.at(np.where(formed, g, g.max()), elapsed)
        return ((g + shift + sigma * draws) * formed).clip(0.0)

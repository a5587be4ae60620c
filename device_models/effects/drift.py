"""Conductance that moves after programming: drift, relaxation, and how temperature speeds either up."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import model_validator

from device_models.figures import ElectronVolt, FigureList, Kelvin, NumberList, Second, Siemens, SiemensList

from .base import Array, Effect, RangeError

BOLTZMANN = 8.617333262e-5
"""Boltzmann constant in eV/K (exact in the SI of 2019)."""


class Drift(Effect):
    """G(t) = G (1 + t / t0)^-nu, with an exponent of its own in every device.

    Exponents are Gaussian, taken positive. Mean and standard deviation are ``a + b ln(g / g_reference)``
    within limits (Nandakumar et al., ICECS 2019, for phase-change memory).

    Attributes:
        exponent: a, b of the mean and, optionally, its lowest and highest value.
        exponent_sigma: the same for the standard deviation over devices.
        t0: time of the first reading.
        longest: time that the law was measured to; any if left out.
    """

    disturbs: ClassVar[Literal["conductance", "current"]] = "conductance"
    exponent: NumberList
    exponent_sigma: NumberList
    g_reference: Siemens
    t0: Second
    longest: Second | None = None

    @model_validator(mode="after")
    def _check(self) -> Drift:
        if not {len(self.exponent.value), len(self.exponent_sigma.value)} <= {2, 4}:
            raise ValueError("exponent and exponent_sigma are [a, b] or [a, b, lowest, highest]")
        if not (self.t0.value > 0 and self.g_reference.value > 0):
            raise ValueError("t0 and g_reference must be positive")
        return self

    def exponents(self, g: Array | float) -> tuple[Array, Array]:
        """Return mean and standard deviation of the exponent for conductances ``g`` in siemens, above 0."""
        x = np.log(self.within(g) / self.g_reference.value)
        return _limited(self.exponent, x), _limited(self.exponent_sigma, x).clip(0.0)

    def after(self, g: Array, elapsed: float, rng: np.random.Generator) -> Array:
        """Return conductances (S) ``elapsed`` seconds after those of ``g``; absent cells stay absent.

        Raises:
            RangeError: beyond ``longest``, or if a conductance is out of range.
        """
        _check_time(elapsed, self.longest, "drift")
        formed = g > 0
        draws = rng.standard_normal(g.shape)
        if not formed.any():
            return g
        mean, sigma = self.exponents(np.where(formed, g, g.max()))
        return np.where(formed, g * (1 + elapsed / self.t0.value) ** -np.abs(mean + sigma * draws), 0.0)


class Relaxation(Effect):
    """Additive change that goes with the logarithm of time, the same at all conductances.

    With L = ln(t / 1 s), the mean moves by ``mean * L`` and the standard deviation is
    ``sigma[0] + sigma[1] L`` (Falcone et al., CMO/HfOx ReRAM). The spread replaces none of programming's.

    Attributes:
        shortest, longest: times between which the law holds.
    """

    disturbs: ClassVar[Literal["conductance", "current"]] = "conductance"
    mean: Siemens
    sigma: SiemensList
    shortest: Second
    longest: Second

    @model_validator(mode="after")
    def _check(self) -> Relaxation:
        if len(self.sigma.value) != 2:
            raise ValueError("sigma is [at 1 s, per factor e of time]")
        if not 0 < self.shortest.value < self.longest.value:
            raise ValueError("shortest must be positive and below longest")
        return self

    def change(self, elapsed: float) -> tuple[float, float]:
        """Return mean and standard deviation in siemens of the change by ``elapsed`` seconds."""
        if elapsed < self.shortest.value and not self.extrapolate:
            raise RangeError(f"relaxation is known from {self.shortest.value:g} s on, not at {elapsed:g} s")
        _check_time(elapsed, None if self.extrapolate else self.longest, "relaxation")
        log_time = float(np.log(elapsed))
        return self.mean.value * log_time, max(self.sigma.value[0] + self.sigma.value[1] * log_time, 0.0)

    def after(self, g: Array, elapsed: float, rng: np.random.Generator) -> Array:
        """Return conductances (S) at ``elapsed`` seconds, not below 0; absent cells stay absent."""
        mean, sigma = self.change(elapsed)
        return np.where(g > 0, g + mean + sigma * rng.standard_normal(g.shape), 0.0).clip(0.0)


class Retention(Effect):
    """Arrhenius law: time at another temperature counts exp(Ea / k (1 / T_card - 1 / T)) as fast.

    Attributes:
        activation_energy: Ea.
        coldest, hottest: temperatures between which it was measured.
    """

    disturbs: ClassVar[Literal["conductance", "current"]] = "conductance"
    activation_energy: ElectronVolt
    coldest: Kelvin
    hottest: Kelvin

    def equivalent_time(self, elapsed: float, temperature: float, card_temperature: float) -> float:
        """Return the seconds at the card's temperature that do as much as ``elapsed`` at ``temperature`` (K).

        Raises:
            RangeError: if the temperature is outside what was measured and the card does not extrapolate.
        """
        low, high = self.coldest.value, self.hottest.value
        if temperature != card_temperature and not low <= temperature <= high and not self.extrapolate:
            raise RangeError(f"retention is known from {low:g} to {high:g} K, not at {temperature:g} K")
        rise = 1 / card_temperature - 1 / temperature
        return elapsed * float(np.exp(self.activation_energy.value / BOLTZMANN * rise))


def _limited(figures: FigureList, x: Array) -> Array:
    start, slope, *limits = figures.value
    law = start + slope * x
    return law.clip(limits[0], limits[1]) if limits else law


def _check_time(elapsed: float, longest: Second | None, what: str) -> None:
    if not 0 <= elapsed < float("inf"):
        raise ValueError(f"elapsed is {elapsed!r}: it must be a time in seconds, not negative")
    if longest is not None and elapsed > longest.value:
        raise RangeError(f"{what} was measured up to {longest.value:g} s, not {elapsed:g} s")

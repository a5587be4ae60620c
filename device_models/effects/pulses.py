"""What one pulse does: potentiation and depression, their asymmetry, saturation and spread."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from device_models.figures import Number, Siemens, SiemensList

from .base import Array, Effect
from .normal import normal_quantile


class SoftBounds(Effect):
    """Steps that shrink linearly towards the bound that they go to.

    Up: step_up (g_high - g) / (g_high - g_low); down: step_down (g - g_low) / (g_high - g_low) (soft-bounds
    device of Gokmen and Vlasov, Front. Neurosci. 10, 2016). A pulse makes its step times 1 plus a Gaussian.

    Attributes:
        between_cycles: standard deviation of that Gaussian.
        write_noise: standard deviation of what is read about the state, which gathers nothing.
    """

    disturbs: ClassVar[Literal["conductance", "current"]] = "conductance"
    form: Literal["soft-bounds"]
    step_up: Siemens
    step_down: Siemens
    g_low: Siemens
    g_high: Siemens
    between_cycles: Number
    write_noise: Siemens

    @model_validator(mode="after")
    def _check(self) -> SoftBounds:
        if not self.g_low.value < self.g_high.value:
            raise ValueError("g_low must be below g_high")
        if self.step_up.value < 0 or self.step_down.value < 0:
            raise ValueError("step_up and step_down are sizes, not negative")
        return self

    def step(self, g: Array, up: bool) -> Array:
        """Return the mean change in siemens that one pulse makes at ``g`` siemens."""
        low, high = self.g_low.value, self.g_high.value
        return (self.step_up.value * (high - g) if up else self.step_down.value * (low - g)) / (high - low)

    def pulse(self, g: Array, up: bool, rng: np.random.Generator) -> Array:
        """Return the states (S) after one pulse on each device."""
        spread = 1 + self.between_cycles.value * rng.standard_normal(np.shape(g))
        return (g + self.step(g, up) * spread).clip(self.g_low.value, self.g_high.value)


class QuantileTable(BaseModel):
    """Quantiles of the change that a pulse makes, at some conductances.

    Attributes:
        g: conductances before the pulse, rising.
        probability: of the quantiles, rising, above 0 and below 1.
        change: in siemens, one row for each probability and one column for each conductance.
        source: where the table comes from.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    g: tuple[float, ...] = Field(min_length=2, max_length=64)
    probability: tuple[float, ...] = Field(min_length=3, max_length=64)
    change: tuple[tuple[float, ...], ...]
    source: str = Field(min_length=3)
    unit: Literal["S"]

    @model_validator(mode="after")
    def _check(self) -> QuantileTable:
        if min(np.diff(self.g)) <= 0 or min(np.diff(self.probability)) <= 0:
            raise ValueError("g and probability must rise")
        if not 0 < self.probability[0] <= self.probability[-1] < 1:
            raise ValueError("probability must lie above 0 and below 1")
        if {len(row) for row in self.change} != {len(self.g)} or len(self.change) != len(self.probability):
            raise ValueError("change must have a row for each probability and a column for each g")
        if (np.diff(self.change, axis=0) < 0).any():
            raise ValueError("change must not fall from one probability to the next")
        return self

    def quantiles(self, g: Array) -> Array:
        """Return the quantiles (S) at conductances ``g``, ``[probabilities, ...]``; constant beyond."""
        return np.stack([np.interp(g, self.g, row) for row in self.change])


class PulseTable(Effect):
    """Changes drawn from measured quantiles, with no formula; Gaussian beyond the outermost quantiles."""

    disturbs: ClassVar[Literal["conductance", "current"]] = "conductance"
    form: Literal["table"]
    up: QuantileTable
    down: QuantileTable
    valid: SiemensList

    def change(self, g: Array, up: bool, probability: Array) -> Array:
        """Return the change in siemens that a fraction ``probability`` of pulses at ``g`` stays below."""
        table = self.up if up else self.down
        quantiles = table.quantiles(self.within(g))
        knots = normal_quantile(np.array(table.probability))
        score = normal_quantile(probability)
        piece = np.searchsorted(knots, score).clip(1, len(knots) - 1)
        left, right = (np.take_along_axis(quantiles, k[None], 0)[0] for k in (piece - 1, piece))
        return left + (right - left) * (score - knots[piece - 1]) / (knots[piece] - knots[piece - 1])

    def pulse(self, g: Array, up: bool, rng: np.random.Generator) -> Array:
        """Return the states (S) after one pulse on each device, kept within the range of validity."""
        u = rng.random(np.shape(g)).clip(1e-12, 1 - 1e-12)
        return (g + self.change(g, up, u)).clip(self.valid.value[0], self.valid.value[1])


PulseResponse = Annotated[SoftBounds | PulseTable, Field(discriminator="form")]

"""Program and verify: pulses until the conductance reads within a tolerance of its target."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import ClassVar, Literal

import numpy as np
from pydantic import model_validator

from device_models.figures import Number, Siemens

from .base import Array, Effect
from .normal import normal_quantile


@dataclass(frozen=True, eq=False)
class Written:
    """What writing cells left behind, arrays of one shape.

    Attributes:
        conductance: in siemens.
        pulses: how many each cell took; 0 for absent cells.
        failed: cells that had not passed after the last pulse.
    """

    conductance: Array
    pulses: np.ndarray
    failed: np.ndarray


class WriteVerify(Effect):
    """Each pulse lands Gaussian about the target, independent of the last; the first that passes stays.

    The pulses then follow a geometric law with p = P(|error| <= tolerance), cut at ``max_pulses``; a cell
    that fails keeps its last conductance. These are drawn directly, without going through the pulses.

    Attributes:
        tolerance: largest error that passes.
        pulse_sigma: standard deviation of the error that one pulse leaves.
        max_pulses: after which a cell counts as failed.
    """

    disturbs: ClassVar[Literal["conductance", "current"]] = "conductance"
    tolerance: Siemens
    pulse_sigma: Siemens
    max_pulses: Number

    @model_validator(mode="after")
    def _check(self) -> WriteVerify:
        if not (self.tolerance.value > 0 and self.pulse_sigma.value > 0):
            raise ValueError("tolerance and pulse_sigma must be positive")
        if self.max_pulses.value != int(self.max_pulses.value) or not 1 <= self.max_pulses.value <= 1e6:
            raise ValueError("max_pulses must be a whole number from 1 to 1000000")
        return self

    @property
    def pass_probability(self) -> float:
        """Probability that one pulse passes."""
        return 1 - 2 * self._tail

    @property
    def _tail(self) -> float:
        return NormalDist().cdf(-self.tolerance.value / self.pulse_sigma.value)

    def write(self, g: Array, rng: np.random.Generator) -> Written:
        """Draw the outcome for targets ``g`` in siemens, any shape; absent cells (0 S) are not written."""
        formed = g > 0
        self.within(g[formed])
        pass_draw, side = rng.random(g.shape), rng.random(g.shape)
        tail = self._tail
        with np.errstate(divide="ignore"):
            pulses = np.maximum(np.ceil(np.log(1 - pass_draw) / np.log(2 * tail)), 1.0)
        failed = (pulses > self.max_pulses.value) & formed
        passed_at = tail + (1 - 2 * tail) * side
        failed_at = np.where(side < 0.5, 2 * tail * side, 1 - 2 * tail * (1 - side))
        quantile = np.where(failed, failed_at, passed_at)
        error = normal_quantile(quantile) * self.pulse_sigma.value
        landed = np.where(formed, g + error, 0.0).clip(0.0)
        counted = np.where(formed, np.minimum(pulses, self.max_pulses.value), 0).astype(np.int64)
        return Written(landed, counted, failed)

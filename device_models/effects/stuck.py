"""Cells that hold one conductance whatever is written, and yield."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import model_validator

from device_models.figures import Number, Siemens

from .base import Array, Effect


class Stuck(Effect):
    """Formed cells that are stuck at a low (off) or high (on) conductance, independently of each other.

    Attributes:
        off: fraction of the cells that are stuck off.
        on: fraction that are stuck on.
        g_off: conductance of a cell that is stuck off.
        g_on: conductance of a cell that is stuck on.
    """

    disturbs: ClassVar[Literal["conductance", "current"]] = "conductance"
    off: Number
    on: Number
    g_off: Siemens
    g_on: Siemens

    @model_validator(mode="after")
    def _check(self) -> Stuck:
        if self.off.value < 0 or self.on.value < 0 or self.off.value + self.on.value > 1:
            raise ValueError("off and on must be fractions that add up to at most 1")
        if not 0 <= self.g_off.value <= self.g_on.value:
            raise ValueError("g_off must not be negative nor above g_on")
        return self

    @property
    def cell_yield(self) -> float:
        """Fraction of cells that can be written."""
        return 1 - self.off.value - self.on.value

    def state(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Draw which cells are stuck: int8, -1 off, 1 on, 0 neither."""
        u = rng.random(shape)
        return (u > 1 - self.on.value).astype(np.int8) - (u < self.off.value).astype(np.int8)

    def hold(self, g: Array, rng: np.random.Generator) -> Array:
        """Return conductances (S) with the stuck cells among the formed ones at theirs."""
        state = self.state(g.shape, rng) * (g > 0)
        return np.where(state < 0, self.g_off.value, np.where(state > 0, self.g_on.value, g))

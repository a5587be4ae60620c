"""Variation between wafers, arrays, devices and cycles that no verify takes away."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import model_validator

from device_models.figures import Number

from .base import Array, Effect


class Variation(Effect):
    """Spread of conductance around its target: of a wafer, an array, a device, and new in every cycle.

    Log-normal (g times exp of a Gaussian, as in FORMS, ISCA 2021) or normal (g times 1 plus a Gaussian). The
    Gaussian is the sum of three independent ones with the standard deviations below. Neighbouring devices
    of an array may be alike: the correlation of two of them is exp(-d / correlation_length), with d the
    rows plus the columns between them.

    This is on top of ``programming_error``: what was measured over many devices is in there already.

    Attributes:
        between_arrays: relative standard deviation from array to array.
        between_devices: from device to device of one array.
        between_cycles: from one write of a device to the next.
        correlation_length: in cells; 0 is independent devices.
        between_wafers: from wafer to wafer; an instance with all its arrays is on one; None is not known.
    """

    disturbs: ClassVar[Literal["conductance", "current"]] = "conductance"
    form: Literal["log-normal", "normal"] = "log-normal"
    between_arrays: Number
    between_devices: Number
    between_cycles: Number
    correlation_length: Number | None = None
    between_wafers: Number | None = None

    @model_validator(mode="after")
    def _check(self) -> Variation:
        for name in ("between_wafers", "between_arrays", "between_devices", "between_cycles"):
            figure = getattr(self, name)
            if figure is not None and not 0 <= figure.value < 3:
                raise ValueError(f"{name} must lie between 0 and 3")
        if self.correlation_length is not None and not 0 <= self.correlation_length.value <= 1e4:
            raise ValueError("correlation_length must lie between 0 and 10000 cells")
        return self

    def factors(
        self,
        shape: tuple[int, ...],
        devices: np.random.Generator,
        cycles: np.random.Generator,
        wafer: np.random.Generator,
    ) -> Array:
        """Draw the factors on the conductances of arrays ``[..., rows, cols]`` of one wafer.

        Args:
            shape: of the arrays; all leading dimensions count arrays.
            devices: what arrays and devices are drawn from: the same gives the same arrays and devices.
            cycles: what this write is drawn from.
            wafer: what the wafer is drawn from: the same for all arrays that are on it.
        """
        arrays = devices.standard_normal((*shape[:-2], 1, 1))
        own = _correlated(devices.standard_normal(shape), self.correlation_length)
        total = self.between_arrays.value * arrays + self.between_devices.value * own
        total = total + self.between_cycles.value * cycles.standard_normal(shape)
        if self.between_wafers is not None:
            total = total + self.between_wafers.value * wafer.standard_normal()
        return np.exp(total) if self.form == "log-normal" else (1 + total).clip(0.0)


def _correlated(draws: Array, length: Number | None) -> Array:
    """Give neighbours exp(-d / length) of correlation: a first-order recursion along rows and columns."""
    if length is None or length.value == 0:
        return draws
    keep = np.exp(-1 / length.value)
    fresh = np.sqrt(1 - keep**2)
    for axis in (-1, -2):
        lines = np.moveaxis(draws, axis, 0).copy()
        for k in range(1, len(lines)):
            lines[k] = keep * lines[k - 1] + fresh * lines[k]
        draws = np.moveaxis(lines, 0, axis)
    return draws

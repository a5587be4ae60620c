"""One part of each kind for hwloop. The laws and figures are invented: they show how a part is written."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from device_models.converters import AdcDescription, Transfer, uniform
from device_models.effects import Array, CellEffect
from device_models.figures import Number
from hwloop.bench import TileBoard
from hwloop.pruning import Method, Shape
from hwloop.recipe import Keep, Prune
from hwloop.training.strategies import Outcome, Task


class Ageing(CellEffect):
    """Cells lose a share of their conductance, each its own: ``[effects.ageing]`` of a card.

    Attributes:
        loss: mean share.
        spread: its standard deviation from cell to cell.
    """

    loss: Number
    spread: Number

    def disturb(self, g: Array, elapsed: float | None, rng: np.random.Generator) -> Array:  # noqa: ARG002
        """Return what is left of conductances ``g`` (S)."""
        lost = self.loss.value + self.spread.value * rng.standard_normal(g.shape)
        return np.asarray(g * (1 - lost.clip(0.0, 1.0)), dtype=np.float64)


class BowedAdc(AdcDescription):
    """An ADC whose curve is bowed: ``adc = {kind = "bowed", bow = 0.5}`` in a recipe."""

    kind: Literal["bowed"] = "bowed"
    bow: float = Field(0.0, ge=0, le=8, description="at mid-scale, LSB")

    def build(self, bits: int, adcs: int, seed: int, *names: str | int) -> Transfer:  # noqa: ARG002
        """Return the bank; nothing is drawn."""
        thresholds = uniform(bits, adcs).thresholds
        place = thresholds / 2**bits
        return Transfer((thresholds + 4 * self.bow * place * (1 - place)).cummax(1).values)


class WholeRowsParameters(BaseModel):
    """``[prune.parameters]`` of :data:`WHOLE_ROWS`."""

    model_config = ConfigDict(extra="forbid")
    least: int = Field(1, ge=1, description="rows that every layer keeps")


def _rows(share: float, shape: Shape, choice: Prune) -> Keep:
    least = WholeRowsParameters.model_validate(choice.parameters).least
    return Keep(rows=min(shape.rows, max(least, math.ceil(share * shape.rows))))


WHOLE_ROWS = Method("whole rows by ADMM", "admm", _rows, parameters=WholeRowsParameters)
"""Pruning: ``method = "whole-rows"``."""


class StretchParameters(BaseModel):
    """``[retrain.parameters]`` of :func:`stretch`."""

    model_config = ConfigDict(extra="forbid")
    by: float = Field(1.05, gt=0)


def stretch(task: Task) -> Outcome:
    """Retraining that trains nothing: what every layer reads is multiplied with one factor."""
    by = StretchParameters.model_validate(task.choice.parameters).by
    layers = {
        name: replace(layer, weight_per_siemens=layer.weight_per_siemens * by)
        for name, layer in task.conductance_map.layers.items()
    }
    return Outcome(replace(task.conductance_map, layers=layers))


stretch.parameters = StretchParameters  # type: ignore[attr-defined]


class MeanOfReads(TileBoard):
    """A driver that reads every vector twice and takes the mean: ``--driver tile-mean``."""

    name = "tile-mean"

    def read(self, array: int, codes: np.ndarray, bits: int, full_scale: float, first: int) -> np.ndarray:
        """See :class:`hwloop.bench.Driver`."""
        twice = super().read(array, np.repeat(codes, 2, axis=0), bits, full_scale, 2 * first)
        return torch.from_numpy(twice).unflatten(0, (-1, 2)).mean(1).numpy()

"""What a fit hands on: the section of the card, and what a reader needs to judge it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from device_models.effects import Effect
from device_models.figures import Figure

from .measurement import Array

NOMINAL = (0.5, 0.68, 0.9, 0.95)
"""Levels at which predicted intervals are held against held-out data."""


@dataclass(frozen=True)
class Fitted:
    """One parameter with its 95 % confidence interval."""

    name: str
    value: float
    low: float
    high: float
    unit: str


@dataclass(frozen=True, eq=False)
class Fit:
    """One effect, fitted.

    Attributes:
        section: field of the device card.
        effect: its value there.
        parameters: what was fitted.
        source: where the data come from.
        samples: readings that the fit used.
        rejected: readings found to be outliers and left out, or weighed next to nothing.
        scores: readings as standard normal scores of what was predicted; None if not done.
        likelihood: mean log density of held-out readings under each model that was tried, the chosen first.
        notes: what the data do not tell.
        curve: for the page: data x, y, and model x, middle, low, high; axis names.
        held_out: whether the scores are those of readings that the fit had not seen.
    """

    section: str
    effect: Effect | Figure
    parameters: tuple[Fitted, ...]
    source: str
    samples: int
    rejected: int = 0
    scores: Array | None = None
    likelihood: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    curve: Curve | None = None
    held_out: bool = True

    def coverage(self) -> dict[float, float]:
        """Fraction of readings within the predicted interval of each nominal level."""
        from statistics import NormalDist

        if self.scores is None:
            return {}
        return {p: float((abs(self.scores) <= NormalDist().inv_cdf((1 + p) / 2)).mean()) for p in NOMINAL}


@dataclass(frozen=True, eq=False)
class Curve:
    """Data against model for one figure of the page."""

    x_name: str
    y_name: str
    x: Array
    y: Array
    model_x: Array
    middle: Array
    low: Array
    high: Array


def figure(value: float, unit: str, source: str, error: float | None = None) -> dict[str, object]:
    """Return a figure of a card as its validator takes it."""
    return {"value": value, "unit": unit, "source": source, "standard_error": error}

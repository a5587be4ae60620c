"""Finding the cells and readings that do not belong: before a fit, and reported, not averaged in."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from .measurement import Array, Measurement, MeasurementError

MAD = 1 / NormalDist().inv_cdf(0.75)
"""Standard deviation of a Gaussian over its median absolute deviation."""


def robust_scores(values: Array) -> Array:
    """Return distances from the median, in robust standard deviations."""
    centre = np.median(values)
    spread = MAD * np.median(np.abs(values - centre))
    return (values - centre) / (spread if spread > 0 else np.inf)


def stuck_devices(table: Measurement) -> tuple[np.ndarray, np.ndarray]:
    """Find devices of a table of levels that do not follow their targets.

    A device is stuck if its conductances, but the eighth of them (one at least) farthest from their median,
    span less than a third of what its targets span. It can be told if it has three readings or more, over
    targets that differ by a factor of 1.5 at least.

    Returns:
        State of each device (int8, -1 stuck below, 1 stuck above the median target, 0 neither), and which
        devices could be told.
    """
    states, told = [], []
    middle = float(np.median(table["target"]))
    for rows in table.by_device():
        target, g = table["target"][rows], table["conductance"][rows]
        told.append(len(rows) >= 3 and bool(target.max() > 1.5 * target.min()))
        stuck = False
        if told[-1]:
            nearest = np.argsort(np.abs(g - np.median(g)))[: len(g) - max(len(g) // 8, 1)]
            stuck = bool(np.ptp(g[nearest]) < np.ptp(target) / 3)
        states.append((1 if np.median(g) > middle else -1) if stuck else 0)
    return np.array(states, dtype=np.int8), np.array(told)


def need(count: int, least: int, table: Measurement, what: str) -> None:
    """Raise unless there are enough points for a fit."""
    if count < least:
        raise MeasurementError(f"{table.source}: {count} {what} are too few for a fit; give at least {least}")

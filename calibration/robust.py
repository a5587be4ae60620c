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

    A device is stuck if the median slope of its conductance over its targets is below a third, over targets
    that differ by a factor of 1.5 at least; a device with fewer than three such readings cannot be told.

    Returns:
        State of each device (int8, -1 stuck below, 1 stuck above the median target, 0 neither), and which
        devices could be told.
    """
    states, told = [], []
    middle = float(np.median(table["target"]))
    for rows in table.by_device():
        target, g = table["target"][rows], table["conductance"][rows]
        first, second = np.triu_indices(min(len(rows), 60), 1)
        apart = np.abs(target[first] - target[second]) > target.max() / 3
        told.append(int(apart.sum()) >= 2)
        stuck = False
        if told[-1]:
            slopes = (g[first] - g[second])[apart] / (target[first] - target[second])[apart]
            stuck = abs(float(np.median(slopes))) < 1 / 3
        states.append((1 if np.median(g) > middle else -1) if stuck else 0)
    return np.array(states, dtype=np.int8), np.array(told)


def need(count: int, least: int, table: Measurement, what: str) -> None:
    """Raise unless there are enough points for a fit."""
    if count < least:
        raise MeasurementError(f"{table.source}: {count} {what} are too few for a fit; give at least {least}")

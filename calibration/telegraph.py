"""Random telegraph noise from traces: a hidden Markov chain of two states."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba import njit
from scipy.optimize import minimize
from scipy.stats import chi2, norm

from device_models.effects import TelegraphNoise

from .measurement import Array, Measurement
from .result import Fit, Fitted, figure
from .robust import MAD
from .traces import relative_trace


def fit_telegraph(table: Measurement) -> tuple[Fit | None, list[int], Fitted]:
    """Look for two states in each trace: a hidden Markov chain with Gaussian readings.

    A trace jumps if two states gain more than the Bayesian information criterion asks for their three
    further figures, with states at least two standard deviations apart.

    Returns:
        The fit, None if no trace jumps; the devices that do; the white noise about their states.
    """
    found, traces, period = {}, 0, 1.0
    for device, rows in enumerate(table.by_device()):
        relative, _, period = relative_trace(table, rows, clean=False)
        traces += 1
        single = _one_state(relative)
        chain = _two_states(relative)
        if chain[0] - single > 1.5 * math.log(len(relative)) + 3 and chain[1][0] > 2 * chain[1][1]:
            found[device] = chain
    if not found:
        return None, [], Fitted("white", 0.0, 0.0, 0.0, "1")
    whites = np.array([c[1][1] for c in found.values()])
    near = 1.96 * float(whites.mean()) / math.sqrt(2 * len(table))
    white = Fitted(
        "white", float(whites.mean()), float(whites.mean()) - near, float(whites.mean()) + near, "1"
    )
    source = f"{table.source}: {len(found)} of {traces} traces jump"
    pooled = _pool([c[1] for c in found.values()], [c[2] for c in found.values()], period)
    fields = {
        "fraction": figure(len(found) / traces, "1", source),
        "amplitude": figure(pooled[0].value, "1", source, standard_error(pooled[0])),
        "time_high": figure(pooled[1].value, "s", source, standard_error(pooled[1])),
        "time_low": figure(pooled[2].value, "s", source, standard_error(pooled[2])),
    }
    effect = TelegraphNoise.model_validate(fields)
    return Fit("telegraph_noise", effect, tuple(pooled), source, len(table)), list(found), white


@njit(cache=True)
def _forward(
    y: Array, low: float, high: float, sigma: float, down: float, up: float, flat: float, share: float
) -> float:
    """Log likelihood of readings: the chain jumps down with ``down`` and up with ``up`` per reading.

    A ``share`` of the readings are outliers, of density ``flat``.
    """
    scale, gross = (1 - share) / (sigma * 2.5066282746310002), share * flat
    in_low, total = down / (down + up), 0.0
    for value in y:
        one = in_low * (scale * np.exp(-0.5 * ((value - low) / sigma) ** 2) + gross)
        other = (1 - in_low) * (scale * np.exp(-0.5 * ((value - high) / sigma) ** 2) + gross)
        density = one + other
        total += np.log(density)
        in_low = one / density
        in_low = in_low * (1 - up) + (1 - in_low) * down
    return total


def _one_state(y: Array) -> float:
    """Log likelihood of readings that stay in one state, with the same share of outliers."""
    flat, sigma = 1 / float(np.ptp(y)), MAD * float(np.median(np.abs(y - np.median(y))))
    inside = np.abs(y - np.median(y)) < 5 * sigma
    core = norm.pdf(y, y[inside].mean(), y[inside].std())
    share = _gross(y)
    return float(np.log((1 - share) * core + share * flat).sum())


def _gross(y: Array) -> float:
    """Share of readings far from where nearly all are; a little, so that one does not break a fit."""
    low, middle, high = np.quantile(y, [0.1, 0.5, 0.9])
    return max(float((np.abs(y - middle) > 2.5 * (high - low)).mean()), 1e-5)


def _two_states(y: Array) -> tuple[float, Array, Array]:
    """Log likelihood, [amplitude, sigma, down, up] and the covariance of the latter's logarithms (logit)."""
    low, high = np.quantile(y, [0.1, 0.9])
    gap = max(high - low, 1e-12)
    flat, share = 1 / float(np.ptp(y)), _gross(y)

    def cost(x: Array) -> float:
        down, up = 1 / (1 + np.exp(-x[3])), 1 / (1 + np.exp(-x[4]))
        amplitude, sigma = math.exp(min(x[1], 50)), math.exp(min(x[2], 50))
        return -_forward(y, x[0] * gap - amplitude, x[0] * gap, sigma, down, up, flat, share)

    tries = []
    for chance in (0.02, 0.2):
        logit = math.log(chance / (1 - chance))
        start = np.array([high / gap, math.log(gap), math.log(0.25 * gap), logit, logit])
        found = minimize(
            cost, start, method="Nelder-Mead", options={"maxiter": 3000, "xatol": 1e-5, "fatol": 1e-6}
        )
        tries.append(found)
    best = min(tries, key=lambda found: found.fun)
    x = best.x
    hessian = _second_differences(cost, x)
    covariance = np.linalg.pinv(hessian, hermitian=True)
    down, up = 1 / (1 + np.exp(-x[3])), 1 / (1 + np.exp(-x[4]))
    # Relative to the upper state, not to the median.
    return (
        -best.fun,
        np.array([math.exp(x[1]) / (1 + x[0] * gap), math.exp(x[2]), down, up]),
        covariance[1:, 1:],
    )


def _second_differences(cost, x: Array, h: float = 1e-3) -> Array:  # type: ignore[no-untyped-def]
    size = len(x)
    hessian = np.empty((size, size))
    steps = np.eye(size) * h
    for i in range(size):
        for j in range(i + 1):
            total = cost(x + steps[i] + steps[j]) - cost(x + steps[i] - steps[j])
            total += cost(x - steps[i] - steps[j]) - cost(x - steps[i] + steps[j])
            hessian[i, j] = hessian[j, i] = total / (4 * h * h)
    return hessian


def _pool(values: Sequence[Array], covariances: Sequence[Array], period: float) -> list[Fitted]:
    """Average over traces, weighed by their information, of amplitude, time_high and time_low.

    Traces that differ by more than their errors (beyond the 95 % point of chi squared) widen the interval.
    To widen it by every scatter above its mean would make it too wide: half of all sets have one by chance.
    """
    pooled = []
    for name, unit, k in (("amplitude", "1", 0), ("time_high", "s", 2), ("time_low", "s", 3)):
        logs, weights = [], []
        for value, covariance in zip(values, covariances, strict=True):
            slope = 1.0
            log = math.log(value[k])
            if k:
                rest = value[2] + value[3]
                # Chances per reading are those of a continuous process seen once a period.
                rate = -math.log(max(1 - rest, 1e-9)) / period
                log = -math.log(rate * value[k] / rest)
                slope = 1 - value[k]
            logs.append(log)
            weights.append(1 / max(slope**2 * covariance[k, k], 1e-12))
        mean, error = np.average(logs, weights=weights), 1 / math.sqrt(sum(weights))
        scatter = float(np.sum(np.array(weights) * (np.array(logs) - mean) ** 2))
        if len(logs) > 2 and scatter > chi2.ppf(0.95, len(logs) - 1):
            error *= math.sqrt(scatter / (len(logs) - 1))
        pooled.append(
            Fitted(name, math.exp(mean), math.exp(mean - 1.96 * error), math.exp(mean + 1.96 * error), unit)
        )
    return pooled


def standard_error(fitted: Fitted) -> float:
    """Return the standard error that a 95 % interval stands for."""
    return (fitted.high - fitted.low) / 3.92

"""Programming error from measured levels: mean shift and spread over the target, and stuck cells."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.stats import beta, norm

from device_models.effects import ProgrammingError, Stuck

from .likelihood import FLAT, Estimate, Parameter, contaminated, log_normal_density, maximize, outliers
from .measurement import Array, Measurement
from .result import Curve, Fit, Fitted, figure
from .robust import MAD, need, stuck_devices

FOLDS = 5
DEGREES = (0, 1, 2, 3, 4)
_FLOOR = 1e-3  # of the typical spread: keeps a polynomial that dips below zero in bounds


def fit_programming_error(table: Measurement, degree: int | None = None, *, held_out: bool = True) -> Fit:
    """Fit sigma(g) as a polynomial, with a straight line for the shift of the mean, robust to outliers.

    The likelihood is a Gaussian of that mean and spread with a share of flat outliers; stuck devices, where
    they can be told, are left out before. The polynomial is fitted by its logarithms at its Chebyshev nodes.

    Args:
        table: of kind levels; cells with target 0 are not looked at.
        degree: of the polynomial; chosen by held-out likelihood (whole devices held out) if left out.

        held_out: predict readings from fits to the others; False saves the time where ``degree`` is given.

    Raises:
        MeasurementError: if there are fewer than 30 readings, or the fit does not converge.
    """
    states, _ = stuck_devices(table)
    use = (table["target"] > 0) & (states[table.device] == 0)
    target, error = table["target"][use], (table["conductance"] - table["target"])[use]
    need(len(target), 30, table, "readings of cells that are not stuck")
    reference = float(target.max())
    levels = len(np.unique(target))
    candidates = [d for d in (DEGREES if degree is None else (degree,)) if d < levels]
    folds = _folds(table.device[use])
    tried = {}
    if held_out or degree is None:
        tried = {
            d: [_held_out(target, error, d, reference, folds, k) for k in range(FOLDS)] for d in candidates
        }
    likelihood = {d: float(np.mean(np.concatenate([f[0] for f in tried[d]]))) for d in tried}
    chosen = _simplest(tried, likelihood) if tried else candidates[0]
    estimate, share_log = _fit(target, error, chosen, reference)
    coefficients, covariance = _coefficients(estimate, chosen, target, reference)
    core = _log_core(target, error, estimate.value, chosen, reference)
    bad = outliers(core, share_log, estimate["outliers"])
    source = f"{table.source}: {len(target)} readings"
    g_list = {"unit": "S", "source": source}
    k = [i for i, n in enumerate(estimate.names) if n.startswith("shift")]
    shift = estimate.value[k].tolist()
    effect = ProgrammingError.model_validate(
        {
            "coefficients": {"value": coefficients, "covariance": covariance, **g_list},
            "g_reference": figure(reference, "S", "largest target measured"),
            "shift": {"value": shift, "covariance": estimate.covariance[np.ix_(k, k)].tolist(), **g_list},
            "valid": {"value": [float(target.min()), reference], **g_list},
            "temperature": figure(table.temperature, "K", source),
        }
    )
    fitted = [Fitted(n, estimate[n], *estimate.interval(n), "S") for n in estimate.names if n != "outliers"]
    x = np.linspace(target.min(), reference, 60)
    mean, sigma = effect.mean_shift(x), effect.sigma(x)
    rejected = int(bad.sum() + (~use & (table["target"] > 0)).sum())
    return Fit(
        "programming_error",
        effect,
        tuple(fitted),
        source,
        len(target),
        rejected,
        np.concatenate([f[1] for f in tried[chosen]]) if tried else None,
        {_name(d): likelihood[d] for d in sorted(tried, key=lambda d: d != chosen)},
        (),
        Curve("target (S)", "error (S)", target, error, x, mean, mean - 1.96 * sigma, mean + 1.96 * sigma),
    )


def fit_stuck(table: Measurement) -> Fit | None:
    """Count the devices that do not follow their targets; None if no device can be told.

    Intervals are Jeffreys' (Brown, Cai and DasGupta, Statist. Sci. 16, 2001).
    """
    states, told = stuck_devices(table)
    count = int(told.sum())
    if count < 30:
        return None
    median = np.array([np.median(table["conductance"][rows]) for rows in table.by_device()])
    source = f"{table.source}: {count} devices at several targets"
    fields, fitted = {}, []
    for name, state, default in (("off", -1, 0.0), ("on", 1, float(table["target"].max()))):
        found = int((states[told] == state).sum())
        low, high = (float(v) for v in beta.ppf([0.025, 0.975], found + 0.5, count - found + 0.5))
        fitted.append(Fitted(name, found / count, low if found else 0.0, high if found < count else 1.0, "1"))
        error = math.sqrt(float(beta.var(found + 0.5, count - found + 0.5)))
        fields[name] = figure(found / count, "1", source, error)
        held = float(np.median(median[states == state])) if found else default
        fields[f"g_{name}"] = figure(max(held, 0.0), "S", source if found else "no device stuck there")
    return Fit("stuck", Stuck.model_validate(fields), tuple(fitted), source, count)


def _name(degree: int) -> str:
    return ("constant", "linear", "quadratic", "cubic", "quartic")[degree] + " spread"


def _nodes(target: Array, degree: int, reference: float) -> Array:
    low, high = target.min() / reference, 1.0
    if degree == 0:
        return np.array([1.0])
    return (low + high) / 2 - (high - low) / 2 * np.cos(np.pi * np.arange(degree + 1) / degree)


def _fit(target: Array, error: Array, degree: int, reference: float) -> tuple[Estimate, float]:
    """Return the estimate and the log density of outliers."""
    nodes = _nodes(target, degree, reference)
    typical = MAD * float(np.median(np.abs(error - np.median(error)))) or 1e-3 * reference
    # A start that knows the shape: the spread near each node.
    width = 0.6 * (1.0 if degree == 0 else float(np.diff(nodes).max()))
    starts = []
    for node in nodes:
        near = np.abs(target / reference - node) <= width
        spread = MAD * float(np.median(np.abs(error[near]))) if near.sum() > 5 else typical
        starts.append(min(max(spread, 0.2 * typical), 5 * typical))
    names = [Parameter(f"sigma_{k}", s) for k, s in enumerate(starts)]
    tilts = 2 if np.ptp(target) > 0 else 1
    names += [Parameter(f"shift_{k}", 0.0, positive=False, scale=typical) for k in range(tilts)]
    names.append(Parameter("outliers", 0.02))
    flat = -math.log(float(np.ptp(error)) + FLAT * typical)
    inverse = torch.from_numpy(np.linalg.inv(np.vander(nodes, degree + 1, increasing=True)))
    x, e = torch.from_numpy(target / reference), torch.from_numpy(error)
    powers = torch.stack([x**k for k in range(degree + 1)], 1) @ inverse

    def density(p: torch.Tensor) -> torch.Tensor:
        sigma = _smooth_floor(powers @ p[: degree + 1], _FLOOR * typical)
        tilt = p[degree + 2] * x if tilts == 2 else 0.0
        core = log_normal_density(e - p[degree + 1] - tilt, sigma)
        return contaminated(core, flat, p[-1].clamp(1e-12, 0.5))

    return maximize(density, names), flat


def _smooth_floor(sigma: torch.Tensor, floor: float) -> torch.Tensor:
    return 0.5 * (sigma + torch.sqrt(sigma**2 + 4 * floor**2))


def _coefficients(
    estimate: Estimate, degree: int, target: Array, reference: float
) -> tuple[list[float], list[list[float]]]:
    inverse = np.linalg.inv(np.vander(_nodes(target, degree, reference), degree + 1, increasing=True))
    part = estimate.covariance[: degree + 1, : degree + 1]
    covariance = inverse @ part @ inverse.T
    return (inverse @ estimate.value[: degree + 1]).tolist(), ((covariance + covariance.T) / 2).tolist()


def _log_core(target: Array, error: Array, p: Array, degree: int, reference: float) -> Array:
    mean, sigma = _mean_sigma(target, p, degree, reference, target)
    return norm.logpdf(error, mean, sigma)


def _mean_sigma(target: Array, p: Array, degree: int, reference: float, train: Array) -> tuple[Array, Array]:
    nodes = _nodes(train, degree, reference)
    powers = np.vander(target / reference, degree + 1, increasing=True)
    sigma = powers @ np.linalg.inv(np.vander(nodes, degree + 1, increasing=True)) @ p[: degree + 1]
    floor = _FLOOR * float(np.median(np.abs(sigma)))
    # p ends with the share of outliers; before it stand one or two figures of the shift.
    shift = np.polynomial.polynomial.polyval(target / reference, p[degree + 1 : -1])
    return shift, np.maximum(sigma, floor)


def _folds(device: np.ndarray) -> np.ndarray:
    """Fold of each reading: whole devices where there are many, single readings where there are not."""
    if device.max() + 1 >= 2 * FOLDS:
        return np.random.default_rng(0).permutation(int(device.max()) + 1)[device] % FOLDS
    return np.random.default_rng(0).permutation(len(device)) % FOLDS


def _held_out(
    target: Array, error: Array, degree: int, reference: float, folds: np.ndarray, fold: int
) -> tuple[Array, Array]:
    """Log density and normal score of the readings of a fold, by the fit to all others."""
    train, test = folds != fold, folds == fold
    estimate, flat = _fit(target[train], error[train], degree, reference)
    mean, sigma = _mean_sigma(target[test], estimate.value, degree, reference, target[train])
    share = estimate["outliers"]
    core = norm.logpdf(error[test], mean, sigma)
    return np.logaddexp(np.log1p(-share) + core, np.log(share) + flat), (error[test] - mean) / sigma


def _simplest(tried: dict[int, list[tuple[Array, Array]]], likelihood: dict[int, float]) -> int:
    """The lowest degree within one standard error of the best."""
    best = max(likelihood, key=lambda d: likelihood[d])
    of_best = np.concatenate([f[0] for f in tried[best]])
    for degree in sorted(tried):
        gain = of_best - np.concatenate([f[0] for f in tried[degree]])
        if gain.mean() <= gain.std() / math.sqrt(len(gain)):
            return degree
    return best

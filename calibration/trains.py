"""Pulse trains: states after pulse upon pulse, read through write noise that is larger than a step.

The state is hidden: x' = x + step(x) + walk, with soft-bounds steps; what is read is x plus a disturbance
that fades (first-order autoregressive) plus white noise. One Kalman filter predicts each reading from those
before; its likelihood is maximized. Kalman, J. Basic Eng. 82 (1960).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.optimize import minimize
from scipy.stats import norm

from device_models.effects import SoftBounds

from .measurement import Array, Measurement
from .result import Curve, Fit, Fitted, figure
from .robust import MAD, need

PLAIN = {"walk": 0.0, "fading": 0.0, "memory": 0.0}
"""What a soft-bounds device with white write noise does not have."""

NAMES = (
    "step_up",
    "step_down",
    "bound_low",
    "bound_high",
    "between_cycles",
    "walk",
    "write_noise",
    "fading",
    "memory",
)
BLOCK = 50
"""Pulses of a block that is held out whole."""


@dataclass(frozen=True, eq=False)
class Train:
    """States after consecutive pulses, and whether each pulse was up."""

    up: np.ndarray
    state: Array


@dataclass(frozen=True, eq=False)
class TrainFit:
    """A fitted train.

    Attributes:
        value: parameters by name, in the unit of the states.
        free: those that were fitted.
        covariance: of their logarithms; of the bounds, in units of ``span``.
        log_likelihood: of the one-step predictions, summed.
        span: of the states.
    """

    value: dict[str, float]
    free: tuple[str, ...]
    covariance: Array
    log_likelihood: float
    span: float

    def interval(self, name: str) -> tuple[float, float]:
        """95 % interval of a parameter that was fitted."""
        k = self.free.index(name)
        width = 1.96 * math.sqrt(max(self.covariance[k, k], 0.0))
        value = self.value[name]
        if name.startswith("bound"):
            return value - width * self.span, value + width * self.span
        factor = math.exp(min(width, 50.0))
        return value / factor, value * factor

    def predict(self, train: Train) -> tuple[Array, Array]:
        """Return mean and standard deviation of each state, predicted from those before."""
        mean, sigma = np.empty(len(train.state)), np.empty(len(train.state))
        _filter(train.state, train.up, np.array([self.value[n] for n in NAMES]), mean, sigma)
        return mean, sigma


@njit(cache=True)
def _filter(y: Array, up: np.ndarray, p: Array, mean: Array, sigma: Array) -> None:
    """Predictions of a train; p in the order of NAMES. The hidden pair is (state, fading disturbance)."""
    reach = p[3] - p[2]
    x, d = y[0], 0.0
    vx, vd, cxd = p[6] ** 2 + p[7] ** 2, p[7] ** 2 / max(1 - p[8] ** 2, 1e-6), 0.0
    mean[0], sigma[0] = y[0], np.sqrt(vx + p[6] ** 2 + vd)
    for k in range(1, len(y)):
        if up[k]:
            step, slope = p[0] * (p[3] - x) / reach, -p[0] / reach
        else:
            step, slope = p[1] * (p[2] - x) / reach, -p[1] / reach
        x += step
        d *= p[8]
        keep = 1 + slope
        vx = keep * keep * vx + (p[4] * step) ** 2 + p[5] ** 2
        vd = p[8] * p[8] * vd + p[7] ** 2
        cxd *= keep * p[8]
        total = vx + vd + 2 * cxd + p[6] ** 2
        mean[k], sigma[k] = x + d, np.sqrt(total)
        gx, gd = (vx + cxd) / total, (vd + cxd) / total
        error = y[k] - x - d
        # A reading far off moves the state no further than one that is four deviations off.
        limit = 4 * sigma[k]
        error = min(max(error, -limit), limit)
        x += gx * error
        d += gd * error
        ax, ad = vx + cxd, vd + cxd
        vx, vd, cxd = vx - gx * ax, vd - gd * ad, cxd - gx * ad


def fit_pulse_train(table: Measurement) -> Fit:
    """Fit soft bounds with spread between cycles and write noise to pulse trains.

    Blocks of pulses are held out in turn: each is predicted from the readings before it. The model with
    memory is fitted too, to tell whether the card's form leaves something out.

    Raises:
        MeasurementError: if there are fewer than 100 pulses of a direction.
    """
    for name, value in (("up", 1), ("down", 0)):
        need(int((table["up"] == value).sum()), 100, table, f"pulses {name}")
    trains = [Train(table["up"][rows] == 1, table["conductance"][rows]) for rows in table.by_device()]
    block = [np.arange(len(t.state)) // BLOCK % 2 for t in trains]
    logs: dict[str, float] = {"soft bounds": 0.0, "soft bounds with memory": 0.0}
    scores, count = [], 0
    for part in (0, 1):
        counted = [(b == part) & (np.arange(len(b)) > 0) for b in block]
        held = [(b != part) & (np.arange(len(b)) > 0) for b in block]
        for model, fixed in zip(logs, (PLAIN, None), strict=True):
            fit = fit_trains(trains, fixed, counted)
            for train, rows in zip(trains, held, strict=True):
                mean, sigma = fit.predict(train)
                logs[model] += float(norm.logpdf(train.state, mean, sigma)[rows].sum())
                if model == "soft bounds":
                    scores.append(((train.state - mean) / sigma)[rows])
                    count += int(rows.sum())
    fit = fit_trains(trains, PLAIN)
    source = f"{table.source}: {len(table)} pulses"
    cards = {"bound_low": "g_low", "bound_high": "g_high"}
    fields, fitted = {}, []
    for name in fit.free:
        low, high = fit.interval(name)
        unit = "1" if name == "between_cycles" else "S"
        fitted.append(Fitted(cards.get(name, name), fit.value[name], low, high, unit))
        fields[cards.get(name, name)] = figure(fit.value[name], unit, source, min((high - low) / 3.92, 1e3))
    effect = SoftBounds.model_validate({"form": "soft-bounds", **fields})
    likelihood = {name: total / count for name, total in logs.items()}
    notes = tuple(
        f"{f.name}: hardly determined; give more pulses, or pulses nearer to the bounds"
        for f in fitted
        if _vague(f, fit.span)
    )
    if logs["soft bounds with memory"] > logs["soft bounds"] + 5:
        notes += ("readings remember each other, which the card's form leaves out: read more slowly",)
    mean, sigma = fit.predict(trains[0])
    x = np.arange(len(mean), dtype=float)
    curve = Curve(
        "pulse", "conductance (S)", x, trains[0].state, x, mean, mean - 1.96 * sigma, mean + 1.96 * sigma
    )
    return Fit(
        "pulse",
        effect,
        tuple(fitted),
        source,
        len(table),
        0,
        np.concatenate(scores),
        likelihood,
        notes,
        curve,
    )


def _vague(fitted: Fitted, span: float) -> bool:
    """Whether an interval says little: wider than a factor of ten, or for a bound than the states' span."""
    if fitted.name in ("g_low", "g_high"):
        return fitted.high - fitted.low > span
    return fitted.high > 10 * max(fitted.low, 1e-300)


def fit_trains(
    trains: Sequence[Train], fixed: dict[str, float] | None = None, masks: Sequence[np.ndarray] | None = None
) -> TrainFit:
    """Fit the model by the likelihood of one-step predictions.

    Args:
        trains: each with pulses of one direction or both.
        fixed: parameters that are held, such as ``{"walk": 0, "fading": 0}`` for a plain soft-bounds device.
        masks: readings of each train whose likelihood counts; all but the first where left out.
    """
    held = dict(fixed or {})
    states = np.concatenate([t.state for t in trains])
    low, high = np.quantile(states, [0.01, 0.99])
    span = high - low
    noise = MAD * float(np.median(np.abs(np.concatenate([np.diff(t.state) for t in trains])))) / math.sqrt(2)
    start = {
        "step_up": 2 * span / max(len(trains[0].state), 10),
        "step_down": 2 * span / max(len(trains[0].state), 10),
        "bound_low": low - 0.1 * span,
        "bound_high": high + 0.1 * span,
        "between_cycles": 1.0,
        "walk": 0.1 * noise,
        "write_noise": noise,
        "fading": 0.3 * noise,
        "memory": 0.5,
    }
    free = tuple(n for n in NAMES if n not in held)
    use = masks if masks is not None else [np.arange(len(t.state)) > 0 for t in trains]

    def values(x: Array) -> dict[str, float]:
        turned = {}
        for name, value in zip(free, x, strict=True):
            if name.startswith("bound"):
                turned[name] = start[name] + float(value) * span
            elif name == "memory":
                turned[name] = 1 / (1 + math.exp(-float(value)))
            else:
                turned[name] = start[name] * math.exp(min(max(float(value), -30), 8))
        return held | turned

    def cost(x: Array) -> float:
        p = values(x)
        if p["bound_high"] <= p["bound_low"]:
            return 1e12
        vector = np.array([p[n] for n in NAMES])
        total = 0.0
        for train, counted in zip(trains, use, strict=True):
            mean, sigma = np.empty(len(train.state)), np.empty(len(train.state))
            _filter(train.state, train.up, vector, mean, sigma)
            z = ((train.state - mean) / sigma)[counted]
            total += float((0.5 * z**2 + np.log(sigma[counted])).sum())
        # Bounds farther off than three spans of the data make the same steps: hold them there.
        beyond = sum(max(abs(p[n] - start[n]) / span - 3, 0.0) ** 2 for n in ("bound_low", "bound_high"))
        return total + 1e3 * beyond if math.isfinite(total) else 1e12

    near = {"maxiter": 4000, "maxfev": 4000, "xatol": 1e-3, "fatol": 1e-4, "adaptive": True}
    best = minimize(cost, np.zeros(len(free)), method="Nelder-Mead", options=near)
    best = minimize(cost, best.x, method="Powell", options={"maxiter": 20, "xtol": 1e-4, "ftol": 1e-9})
    count = sum(int(m.sum()) for m in use)
    hessian = _curvature(cost, best.x)
    covariance = np.linalg.pinv(hessian, hermitian=True)
    return TrainFit(values(best.x), free, covariance, -best.fun - 0.5 * count * math.log(2 * math.pi), span)


def _curvature(cost: Callable[[Array], float], x: Array, h: float = 2e-2) -> Array:
    size, middle = len(x), cost(x)
    steps, hessian = np.eye(size) * h, np.empty((size, size))
    for i in range(size):
        for j in range(i + 1):
            if i == j:
                value = (cost(x + steps[i]) - 2 * middle + cost(x - steps[i])) / h**2
            else:
                value = cost(x + steps[i] + steps[j]) - cost(x + steps[i] - steps[j])
                value = (value - cost(x - steps[i] + steps[j]) + cost(x - steps[i] - steps[j])) / (4 * h**2)
            hessian[i, j] = hessian[j, i] = value
    return hessian

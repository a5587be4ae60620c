"""What a pulse does, from pairs of readings: soft bounds, or quantiles without a formula; which is better."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.stats import norm

from device_models.effects import PulseTable, SoftBounds

from .likelihood import FLAT, Estimate, Parameter, contaminated, log_normal_density, maximize
from .measurement import Array, Measurement, MeasurementError
from .result import Curve, Fit, Fitted, figure
from .robust import MAD, need

PROBABILITIES = np.array([0.01, 0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95, 0.99])
_KNOTS = 14
FOLDS = 5


def fit_pulses(table: Measurement) -> Fit:
    """Fit the change that a pulse makes, by soft bounds and by a table of quantiles, and keep the better.

    Better is the likelihood of held-out pulses: a fifth of the conductances at a time (a device, where there
    are ten or more).

    Raises:
        MeasurementError: if there are fewer than 100 pulses of a direction.
    """
    moving = moving_pulses(table)
    up = (table["up"] == 1)[moving]
    for name, some in (("up", up), ("down", ~up)):
        need(int(some.sum()), 100, table, f"pulses {name}")
    g, change = table["before"][moving], (table["after"] - table["before"])[moving]
    folds = _folds(table)[moving]
    soft: list[Array] | None = []
    quantile, scores = [], []
    for fold in range(FOLDS):
        train, test = folds != fold, folds == fold
        if soft is not None:
            soft = _soft_fold(soft, (g, change, up), train, test)
        for direction in (up, ~up):
            quantiles = Quantiles.fit(g[train & direction], change[train & direction])
            here = test & direction
            quantile.append(quantiles.log_density(g[here], change[here]))
            scores.append(quantiles.score(g[here], change[here]))
    likelihood = {"quantiles": float(np.concatenate(quantile).mean())}
    if soft is not None:
        likelihood["soft bounds"] = float(np.concatenate(soft).mean())
    source = f"{table.source}: {len(g)} pulses"
    tables = {n: Quantiles.fit(g[d], change[d]) for n, d in (("up", up), ("down", ~up))}
    x = tables["up"].g
    band = tables["up"].change
    curve = Curve(
        "conductance before (S)", "change, up (S)", g[up], change[up], x, band[4], band[1], band[-2]
    )
    if likelihood.get("soft bounds", -math.inf) >= likelihood["quantiles"]:
        estimate = fit_soft_bounds(g, change, up)
        fitted = tuple(_fitted(estimate))
        effect: SoftBounds | PulseTable = soft_bounds_effect(estimate, source)
        likelihood = dict(reversed(likelihood.items()))
        notes = tuple(f"{n}: the data do not determine it" for n in estimate.unidentified if n != "outliers")
        scores = [soft_bounds_scores(estimate, g, change, up)]
    else:
        effect = PulseTable.model_validate(
            {
                "form": "table",
                **{n: t.as_card(source) for n, t in tables.items()},
                "valid": {"value": [float(g.min()), float(g.max())], "unit": "S", "source": source},
            }
        )
        fitted, notes = (), ("no formula: the change of a pulse is a table of quantiles",)
    return Fit(
        "pulse",
        effect,
        fitted,
        source,
        len(g),
        int((~moving).sum()),
        np.concatenate(scores),
        likelihood,
        notes,
        curve,
        held_out=isinstance(effect, PulseTable),
    )


def _soft_fold(
    before: list[Array], data: tuple[Array, Array, np.ndarray], train: np.ndarray, test: np.ndarray
) -> list[Array] | None:
    """Add the log densities of a fold under soft bounds; None where these do not converge, so do not fit."""
    g, change, up = data
    try:
        estimate = fit_soft_bounds(g[train], change[train], up[train])
    except MeasurementError:
        return None
    return [*before, soft_bounds_density(estimate, g[test], change[test], up[test])]


def moving_pulses(table: Measurement) -> np.ndarray:
    """Tell which pulses went to devices that move: over a tenth of what the median device does, at least."""
    rows_of = list(table.by_device())
    spans = np.array([np.ptp(np.quantile(table["before"][rows], [0.05, 0.95])) for rows in rows_of])
    return (spans > 0.1 * np.median(spans))[table.device]


def fit_soft_bounds(g: Array, change: Array, up: np.ndarray) -> Estimate:
    """Fit steps, bounds, spread of the steps and of the readings, with flat outliers.

    Args:
        g: conductance before each pulse, in siemens.
        change: what the pulse made of it, in siemens.
        up: whether it was a potentiating one.

    Returns:
        step_up, step_down (S, at the far bound), g_low, g_high (S), between_cycles, write_noise (S) and the
        share of outliers.
    """
    span = float(np.ptp(g))
    lows: list[float] = []
    highs: list[float] = []
    for d, side in ((up, lows), (~up, highs)):
        slope, start = np.polyfit(g[d], change[d], 1)
        side += [slope, start]
    typical = MAD * float(np.median(np.abs(change - np.median(change)))) or 1e-3 * span
    high = -lows[1] / lows[0] if lows[0] < 0 else float(g.max()) + span
    low = -highs[1] / highs[0] if highs[0] < 0 else float(g.min()) - span
    high = float(np.clip(high, g.max() - 0.2 * span, g.max() + 3 * span))
    low = float(np.clip(low, g.min() - 3 * span, g.min() + 0.2 * span))
    names = [
        Parameter("step_up", max(-lows[0] * (high - low), 0.05 * typical)),
        Parameter("step_down", max(-highs[0] * (high - low), 0.05 * typical)),
        Parameter("g_low", low, positive=False, scale=span),
        Parameter("g_high", high, positive=False, scale=span),
        Parameter("between_cycles", 0.3),
        Parameter("write_noise", 0.5 * typical),
        Parameter("outliers", 0.01),
    ]
    x, y = torch.from_numpy(g), torch.from_numpy(change)
    is_up = torch.from_numpy(up)
    flat = -math.log(float(np.ptp(change)) + FLAT * typical)

    def density(p: torch.Tensor) -> torch.Tensor:
        reach = p[3] - p[2]
        step = torch.where(is_up, p[0] * (p[3] - x), p[1] * (p[2] - x)) / reach
        sigma = torch.sqrt((p[4] * step) ** 2 + p[5] ** 2)
        return contaminated(log_normal_density(y - step, sigma), flat, p[6].clamp(1e-12, 0.5))

    return maximize(density, names)


def soft_bounds_effect(estimate: Estimate, source: str) -> SoftBounds:
    """Return the section of a card for a fit."""
    units = {
        "step_up": "S",
        "step_down": "S",
        "g_low": "S",
        "g_high": "S",
        "between_cycles": "1",
        "write_noise": "S",
    }
    fields = {n: figure(estimate[n], unit, source, estimate.error(n)) for n, unit in units.items()}
    return SoftBounds.model_validate({"form": "soft-bounds", **fields})


def soft_bounds_density(estimate: Estimate, g: Array, change: Array, up: np.ndarray) -> Array:
    """Log density of changes under a fit."""
    step, sigma = _soft_law(estimate, g, up)
    flat = -math.log(float(np.ptp(change)) + FLAT * float(sigma.mean()))
    share = estimate["outliers"]
    return np.logaddexp(np.log1p(-share) + norm.logpdf(change, step, sigma), math.log(share) + flat)


def soft_bounds_scores(estimate: Estimate, g: Array, change: Array, up: np.ndarray) -> Array:
    """Standard scores of changes under a fit."""
    step, sigma = _soft_law(estimate, g, up)
    return (change - step) / sigma


def _soft_law(p: Estimate, g: Array, up: np.ndarray) -> tuple[Array, Array]:
    reach = p["g_high"] - p["g_low"]
    step = np.where(up, p["step_up"] * (p["g_high"] - g), p["step_down"] * (p["g_low"] - g)) / reach
    return step, np.hypot(p["between_cycles"] * step, p["write_noise"])


def _fitted(estimate: Estimate) -> list[Fitted]:
    units = {"between_cycles": "1"}
    return [
        Fitted(n, estimate[n], *estimate.interval(n), units.get(n, "S"))
        for n in estimate.names
        if n != "outliers"
    ]


class Quantiles:
    """Quantiles of the change over conductance: local ones at some knots, joined by straight lines.

    At a knot, pulses count by their distance from it (tricube kernel out to the next knots but one, after
    Cleveland, J. Am. Stat. Assoc. 74, 1979), along a local straight line. Between quantiles the normal score
    goes in a straight line; beyond the outermost ones the distribution is Gaussian.
    """

    def __init__(self, g: Array, change: Array) -> None:
        self.g, self.change = g, change
        self._scores = norm.ppf(PROBABILITIES)

    @classmethod
    def fit(cls, g: Array, change: Array, knots: int = _KNOTS) -> Quantiles:
        """Fit to pulses at conductances ``g`` (S) that changed them by ``change`` (S)."""
        at = np.unique(np.quantile(g, np.linspace(0, 1, knots)))
        if len(at) < 2:
            at = np.array([g.min(), g.min() + max(1e-3 * abs(g.min()), 1e-12)])
        table = np.empty((len(PROBABILITIES), len(at)))
        for k, centre in enumerate(at):
            reach = max(abs(at[min(k + 1, len(at) - 1)] - centre), abs(centre - at[max(k - 1, 0)])) * 1.2
            near = np.abs(g - centre) < reach
            if near.sum() < 60:
                near = np.argsort(np.abs(g - centre))[:60]
                reach = float(np.abs(g[near] - centre).max()) * 1.01 or 1.0
            weight = (1 - np.abs((g[near] - centre) / reach) ** 3) ** 3
            slope = _slope(g[near] - centre, change[near], weight)
            table[:, k] = _weighted_quantiles(change[near] - slope * (g[near] - centre), weight)
        spread = table[-1] - table[0]
        least = 1e-6 * (np.median(spread) or 1e-12)
        table += least * np.arange(len(PROBABILITIES))[:, None]
        return cls(at, np.maximum.accumulate(table, axis=0))

    def score(self, g: Array, change: Array) -> Array:
        """Return the standard normal scores of changes."""
        return self._place(g, change)[0]

    def log_density(self, g: Array, change: Array) -> Array:
        """Return the log density of changes, in 1/S."""
        score, slope = self._place(g, change)
        return norm.logpdf(score) + np.log(slope)

    def as_card(self, source: str) -> dict[str, object]:
        """Return the table as a card holds it."""
        return {
            "g": [float(f"{v:.6g}") for v in self.g],
            "probability": PROBABILITIES.tolist(),
            "change": np.maximum.accumulate(np.round(self.change, 12), axis=0).tolist(),
            "unit": "S",
            "source": source,
        }

    def _place(self, g: Array, change: Array) -> tuple[Array, Array]:
        """Score of each change, and the slope of the score over it."""
        quantiles = np.stack([np.interp(g, self.g, row) for row in self.change], 1)
        piece = (quantiles < change[:, None]).sum(1).clip(1, quantiles.shape[1] - 1)
        rows = np.arange(len(g))
        left, right = quantiles[rows, piece - 1], quantiles[rows, piece]
        slope = (self._scores[piece] - self._scores[piece - 1]) / (right - left)
        return self._scores[piece - 1] + (change - left) * slope, slope


def _slope(x: Array, y: Array, weight: Array) -> float:
    mean_x, mean_y = np.average(x, weights=weight), np.median(y)
    spread = float((weight * (x - mean_x) ** 2).sum())
    return float((weight * (x - mean_x) * (y - mean_y)).sum() / spread) if spread > 0 else 0.0


def _weighted_quantiles(values: Array, weight: Array) -> Array:
    order = np.argsort(values)
    total = np.cumsum(weight[order])
    return np.interp(PROBABILITIES, (total - weight[order] / 2) / total[-1], values[order])


def _folds(table: Measurement) -> np.ndarray:
    """Fold of each pulse: whole devices where there are ten, else whole conductances."""
    device = table.device
    if device.max() >= 9:
        return np.random.default_rng(0).permutation(int(device.max()) + 1)[device] % FOLDS
    values, where = np.unique(table["before"], return_inverse=True)
    return np.random.default_rng(0).permutation(len(values))[where] % FOLDS

"""I-V curves: I = g sinh(alpha v) / alpha, with alpha over conductance, from sweeps of many devices."""

from __future__ import annotations

import math

import numpy as np
import torch

from device_models.effects import SinhCurve

from .likelihood import Estimate, Parameter, log_normal_density, maximize
from .measurement import Array, Measurement
from .result import Curve, Fit, Fitted, figure
from .robust import MAD, need, robust_scores

_FAR = 5.0


def fit_iv(table: Measurement, *, held_out: bool = True) -> Fit:
    """Fit alpha (1/V) and its slope over conductance; every device has a conductance of its own.

    Readings scatter by a fraction of their current. The conductances drop out by taking each device's mean of
    ln(I / V). A reading far off, and a device whose curve is another (stuck or shorted), is left out.

    Args:
        table: of kind iv.
        held_out: predict every second device from the others; False saves the time.

    Raises:
        MeasurementError: if there are fewer than 20 readings of non-zero voltage and current.
    """
    v, i = table["voltage"], table["current"]
    sensible = (v != 0) & (np.sign(i) == np.sign(v))
    need(int(sensible.sum()), 20, table, "readings with a current of the sign of the voltage")
    keep, device = sensible.copy(), table.device
    rows_of = list(table.by_device())
    g = np.array([np.median((i[r] / v[r])[sensible[r]]) if sensible[r].any() else np.nan for r in rows_of])
    alike = _alike(v, i, sensible, rows_of)
    bend: Array = np.full(len(rows_of), _start(v[sensible], i[sensible], device[sensible]))
    start = {"alpha": float(np.median(bend)), "alpha_slope": 0.0, "readings": 0.02}
    for step in range(8):
        # A device's median stands firm where its own outliers would pull a mean.
        logs = np.full(len(v), np.nan)
        logs[sensible] = np.log(i[sensible] / v[sensible]) - _curve(v[sensible], bend[device[sensible]])
        medians = np.array(
            [np.median(logs[r][sensible[r]]) if sensible[r].any() else np.nan for r in rows_of]
        )
        residual = logs - medians[device]
        near = sensible & (np.abs(residual) <= _FAR * MAD * np.median(np.abs(residual[keep])))
        whole = alike & np.array([near[r].mean() > 0.7 for r in rows_of])
        kept, keep = keep, near & whole[device]
        need(int(keep.sum()), 20, table, "readings that agree on a curve")
        g = np.exp(medians)
        inside = np.array([keep[r].any() for r in rows_of])
        reference = float(np.median(g[inside]))
        wide = inside.sum() >= 5 and bool(np.ptp(np.log(g[inside])) > math.log(1.5))
        start["readings"] = MAD * float(np.median(np.abs(residual[keep]))) or 1e-6
        estimate = _fit(v[keep], i[keep], device[keep], start, g / reference if wide else None)
        start |= {n: estimate[n] for n in estimate.names}
        tilt = estimate["alpha_slope"] * (g / reference - 1) if wide else 0 * g
        bend = np.maximum(
            np.where(inside, estimate["alpha"] + tilt, estimate["alpha"]), 0.05 * estimate["alpha"]
        )
        if step > 2 and (kept == keep).all():
            break
    g = g[inside]
    constant = estimate["alpha"] - (estimate["alpha_slope"] if wide else 0.0)
    values = [constant, estimate["alpha_slope"]] if wide else [constant]
    # alpha at the reference is what was fitted; the polynomial counts from zero conductance.
    turn = np.array([[1.0, -1.0], [0.0, 1.0]])[: len(values), : len(values)]
    covariance = turn @ estimate.covariance[: len(values), : len(values)] @ turn.T
    largest = float(np.abs(v).max())
    source = f"{table.source}: {int(inside.sum())} devices, {int(keep.sum())} readings up to {largest:g} V"
    effect = SinhCurve.model_validate(
        {
            "form": "sinh",
            "alpha": {"value": values, "unit": "1/V", "source": source, "covariance": covariance.tolist()},
            "g_reference": figure(reference, "S", "median conductance at 0 V"),
            "v_max": figure(largest, "V", source),
            "valid": {"value": [float(g.min()), float(g.max())], "unit": "S", "source": source},
            "extrapolate": True,
            "temperature": figure(table.temperature, "K", source),
        }
    )
    units = {"alpha": "1/V", "alpha_slope": "1/V", "readings": "1"}
    fitted = tuple(Fitted(n, estimate[n], *estimate.interval(n), units[n]) for n in estimate.names)
    notes = [] if wide else ["alpha over conductance: sweep devices a factor of 1.5 apart or more"]
    low, _ = estimate.interval("alpha")
    if low < 0.05 / largest or estimate["alpha"] * largest < 3 * estimate["readings"]:
        notes.append("alpha: the curves are straight within the noise; sweep to higher voltages")
    grid = np.linspace(0.02 * largest, largest, 40)
    law = np.exp(_curve(grid, estimate["alpha"]))
    width = 1.96 * estimate["readings"]
    shown = np.exp(residual[keep] + _curve(v[keep], bend[device[keep]]))
    curve = Curve(
        "voltage (V)", "I / (g V)", np.abs(v[keep]), shown, grid, law, law * (1 - width), law * (1 + width)
    )
    scores = _held_out(v, i, device, keep, start["alpha"], start["readings"]) if held_out else None
    straight = _straight(v[keep], i[keep], device[keep])
    likelihood = {"sinh": estimate.log_likelihood / keep.sum(), "ohmic": straight}
    rejected = int((~keep & (v != 0)).sum())
    return Fit(
        "iv", effect, fitted, source, int(keep.sum()), rejected, scores, likelihood, tuple(notes), curve
    )


def _curve(v: Array, alpha: float | Array) -> Array:
    """Logarithm of sinh(alpha v) / (alpha v)."""
    x = np.abs(alpha * v)
    return np.log(np.sinh(x) / x)


def _start(v: Array, i: Array, device: np.ndarray) -> float:
    """Alpha of the median rise of ln(I / V) from the lower to the upper half of the voltages."""
    size, logs = np.abs(v), np.log(i / v)
    middle = np.median(size)
    upper, lower = (
        np.median(logs[part] - _own(logs, device)[part]) for part in (size > middle, size <= middle)
    )
    square = np.mean(size[size > middle] ** 2) - np.mean(size[size <= middle] ** 2)
    return math.sqrt(6 * max(float(upper - lower), 1e-3) / float(square))


def _alike(v: Array, i: Array, sensible: np.ndarray, rows_of: list[np.ndarray]) -> np.ndarray:
    """Tell which devices bend as the others do: a stuck or shorted one is straight, or noise."""
    rises, conductance = np.full(len(rows_of), np.nan), np.ones(len(rows_of))
    for k, rows in enumerate(rows_of):
        some = rows[sensible[rows]]
        if len(some) >= 4:
            size, logs = np.abs(v[some]), np.log(i[some] / v[some])
            half = size > np.median(size)
            rises[k] = np.median(logs[half]) - np.median(logs[~half])
            conductance[k] = math.exp(float(np.median(logs)))
    told = np.isfinite(rises)
    alike = np.ones(len(rows_of), dtype=bool)
    if told.sum() >= 8:
        bends, sizes = (np.abs(robust_scores(x[told])) for x in (rises, np.log(conductance)))
        alike[told] = (bends < _FAR - 1) & ((bends < _FAR - 2) | (sizes < _FAR))
    return alike


def _own(logs: Array, device: np.ndarray) -> Array:
    """Median of each reading's device."""
    return np.array([np.median(logs[device == d]) for d in range(int(device.max()) + 1)])[device]


def _fit(
    v: Array, i: Array, device: np.ndarray, start: dict[str, float], relative_g: Array | None = None
) -> Estimate:
    names, where = np.unique(device, return_inverse=True)
    owner = torch.from_numpy(where)
    count = torch.bincount(owner).to(torch.float64)
    y, size = torch.from_numpy(np.log(i / v)), torch.from_numpy(np.abs(v))
    tilt = torch.from_numpy(relative_g[names][where] - 1) if relative_g is not None else None
    parameters = [Parameter("alpha", start["alpha"])]
    if tilt is not None:
        parameters.append(
            Parameter("alpha_slope", start["alpha_slope"], positive=False, scale=0.1 * start["alpha"])
        )
    parameters.append(Parameter("readings", start["readings"]))

    def centred(x: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(len(names), dtype=x.dtype).index_add(0, owner, x)
        return x - (total / count)[owner]

    freedom = 1 - 1 / count[owner]

    def density(p: torch.Tensor) -> torch.Tensor:
        alpha = p[0] + (p[1] * tilt if tilt is not None else 0.0)
        x = alpha * size
        law = x + torch.log(-torch.expm1(-2 * x) / (2 * x))
        rest = centred(y - law)
        # Each device spends one degree of freedom on its conductance.
        return -0.5 * (rest / p[-1]) ** 2 - freedom * (torch.log(p[-1]) + 0.5 * math.log(2 * math.pi))

    return maximize(density, parameters)


def _straight(v: Array, i: Array, device: np.ndarray) -> float:
    """Mean log density of the same readings if all were ohmic."""
    y = np.log(i / v)
    _, where = np.unique(device, return_inverse=True)
    count = np.bincount(where)
    rest = y - (np.bincount(where, y) / count)[where]
    sigma = math.sqrt(float((rest**2).sum() / max(len(y) - len(count), 1)))
    return float(log_normal_density(torch.from_numpy(rest), torch.tensor(sigma)).mean())


def _held_out(
    v: Array, i: Array, device: np.ndarray, keep: np.ndarray, alpha: float, readings: float
) -> Array | None:
    """Scores of every second device's readings by the alpha and scatter of the other devices."""
    names = np.unique(device[keep])
    if len(names) < 4:
        return None
    scores = []
    for half in (names[::2], names[1::2]):
        test = keep & np.isin(device, half)
        train = keep & ~test
        estimate = _fit(v[train], i[train], device[train], {"alpha": alpha, "readings": readings})
        rest = np.log(i[test] / v[test]) - _curve(v[test], estimate["alpha"])
        _, where = np.unique(device[test], return_inverse=True)
        count = np.bincount(where)
        rest -= (np.bincount(where, rest) / count)[where]
        freedom = np.sqrt(np.maximum(1 - 1 / count[where], 1e-9))
        scores.append(rest / (estimate["readings"] * freedom))
    return np.concatenate(scores)

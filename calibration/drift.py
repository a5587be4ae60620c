"""Drift and retention: conductance over time, at one temperature or several."""

from __future__ import annotations

import math

import numpy as np
import torch

from device_models.effects import Drift, Retention
from device_models.effects.drift import BOLTZMANN

from .likelihood import FLAT, Estimate, Parameter, contaminated, log_normal_density, maximize, outliers
from .measurement import Array, Measurement, MeasurementError
from .result import Curve, Fit, Fitted, figure
from .robust import MAD, need

_FAR = 5.0
_ENERGIES = tuple(float(e) for e in np.arange(0.2, 2.51, 0.1))  # eV, where a fit starts


def fit_drift(table: Measurement) -> list[Fit]:
    """Fit G = G0 (1 + t / t0)^-nu with a Gaussian nu over devices; with several temperatures, Arrhenius too.

    The free start of each device drops out by taking its mean. What is left of a device, its slope and its
    scatter about it, is Gaussian with the variances of nu and of the readings. t0 is the first time above 0.
    Devices that differ from the rest (stuck ones) are outliers of that distribution; readings far from
    the line of their device are left out before.

    Args:
        table: of kind retention. Three temperatures or more give the activation energy, if every device has
            a first reading at a time of 0 or far below the others.

    Raises:
        MeasurementError: if there are fewer than 8 devices with 4 readings or more, or two temperatures only.
    """
    temperatures = np.unique(table["temperature"])
    if len(temperatures) == 2:
        raise MeasurementError(
            f"{table.source}: column 'temperature': mixed temperatures ({temperatures[0]:g} and "
            f"{temperatures[1]:g} K); give one, or three or more for an activation energy"
        )
    hot = len(temperatures) > 2
    if (table["conductance"] <= 0).any():
        row = int(np.argmax(table["conductance"] <= 0))
        raise MeasurementError(f"{table.source}: column 'conductance', row {row + 1} is not above 0")
    base = float(temperatures[0])
    t0 = float(table["time"][table["time"] > 0].min())
    times, logs, starts, inverse_t, rejected, guess_energy = _devices(table, t0)
    need(len(logs), 8, table, "devices with 4 readings or more")
    fixed = [torch.from_numpy(x) for x in (times, logs, np.isfinite(logs).astype(float), inverse_t)]
    time, y, there, cold = fixed
    y = torch.where(there > 0, y, 0.0)
    count = there.sum(1)
    reference = float(np.median(starts))
    # Of nearly all: a few stuck devices do not make a range.
    wide = bool(np.ptp(np.quantile(np.log(starts), [0.05, 0.95])) > 1.0)
    position = torch.from_numpy(np.log(starts / reference))

    def reduced(energy: torch.Tensor | float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Along each device: size of the regressor, its projection, and the square of what is left."""
        later = torch.log(torch.where(time > 0, time, 1.0) / t0) + (energy / BOLTZMANN * cold)[:, None]
        x = torch.nn.functional.softplus(later, threshold=40) * there * (time > 0)
        x = (x - x.sum(1, keepdim=True) / count[:, None]) * there
        centred = (y - (y * there).sum(1, keepdim=True) / count[:, None]) * there
        size = torch.sqrt((x**2).sum(1))
        along = (x * centred).sum(1) / size
        return size, along, (centred**2).sum(1) - along**2

    guess = reduced(guess_energy)
    nu = (-guess[1] / guess[0]).numpy()
    scatter = math.sqrt(float(torch.median(guess[2] / (count - 2)))) or 1e-6
    start_nu, spread = float(np.median(nu)), MAD * float(np.median(np.abs(nu - np.median(nu)))) or 1e-3
    # Stuck devices stand still while all others drift, where that can be told.
    still = 3 * scatter / guess[0].numpy()
    moving = torch.from_numpy((np.abs(nu) > still) | (start_nu - 3 * spread < still))
    rejected += int(count[~moving].sum())
    time, y, there, cold, count, position = (x[moving] for x in (time, y, there, cold, count, position))
    logs, inverse_t, nu = (x[moving.numpy()] for x in (logs, inverse_t, nu))
    names = [
        Parameter("exponent", start_nu, positive=False, scale=spread),
        Parameter("exponent_sigma", spread),
        Parameter("readings", scatter),
        Parameter("outliers", 0.02),
    ]
    slope = len(names)
    if wide:
        names.append(Parameter("slope", 0.0, positive=False, scale=spread))
    if hot:
        names.append(Parameter("activation_energy", guess_energy))
    range_of_nu = float(np.ptp(nu)) + FLAT * spread

    def cores(p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        size, along, left = reduced(p[-1] if hot else 0.0)
        mean = p[0] + (p[slope] * position if wide else 0.0)
        sigma = torch.sqrt((p[1] * size) ** 2 + p[2] ** 2)
        inside = log_normal_density(along + mean * size, sigma)
        rest = -0.5 * left / p[2] ** 2 - (count - 2) * torch.log(p[2])
        return inside + torch.log(size), rest

    def density(p: torch.Tensor) -> torch.Tensor:
        inside, rest = cores(p)
        # Restricted likelihood: the mean exponent was estimated too, which costs the spread a device.
        size = reduced(p[-1] if hot else 0.0)[0]
        spent = -0.5 * torch.log((size**2 / ((p[1] * size) ** 2 + p[2] ** 2)).sum()) / len(size)
        return contaminated(inside, -math.log(range_of_nu), p[3].clamp(1e-12, 0.5)) + rest + spent

    estimate = maximize(density, names)
    bad = outliers(
        cores(torch.from_numpy(estimate.value))[0].numpy(), -math.log(range_of_nu), estimate["outliers"]
    )
    source = f"{table.source}: {len(logs)} devices, {int(count.sum())} readings"
    energy = estimate["activation_energy"] if hot else 0.0
    size, along, _ = (x.numpy() for x in reduced(energy))
    predicted = np.sqrt((estimate["exponent_sigma"] * size) ** 2 + estimate["readings"] ** 2)
    tilt = estimate["slope"] * position.numpy() if wide else 0.0
    scores = ((along + (estimate["exponent"] + tilt) * size) / predicted)[~bad]
    drift = Drift.model_validate(
        {
            "exponent": _pair(estimate, ["exponent", "slope"] if wide else ["exponent"], source),
            "exponent_sigma": _pair(estimate, ["exponent_sigma"], source),
            "g_reference": figure(reference, "S", "median first reading"),
            "t0": figure(t0, "s", "first time above 0"),
            "longest": figure(float(table["time"].max()), "s", source),
            "temperature": figure(base, "K", source),
        }
    )
    fitted = {
        n: Fitted(n, estimate[n], *estimate.interval(n), "1") for n in estimate.names if n != "outliers"
    }
    lost = rejected + int(bad.sum())
    speed = np.exp(energy / BOLTZMANN * inverse_t)[:, None]
    curve = _curve(time.numpy() * speed, logs, t0, estimate["exponent"], estimate["exponent_sigma"])
    first = Fit("drift", drift, tuple(f for n, f in fitted.items() if n != "activation_energy"), source,
                int(count.sum()), lost, scores, notes=_notes(estimate.unidentified, wide, hot),
                curve=curve, held_out=False)  # fmt: skip
    if not hot:
        return [first]
    ea = Fitted("activation_energy", energy, *estimate.interval("activation_energy"), "eV")
    retention = Retention.model_validate(
        {
            "activation_energy": figure(energy, "eV", source, estimate.error("activation_energy")),
            "coldest": figure(base, "K", source),
            "hottest": figure(float(temperatures[-1]), "K", source),
        }
    )
    return [first, Fit("retention", retention, (ea,), source, int(count.sum()), lost)]


def _pair(estimate: Estimate, names: list[str], source: str) -> dict[str, object]:
    """[a, b] of a law with its covariance; b is 0 where it was not fitted."""
    k = [estimate.names.index(n) for n in names]
    covariance = np.zeros((2, 2))
    covariance[: len(k), : len(k)] = estimate.covariance[np.ix_(k, k)]
    value = [*(estimate[n] for n in names), 0.0][:2]
    return {"value": value, "unit": "1", "source": source, "covariance": covariance.tolist()}


def _devices(table: Measurement, t0: float) -> tuple[Array, Array, Array, Array, int, float]:
    """Times, logarithms (nan where none), first readings, 1/T0 - 1/T, how many were left out, energy."""
    rows_of = [rows for rows in table.by_device() if len(rows) >= 4]
    longest = max((len(rows) for rows in rows_of), default=0)
    times, logs = np.zeros((len(rows_of), longest)), np.full((len(rows_of), longest), np.nan)
    starts, inverse = np.ones(len(rows_of)), np.zeros(len(rows_of))
    base, rejected = float(table["temperature"].min()), 0
    for k, rows in enumerate(rows_of):
        if np.ptp(table["temperature"][rows]) > 0:
            raise MeasurementError(
                f"{table.source}: column 'temperature', row {rows[0] + 1}: device {k} has several"
                " temperatures; number each device anew for each temperature"
            )
        t, y = table["time"][rows], np.log(table["conductance"][rows])
        times[k, : len(rows)], logs[k, : len(rows)] = t, y
        starts[k] = math.exp(float(y[np.argmin(t)]))
        inverse[k] = 1 / base - 1 / float(table["temperature"][rows[0]])

    # Readings are judged by the line of their device, with time running as fast as makes most lines straight.
    def lines(energy: float, which: range) -> list[Array]:
        x = np.log1p(times * np.exp(energy / BOLTZMANN * inverse)[:, None] / t0)
        return [_from_line(x[k, : len(rows_of[k])], logs[k, : len(rows_of[k])]) for k in which]

    energy = 0.0
    if inverse.any():
        some = range(0, len(rows_of), max(len(rows_of) // 40, 1))
        energy = min(_ENERGIES, key=lambda e: sum(_bend(line) for line in lines(e, some)))
    residuals = lines(energy, range(len(rows_of)))
    typical = MAD * float(np.median(np.abs(np.concatenate(residuals)))) if residuals else 0.0
    for k, residual in enumerate(residuals):
        far = np.flatnonzero(np.abs(residual) > _FAR * typical)
        if len(far) <= len(residual) - 4:
            logs[k, far] = np.nan
            rejected += len(far)
    return times, logs, starts, inverse, rejected, energy


def _bend(residual: Array) -> float:
    """How far readings are from their line: in the middle, and the first, which is soonest off."""
    return float(np.median(np.abs(residual)) + min(abs(float(residual[0])), 1.0))


def _from_line(x: Array, y: Array) -> Array:
    """Residuals from the line with the median of all slopes (Theil and Sen)."""
    first, second = np.triu_indices(len(x), 1)
    apart = np.abs(x[first] - x[second]) > 1e-9
    slope = (
        float(np.median((y[first] - y[second])[apart] / (x[first] - x[second])[apart]))
        if apart.any()
        else 0.0
    )
    rest = y - slope * x
    return rest - np.median(rest)


def _notes(unidentified: tuple[str, ...], wide: bool, hot: bool) -> tuple[str, ...]:
    notes = [f"{name}: the data do not determine it" for name in unidentified if name != "outliers"]
    if not wide:
        notes.append("dependence of drift on conductance: measure levels a factor of three apart or more")
    if not hot:
        notes.append("activation energy: measure at three temperatures or more")
    return tuple(notes)


def _curve(times: Array, logs: Array, t0: float, nu: float, sigma: float) -> Curve:
    there = np.isfinite(logs)
    x = np.log1p(times / t0)
    first = logs[:, :1] + nu * x[:, :1]
    relative = np.exp(logs - first)[there]
    grid = np.linspace(0, float(x.max()), 50)
    bands = [np.exp(-(nu + w * sigma) * grid) for w in (0, 1.96, -1.96)]
    return Curve(
        "ln(1 + t / t0), t at the lowest temperature",
        "conductance, relative",
        x[there],
        relative,
        grid,
        *bands,
    )

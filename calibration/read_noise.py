"""Read noise from traces: white and 1/f by their spectrum, random telegraph noise by its two states."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numba import njit
from scipy.optimize import minimize
from scipy.stats import norm

from device_models.effects import FlickerNoise, TelegraphNoise
from device_models.figures import Figure

from .likelihood import Estimate, Parameter, maximize
from .measurement import Array, Measurement, MeasurementError
from .result import Curve, Fit, Fitted, figure
from .robust import MAD, need

_SPIKE = 5.0  # robust standard deviations of a reading from the median of its neighbours


def fit_reads(table: Measurement) -> list[Fit]:
    """Fit traces that jump as telegraph noise, and the others as white and 1/f noise.

    Where all traces jump, the white noise is that about the two states.
    """
    jumps, jumping, white = fit_telegraph(table)
    if jumps is None:
        return fit_read_noise(table)
    calm = ~np.isin(table.device, jumping)
    if calm.any():
        return [*fit_read_noise(table.rows(calm)), jumps]
    note = ("1/f noise: all traces jump; measure cells that do not",)
    fitted = (Fitted("white", white.value, white.low, white.high, "1"),)
    noise = Figure.model_validate(figure(white.value, "1", jumps.source, _error(white)))
    return [Fit("read_noise", noise, fitted, jumps.source, len(table), notes=note), jumps]


def fit_read_noise(table: Measurement) -> list[Fit]:
    """Fit white and 1/f noise, relative to each trace's median, to the spectra of all traces (Whittle).

    Power at frequency f (cycles per read) is 2 white^2 + flicker^2 / f; the periodogram of a trace is
    exponential about it, independent over frequencies. Spikes are replaced by the median of their neighbours.

    Args:
        table: of kind read-noise; each device is one trace of 64 readings or more, evenly spaced.

    Returns:
        The fit of ``read_noise``, and of ``flicker_noise`` where its lower limit is above nothing.

    Raises:
        MeasurementError: if a trace is short or uneven.
    """
    powers, frequencies, rejected, period = [], [], 0, 0.0
    for rows in table.by_device():
        relative, spikes, period = _relative(table, rows)
        rejected += spikes
        f = np.fft.rfftfreq(len(relative))[1:-1]
        powers.append(2 * np.abs(np.fft.rfft(relative)[1:-1]) ** 2 / len(relative))
        frequencies.append(f)
    power, f = np.concatenate(powers), np.concatenate(frequencies)
    # A median of seven has a quarter of the variance of a reading; what it takes away is given back.
    power = power / (1 - 0.78 * rejected / len(table))
    both, alone = _whittle(power, f, flicker=True), _whittle(power, f, flicker=False)
    gain = both[1] - alone[1]
    has_flicker = gain > 2 * math.log(len(power)) / 2
    estimate = (both if has_flicker else alone)[0]
    source = f"{table.source}: {len(power) * 2} readings in {len(powers)} traces"
    fitted = [Fitted(n, estimate[n], *estimate.interval(n), "1") for n in estimate.names]
    notes = () if has_flicker else ("1/f noise: none seen above the white; longer traces show less",)
    model = 2 * estimate["white"] ** 2 + (estimate["flicker"] ** 2 / f if has_flicker else 0 * f)
    bins = np.geomspace(f.min(), f.max(), 40)
    curve = Curve(
        "frequency (cycles per read)",
        "relative power",
        f,
        power,
        bins,
        *[np.interp(bins, *_sorted(f, model))] * 3,
    )
    likelihood = {"white + 1/f": both[1] / len(power), "white": alone[1] / len(power)}
    white = Figure.model_validate(figure(estimate["white"], "1", source, estimate.error("white")))
    scores = _exponential_scores(power / model)
    fits = [
        Fit(
            "read_noise",
            white,
            tuple(fitted[:1]),
            source,
            len(power) * 2,
            rejected,
            scores,
            likelihood,
            notes,
            curve,
            held_out=False,
        )
    ]
    if has_flicker:
        amplitude = estimate["flicker"]
        covariance = np.zeros((3, 3))
        covariance[0, 0] = estimate.error("flicker") ** 2
        effect = FlickerNoise.model_validate(
            {
                "amplitude": {
                    "value": [amplitude, 0.0, 1.0],
                    "unit": "1",
                    "source": source,
                    "covariance": covariance.tolist(),
                },
                "g_reference": figure(float(np.median(table["conductance"])), "S", source),
                "t_read": figure(period, "s", source),
            }
        )
        fits.append(Fit("flicker_noise", effect, tuple(fitted[1:]), source, len(power) * 2, rejected))
    return fits


def fit_telegraph(table: Measurement) -> tuple[Fit | None, list[int], Fitted]:
    """Look for two states in each trace: a hidden Markov chain with Gaussian readings.

    A trace jumps if two states gain more than the Bayesian information criterion asks for their three
    further figures, with states at least two standard deviations apart.

    Returns:
        The fit, None if no trace jumps; the devices that do; the white noise about their states.
    """
    found, traces, period = {}, 0, 1.0
    for device, rows in enumerate(table.by_device()):
        relative, _, period = _relative(table, rows, clean=False)
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
        "amplitude": figure(pooled[0].value, "1", source, _error(pooled[0])),
        "time_high": figure(pooled[1].value, "s", source, _error(pooled[1])),
        "time_low": figure(pooled[2].value, "s", source, _error(pooled[2])),
    }
    effect = TelegraphNoise.model_validate(fields)
    return Fit("telegraph_noise", effect, tuple(pooled), source, len(table)), list(found), white


def _relative(table: Measurement, rows: np.ndarray, clean: bool = True) -> tuple[Array, int, float]:
    """Relative deviation from the median, with spikes replaced; their number, and the period in seconds."""
    need(len(rows), 64, table, "readings of a trace")
    steps = np.diff(table["time"][rows])
    period = float(np.median(steps))
    if np.abs(steps / period - 1).max() > 0.01:
        row = int(rows[int(np.argmax(np.abs(steps / period - 1))) + 1])
        raise MeasurementError(
            f"{table.source}: column 'time', row {row + 1}: readings are not evenly spaced"
        )
    g = table["conductance"][rows]
    median = float(np.median(g))
    if median <= 0:
        raise MeasurementError(f"{table.source}: column 'conductance': the median of a trace is {median:g} S")
    relative = g / median - 1
    if not clean:
        return relative, 0, period
    padded = np.pad(relative, 3, mode="reflect")
    around = np.median(np.lib.stride_tricks.sliding_window_view(padded, 7), axis=1)
    apart = relative - around
    spikes = np.abs(apart) > _SPIKE * MAD * np.median(np.abs(apart))
    return np.where(spikes, around, relative), int(spikes.sum()), period


def _whittle(power: Array, f: Array, *, flicker: bool) -> tuple[Estimate, float]:
    p, x = torch.from_numpy(power), torch.from_numpy(f)
    white = math.sqrt(float(power.mean()) / 2)
    parameters = [Parameter("white", white)]
    if flicker:
        low = f <= np.quantile(f, 0.05)
        parameters.append(
            Parameter("flicker", math.sqrt(max(float((power * f)[low].mean()), 1e-3 * white**2)))
        )

    def density(q: torch.Tensor) -> torch.Tensor:
        model = 2 * q[0] ** 2 + (q[1] ** 2 / x if flicker else 0 * x)
        return -torch.log(model) - p / model

    estimate = maximize(density, parameters)
    return estimate, estimate.log_likelihood


def _sorted(x: Array, y: Array) -> tuple[Array, Array]:
    order = np.argsort(x)
    return x[order], y[order]


def _exponential_scores(ratio: Array) -> Array:
    """Normal scores of values that should be exponential with mean 1."""
    return np.asarray(norm.ppf(-np.expm1(-ratio).clip(-1 + 1e-12, -1e-12)))


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
    """Average over traces, weighed by their information, of amplitude, time_high and time_low."""
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
        if len(logs) > 2:
            scatter = float(np.sum(np.array(weights) * (np.array(logs) - mean) ** 2)) / (len(logs) - 1)
            error *= math.sqrt(max(scatter, 1.0))
        pooled.append(
            Fitted(name, math.exp(mean), math.exp(mean - 1.96 * error), math.exp(mean + 1.96 * error), unit)
        )
    return pooled


def _error(fitted: Fitted) -> float:
    return (fitted.high - fitted.low) / 3.92

"""Read noise from traces: white and 1/f by their spectrum, random telegraph noise by its two states."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.stats import norm

from device_models.effects import FlickerNoise
from device_models.figures import Figure

from .likelihood import Estimate, Parameter, maximize
from .measurement import Array, Measurement
from .result import Curve, Fit, Fitted, figure
from .telegraph import fit_telegraph, standard_error
from .traces import relative_trace


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
    noise = Figure.model_validate(figure(white.value, "1", jumps.source, standard_error(white)))
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
        relative, spikes, period = relative_trace(table, rows)
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

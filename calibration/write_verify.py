"""Write-verify logs: what one pulse leaves, the tolerance, and the cells that never pass."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.stats import beta, norm

from device_models.effects import WriteVerify

from .likelihood import Parameter, maximize
from .measurement import Measurement, MeasurementError
from .result import Fit, Fitted, figure
from .robust import need


def fit_write_verify(table: Measurement) -> Fit:
    """Fit the spread that one pulse leaves, from the number of pulses of every cell that can pass.

    Pulses to the first pass are geometric, cut at the most that any cell was given. A share of the cells
    never passes (stuck ones): they raise the failures, not the pulses of the others. The tolerance
    is the largest error that passed, without the few that lie apart from all others.

    Raises:
        MeasurementError: if fewer than 30 cells passed, or cells fail before the last pulse.
    """
    use = table["target"] > 0
    passed, pulses = table["passed"][use] == 1, table["pulses"][use]
    error = np.abs(table["conductance"] - table["target"])[use]
    need(int(passed.sum()), 30, table, "cells that passed")
    most = int(pulses.max())
    early = ~passed & (pulses < most)
    if early.any():
        row = int(np.flatnonzero(use)[int(np.argmax(early))])
        raise MeasurementError(
            f"{table.source}: column 'pulses', row {row + 1}: failed after "
            f"{pulses[np.argmax(early)]:g} pulses, but others had {most}; give all cells as many pulses"
        )
    # A pass reads within tolerance; one that does not is an error of the log, at most 2 % of them.
    inside = np.sort(error[passed])
    gaps = np.flatnonzero(inside[1:] > 1.1 * inside[:-1])
    late = gaps[gaps >= int(0.98 * len(inside))]
    tolerance = float(inside[late[0]] if len(late) else inside[-1])
    count, good = torch.from_numpy(pulses), torch.from_numpy(passed)

    def density(p: torch.Tensor) -> torch.Tensor:
        # p: odds of a failing pulse, share of cells that never pass
        fail = p[0] / (1 + p[0])
        never = p[1].clamp(1e-12, 0.5)
        first = torch.log1p(-never) + (count - 1) * torch.log(fail) + torch.log1p(-fail)
        last = torch.log(never + (1 - never) * fail**most)
        return torch.where(good, first, last) + 0.5 * torch.log(never) / len(count)

    share = float(np.mean(pulses[passed] > 1)) or 0.5 / len(pulses)
    estimate = maximize(density, [Parameter("odds", share / max(1 - share, 1e-3)), Parameter("never", 0.02)])
    low, high = estimate.interval("odds")
    sigma, smallest, largest = (
        tolerance / float(norm.isf(o / (1 + o) / 2)) for o in (estimate["odds"], low, high)
    )
    source = f"{table.source}: {int(use.sum())} cells"
    failed = int((~passed).sum())
    interval = beta.ppf([0.025, 0.975], failed + 0.5, len(passed) - failed + 0.5)
    effect = WriteVerify.model_validate(
        {
            "tolerance": figure(tolerance, "S", f"{source}, largest error that passed"),
            "pulse_sigma": figure(sigma, "S", source, (largest - smallest) / 3.92),
            "max_pulses": figure(most, "1", source),
        }
    )
    fitted = (
        Fitted("pulse_sigma", sigma, smallest, largest, "S"),
        Fitted("tolerance", tolerance, tolerance, tolerance * (1 + 3 / len(inside)), "S"),
        Fitted("failed", failed / len(passed), float(interval[0]), float(interval[1]), "1"),
        Fitted("never pass", estimate["never"], *estimate.interval("never"), "1"),
    )
    expected = len(passed) * (estimate["odds"] / (1 + estimate["odds"])) ** most
    extra = max(round(failed - expected), 0)
    notes: tuple[str, ...] = ()
    if extra > 3:
        notes = (f"{extra} cells failed more than chance explains: look at them, they may be stuck",)
    n = np.arange(1, most + 1)
    p = 1 / (1 + estimate["odds"])
    likelihood = {"geometric": estimate.log_likelihood / len(pulses)}
    if most > 3 and passed.sum() > 100:
        observed = np.bincount(pulses[passed].astype(int), minlength=most + 1)[1:]
        model = passed.sum() * p * (1 - p) ** (n - 1) / (1 - (1 - p) ** most)
        chi_square = float(((observed - model) ** 2 / np.maximum(model, 1)).sum()) / (most - 1)
        if chi_square > 1 + 4 * math.sqrt(2 / (most - 1)):
            notes += ("pulses are not geometric: they depend on each other, which the model leaves out",)
    return Fit(
        "write_verify", effect, fitted, source, int(use.sum()), extra, likelihood=likelihood, notes=notes
    )

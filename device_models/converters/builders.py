"""Banks of ADCs by circuit: uniform, flash and ramp. Each draws its errors and returns thresholds."""

from __future__ import annotations

import torch

from .bank import MAX_OFFSET_LSB, ideal_thresholds, normal_errors
from .transfer import Transfer

MAX_STEP_MISMATCH = 0.3


def uniform(bits: int, adcs: int) -> Transfer:
    """Return ideal ADCs: the threshold of code k lies at ``k - 1/2`` LSB."""
    return Transfer(ideal_thresholds(bits, adcs))


def flash(
    bits: int, adcs: int, seed: int, *names: str | int, threshold_offset: float = 0.0, noise: float = 0.0
) -> Transfer:
    """Return flash ADCs: one comparator per threshold, each with its own offset.

    The encoder counts the comparators that have tripped, so that bubbles in the thermometer code do no harm:
    the transfer curve is that of the sorted thresholds.

    Args:
        bits: resolution, 1 to 16.
        adcs: number of ADCs; ADC i is the same whatever their number.
        seed: seed of the stream.
        names: names of the stream.
        threshold_offset: standard deviation of a comparator's offset, in LSB.
        noise: rms noise at the input, in LSB.

    Raises:
        ValueError: if an argument is out of its range.
    """
    ideal = ideal_thresholds(bits, adcs)
    shape = (adcs, ideal.shape[1])
    offsets = normal_errors(
        "threshold_offset", threshold_offset, MAX_OFFSET_LSB, shape, seed, *names, "comparators"
    )
    return Transfer((ideal + offsets).sort(dim=1).values, noise)


def ramp(
    bits: int,
    adcs: int,
    seed: int,
    *names: str | int,
    gain_error: float = 0.0,
    offset: float = 0.0,
    curvature: float = 0.0,
    step_mismatch: float = 0.0,
    comparator_offset: float = 0.0,
    noise: float = 0.0,
) -> Transfer:
    """Return single-slope ADCs: one ramp climbs in steps for the whole bank, each ADC has its comparator.

    A counter stops when the ramp passes the input, so that the threshold of code k is the highest level that
    the ramp has had up to step k.

    Args:
        bits: resolution, 1 to 16.
        adcs: number of ADCs; ADC i is the same whatever their number.
        seed: seed of the stream.
        names: names of the stream.
        gain_error: the ramp is steeper by this fraction.
        offset: the ramp begins higher by this, in LSB.
        curvature: the ramp bows upward by this at mid-scale, in LSB: a parabola that vanishes at both ends.
        step_mismatch: standard deviation of a step relative to itself, 0 to 0.3; common to the bank.
        comparator_offset: standard deviation of a comparator's offset, in LSB.
        noise: rms noise at the input, in LSB.

    Raises:
        ValueError: if an argument is out of its range.
    """
    if not -1 < gain_error < float("inf"):
        raise ValueError(f"gain_error must be above -1 and finite, not {gain_error}")
    ideal = ideal_thresholds(bits, 1)[0]
    steps = normal_errors(
        "step_mismatch", step_mismatch, MAX_STEP_MISMATCH, (len(ideal),), seed, *names, "steps"
    )
    comparators = normal_errors(
        "comparator_offset", comparator_offset, MAX_OFFSET_LSB, (adcs, 1), seed, *names, "comparators"
    )
    along = torch.linspace(0, 1, len(ideal), dtype=torch.float64)
    bow = 4 * curvature * along * (1 - along)
    levels = (1 + gain_error) * (ideal + steps.cumsum(0)) + bow + offset
    return Transfer(levels.cummax(0).values + comparators, noise)

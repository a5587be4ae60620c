"""SAR ADCs: an array of binary-weighted capacitors, the decisions it makes, and the curve they add up to."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .bank import MAX_OFFSET_LSB, check_bank, normal_errors
from .transfer import Transfer

# A unit capacitor ten standard deviations small would vanish; up to here none is ever drawn negative.
MAX_CAPACITOR_MISMATCH = 0.1


@dataclass(frozen=True, eq=False)
class CapacitorArray:
    """The drawn parts of a bank of SAR ADCs.

    Attributes:
        capacitors: float64 ``[adcs, bits + 1]`` in unit capacitors, positive: nominally ``2^(bits-1)`` to 1,
            most significant first, and the terminating unit that is never switched.
        offset: float64 ``[adcs]``, offset of each ADC's comparator, in LSB.
    """

    capacitors: torch.Tensor
    offset: torch.Tensor

    @property
    def weights(self) -> torch.Tensor:
        """Share of the reference that each bit switches, in LSB, ``[adcs, bits]``: ``2^bits C_k / sum C``."""
        bits = self.capacitors.shape[1] - 1
        return self.capacitors[:, :bits] * (2.0**bits / self.capacitors.sum(1, keepdim=True))


def draw_capacitors(
    bits: int,
    adcs: int,
    seed: int,
    *names: str | int,
    unit_capacitor_mismatch: float = 0.0,
    comparator_offset: float = 0.0,
) -> CapacitorArray:
    """Draw the capacitors and comparators of a bank of SAR ADCs; arguments and errors as in ``sar``.

    A capacitor of m units is m unit capacitors side by side, so its relative spread is that of one over
    ``sqrt(m)``.
    """
    check_bank("ADC", bits, adcs)
    units = torch.tensor([*(2.0**k for k in reversed(range(bits))), 1.0], dtype=torch.float64)
    errors = normal_errors(
        "unit_capacitor_mismatch",
        unit_capacitor_mismatch,
        MAX_CAPACITOR_MISMATCH,
        (adcs, bits + 1),
        seed,
        *names,
        "capacitors",
    )
    offset = normal_errors(
        "comparator_offset", comparator_offset, MAX_OFFSET_LSB, (adcs,), seed, *names, "comparators"
    )
    return CapacitorArray(units + units.sqrt() * errors, offset)


def sar(
    bits: int,
    adcs: int,
    seed: int,
    *names: str | int,
    unit_capacitor_mismatch: float = 0.0,
    comparator_offset: float = 0.0,
    noise: float = 0.0,
) -> Transfer:
    """Return SAR ADCs with mismatched capacitors, an array of ``2^bits`` units each, and one comparator each.

    To first order in the mismatch s, and in LSB of the nominal scale, the width of the code below mid-scale
    spreads by ``s * sqrt(2^bits - 1 - 2^-bits)``, and the mid-scale threshold by ``s * sqrt(2^bits) / 2``.

    Args:
        bits: resolution, 1 to 16.
        adcs: number of ADCs; ADC i is the same whatever their number.
        seed: seed of the stream.
        names: names of the stream.
        unit_capacitor_mismatch: standard deviation of a unit capacitor relative to itself, 0 to 0.1.
        comparator_offset: standard deviation of the comparator's offset, in LSB.
        noise: rms noise at the input, in LSB; one draw per conversion.

    Raises:
        ValueError: if an argument is out of its range.
    """
    array = draw_capacitors(
        bits,
        adcs,
        seed,
        *names,
        unit_capacitor_mismatch=unit_capacitor_mismatch,
        comparator_offset=comparator_offset,
    )
    levels = torch.zeros(adcs, 1, dtype=torch.float64)
    for weight in array.weights.T:  # each level with the bit off and on; a product would round by adcs
        levels = torch.stack([levels, levels + weight[:, None]], 2).reshape(adcs, -1)
    # Two inputs share every decision up to the first that differs, and there the larger one keeps its bit:
    # the code never falls as the input grows. A code from k upward comes from the lowest of their levels.
    lowest = levels[:, 1:].flip(1).cummin(1).values.flip(1)
    return Transfer(lowest - 0.5 + array.offset[:, None], noise)


def sar_convert(
    x: torch.Tensor, array: CapacitorArray, noise: float = 0.0, draws: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the codes that a bank of SAR ADCs decides, bit by bit, with noise at each decision.

    Args:
        x: inputs in LSB, ``[..., adcs]``; half an LSB is added when they are sampled.
        array: capacitors and comparator offsets of the bank.
        noise: rms noise of the comparator at one decision, in LSB.
        draws: standard normal draws ``[bits, ..., adcs]``; given if, and only if, there is noise.

    Returns:
        int64 codes of the shape of ``x``.

    Raises:
        ValueError: if a shape does not fit, or draws are missing or not wanted, or the noise is negative.
    """
    adcs, bits = array.weights.shape
    if x.ndim == 0 or x.shape[-1] != adcs:
        raise ValueError(f"inputs must end in an axis of {adcs} ADCs, not have shape {[*x.shape]}")
    if not 0 <= noise < float("inf"):
        raise ValueError(f"noise must be 0 or more LSB and finite, not {noise}")
    if (noise > 0) != (draws is not None) or (draws is not None and draws.shape != (bits, *x.shape)):
        raise ValueError(f"draws of shape {[bits, *x.shape]} go with noise > 0, and none with noise 0")
    sampled = x.to(torch.float64) + 0.5 - array.offset
    level = torch.zeros_like(sampled)
    codes = torch.zeros(x.shape, dtype=torch.int64, device=x.device)
    for bit, weight in enumerate(array.weights.T):
        trial = level + weight
        keep = (sampled if draws is None else sampled + noise * draws[bit]) >= trial
        level = torch.where(keep, trial, level)
        codes = 2 * codes + keep
    return codes

"""What the converters of a bank are drawn from: their ideal thresholds, and normal errors of one figure."""

from __future__ import annotations

import torch

from device_models.random import stream

MAX_BITS = 16
MAX_OFFSET_LSB = 1e4


def check_bank(part: str, bits: int, count: int) -> None:
    """Raise ValueError unless a bank of ``count`` converters of ``bits`` bits can be drawn."""
    if not 1 <= bits <= MAX_BITS:
        raise ValueError(f"{part} bits must be 1 to {MAX_BITS}, not {bits}")
    if count < 1:
        raise ValueError(f"a bank has at least 1 {part}, not {count}")


def ideal_thresholds(bits: int, adcs: int) -> torch.Tensor:
    """Return ``k - 1/2`` for the codes k = 1 to ``2^bits - 1``, in LSB, float64 ``[adcs, 2^bits - 1]``."""
    check_bank("ADC", bits, adcs)
    return (torch.arange(1, 1 << bits, dtype=torch.float64) - 0.5).repeat(adcs, 1)


def normal_errors(
    figure: str, sigma: float, most: float, shape: tuple[int, ...], seed: int, *names: str | int
) -> torch.Tensor:
    """Return normal errors of standard deviation ``sigma``, float64, from the stream of ``names``.

    The first axis is filled first, so that converter i draws the same whatever the length of that axis.

    Raises:
        ValueError: if ``sigma`` is not between 0 and ``most``; the message names the ``figure``.
    """
    if not 0 <= sigma <= most:
        raise ValueError(f"{figure} must be 0 to {most:g}, not {sigma}")
    return torch.from_numpy(sigma * stream(seed, *names).standard_normal(shape))

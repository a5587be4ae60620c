"""The bit-line side without errors: a uniform ADC that rounds to the nearest code and saturates."""

from __future__ import annotations

import torch


def adc(current: torch.Tensor, lsb: float, bits: int | torch.Tensor) -> torch.Tensor:
    """Return ADC codes ``clip(floor(current / lsb + 1/2), 0, 2^bits - 1)`` as int64.

    Args:
        current: currents in ampere, any shape.
        lsb: current of one least significant bit, in ampere.
        bits: resolution; a number, or an integer tensor that broadcasts with ``current``.
    """
    top = 2 ** torch.as_tensor(bits, dtype=torch.int64, device=current.device) - 1
    codes = torch.floor(current / lsb + 0.5).to(torch.int64)
    return codes.clamp(min=torch.zeros_like(top), max=top)

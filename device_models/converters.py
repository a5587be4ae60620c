"""The converters around an array: DAC at the word lines, ADC at the bit lines.

The DAC is bit-serial: an input becomes an unsigned code, and cycle ``b`` drives every word line with bit
``b`` of its code, as 0 V or the read voltage. The ADC is uniform: it turns a current into the nearest whole
number of least significant bits and saturates at both ends of its range.
"""

from __future__ import annotations

import torch

MAX_DAC_BITS = 16


def lossless_bits(active_cells: int, levels: int, dac_bits: int = 1) -> int:
    """Return the fewest ADC bits that lose nothing: ``ceil(log2(l * (2^v - 1) * levels + 1))``, at least 1.

    Source: TinyADC (DATE 2021), in exact integer form; ``l`` cells of a column conduct, and each carries at
    most ``(2^v - 1) * levels`` least significant bits in one cycle.

    Args:
        active_cells: l, most conducting cells in any one column.
        levels: conducting levels of a cell.
        dac_bits: v, input bits that are applied in one cycle (1 = bit-serial).

    Raises:
        ValueError: if there are fewer than 0 cells, 1 level or 1 bit.
    """
    if active_cells < 0 or levels < 1 or dac_bits < 1:
        raise ValueError(
            f"an ADC needs active_cells >= 0, levels >= 1 and dac_bits >= 1, "
            f"not {active_cells}, {levels}, {dac_bits}"
        )
    return max(1, (active_cells * ((1 << dac_bits) - 1) * levels).bit_length())


def dac_codes(x: torch.Tensor, scale: float, bits: int) -> torch.Tensor:
    """Return the unsigned codes of ``x``: the nearest step, 0 below zero, full scale above ``scale``.

    Args:
        x: inputs, float, any shape.
        scale: input that the full-scale code ``2^bits - 1`` stands for.
        bits: resolution of the DAC, 1 to 16.

    Returns:
        Codes of the shape of ``x``: uint8 up to 8 bits, int32 above.

    Raises:
        ValueError: if ``scale`` is not positive or ``bits`` is out of range.
    """
    if not 0 < scale < float("inf"):
        raise ValueError(f"input scale must be positive and finite, not {scale}")
    if not 1 <= bits <= MAX_DAC_BITS:
        raise ValueError(f"DAC bits must be 1 to {MAX_DAC_BITS}, not {bits}")
    top = (1 << bits) - 1
    codes = (x * (top / scale)).round_().clamp_(0, top)
    return codes.to(torch.uint8 if bits <= 8 else torch.int32)


def bit_planes(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Return the bits of unsigned ``codes``, least significant first, ``[bits, *codes.shape]``."""
    return torch.stack([(codes >> bit) & 1 for bit in range(bits)])


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

"""How many bits an ADC needs so that it loses nothing of what a column can say."""

from __future__ import annotations


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

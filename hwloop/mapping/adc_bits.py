"""ADC resolutions that lose nothing: by how many cells of a bit line conduct, and by the cells themselves."""

from __future__ import annotations

import torch

from device_models.converters import lossless_bits

from .conductance_map import UNUSED_LINE, LayerMap


def tile_adc_bits(codes: torch.Tensor, levels: int) -> torch.Tensor:
    """Return the lossless ADC resolution of each tile, for one input bit per cycle.

    The worst bit line of the tile's arrays decides: the one with most conducting cells.

    Args:
        codes: uint8 ``[tiles, polarity, slice, rows, cols]``.
        levels: conducting levels of a cell.

    Returns:
        uint8 ``[tiles]``.
    """
    most = (codes != 0).sum(dim=3).amax(dim=(1, 2, 3)).tolist()
    bits = {cells: lossless_bits(cells, levels) for cells in set(most)}
    return torch.tensor([bits[cells] for cells in most], dtype=torch.uint8)


def exact_adc_bits(layer: LayerMap, dac_slice: int = 1, rows_at_once: int | None = None) -> torch.Tensor:
    """Return the fewest ADC bits with which each bit line loses nothing, whatever the input.

    A converter must hold the largest sum that the levels of its bit line can give under inputs of
    ``2^dac_slice - 1``: ``ceil(log2(sum * (2^dac_slice - 1) + 1))``, at least 1.

    Args:
        layer: the layer.
        dac_slice: input bits that are applied in one cycle (1 = bit-serial).
        rows_at_once: used word lines that are driven in one cycle, in groups of neighbours of which the worst
            decides; None = all.

    Returns:
        int64 ``[tiles, polarity, slice, cols]``.

    Raises:
        ValueError: if ``dac_slice`` or ``rows_at_once`` is below 1.
    """
    if dac_slice < 1 or (rows_at_once is not None and rows_at_once < 1):
        raise ValueError(f"dac_slice and rows_at_once are at least 1, not {dac_slice} and {rows_at_once}")
    most = torch.zeros(layer.codes.shape[:3] + layer.codes.shape[4:], dtype=torch.int64)
    for tile, cells in enumerate(layer.codes):
        used = (layer.row_index[tile] != UNUSED_LINE).nonzero()[:, 0]
        for group in used.split(rows_at_once or max(1, len(used))):
            torch.maximum(most[tile], cells[:, :, group].sum(dim=2), out=most[tile])
    # The exponent of a whole number as a float is its length in binary.
    bits = torch.frexp((most * ((1 << dac_slice) - 1)).to(torch.float64)).exponent
    return bits.to(torch.int64).clamp(min=1)

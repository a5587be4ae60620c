"""Pictures of tiles: which cells are there, of which polarity, at which level."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.image import imsave

from hwloop.mapping import NEGATIVE, POSITIVE, UNUSED_LINE, LayerMap

SHOWN = 48
"""Tiles of one layer that are shown as pictures."""

_POSITIVE, _NEGATIVE = (0x2A, 0x6F, 0xDB), (0xD9, 0x82, 0x1E)


@dataclass(frozen=True)
class TilePicture:
    """One tile as the page shows it.

    Attributes:
        image: PNG as a data URL, one pixel per cell, absent cells transparent.
        number: index of the tile in its layer.
        word_lines, bit_lines: used lines.
        cells: kept weights.
        adc_bits: resolution of its converters.
    """

    image: str
    number: int
    word_lines: int
    bit_lines: int
    cells: int
    adc_bits: int


def pictures(layer: LayerMap, levels: int) -> list[TilePicture]:
    """Return pictures of the first :data:`SHOWN` tiles of a layer.

    Args:
        layer: the layer.
        levels: conducting levels of the card; the highest is drawn opaque.
    """
    return [_picture(layer, tile, levels) for tile in range(min(layer.tiles, SHOWN))]


def _picture(layer: LayerMap, tile: int, levels: int) -> TilePicture:
    codes = layer.codes[tile].sum(dim=1).numpy().astype(np.float64) / levels
    pixels = np.zeros((*codes.shape[1:], 4), dtype=np.uint8)
    for polarity, colour in ((POSITIVE, _POSITIVE), (NEGATIVE, _NEGATIVE)):
        there = codes[polarity] > 0
        pixels[there, :3] = colour
        pixels[there, 3] = np.rint(255 * (0.3 + 0.7 * codes[polarity][there].clip(max=1)))
    buffer = io.BytesIO()
    imsave(buffer, pixels, format="png", metadata={"Software": "hwloop"})
    return TilePicture(
        image="data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(),
        number=tile,
        word_lines=int((layer.row_index[tile] != UNUSED_LINE).sum()),
        bit_lines=int((layer.col_index[tile] != UNUSED_LINE).sum()),
        cells=int(torch.count_nonzero(layer.mask[tile])),
        adc_bits=int(layer.adc_bits[tile]),
    )

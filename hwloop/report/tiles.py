"""Pictures of tiles: which weights are there, of which sign, and how large."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.image import imsave

from hwloop.mapping import UNUSED_LINE, LayerMap, decode, largest_code

SHOWN = 96
"""Tiles that are shown as pictures, over all layers."""

_POSITIVE, _NEGATIVE = (0x2A, 0x6F, 0xDB), (0xD9, 0x82, 0x1E)


@dataclass(frozen=True)
class TilePicture:
    """One tile as the page shows it.

    Attributes:
        image: PNG as a data URL, one pixel per weight, pruned ones transparent.
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


def pictures(layer: LayerMap, levels: int, chosen: Sequence[int]) -> list[TilePicture]:
    """Return pictures of some tiles of a layer.

    Args:
        layer: the layer.
        chosen: the tiles.
        levels: conducting levels of the card; the largest weight that they can hold is drawn opaque.
    """
    largest = largest_code(layer.encoding, levels, layer.slices)
    weights = decode(layer, levels).numpy() / largest
    return [_picture(layer, tile, weights[tile]) for tile in chosen]


def _picture(layer: LayerMap, tile: int, weights: np.ndarray) -> TilePicture:
    pixels = np.zeros((*weights.shape, 4), dtype=np.uint8)
    for there, colour in ((weights > 0, _POSITIVE), (weights < 0, _NEGATIVE)):
        pixels[there, :3] = colour
        pixels[there, 3] = np.rint(255 * (0.3 + 0.7 * np.abs(weights[there])))
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

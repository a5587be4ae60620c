"""Small chips and maps whose cost can be worked out by hand."""

from __future__ import annotations

import torch

from device_models.card import load_card
from hwloop.cost import ChipFacts, LayerFacts, TileFacts
from hwloop.mapping import UNUSED_LINE, ConductanceMap, LayerMap

ARRAY = (128, 128)


def full_layer(
    tiles: int = 1, bits: int = 8, vectors: int = 1, arrays: int = 2, signed: bool = False
) -> LayerFacts:
    return LayerFacts((TileFacts(*ARRAY, bits),) * tiles, arrays, vectors, signed)


def full_chip(
    tiles: int = 1, bits: int = 8, vectors: int = 1, arrays: int = 2, signed: bool = False
) -> ChipFacts:
    return ChipFacts(ARRAY, {"fc": full_layer(tiles, bits, vectors, arrays, signed)})


def one_layer_map(
    rows: list[list[int]],
    cols: list[list[int]],
    array: tuple[int, int],
    matrix: tuple[int, int],
    bits: list[int],
) -> ConductanceMap:
    """A map of one linear layer, with the given matrix rows and columns in each tile."""

    def index(lines: list[list[int]], extent: int) -> torch.Tensor:
        return torch.tensor(
            [tile + [UNUSED_LINE] * (extent - len(tile)) for tile in lines], dtype=torch.int32
        )

    layer = LayerMap(
        name="fc",
        kind="linear",
        weight_shape=(matrix[1], matrix[0]),
        groups=1,
        codes=torch.ones(len(rows), 2, 1, *array, dtype=torch.uint8),
        row_index=index(rows, array[0]),
        col_index=index(cols, array[1]),
        weight_per_siemens=1.0,
        input_scale=1.0,
        input_signed=False,
        adc_bits=torch.tensor(bits, dtype=torch.uint8),
    )
    return ConductanceMap("m:f", load_card("ideal"), array, {"fc": layer}, {})

"""Conductance maps made by hand, for tests of what reads them."""

from __future__ import annotations

import numpy as np
import torch

from device_models import DeviceCard, load_card, stream
from device_models.converters import lossless_bits
from hwloop.mapping import UNUSED_LINE, ConductanceMap, LayerMap


def random_layer(
    name: str = "fc",
    *,
    matrix_shape: tuple[int, int] = (20, 12),
    array_shape: tuple[int, int] = (8, 8),
    density: float = 0.5,
    levels: int = 15,
    spare_bits: int = 0,
    signed: bool = False,
    scale: float = 2.5,
    seed: int = 0,
) -> LayerMap:
    """A linear layer with random codes, whose lines are shuffled over tiles that leave some lines unused.

    Args:
        spare_bits: bits that each tile's ADC has more (or, if negative, fewer) than it needs to lose nothing.
    """
    rng = stream(seed, "map", name)
    rows, cols = matrix_shape
    magnitude = rng.integers(1, levels + 1, matrix_shape) * (rng.random(matrix_shape) < density)
    matrix = magnitude * rng.choice([-1, 1], matrix_shape)
    height, width = array_shape[0] - 1, array_shape[1] - 1
    row_order, col_order = rng.permutation(rows), rng.permutation(cols)
    places = [
        (row_order[top : top + height], col_order[left : left + width])
        for top in range(0, rows, height)
        for left in range(0, cols, width)
    ]
    codes = np.zeros((len(places), 2, 1, *array_shape), np.uint8)
    row_index = np.full((len(places), array_shape[0]), UNUSED_LINE, np.int32)
    col_index = np.full((len(places), array_shape[1]), UNUSED_LINE, np.int32)
    bits = np.zeros(len(places), np.uint8)
    for tile, (r, c) in enumerate(places):
        block = matrix[np.ix_(r, c)]
        for polarity, sign in enumerate((1, -1)):
            codes[tile, polarity, 0, : len(r), : len(c)] = np.clip(sign * block, 0, None)
        row_index[tile, : len(r)], col_index[tile, : len(c)] = r, c
        active = int((codes[tile, :, 0] > 0).sum(axis=1).max())
        bits[tile] = max(1, lossless_bits(active, levels) + spare_bits)
    return LayerMap(
        name=name,
        kind="linear",
        weight_shape=(cols, rows),
        groups=1,
        codes=torch.from_numpy(codes),
        row_index=torch.from_numpy(row_index),
        col_index=torch.from_numpy(col_index),
        weight_per_siemens=1e4,
        input_scale=scale,
        input_signed=signed,
        adc_bits=torch.from_numpy(bits),
    )


def map_of(*layers: LayerMap, card: str | DeviceCard = "ideal") -> ConductanceMap:
    """A map of these layers on a device card."""
    whole = load_card(card) if isinstance(card, str) else card
    array_shape = (layers[0].codes.shape[3], layers[0].codes.shape[4])
    return ConductanceMap("tests:none", whole, array_shape, {layer.name: layer for layer in layers}, {})


def card_with(*, read_noise: float, programming_error: float = 0.0) -> DeviceCard:
    """The ideal card with read noise, and a programming error that is the same at all levels, in siemens."""
    card = load_card("ideal").model_dump()
    card["read_noise"]["value"] = read_noise
    card["programming_error"]["coefficients"]["value"] = (programming_error,)
    return DeviceCard.model_validate(card)

"""Small conductance maps for the tests."""

import numpy as np
import torch

from device_models.card import load_card
from hwloop.mapping import ConductanceMap, LayerMap, encode, form_tiles


def layer(name, rows, cols, array_shape, rng, kept=0.5, signed=False, card=None):
    signs = rng.integers(-card.levels, card.levels + 1, (rows, cols)) * (rng.random((rows, cols)) < kept)
    blocks, row_index, col_index = form_tiles(torch.from_numpy(signs.astype(np.int8)), array_shape)
    codes = encode(blocks, row_index, col_index, "differential", card.levels, 1).codes
    return LayerMap(
        name=name,
        kind="linear",
        weight_shape=(cols, rows),
        groups=1,
        codes=codes,
        row_index=row_index,
        col_index=col_index,
        weight_per_siemens=2e4,
        input_scale=1.0,
        input_signed=signed,
        adc_bits=torch.full((len(codes),), 10, dtype=torch.uint8),
    )


def random_map(shapes, array_shape=(8, 8), seed=0, card="rram-neurram", signed=False):
    """A map with one layer of each of ``shapes``, named fc0, fc1, ..."""
    rng, device = np.random.default_rng(seed), load_card(card)
    layers = {
        f"fc{k}": layer(f"fc{k}", *shape, array_shape, rng, signed=signed, card=device)
        for k, shape in enumerate(shapes)
    }
    return ConductanceMap("tests.spice:none", device, array_shape, layers, {})

"""Small conductance maps for the tests."""

import numpy as np
import torch

from device_models.card import load_card
from hwloop.mapping import ConductanceMap, LayerMap, encode, form_tiles, fragment_of_rows


def layer(name, rows, cols, array_shape, rng, kept=0.5, signed=False, card=None, fragment=None):
    """A random layer; with word lines of a fragment, its weights are polarised."""
    signs = rng.integers(-card.levels, card.levels + 1, (rows, cols)) * (rng.random((rows, cols)) < kept)
    codes, encoding = torch.from_numpy(signs.astype(np.int8)), "differential"
    if fragment is not None:
        encoding = "polarised"
        fragments = fragment_of_rows(codes, array_shape, 1, fragment)
        codes = codes.abs() * torch.from_numpy(rng.choice([-1, 1], signs.shape).astype(np.int8))[fragments]
    blocks, row_index, col_index = form_tiles(codes, array_shape, 1, fragment or 1)
    cells = encode(blocks, row_index, col_index, encoding, card.levels, 1, fragment or 1)
    return LayerMap(
        name=name,
        kind="linear",
        weight_shape=(cols, rows),
        groups=1,
        row_index=row_index,
        col_index=col_index,
        weight_per_siemens=2e4,
        input_scale=1.0,
        input_signed=signed,
        adc_bits=torch.full((len(blocks),), 10, dtype=torch.uint8),
        **cells._asdict(),
    )


def random_map(shapes, array_shape=(8, 8), seed=0, card="rram-neurram", signed=False, fragment=None):
    """A map with one layer of each of ``shapes``, named fc0, fc1, ..."""
    rng, device = np.random.default_rng(seed), load_card(card)
    layers = {
        f"fc{k}": layer(f"fc{k}", *shape, array_shape, rng, signed=signed, card=device, fragment=fragment)
        for k, shape in enumerate(shapes)
    }
    return ConductanceMap("tests.spice:none", device, array_shape, layers, {})

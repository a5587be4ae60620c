"""A network on a conductance map, small enough to be read cell by cell."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from device_models import load_card
from hwloop.hardware import calibrate_inputs, network_from_map
from hwloop.mapping import ConductanceMap, build_map, write_map
from hwloop.networks import build_network, crossbar_layers, to_matrix
from hwloop.recipe import load_recipe
from tests.line.tiny import NETWORK, write_recipe


def tiny_map(card: str = "rram-neurram", seed: int = 0) -> tuple[nn.Module, ConductanceMap]:
    """An untrained network for 8x8 images, and its map on arrays of 16x16."""
    net = build_network(NETWORK, seed)
    whole = load_card(card)
    quantized = {}
    for name, layer in crossbar_layers(net).items():
        matrix = to_matrix(layer).detach()
        scale = float(matrix.abs().max()) / whole.levels
        quantized[name] = ((matrix / scale).round().to(torch.int8), scale)
    x = torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    scales = calibrate_inputs(net, x)
    mapped = build_map(NETWORK, net, quantized, whole, (16, 16), scales)
    return network_from_map(net, mapped), mapped


def write_tiny(folder: Path, card: str = "rram-neurram") -> tuple[Path, Path]:
    """Write the map of :func:`tiny_map` and a recipe that goes with it."""
    recipe = write_recipe(folder, hardware=f'rows = 16\ncols = 16\ncard = "{card}"')
    load_recipe(recipe)
    write_map(tiny_map(card)[1], folder / "maps.h5")
    return folder / "maps.h5", recipe

"""What every back end refuses, in the same words."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

import torch

from hwloop.mapping import ConductanceMap, LayerMap
from hwloop.recipe import Readout

Programmed = TypeVar("Programmed")


def layers_to_program(conductance_map: ConductanceMap, layers: Collection[str] | None) -> dict[str, LayerMap]:
    """Return the layers of a map that are to be programmed, in the order of the network; None = all.

    Raises:
        ValueError: if the map has no such layer.
    """
    if layers is None:
        return conductance_map.layers
    if unknown := set(layers) - conductance_map.layers.keys():
        raise ValueError(
            f"no layer {min(unknown)!r} in the map, so it cannot be programmed; "
            f"there are {', '.join(conductance_map.layers)}"
        )
    return {name: layer for name, layer in conductance_map.layers.items() if name in layers}


def programmed_layer(layers: Mapping[str, Programmed], name: str) -> Programmed:
    """Return what was programmed for a layer.

    Raises:
        RuntimeError: if nothing is programmed.
        KeyError: if there is no such layer.
    """
    if not layers:
        raise RuntimeError("no conductance map is programmed; call program first")
    if name not in layers:
        raise KeyError(f"no layer {name!r} is programmed; there are {', '.join(layers)}")
    return layers[name]


def check_one_copy(readout: Readout, holder: str) -> None:
    """Raise ValueError if a readout asks for copies; ``holder`` says, with its verb, what has but one."""
    if readout.most_copies > 1:
        raise ValueError(f"{holder}, but hardware.copies is {readout.most_copies}; set it to 1")


def check_inputs(layer: str, inputs: torch.Tensor, rows: int) -> None:
    """Raise ValueError unless ``inputs`` is ``[batch, rows]`` and finite."""
    if inputs.ndim != 2 or inputs.shape[1] != rows:
        raise ValueError(f"layer {layer}: inputs are {list(inputs.shape)}, must be [batch, {rows}]")
    # A sum is NaN or infinite as soon as one term is; only then is a second look worth its time.
    if not torch.isfinite(inputs.sum()) and not torch.isfinite(inputs).all():
        raise ValueError(f"layer {layer}: inputs hold values that are not finite")

"""What every back end refuses, in the same words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch

Programmed = TypeVar("Programmed")


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


def check_inputs(layer: str, inputs: torch.Tensor, rows: int) -> None:
    """Raise ValueError unless ``inputs`` is ``[batch, rows]`` and finite."""
    if inputs.ndim != 2 or inputs.shape[1] != rows:
        raise ValueError(f"layer {layer}: inputs are {list(inputs.shape)}, must be [batch, {rows}]")
    # A sum is NaN or infinite as soon as one term is; only then is a second look worth its time.
    if not torch.isfinite(inputs.sum()) and not torch.isfinite(inputs).all():
        raise ValueError(f"layer {layer}: inputs hold values that are not finite")

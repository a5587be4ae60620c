"""Pruning that sees the circuit: what wires take of the currents of arrays is part of what is learned.

A weight of magnitude ``w`` is programmed as ``w / w_max * g_max`` siemens, on the tiles of the pruned layer.
The penalty is the squared loss of effective conductance over the squared conductances, by the exact solver
and its adjoint; training then keeps large conductances from sharing lines. Each step looks at a few tiles,
drawn by chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import nn

from device_models.crossbar import Wires, effective_conductance
from hwloop.mapping import wires_of
from hwloop.mapping.tiles import tile_lines
from hwloop.networks import crossbar_layers, to_matrix

ARRAYS_PER_STEP = 2


class Circuit(NamedTuple):
    """What the penalty must know of the arrays: wires, and the conductance of a layer's largest weight."""

    wires: Wires
    g_max: float


class IrDrop:
    """The penalty of a network's arrays.

    Args:
        net: the network; its weights are looked at each time.
        masks: bool ``[rows, cols]`` for each crossbar layer.
        wires: wire figures of every array.
        g_max: conductance of the largest weight of a layer, in siemens.
        array: word lines and bit lines of one array.
        strength: by which the penalty is multiplied.
    """

    def __init__(
        self,
        net: nn.Module,
        masks: Mapping[str, torch.Tensor],
        wires: Wires,
        g_max: float,
        array: tuple[int, int],
        strength: float,
    ) -> None:
        self._layers, self._wires, self._g_max, self._strength = crossbar_layers(net), wires, g_max, strength
        self._tiles = [
            (name, torch.from_numpy(rows), torch.from_numpy(cols))
            for name, mask in masks.items()
            for rows, cols in tile_lines(mask, array, getattr(self._layers[name], "groups", 1))
        ]

    def __call__(self) -> torch.Tensor:
        """Return the penalty over a few arrays; differentiable in the weights."""
        # Of torch's own generator, which training seeds anew for each epoch.
        chosen = torch.randint(len(self._tiles), (ARRAYS_PER_STEP,))
        return self._strength * torch.stack([self.of_tile(int(number)) for number in chosen]).mean()

    @property
    def tiles(self) -> int:
        """How many tiles there are."""
        return len(self._tiles)

    def of_tile(self, number: int) -> torch.Tensor:
        """Return the squared loss of one tile's conductances over their squares, of both polarities."""
        name, rows, cols = self._tiles[number]
        matrix = to_matrix(self._layers[name])
        block = matrix[rows][:, cols] * (self._g_max / matrix.detach().abs().max().clamp(min=1e-30))
        cells = torch.stack([block.clamp(min=0), (-block).clamp(min=0)])
        lost = cells - effective_conductance(cells, wires_of(self._wires, name))
        return lost.square().sum() / cells.detach().square().sum().clamp(min=1e-30)

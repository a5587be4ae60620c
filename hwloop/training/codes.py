"""Weights in training and codes in a map: how the one becomes the other, and what keeps them within it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import torch
from torch import nn

from hwloop.mapping import ConductanceMap, LayerMap, LevelSet, encode, largest_code
from hwloop.networks import CrossbarLayer, to_matrix


class HoldsLayer(Protocol):
    """A module that stands for a crossbar layer and keeps it as ``layer``."""

    name: str
    layer: CrossbarLayer


class Codes:
    """The weights of crossbar layers in training, as the codes of a map.

    Masks, scales, encoding and tiles are the map's and stay. A kept weight stays off zero, at code 1 or
    above, but may change its sign, except in polarised fragments; a pruned one stays zero.

    Args:
        conductance_map: where the training started.
        holders: for each crossbar layer the module that holds its weight.
    """

    def __init__(self, conductance_map: ConductanceMap, holders: Mapping[str, HoldsLayer]) -> None:
        self._map, self._holders = conductance_map, holders
        self._kept, self._signs = {}, {}
        for name, holder in holders.items():
            weight = holder.layer.weight.detach()
            self._kept[name] = weight != 0
            if conductance_map.layers[name].encoding == "polarised":
                self._signs[name] = weight.sign()

    def level_set(self, name: str) -> LevelSet:
        """Weights that the cells of a layer can hold."""
        layer, card = self._map.layers[name], self._map.card
        largest = largest_code(layer.encoding, card.levels, layer.slices)
        return LevelSet(layer.weight_per_siemens * card.g_step, largest)

    def constrain(self) -> None:
        """Set pruned weights back to zero, and keep the others within the levels and off zero."""
        for name, holder in self._holders.items():
            weight, kept, levels = holder.layer.weight.data, self._kept[name], self.level_set(name)
            weight.clamp_(-levels.scale * levels.levels, levels.scale * levels.levels)
            weight.mul_(kept)
            if (signs := self._signs.get(name)) is None:
                weight.masked_fill_(kept & (weight == 0), levels.scale)
            else:
                weight.copy_(torch.where(weight * signs > 0, weight, levels.scale * signs))

    def matrix(self, name: str) -> torch.Tensor:
        """Weight codes that a layer has reached, int8 ``[matrix_rows, matrix_cols]``."""
        return self.level_set(name).codes(to_matrix(self._holders[name].layer).detach())

    def reached(self, running: nn.Module) -> ConductanceMap:
        """Return the map as weights and digital parameters are now.

        Args:
            running: the network that holds the modules, each under the name of its layer.
        """
        levels = self._map.card.levels
        layers = {
            name: _with_codes(self._map.layers[name], self.matrix(name), levels) for name in self._holders
        }
        state = running.state_dict()
        held = list(self._holders.values())
        places = [name for name, module in running.named_modules(remove_duplicate=False) if module in held]
        for name in places:
            prefix = f"{name}.layer."
            for key in [key for key in state if key.startswith(prefix)]:
                state[f"{name}.{key.removeprefix(prefix)}"] = state.pop(key)
        digital = {name: state[name].detach().cpu().clone() for name in self._map.digital}
        return replace(self._map, layers=self._map.layers | layers, digital=digital)


def _with_codes(layer: LayerMap, matrix: torch.Tensor, levels: int) -> LayerMap:
    """Return a layer that holds other weight codes ``[matrix_rows, matrix_cols]`` in the same places."""
    rows, cols = layer.row_index.long().clamp(min=0), layer.col_index.long().clamp(min=0)
    blocks = matrix[rows[:, :, None], cols[:, None, :]] * layer.mask
    cells = encode(
        blocks, layer.row_index, layer.col_index, layer.encoding, levels, layer.slices, layer.fragment
    )
    return replace(layer, actual=None, **cells._asdict())

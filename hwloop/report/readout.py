"""What happens inside the arrays while they are read: voltages lost on wires, and codes of the ADCs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from device_models.crossbar import Wires, factorize
from hwloop.mapping import UNUSED_LINE, ConductanceMap, LayerMap, wires_of


@dataclass(frozen=True)
class VoltageLoss:
    """Voltage missing across the crossings of one tile, with every used word line at the read voltage.

    Attributes:
        layer: name of the layer.
        tile: index of the tile in the layer.
        slice: slice of its weights.
        loss: volt, float64 ``[polarity, rows, cols]``; NaN on lines that the tile does not use.
    """

    layer: str
    tile: int
    slice: int
    loss: np.ndarray


@dataclass(frozen=True)
class AdcHistogram:
    """How often each ADC code occurred while a layer was read.

    Attributes:
        counts: number of conversions for each code from 0 to the largest that an ADC of the layer has.
    """

    counts: list[int]

    @property
    def bits(self) -> int:
        """Resolution of the layer's widest converter."""
        return self.full_scale.bit_length()

    @property
    def full_scale(self) -> int:
        """Largest code of the converter."""
        return len(self.counts) - 1

    @property
    def largest(self) -> int:
        """Largest code that occurred."""
        return max((code for code, count in enumerate(self.counts) if count), default=0)


def worst_voltage_loss(conductance_map: ConductanceMap, wires: Wires) -> VoltageLoss:
    """Return the voltage lost over the tile that conducts most, in the slice that does.

    Args:
        conductance_map: a programmed map.
        wires: wire figures of the arrays.

    Raises:
        ValueError: if the map is not programmed.
    """
    layers = {name: layer for name, layer in conductance_map.layers.items() if layer.tiles}
    totals = {name: _actual(layer).sum(dim=(1, 2, 3, 4)) for name, layer in layers.items()}
    name = max(totals, key=lambda name: float(totals[name].max()))
    layer, tile = conductance_map.layers[name], int(totals[name].argmax())
    part = int(_actual(layer)[tile].sum(dim=(0, 2, 3)).argmax())
    g = _actual(layer)[tile, :, part]
    rows_used, cols_used = layer.row_index[tile] != UNUSED_LINE, layer.col_index[tile] != UNUSED_LINE
    read_voltage = conductance_map.card.read_voltage.value
    voltages = (rows_used * read_voltage).double().expand(len(g), 1, -1)
    word, bit = factorize(g, wires_of(wires, name)).node_voltages(voltages)
    loss = read_voltage - (word - bit)[:, 0]
    return VoltageLoss(name, tile, part, torch.where(rows_used[:, None] & cols_used, loss, torch.nan).numpy())


def _actual(layer: LayerMap) -> torch.Tensor:
    if layer.actual is None:
        raise ValueError(f"layer {layer.name}: not programmed")
    return layer.actual.double()

"""Area, power and energy of the arrays that hold a conductance map, with the parts around them.

Counted: cells, one-bit word-line DACs, sample-and-hold circuits, ADCs, and the shift-and-add units that
join input bits. Not counted: registers, buffers, buses, routers, the digital layers, and programming.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from hwloop.mapping import UNUSED_LINE, ConductanceMap, LayerMap
from hwloop.networks import crossbar_layers

from .card import CostCard

PARTS = ("cells", "word-line DACs", "sample and hold", "ADCs", "shift and add")


@dataclass(frozen=True)
class LayerCost:
    """What the arrays of one layer cost; every mapping is by part.

    Attributes:
        area_mm2: area.
        power_w: power while all arrays of the layer are read in every cycle.
        energy_j: energy to carry one image through the layer.
        conversions: ADC conversions for one image.
    """

    area_mm2: dict[str, float]
    power_w: dict[str, float]
    energy_j: dict[str, float]
    conversions: int


def cost_by_layer(
    conductance_map: ConductanceMap, card: CostCard, vectors: Mapping[str, int], dac_bits: int
) -> dict[str, LayerCost]:
    """Return the cost of each layer of a map.

    An array has one converter, which serves its used bit lines one after the other within a cycle. Unused
    lines take area but no power.

    Args:
        conductance_map: what the arrays hold.
        card: costs of the parts.
        vectors: for each layer, how many input vectors one image applies to it (:func:`vectors_per_image`).
        dac_bits: cycles that one input vector takes; signed inputs take twice as many.
    """
    rows, cols = conductance_map.array_shape
    return {
        name: _layer_cost(layer, rows, cols, card, vectors[name], dac_bits)
        for name, layer in conductance_map.layers.items()
    }


def total(costs: Mapping[str, LayerCost]) -> LayerCost:
    """Return the cost of all layers together; every layer has its own arrays, all busy at once."""
    return LayerCost(
        area_mm2={part: sum(cost.area_mm2[part] for cost in costs.values()) for part in PARTS},
        power_w={part: sum(cost.power_w[part] for cost in costs.values()) for part in PARTS},
        energy_j={part: sum(cost.energy_j[part] for cost in costs.values()) for part in PARTS},
        conversions=sum(cost.conversions for cost in costs.values()),
    )


def vectors_per_image(net: nn.Module, image: torch.Tensor) -> dict[str, int]:
    """Return how many input vectors each crossbar layer of ``net`` sees for one image.

    Args:
        net: the network.
        image: one image, ``[1, channels, height, width]``.
    """
    vectors: dict[str, int] = {}

    def count(name: str, layer: nn.Module, out: torch.Tensor) -> None:
        outputs = layer.out_channels if isinstance(layer, nn.Conv2d) else out.shape[-1]
        vectors[name] = vectors.get(name, 0) + out.numel() // int(outputs)

    handles = [
        layer.register_forward_hook(lambda module, _, out, name=name: count(name, module, out))
        for name, layer in crossbar_layers(net).items()
    ]
    training = net.training
    try:
        with torch.no_grad():
            net.eval()(image)
    finally:
        net.train(training)
        for handle in handles:
            handle.remove()
    return vectors


def _layer_cost(
    layer: LayerMap, rows: int, cols: int, card: CostCard, vectors: int, dac_bits: int
) -> LayerCost:
    arrays_per_tile = layer.codes.shape[1] * layer.codes.shape[2]
    arrays = layer.tiles * arrays_per_tile
    word_lines = int((layer.row_index != UNUSED_LINE).sum()) * arrays_per_tile
    used = (layer.col_index != UNUSED_LINE).sum(dim=1) * arrays_per_tile
    bit_lines = int(used.sum())
    cycle, bits = card.cycle.value, [int(value) for value in layer.adc_bits]
    adc_energy = sum(
        card.adc.conversion_energy(tile_bits) * int(count)
        for tile_bits, count in zip(bits, used, strict=True)
    )
    adc_area = sum(card.adc.converter_area(tile_bits) for tile_bits in bits)
    area = {
        "cells": arrays * rows * cols * card.cell.area.value,
        "word-line DACs": arrays * rows * card.word_line_dac.area.value,
        "sample and hold": arrays * cols * card.sample_and_hold.area.value,
        "ADCs": arrays_per_tile * adc_area,
        "shift and add": arrays * card.shift_and_add.area.value,
    }
    power = {
        "cells": arrays * rows * cols * card.cell.power.value,
        "word-line DACs": word_lines * card.word_line_dac.power.value,
        "sample and hold": bit_lines * card.sample_and_hold.power.value,
        "ADCs": adc_energy / cycle,
        "shift and add": arrays * card.shift_and_add.power.value,
    }
    cycles = vectors * dac_bits * (2 if layer.input_signed else 1)
    return LayerCost(
        area_mm2=area,
        power_w=power,
        energy_j={part: watts * cycle * cycles for part, watts in power.items()},
        conversions=bit_lines * cycles,
    )

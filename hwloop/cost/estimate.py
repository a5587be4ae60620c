"""Area, power, energy, latency and throughput of a chip that holds a network.

Every layer has its own arrays, and images stream through the layers: a layer works on one image while the
next works on the image before, so that the slowest layer sets the throughput. No layer is held twice to make
it faster. What serves a whole tile or chip is shared among the lines of the arrays, so that costs add up over
layers, and half an array's use of a tile costs half; a real chip has whole tiles.

Unused lines take area but draw no power, and a part draws power only while its layer works. Not counted:
leakage, programming, digital layers beyond ISAAC's sigmoid and pooling units, and memory outside the chip.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hwloop.recipe import Readout

from .adc_law import ADCS, AdcLaw
from .card import CostCard
from .facts import ChipFacts, LayerFacts, TileFacts

OUTPUT_BITS = 16
"""Bits in which one output of a tile is kept; ISAAC's."""


@dataclass(frozen=True)
class CostByPart:
    """What a layer or a chip costs; every mapping is by part.

    Attributes:
        area_mm2: area.
        power_w: power while all arrays are read in every cycle.
        energy_j: energy of one image.
        conversions: ADC conversions for one image.
        seconds: time that one image takes.
    """

    area_mm2: dict[str, float]
    power_w: dict[str, float]
    energy_j: dict[str, float]
    conversions: int
    seconds: float


@dataclass(frozen=True)
class ChipCost:
    """The cost of a chip by layer, and as a whole."""

    layers: dict[str, CostByPart]

    @property
    def total(self) -> CostByPart:
        """All layers together, all busy at once; its time is the latency of one image."""
        costs = list(self.layers.values())
        return CostByPart(
            area_mm2=_sum_parts(cost.area_mm2 for cost in costs),
            power_w=_sum_parts(cost.power_w for cost in costs),
            energy_j=_sum_parts(cost.energy_j for cost in costs),
            conversions=sum(cost.conversions for cost in costs),
            seconds=sum(cost.seconds for cost in costs),
        )

    @property
    def area_mm2(self) -> float:
        """Area of the chip."""
        return sum(self.total.area_mm2.values())

    @property
    def power_w(self) -> float:
        """Power of the chip while all arrays are read in every cycle."""
        return sum(self.total.power_w.values())

    @property
    def energy_j(self) -> float:
        """Energy of one image."""
        return sum(self.total.energy_j.values())

    @property
    def latency_s(self) -> float:
        """Time that one image takes through all layers."""
        return self.total.seconds

    @property
    def images_per_s(self) -> float:
        """Images that the chip finishes in a second: one for each turn of the slowest layer."""
        return 1 / max(cost.seconds for cost in self.layers.values())


def estimate(
    chip: ChipFacts, card: CostCard, readout: Readout | None = None, adc_law: str | None = None
) -> ChipCost:
    """Return the cost of a chip.

    Args:
        chip: its tiles.
        card: costs of the parts.
        readout: how arrays are read; None = 8-bit inputs, one bit per cycle, one converter for each array.
            Its ADC bits are not looked at: those of the tiles count.
        adc_law: name of one of the card's ADC laws; None = its default.

    Raises:
        CardError: if the card has no such law.
        ValueError: if the chip has no arrays.
    """
    law, readout = card.adc_law(adc_law), readout or Readout()
    if not any(layer.tiles for layer in chip.layers.values()):
        raise ValueError("the chip has no arrays: every layer is pruned away")
    return ChipCost(
        {
            name: _layer_cost(layer, chip.array_shape, card, law, readout.of(name))
            for name, layer in chip.layers.items()
        }
    )


def estimate_by_law(chip: ChipFacts, card: CostCard, readout: Readout | None = None) -> dict[str, ChipCost]:
    """Return the cost of a chip under each ADC law of the card, side by side."""
    return {law: estimate(chip, card, readout, law) for law in card.adc}


def _layer_cost(
    layer: LayerFacts, array_shape: tuple[int, int], card: CostCard, law: AdcLaw, readout: Readout
) -> CostByPart:
    arrays = layer.arrays_per_tile
    # Arrays that are subtracted in pairs before conversion share their converters.
    converted = arrays // 2 if readout.subtraction == "analog" else arrays
    passes = 2 if layer.input_signed else 1
    vector = passes * _pass_seconds(layer, card, readout)
    built = _sum_parts(_units(tile, *array_shape, arrays, readout) for tile in layer.tiles)
    busy = _sum_parts(_units(tile, tile.rows, tile.cols, arrays, readout) for tile in layer.tiles)
    area = {
        ADCS: converted
        * _adcs_per_array(array_shape[1], readout)
        * sum(law.converter_area(tile.adc_bits) for tile in layer.tiles)
    }
    # Of one input vector: a bit line is converted once for each group of rows, in each cycle or once for all.
    turns = passes * (1 if readout.accumulation == "analog" else readout.cycles)
    conversions = [converted * tile.cols * turns * _row_groups(tile, readout) for tile in layer.tiles]
    energy = sum(
        count * law.conversion_energy(tile.adc_bits)
        for count, tile in zip(conversions, layer.tiles, strict=True)
    )
    power = {ADCS: energy / vector if vector else 0.0}
    for name, part in card.parts.items():
        area[name] = built.get(part.per, 0.0) * part.area.value / part.count
        power[name] = busy.get(part.per, 0.0) * part.power.value / part.count
    seconds = vector * layer.vectors
    return CostByPart(
        area_mm2=area,
        power_w=power,
        energy_j={name: watts * seconds for name, watts in power.items()},
        conversions=sum(conversions) * layer.vectors,
        seconds=seconds,
    )


def _pass_seconds(layer: LayerFacts, card: CostCard, readout: Readout) -> float:
    """Time in which all digits of an input vector are applied and converted, over all groups of rows.

    The converter that serves most bit lines works while the array is read the next time; the slower sets the
    pace.
    """
    share = max((min(tile.cols, readout.bit_lines_per_adc or tile.cols) for tile in layer.tiles), default=0)
    convert, cycles = share / card.adc_rate.value, readout.cycles
    groups = max((_row_groups(tile, readout) for tile in layer.tiles), default=0)
    if readout.accumulation == "analog":
        return groups * max(cycles * card.array_read.value, convert)
    return groups * cycles * max(card.array_read.value, convert)


def _row_groups(tile: TileFacts, readout: Readout) -> int:
    """Groups of word lines that are read one after the other."""
    return math.ceil(tile.rows / (readout.rows_at_once or tile.rows))


def _adcs_per_array(cols: int, readout: Readout) -> int:
    return math.ceil(cols / (readout.bit_lines_per_adc or cols))


def _units(tile: TileFacts, rows: int, cols: int, arrays: int, readout: Readout) -> dict[str, float]:
    """Count what a tile position has of each unit that parts are priced by.

    A DAC of v bits is priced as ``2^v - 1`` one-bit DACs: one switch for each step.
    """
    return {
        "cell": arrays * rows * cols,
        "one-bit DAC": arrays * rows * (2**readout.bits_per_cycle - 1),
        "bit line": arrays * cols,
        "array": arrays,
        "input bit": arrays * rows * readout.dac_bits,
        "output bit": cols * OUTPUT_BITS,
        "index bit": tile.index_bits,
        "line": arrays * (rows + cols),
    }


def _sum_parts(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Add mappings key by key."""
    total: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0.0) + value
    return total

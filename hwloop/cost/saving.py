"""Which share of a saving comes from fewer arrays, from fewer cells for a weight, and from smaller ADCs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import permutations, product

from .facts import ChipFacts, LayerFacts

ARRAYS, CELLS, ADC_BITS = "arrays", "cells", "adc bits"
FACTORS = (ARRAYS, CELLS, ADC_BITS)
"""Pruning leaves fewer tiles and lines (with the indices they need); cells of more levels leave fewer slices
at each tile; conducting cells and levels together set the ADC bits."""


@dataclass(frozen=True)
class Saving:
    """A figure of two chips, and how much of the difference each factor accounts for.

    ``parts`` are by factor, in the unit of the figure; they add up to ``before - after``.
    """

    before: float
    after: float
    parts: dict[str, float]

    @property
    def shares(self) -> dict[str, float]:
        """The parts over the whole saving.

        Raises:
            ValueError: if nothing is saved.
        """
        if self.before == self.after:
            raise ValueError("the two chips cost the same: there is no saving to share out")
        return {name: part / (self.before - self.after) for name, part in self.parts.items()}


def saving(before: ChipFacts, after: ChipFacts, figure: Callable[[ChipFacts], float]) -> Saving:
    """Share out the difference of a figure between two chips of one network.

    A factor's part is its Shapley value: the figure falls by some amount when the factor is switched from
    ``before`` to ``after``, and this amount is averaged over all six orders of switching the three.

    In between stand chips that nobody built: the tiles of one with the ADC bits of the other. Tile i of n
    then takes the bits of tile ``i * m // n`` of the m in the same layer.

    Args:
        before: the chip compared against, such as the dense one.
        after: the chip that costs less.
        figure: cost of a chip, such as ``lambda chip: estimate(chip, card).area_mm2``.

    Raises:
        ValueError: naming what differs, if the chips do not hold the same network on arrays of one size.
    """
    _check(before, after)
    values = {
        switched: figure(_mixed(before, after, dict(zip(FACTORS, switched, strict=True))))
        for switched in product((False, True), repeat=len(FACTORS))
    }
    parts = dict.fromkeys(FACTORS, 0.0)
    orders = list(permutations(range(len(FACTORS))))
    for order in orders:
        switched = [False] * len(FACTORS)
        for factor in order:
            held = values[tuple(switched)]
            switched[factor] = True
            parts[FACTORS[factor]] += (held - values[tuple(switched)]) / len(orders)
    return Saving(values[(False,) * 3], values[(True,) * 3], parts)


def _mixed(before: ChipFacts, after: ChipFacts, switched: Mapping[str, bool]) -> ChipFacts:
    layers = {}
    for name in before.layers:
        source = {factor: (after if switched[factor] else before).layers[name] for factor in FACTORS}
        layers[name] = _with_bits(
            dataclasses.replace(source[ARRAYS], arrays_per_tile=source[CELLS].arrays_per_tile),
            source[ADC_BITS],
        )
    return ChipFacts(before.array_shape, layers)


def _with_bits(layer: LayerFacts, bits_from: LayerFacts) -> LayerFacts:
    """Return a layer with the ADC bits of another, spread over its tiles in their order."""
    if not bits_from.tiles:  # a layer without tiles converts nothing, at any resolution
        return layer
    bits = [tile.adc_bits for tile in bits_from.tiles]
    count = len(layer.tiles)
    return dataclasses.replace(
        layer,
        tiles=tuple(
            dataclasses.replace(tile, adc_bits=bits[number * len(bits) // count])
            for number, tile in enumerate(layer.tiles)
        ),
    )


def _check(before: ChipFacts, after: ChipFacts) -> None:
    if before.array_shape != after.array_shape:
        raise ValueError(f"the arrays differ: {before.array_shape} and {after.array_shape}")
    if list(before.layers) != list(after.layers):
        raise ValueError(f"the layers differ: {', '.join(before.layers)} and {', '.join(after.layers)}")
    for name, layer in before.layers.items():
        for field in ("vectors", "input_signed"):
            if getattr(layer, field) != getattr(after.layers[name], field):
                raise ValueError(f"layer {name}: {field} differs between the two chips")

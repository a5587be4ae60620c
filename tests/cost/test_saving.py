"""Where a saving comes from, and what remains of the routing."""

from __future__ import annotations

import dataclasses

import pytest

from hwloop.cost import (
    FACTORS,
    ChipFacts,
    LayerFacts,
    LayerRouting,
    Saving,
    TileFacts,
    estimate,
    load_cost_card,
    mean_area_fraction,
    routing,
    saving,
)

from .chips import ARRAY, full_chip, full_layer

CARD = load_cost_card()


def area(chip: ChipFacts) -> float:
    return estimate(chip, CARD).area_mm2


def conversion_cost(chip: ChipFacts) -> float:
    """A product of the three factors: arrays times slices times resolution."""
    return float(
        sum(layer.arrays_per_tile * tile.adc_bits for layer in chip.layers.values() for tile in layer.tiles)
    )


def test_parts_add_up_to_the_saving() -> None:
    found = saving(full_chip(6, bits=9, arrays=4), full_chip(2, bits=5, arrays=2), area)
    assert found.before == area(full_chip(6, bits=9, arrays=4))
    assert found.after == area(full_chip(2, bits=5, arrays=2))
    assert sum(found.parts.values()) == pytest.approx(found.before - found.after)
    assert sum(found.shares.values()) == pytest.approx(1)
    assert all(part > 0 for part in found.parts.values())


@pytest.mark.parametrize(
    ("after", "factor"),
    [
        (full_chip(2, bits=8, arrays=4), "arrays"),
        (full_chip(6, bits=8, arrays=2), "cells"),
        (full_chip(6, bits=4, arrays=4), "adc bits"),
    ],
    ids=FACTORS,
)
def test_a_single_change_gets_the_whole_saving(after: ChipFacts, factor: str) -> None:
    shares = saving(full_chip(6, bits=8, arrays=4), after, area).shares
    assert shares[factor] == pytest.approx(1)
    assert sum(abs(share) for share in shares.values()) == pytest.approx(1)


def test_shapley_values_of_a_product_by_hand() -> None:
    """6 * 4 * 9 = 216 to 2 * 2 * 5 = 20, over the six orders."""
    found = saving(full_chip(6, bits=9, arrays=4), full_chip(2, bits=5, arrays=2), conversion_cost)
    tiles = 4 * (2 * 4 * 9 + 2 * 9 + 4 * 5 + 2 * 2 * 5) / 6
    assert found.parts["arrays"] == pytest.approx(tiles)
    cells = 2 * (2 * 6 * 9 + 2 * 9 + 6 * 5 + 2 * 2 * 5) / 6
    assert found.parts["cells"] == pytest.approx(cells)
    bits = 4 * (2 * 6 * 4 + 2 * 4 + 6 * 2 + 2 * 2 * 2) / 6
    assert found.parts["adc bits"] == pytest.approx(bits)
    assert tiles + cells + bits == pytest.approx(196)


def test_equal_factors_get_equal_parts() -> None:
    found = saving(full_chip(2, bits=8, arrays=2), full_chip(1, bits=8, arrays=1), conversion_cost)
    assert found.parts["arrays"] == pytest.approx(found.parts["cells"])


def test_a_layer_that_is_pruned_away_is_saved_by_pruning() -> None:
    before = ChipFacts(ARRAY, {"a": full_layer(), "b": full_layer()})
    after = ChipFacts(ARRAY, {"a": full_layer(), "b": LayerFacts((), 2, 1)})
    assert saving(before, after, area).shares["arrays"] == pytest.approx(1)


def test_chips_of_different_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="the layers differ: fc and a"):
        saving(full_chip(), ChipFacts(ARRAY, {"a": full_layer()}), area)
    with pytest.raises(ValueError, match="layer fc: vectors differs"):
        saving(full_chip(), full_chip(vectors=2), area)
    with pytest.raises(ValueError, match="the arrays differ"):
        saving(full_chip(), dataclasses.replace(full_chip(), array_shape=(256, 256)), area)
    with pytest.raises(ValueError, match="no saving"):
        _ = Saving(1.0, 1.0, {}).shares


@pytest.mark.parametrize(
    ("remaining", "area_fraction"),
    [((0.475, 0.248, 0.067, 0.180), 0.0810), ((0.833, 0.405, 0.744, 0.819), 0.5206)],
    ids=["LeNet", "ConvNet"],
)
def test_routing_area_of_group_scissor(remaining: tuple[float, ...], area_fraction: float) -> None:
    """Group Scissor prints wires left in each layer, and the routing area left: mean of their squares."""
    layers = [LayerRouting(round(1000 * fraction), 1000) for fraction in remaining]
    assert mean_area_fraction(layers) == pytest.approx(area_fraction, abs=5e-4)


def test_wires_are_used_lines() -> None:
    pruned = ChipFacts(ARRAY, {"fc": LayerFacts((TileFacts(32, 32, 6),), 2, 1)})
    found = routing(pruned, full_chip(2))["fc"]
    assert (found.wires, found.dense_wires) == (64, 512)
    assert found.wire_fraction == pytest.approx(1 / 8)
    assert found.area_fraction == pytest.approx(1 / 64)
    with pytest.raises(ValueError, match="the layers differ"):
        routing(pruned, ChipFacts(ARRAY, {"a": full_layer()}))

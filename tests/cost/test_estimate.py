"""Cost of a chip: worked out by hand, and by how it must scale."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwloop.cost import (
    ADCS,
    ChipFacts,
    LayerFacts,
    TileFacts,
    estimate,
    estimate_by_law,
    load_cost_card,
)
from hwloop.recipe import Readout

from .chips import ARRAY, full_chip, full_layer

CARD = load_cost_card()
BY_PART = ("area_mm2", "power_w", "energy_j")

tiles = st.builds(
    TileFacts, st.integers(1, 128), st.integers(1, 128), st.integers(1, 12), st.integers(0, 2000)
)
layers = st.builds(
    LayerFacts,
    st.lists(tiles, min_size=1, max_size=4).map(tuple),
    st.integers(1, 4),
    st.integers(1, 1000),
    st.booleans(),
)


def test_one_tile_by_hand() -> None:
    """30 x 40 lines of a 64 x 64 array pair, 5-bit converters, 100 index bits, 8-bit inputs, 7 vectors."""
    chip = ChipFacts((64, 64), {"fc": LayerFacts((TileFacts(30, 40, 5, 100),), 2, 7)})
    cost = estimate(chip, CARD).total
    assert cost.conversions == 2 * 40 * 8 * 7
    assert cost.seconds == pytest.approx(56 * 100e-9)
    watts = {
        ADCS: 2 * 40 * 0.99e-12 / 100e-9,
        "cells": 2 * 30 * 40 * 2.4e-3 / (8 * 128 * 128),
        "word-line DACs": 60 * 4e-3 / 1024,
        "sample and hold": 80 * 10e-6 / 1024,
        "shift and add": 0.2e-3 / 4,
        "input registers": 2 * 30 * 8 * 1.24e-3 / 16384,
        "output registers": 40 * 16 * 0.23e-3 / 2048,
        "index registers": 100 * 1.24e-3 / 16384,
        "eDRAM buffer": 2 * 70 * 20.7e-3 / 24576,
        "chip links": 2 * 70 * 10.4 / 168 / 24576,
    }
    assert {part: cost.power_w[part] for part in watts} == pytest.approx(watts)
    assert cost.energy_j == pytest.approx({part: power * 5.6e-6 for part, power in cost.power_w.items()})
    square_mm = {
        ADCS: 2 * 477e-6,
        "cells": 2 * 64 * 64 * 0.0002 / (8 * 128 * 128),
        "input registers": 2 * 64 * 8 * 0.0021 / 16384,
        "index registers": 100 * 0.0021 / 16384,
        "bus": 2 * 128 * 0.09 / 24576,
        "router": 2 * 128 * 0.151 / 4 / 24576,
    }
    assert {part: cost.area_mm2[part] for part in square_mm} == pytest.approx(square_mm)


def test_one_bit_serial_image_by_hand() -> None:
    """The orders of magnitude: one full pair of arrays and one vector."""
    chip = estimate(full_chip(), CARD)
    assert chip.latency_s == pytest.approx(8 * 106.67e-9, rel=1e-4)
    assert chip.images_per_s == pytest.approx(1 / chip.latency_s)
    assert chip.energy_j == pytest.approx(chip.power_w * chip.latency_s)
    assert chip.layers["fc"].energy_j[ADCS] == pytest.approx(2 * 128 * 8 * 1.67e-12)


@given(layers, layers)
def test_layers_add_up(first: LayerFacts, second: LayerFacts) -> None:
    both = estimate(ChipFacts(ARRAY, {"a": first, "b": second}), CARD)
    alone = [estimate(ChipFacts(ARRAY, {"x": layer}), CARD) for layer in (first, second)]
    for figure in ("area_mm2", "power_w", "energy_j", "latency_s"):
        assert getattr(both, figure) == pytest.approx(sum(getattr(chip, figure) for chip in alone))
    assert both.images_per_s == pytest.approx(min(chip.images_per_s for chip in alone))
    assert both.total.conversions == sum(chip.total.conversions for chip in alone)


@given(layers, st.sampled_from(list(CARD.adc)))
def test_more_arrays_or_bits_never_cost_less(layer: LayerFacts, law: str) -> None:
    cost = estimate(ChipFacts(ARRAY, {"x": layer}), CARD, adc_law=law)
    more = dataclasses.replace(layer, tiles=(*layer.tiles, layer.tiles[0]))
    wider = dataclasses.replace(
        layer, tiles=tuple(dataclasses.replace(tile, adc_bits=tile.adc_bits + 1) for tile in layer.tiles)
    )
    for changed in (more, wider):
        other = estimate(ChipFacts(ARRAY, {"x": changed}), CARD, adc_law=law)
        assert other.area_mm2 >= cost.area_mm2
        assert other.power_w >= cost.power_w
        assert other.energy_j >= cost.energy_j


def test_twice_the_tiles_cost_twice_as_much() -> None:
    one, two = estimate(full_chip(1), CARD).total, estimate(full_chip(2), CARD).total
    for field in BY_PART:
        assert getattr(two, field) == pytest.approx(
            {p: 2 * value for p, value in getattr(one, field).items()}
        )
    assert two.conversions == 2 * one.conversions
    assert two.seconds == one.seconds


def test_adc_bits_change_the_converters_and_nothing_else() -> None:
    low, high = estimate(full_chip(bits=5), CARD).total, estimate(full_chip(bits=9), CARD).total
    for field in BY_PART:
        small, large = getattr(low, field), getattr(high, field)
        assert [part for part in small if small[part] != large[part]] == [ADCS]
        assert small[ADCS] < large[ADCS]


def test_the_laws_side_by_side_differ_in_the_converters_and_nothing_else() -> None:
    by_law = estimate_by_law(full_chip(bits=5), CARD)
    assert list(by_law) == ["sar", "exponential", "linear"]
    power = {law: chip.total.power_w for law, chip in by_law.items()}
    assert power["exponential"][ADCS] / power["sar"][ADCS] == pytest.approx(1.67 / 8 / 0.99)
    assert power["linear"][ADCS] / power["sar"][ADCS] == pytest.approx(2.583 * 5 / 9 / 0.99)
    for part in power["sar"].keys() - {ADCS}:
        assert len({power[law][part] for law in power}) == 1
    assert by_law["sar"] == estimate(full_chip(bits=5), CARD)


def test_unused_lines_take_area_but_draw_no_power_and_are_not_converted() -> None:
    full = estimate(full_chip(), CARD).total
    half = estimate(ChipFacts(ARRAY, {"fc": LayerFacts((TileFacts(128, 64, 8),), 2, 1)}), CARD).total
    assert half.area_mm2 == full.area_mm2
    assert half.conversions == full.conversions // 2
    assert half.energy_j[ADCS] == pytest.approx(full.energy_j[ADCS] / 2)
    assert half.power_w["sample and hold"] == pytest.approx(full.power_w["sample and hold"] / 2)


def test_signed_inputs_take_twice_as_long() -> None:
    plain, signed = estimate(full_chip(vectors=3), CARD), estimate(full_chip(vectors=3, signed=True), CARD)
    assert signed.energy_j == pytest.approx(2 * plain.energy_j)
    assert signed.latency_s == pytest.approx(2 * plain.latency_s)
    assert signed.power_w == plain.power_w


def test_more_converters_are_faster_until_the_array_is_the_slowest() -> None:
    chips = {
        adcs: estimate(full_chip(), CARD, Readout(bit_lines_per_adc=128 // adcs)) for adcs in (1, 2, 128)
    }
    assert chips[1].latency_s == pytest.approx(8 * 128 / 1.2e9)
    assert chips[2].latency_s == chips[128].latency_s == pytest.approx(8 * 100e-9)
    for adcs, chip in chips.items():
        assert chip.total.area_mm2[ADCS] == pytest.approx(adcs * chips[1].total.area_mm2[ADCS])
        assert chip.total.energy_j[ADCS] == pytest.approx(chips[1].total.energy_j[ADCS])


def test_wider_dac_slices_save_cycles_and_cost_a_switch_for_each_step() -> None:
    serial, sliced = (estimate(full_chip(), CARD, Readout(bits_per_cycle=bits)) for bits in (1, 3))
    assert sliced.latency_s == pytest.approx(serial.latency_s * 3 / 8)  # 8 bits are 3 slices of 3
    assert sliced.total.area_mm2["word-line DACs"] == pytest.approx(
        7 * serial.total.area_mm2["word-line DACs"]
    )


def test_the_slowest_layer_sets_the_throughput() -> None:
    chip = estimate(ChipFacts(ARRAY, {"a": full_layer(vectors=576), "b": full_layer(vectors=1)}), CARD)
    vector = 8 * 128 / 1.2e9
    assert chip.images_per_s == pytest.approx(1 / (576 * vector))
    assert chip.latency_s == pytest.approx(577 * vector)


def test_a_layer_without_tiles_costs_nothing_and_a_chip_without_arrays_is_refused() -> None:
    gone = LayerFacts((), 2, 5)
    cost = estimate(ChipFacts(ARRAY, {"a": full_layer(), "b": gone}), CARD).layers["b"]
    assert sum(cost.area_mm2.values()) == sum(cost.power_w.values()) == cost.seconds == cost.conversions == 0
    with pytest.raises(ValueError, match="the chip has no arrays"):
        estimate(ChipFacts(ARRAY, {"b": gone}), CARD)


def test_analog_sums_convert_less_often() -> None:
    readouts = {
        "digital": Readout(),
        "subtraction": Readout(subtraction="analog"),
        "accumulation": Readout(accumulation="analog"),
    }
    chips = {name: estimate(full_chip(), CARD, readout) for name, readout in readouts.items()}
    conversions = {name: chip.total.conversions for name, chip in chips.items()}
    assert conversions["subtraction"] == conversions["digital"] / 2
    assert conversions["accumulation"] == conversions["digital"] / 8
    assert chips["subtraction"].total.area_mm2[ADCS] == chips["digital"].total.area_mm2[ADCS] / 2
    assert chips["accumulation"].latency_s == pytest.approx(8 * 100e-9)


def test_fewer_rows_at_once_take_longer_and_convert_more_often() -> None:
    whole, halves = (estimate(full_chip(), CARD, Readout(rows_at_once=rows)) for rows in (None, 64))
    assert halves.latency_s == pytest.approx(2 * whole.latency_s)
    assert halves.total.conversions == 2 * whole.total.conversions
    assert halves.area_mm2 == whole.area_mm2

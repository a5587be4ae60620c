"""Cost of the arrays: against the unit it is taken from, and by how it must scale."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from device_models.card import CardError, load_card
from hwloop.cost import LayerCost, cost_by_layer, load_cost_card, total, vectors_per_image
from hwloop.mapping import UNUSED_LINE, ConductanceMap, LayerMap
from hwloop.networks import lenet


def make_map(tiles: int = 1, rows: int = 128, cols: int = 128, bits: int = 8) -> ConductanceMap:
    layer = LayerMap(
        name="fc",
        kind="linear",
        weight_shape=(cols, rows * tiles),
        groups=1,
        codes=torch.ones(tiles, 2, 1, rows, cols, dtype=torch.uint8),
        row_index=torch.arange(rows * tiles, dtype=torch.int32).reshape(tiles, rows),
        col_index=torch.arange(cols, dtype=torch.int32).repeat(tiles, 1),
        weight_per_siemens=1.0,
        input_scale=1.0,
        input_signed=False,
        adc_bits=torch.full((tiles,), bits, dtype=torch.uint8),
    )
    return ConductanceMap("m:f", load_card("ideal"), (rows, cols), {"fc": layer}, {})


def cost_of(conductance_map: ConductanceMap, vectors: int = 1) -> LayerCost:
    return total(cost_by_layer(conductance_map, load_cost_card(), {"fc": vectors}, dac_bits=8))


def test_eight_arrays_of_128_cost_what_the_isaac_unit_does() -> None:
    """Shafiee et al. 2016: 8 converters 16 mW at 1.2 GS/s, 8 x 128 DACs 4 mW, arrays 2.4 mW."""
    cost = cost_of(make_map(tiles=4))  # both polarities: 8 arrays
    assert cost.power_w["cells"] == pytest.approx(2.4e-3, rel=1e-3)
    assert cost.power_w["word-line DACs"] == pytest.approx(4e-3, rel=1e-3)
    assert cost.power_w["sample and hold"] == pytest.approx(10e-6, rel=1e-3)
    assert cost.power_w["shift and add"] == pytest.approx(0.2e-3, rel=1e-3)
    assert cost.power_w["ADCs"] == pytest.approx(16e-3 * 1.28 / 1.2, rel=5e-3)  # 128 conversions in 100 ns
    assert cost.area_mm2["ADCs"] == pytest.approx(0.0096)
    assert cost.area_mm2["word-line DACs"] == pytest.approx(0.00017, rel=1e-3)


def test_twice_the_tiles_cost_twice_as_much() -> None:
    one, two = cost_of(make_map(tiles=1)), cost_of(make_map(tiles=2))
    for field in ("area_mm2", "power_w", "energy_j"):
        for part, value in getattr(one, field).items():
            assert getattr(two, field)[part] == pytest.approx(2 * value)
    assert two.conversions == 2 * one.conversions


def test_fewer_adc_bits_cost_less_in_the_converter_and_nowhere_else() -> None:
    low, high = cost_of(make_map(bits=5)), cost_of(make_map(bits=9))
    assert low.power_w["ADCs"] < high.power_w["ADCs"]
    assert low.area_mm2["ADCs"] < high.area_mm2["ADCs"]
    assert all(low.power_w[part] == high.power_w[part] for part in low.power_w if part != "ADCs")


def test_unused_bit_lines_take_area_but_are_not_converted() -> None:
    full = make_map(cols=64)
    half = torch.where(torch.arange(64) < 32, full.layers["fc"].col_index, UNUSED_LINE)
    thin = dataclasses.replace(
        full, layers={"fc": dataclasses.replace(full.layers["fc"], col_index=half.to(torch.int32))}
    )
    assert cost_of(thin).conversions == cost_of(full).conversions // 2
    assert cost_of(thin).power_w["ADCs"] == pytest.approx(cost_of(full).power_w["ADCs"] / 2)
    assert cost_of(thin).area_mm2 == cost_of(full).area_mm2


def test_energy_is_power_times_time_and_signed_inputs_take_twice_as_long() -> None:
    plain = make_map()
    signed = dataclasses.replace(
        plain, layers={"fc": dataclasses.replace(plain.layers["fc"], input_signed=True)}
    )
    cost = cost_of(plain, vectors=3)
    assert sum(cost.energy_j.values()) == pytest.approx(sum(cost.power_w.values()) * 3 * 8 * 100e-9)
    assert sum(cost_of(signed, vectors=3).energy_j.values()) == pytest.approx(2 * sum(cost.energy_j.values()))


def test_converters_outside_the_table_are_continued_as_the_card_says() -> None:
    adc = load_cost_card().adc
    assert adc.conversion_energy(2) == adc.conversion_energy(4)
    assert adc.converter_area(12) == pytest.approx(4 * adc.converter_area(10))


def test_vectors_per_image_are_output_positions() -> None:
    image = torch.zeros(1, 1, 28, 28)
    assert vectors_per_image(lenet(), image) == {"conv1": 24 * 24, "conv2": 8 * 8, "fc1": 1, "fc2": 1}


def test_vectors_of_a_strided_grouped_convolution() -> None:
    net = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2))
    assert vectors_per_image(net, torch.zeros(1, 4, 9, 9)) == {"0": 25}


def test_an_unknown_cost_card_is_named() -> None:
    with pytest.raises(CardError, match="no cost card 'nope': shipped are isaac-32nm"):
        load_cost_card("nope")

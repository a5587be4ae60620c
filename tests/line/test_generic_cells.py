"""Cells that conduct when they hold nothing: they cancel in pairs and load the wires."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from device_models.crossbar import Wires
from device_models.generic import generic_card
from hwloop.hardware import FastHardware, IdealHardware, bit_serial
from hwloop.mapping import ConductanceMap, build_map, read_map, resolution, write_map
from hwloop.recipe import Readout

LRS = 1e4


def build(levels: int = 127, encoding: str = "differential", **figures: float) -> ConductanceMap:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(20, 6, bias=False))
    codes = torch.randint(-levels, levels + 1, (20, 6), dtype=torch.int8)
    card = generic_card(LRS, levels=levels, **figures)
    return build_map(
        "tests:none", net, {"0": (codes, 0.01)}, card, (8, 8), {"0": (1.0, False)}, encoding=encoding
    )


def read(
    conductance_map: ConductanceMap, wires: Wires, inputs: torch.Tensor, **options: object
) -> torch.Tensor:
    hardware = FastHardware(wires, Readout.model_validate(options), seed=1, adc=bool(options))
    hardware.program(conductance_map)
    return hardware.read("0", inputs)


def test_cells_on_driven_word_lines_conduct_and_the_highest_level_is_lrs() -> None:
    conductance_map = build()
    target, card = conductance_map.target("0"), conductance_map.card
    driven = conductance_map.layers["0"].row_index >= 0
    cells = target.movedim(3, 1)
    assert float(cells[driven].min()) == pytest.approx(1 / LRS / 10)
    assert not driven.all()
    assert not cells[~driven].any()
    assert card.g_idle + card.levels * card.g_step == pytest.approx(1 / LRS)


def test_idle_conductance_cancels_without_wires() -> None:
    conductance_map, inputs = build(), torch.rand(5, 20)
    ideal = IdealHardware()
    ideal.program(conductance_map)
    found = read(conductance_map, Wires(0.0, 0.0), inputs)
    assert torch.allclose(found, ideal.read("0", inputs), atol=0.02)


def test_idle_cells_load_the_wires() -> None:
    conductance_map, inputs = build(), torch.rand(5, 20)
    absent = replace(
        conductance_map,
        card=conductance_map.card.model_copy(
            update={
                "g_min": None,
                "g_max": conductance_map.card.g_max.model_copy(update={"value": 0.9 / LRS}),
            }
        ),
    )
    wires, ideal = Wires(20.0, 20.0), Wires(0.0, 0.0)
    with_idle = (read(conductance_map, wires, inputs) - read(conductance_map, ideal, inputs)).abs().mean()
    without = (read(absent, wires, inputs) - read(absent, ideal, inputs)).abs().mean()
    assert with_idle > 1.1 * without


def test_lossless_converters_hold_what_idle_cells_add() -> None:
    conductance_map, inputs = build(levels=15), torch.ones(1, 20)
    layer, card = conductance_map.layers["0"], conductance_map.card
    plain = resolution(layer, card.levels, Readout())
    loaded = resolution(layer, card.levels, Readout(), idle=card.idle_steps)
    assert (loaded.bits >= plain.bits).all()
    exact = read(conductance_map, Wires(0.0, 0.0), inputs)
    # Each of six conversions of a column rounds to half a level step at most.
    rounding = 6 * 0.5 * layer.weight_per_siemens * card.g_step
    assert (read(conductance_map, Wires(0.0, 0.0), inputs, dac_bits=1) - exact).abs().max() <= rounding


def test_a_map_with_idle_conductance_comes_back_from_its_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    conductance_map = build(variation=0.1, stuck=0.05)
    write_map(conductance_map, tmp_path / "maps.h5")
    again = read_map(tmp_path / "maps.h5")
    assert torch.equal(again.target("0"), conductance_map.target("0"))


def test_offset_encoding_refuses_cells_that_conduct_at_level_0() -> None:
    with pytest.raises(ValueError, match=r"layer 0: .*g_min.* use differential encoding"):
        build(levels=15, encoding="offset")


@pytest.mark.parametrize("subtraction", ["digital", "analog"])
@pytest.mark.parametrize("accumulation", ["digital", "analog"])
def test_one_product_gives_what_the_loop_over_word_lines_gives(
    subtraction: str, accumulation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    conductance_map, inputs = build(variation=0.1), torch.rand(40, 20)
    layer = conductance_map.layers["0"]
    conductance_map = replace(conductance_map, layers={"0": replace(layer, input_signed=True)})
    options = {"subtraction": subtraction, "accumulation": accumulation, "adc_bits": 6, "dac_bits": 6}
    options["bits_per_cycle"] = 6 if accumulation == "digital" else 2
    product = read(conductance_map, Wires(5.0, 5.0), inputs - 0.5, **options)
    monkeypatch.setattr(bit_serial.Reading, "single", property(lambda _: False))
    loop = read(conductance_map, Wires(5.0, 5.0), inputs - 0.5, **options)
    assert torch.allclose(product, loop, atol=1e-6)

"""How many bits ADCs need: exact figures, ranges by squared error, and a search that keeps accuracy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from device_models.converters import bit_planes
from device_models.crossbar import Wires
from hwloop.adc import Ranges, Search, lossless_need
from hwloop.cli.app import app
from hwloop.datasets import load_dataset
from hwloop.line import make_wires
from hwloop.mapping import ConductanceMap, read_map
from hwloop.networks import build_network
from hwloop.recipe import Readout, Recipe, load_recipe

from .maps import map_of, random_layer
from .tiny import NETWORK

runner = CliRunner()


@pytest.fixture(scope="module")
def mapped(finished: Path) -> ConductanceMap:
    return read_map(finished / "stations" / "map" / "maps.h5")


@pytest.fixture(scope="module")
def recipe(tiny_recipe: Path) -> Recipe:
    return load_recipe(tiny_recipe)


def test_exact_bits_are_those_of_the_largest_sum_and_the_formula_is_never_below() -> None:
    layer = random_layer(density=0.7)
    need = lossless_need(map_of(layer), Readout(bits_per_cycle=2))["fc"]
    for tile in range(layer.tiles):
        for polarity in range(2):
            for j in range(8):
                if layer.col_index[tile, j] >= 0:
                    largest = int(layer.codes[tile, polarity, 0, :, j].sum()) * 3
                    assert 2 ** int(need.exact[tile, polarity, 0, j]) > largest
                    assert largest == 0 or 2 ** (int(need.exact[tile, polarity, 0, j]) - 1) <= largest
    assert need.formula >= int(need.exact.max())
    assert torch.equal(need.per_adc(None)[..., 0], need.exact.amax(-1))
    assert torch.equal(need.per_adc(1), need.exact)
    assert need.per_adc(3)[0, 0, 0].tolist() == [int(need.exact[0, 0, 0, k : k + 3].max()) for k in (0, 3, 6)]
    assert need.leakage == 0
    assert need.with_leakage == int(need.exact.max())


def test_cells_that_leak_take_bits() -> None:
    layer = random_layer(density=0.4)
    bits = [lossless_need(map_of(layer), Readout(), ratio)["fc"] for ratio in (1e9, 100.0, 2.0)]
    assert bits[0].leakage < 1e-6 < bits[1].leakage < bits[2].leakage
    assert bits[0].with_leakage <= bits[1].with_leakage < bits[2].with_leakage
    rows = (layer.row_index >= 0).sum(1)
    silent = max(
        int(rows[tile]) - int((layer.codes[tile, p, 0, :, j] > 0).sum())
        for tile in range(layer.tiles)
        for p in range(2)
        for j in range(8)
        if layer.col_index[tile, j] >= 0
    )
    assert bits[2].leakage == silent * 15 / 2
    with pytest.raises(ValueError, match="on_off must be above 1, not 1"):
        lossless_need(map_of(layer), Readout(), 1.0)


def test_the_range_is_the_one_of_least_squared_error(mapped: ConductanceMap, recipe: Recipe) -> None:
    """Against the currents of the first layer, worked out from its matrix."""
    images = load_dataset(recipe.data.name, 200, 1).train_x[:20]
    ranges = Ranges(build_network(NETWORK), mapped, Wires(0.0, 0.0), Readout(), seed=1, images=images)
    layer = mapped.layers["conv"]
    windows = torch.nn.functional.unfold(images, 3).transpose(1, 2).reshape(-1, 9)
    codes = torch.round(windows * 255 / layer.input_scale).clamp(0, 255).long()
    planes = bit_planes(codes, 8).double()
    actual = layer.codes[0, :, 0].double()  # the card's programming error moves currents by little
    rows, cols = layer.row_index[0], layer.col_index[0] >= 0
    currents = torch.stack([planes[:, :, rows[rows >= 0].long()] @ p[rows >= 0][:, cols] for p in actual])

    def error(lsb: float, bits: int) -> float:
        rounded = torch.floor(currents / lsb + 0.5).clamp(0, 2**bits - 1) * lsb
        return float(((rounded - currents).square() * 4.0 ** torch.arange(8)[:, None, None]).sum())

    for bits in (2, 4):
        chosen = ranges.best_lsb("conv", bits)
        span = float(currents.max()) / (2**bits - 1)
        assert error(chosen, bits) < 1.05 * min(error(span * 0.05 * k, bits) for k in range(2, 25))
    assert ranges.best_lsb("conv", ranges.lossless_bits["conv"]) == 1


def test_more_bits_have_smaller_steps(mapped: ConductanceMap, recipe: Recipe) -> None:
    images = load_dataset(recipe.data.name, 200, 1).train_x[:50]
    for readout in (Readout(), Readout(subtraction="analog"), Readout(accumulation="analog", dac_bits=4)):
        ranges = Ranges(
            build_network(NETWORK), mapped, make_wires(recipe.hardware), readout, seed=1, images=images
        )
        for name in mapped.layers:
            steps = [ranges.best_lsb(name, bits) for bits in range(2, 7)]
            assert steps == sorted(steps, reverse=True)
        chosen = ranges.readout(readout, 3)
        assert isinstance(chosen.adc_bits, dict)
        assert set(chosen.adc_bits.values()) == {3}
        with pytest.raises(ValueError, match=r"adc_bits\.conv9: no such layer; the map has conv, fc1, fc2"):
            ranges.readout(readout, {"conv9": 3})


def test_the_search_keeps_accuracy_with_fewer_bits(mapped: ConductanceMap, recipe: Recipe) -> None:
    data = load_dataset(recipe.data.name, 200, 1)
    search = Search(
        build_network(NETWORK),
        mapped,
        make_wires(recipe.hardware),
        recipe.hardware,
        seed=1,
        calibration=data.train_x[:50],
        validation=(data.validation_x, data.validation_y),
    )
    found = search.run(0.02)
    assert found.within
    assert found.accuracy >= found.lossless - 0.02
    lossless = lossless_need(mapped, recipe.hardware)
    assert sum(found.bits.values()) < sum(need.formula for need in lossless.values())
    assert search.run(1.0).bits == dict.fromkeys(mapped.layers, 1)


def test_the_command_writes_a_recipe_that_simulate_reads(
    finished: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    maps, chosen, figure = finished / "maps.h5", tmp_path / "adc.toml", tmp_path / "adc.svg"
    common = ["--recipe", str(tiny_recipe), "--network", NETWORK, "--json"]
    told = runner.invoke(
        app, ["adc", str(maps), "--max-loss", "5", "--out", str(chosen), "--figure", str(figure), *common]
    )
    assert told.exit_code == 0, told.stderr
    bits = {name: layer["chosen_bits"] for name, layer in json.loads(told.stdout)["layers"].items()}
    assert load_recipe(chosen).hardware.adc_bits == bits
    assert figure.read_text("utf-8").startswith("<?xml")

    def errors(recipe: Path) -> dict[str, float]:
        read = runner.invoke(app, ["simulate", str(maps), "--recipe", str(recipe), *common[2:]])
        return dict(json.loads(read.stdout)["layer_errors"])

    assert errors(chosen) != errors(tiny_recipe)


def test_the_command_says_what_is_wrong(finished: Path, tmp_path: Path) -> None:
    maps = str(finished / "maps.h5")
    assert runner.invoke(app, ["adc", maps, "--out", str(tmp_path / "x.toml")]).exit_code == 2
    wrong = runner.invoke(app, ["adc", maps, "--figure", str(tmp_path / "x.gif"), "--recipe", "none.toml"])
    assert (wrong.exit_code, "none.toml: no such file" in wrong.stderr) == (1, True)

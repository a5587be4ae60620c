"""Programming and solving from file to file gives what doing it in memory gives."""

import h5py
import pytest
import torch

from device_models import load_card
from device_models.crossbar import Wires, effective_conductance
from hwloop.hardware import FastHardware, program_stored, solve_stored
from hwloop.mapping import MapFileError, create_map, map_layer, read_map, validate_map, write_map
from hwloop.mapping.build import build_map
from hwloop.recipe import Readout
from tests.line.maps import map_of, random_layer

WIRES = Wires(word_line=2.0, bit_line=2.0, driver=100.0, sense=100.0)


def example():
    return map_of(
        random_layer("fc1", matrix_shape=(90, 70)),
        random_layer("fc2", matrix_shape=(70, 10)),
        card="rram-neurram",
    )


def test_programming_from_file_to_file_is_programming(tmp_path):
    conductance_map = example()
    write_map(conductance_map, tmp_path / "maps.h5")
    seen = []
    program_stored(
        tmp_path / "maps.h5",
        tmp_path / "programmed.h5",
        seed=3,
        instance="x",
        elapsed=None,
        max_bytes=1 << 20,
        progress=lambda fraction, detail: seen.append((fraction, detail)),
    )
    assert validate_map(tmp_path / "programmed.h5") == []
    whole = FastHardware(WIRES, Readout(), seed=3, instance="x").program(conductance_map)
    stored = read_map(tmp_path / "programmed.h5")
    for name, layer in whole.layers.items():
        assert torch.equal(stored.layers[name].actual, layer.actual)
        assert torch.equal(stored.layers[name].codes, layer.codes)
    assert seen[-1] == (1.0, "fc2")


def test_solving_all_tiles_is_the_error_of_the_solved_map(tmp_path):
    write_map(FastHardware(WIRES, seed=1).program(example()), tmp_path / "maps.h5")
    found = solve_stored(tmp_path / "maps.h5", WIRES, seed=5, max_bytes=1 << 30)
    stored = read_map(tmp_path / "maps.h5")
    assert [layer.name for layer in found] == ["fc1", "fc2"]
    for layer in found:
        assert layer.solved == layer.tiles == stored.layers[layer.name].tiles
        solved = effective_conductance(stored.layers[layer.name].actual.double(), WIRES)
        target = stored.target(layer.name)
        # Of a current the errors of all cells add up, of which wires take a share that has one sign.
        expected = float((solved - target).norm() / target.norm())
        assert 0.3 * expected < layer.error < 3 * expected
        assert layer.error > 0.01


def test_without_wires_and_devices_nothing_differs(tmp_path):
    write_map(map_of(random_layer("fc")), tmp_path / "maps.h5")
    (found,) = solve_stored(tmp_path / "maps.h5", Wires(0.0, 0.0), seed=5, max_bytes=1 << 30)
    assert found.error == 0.0


def test_a_sample_is_spread_over_the_layers(tmp_path):
    conductance_map = example()
    write_map(conductance_map, tmp_path / "maps.h5")
    found = solve_stored(tmp_path / "maps.h5", WIRES, sample=20, seed=5, max_bytes=1 << 30)
    assert 10 <= sum(layer.solved for layer in found) <= 20
    assert all(layer.solved for layer in found)


def test_a_damaged_source_leaves_no_target(tmp_path):
    write_map(example(), tmp_path / "maps.h5")
    with h5py.File(tmp_path / "maps.h5", "r+") as file:
        file["layers/fc2/codes"][0, 0, 0, 0, 0] += 1
    with pytest.raises(MapFileError):
        program_stored(tmp_path / "maps.h5", tmp_path / "programmed.h5", seed=1, max_bytes=1 << 30)
    assert [entry.name for entry in tmp_path.iterdir()] == ["maps.h5"]


def test_layers_are_mapped_in_parts_of_any_size(tmp_path):
    card, shape = load_card("rram-neurram"), (8, 8)
    generator = torch.Generator().manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(50, 30))
    codes = torch.randint(-15, 16, (50, 30), generator=generator, dtype=torch.int8)
    whole = build_map("tests:none", net, {"0": (codes, 0.1)}, card, shape, {"0": (1.0, False)})
    write_map(whole, tmp_path / "whole.h5")
    meta = torch.nn.Linear(50, 30, device="meta")
    tiles, parts = map_layer("0", meta, codes, 0.1, card, shape, 1.0, False, part=5)
    with create_map(tmp_path / "parts.h5", whole) as writer:
        writer.layer(parts, tiles)
        writer.digital("0.bias", whole.digital["0.bias"])
    assert (tmp_path / "parts.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()

"""Maps as tables: what is exported and imported again is the same map, and what was changed is said."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from device_models import load_card
from device_models.crossbar import Wires
from hwloop.cli.app import app
from hwloop.hardware import FastHardware
from hwloop.mapping import (
    MapFileError,
    export_aihwkit,
    export_crosssim,
    export_csv,
    export_neurosim,
    export_npz,
    import_tables,
    read_map,
    write_map,
)
from hwloop.mapping.export_peers import level_states

from .maps import map_of, random_layer
from .test_map_streaming import whole
from .test_mapfile import assert_equal

WIRES = Wires(word_line=2.0, bit_line=3.0, driver=100.0, sense=50.0)


@pytest.mark.parametrize("export", [export_csv, export_npz])
def test_a_map_comes_back_exactly(tmp_path, export):
    conductance_map = whole()
    export(conductance_map, tmp_path / "tables")
    assert_equal(import_tables(tmp_path / "tables"), conductance_map)


@pytest.mark.parametrize("export", [export_csv, export_npz])
def test_cells_that_conduct_at_level_0_come_back_too(tmp_path, export):
    target = map_of(random_layer("fc"), card="generic-10k")
    programmed = FastHardware(WIRES, seed=1).program(target)
    export(programmed, tmp_path / "tables")
    assert_equal(import_tables(tmp_path / "tables"), programmed)


@pytest.mark.parametrize("form", ["csv", "npz"])
def test_commands_export_and_import(tmp_path, form):
    write_map(whole(), tmp_path / "maps.h5")
    run = CliRunner().invoke
    arguments = ["maps", "export", tmp_path / "maps.h5", "--format", form, "--out", tmp_path / "tables"]
    assert run(app, [str(argument) for argument in arguments]).exit_code == 0
    arguments = ["maps", "import", tmp_path / "tables", "--out", tmp_path / "again.h5", "--json"]
    result = run(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["tiles"] == whole().tiles
    assert_equal(read_map(tmp_path / "again.h5"), read_map(tmp_path / "maps.h5"))


def change_summary(**changes):
    def change(folder):
        facts = json.loads((folder / "map.json").read_text())
        facts["layers"]["fc"] |= changes
        (folder / "map.json").write_text(json.dumps(facts))

    return change


def change_line(old, new):
    def change(folder):
        text = (folder / "fc.csv").read_text()
        assert old in text
        (folder / "fc.csv").write_text(text.replace(old, new, 1))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_summary(file="../map.h5"), "map.json: layers.fc.file"),
        (change_summary(file="/etc/passwd.csv"), "map.json: layers.fc.file"),
        (change_summary(tiles=7), "must have 7 entries"),
        (change_summary(weight_per_siemens=-1.0), "weight_per_siemens is -1"),
        (change_summary(position=5), "positions of the layers"),
        (change_summary(extra=1), "layers.fc.extra"),
        (change_line("\n0,0,0,", "\n99,0,0,"), "is no cell of the map"),
        (change_line("\n0,0,0,", "\n0,-1,0,"), "is no cell of the map"),
        (change_line("siemens\n", "ohm\n"), "its first line must be"),
        (lambda folder: (folder / "map.json").write_text("[" * 100_000), "map.json: damaged"),
        (lambda folder: (folder / "fc.csv").unlink(), "fc.csv: damaged"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, message):
    export_csv(map_of(random_layer("fc")), tmp_path)
    change(tmp_path)
    with pytest.raises(MapFileError) as failure:
        import_tables(tmp_path)
    assert message in str(failure.value)
    assert str(failure.value).isprintable()


def test_a_changed_level_code_is_noticed(tmp_path):
    export_csv(map_of(random_layer("fc")), tmp_path / "csv")
    lines = (tmp_path / "csv" / "fc.csv").read_text().split("\n")
    cells = lines[1].split(",")
    cells[7] = str(int(cells[7]) % 15 + 1)
    (tmp_path / "csv" / "fc.csv").write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]))
    with pytest.raises(MapFileError, match="is not what level code and card make"):
        import_tables(tmp_path / "csv")


def test_arrays_that_unpack_to_more_than_stated_are_not_read(tmp_path):
    export_npz(map_of(random_layer("fc")), tmp_path)
    np.savez_compressed(tmp_path / "fc.npz", codes=np.zeros(100_000_000, np.uint8))
    with pytest.raises(MapFileError, match="unpacks to more than it may"):
        import_tables(tmp_path)
    np.savez(tmp_path / "fc.npz", codes=np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(MapFileError, match=r"fc.npz: damaged"):
        import_tables(tmp_path)


def test_other_simulators_get_the_conductances_of_the_map(tmp_path):
    conductance_map = map_of(random_layer("fc"), card="rram-neurram")
    target = conductance_map.target("fc")[:, :, 0]
    export_crosssim(conductance_map, tmp_path / "crosssim", WIRES)
    export_aihwkit(conductance_map, tmp_path / "aihwkit")
    parameters = json.loads((tmp_path / "crosssim" / "crosssim.json").read_text())
    device = parameters["xbar"]["device"]
    for folder in ("crosssim", "aihwkit"):
        with np.load(tmp_path / folder / "fc.npz") as arrays:
            weights, g_max_us = torch.from_numpy(arrays["weights"]).double(), arrays["g_max_us"]
        pairs = torch.stack([weights.clamp(min=0), (-weights).clamp(min=0)], dim=1)
        assert torch.allclose(pairs / device["Rmin"], target, rtol=1e-6, atol=0)
        assert torch.allclose(target.amax(dim=(1, 2, 3)) * 1e6, torch.from_numpy(g_max_us), rtol=1e-6)
    parasitics = parameters["xbar"]["array"]["parasitics"]
    assert (parasitics["Rp_row"], parasitics["Rp_col"]) == (2.0, 3.0)


def test_other_encodings_are_refused_by_name(tmp_path):
    conductance_map = whole()
    for export in (
        lambda to: export_crosssim(conductance_map, to, WIRES),
        lambda to: export_aihwkit(conductance_map, to),
    ):
        with pytest.raises(ValueError, match="layer fc3: offset in 1 slices"):
            export(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_table_of_levels_has_what_programming_leaves(tmp_path):
    conductance_map = map_of(random_layer("fc"), card="rram-neurram")
    export_neurosim(conductance_map, tmp_path)
    table = np.loadtxt(tmp_path / "mem_states.csv", delimiter=",")
    card = load_card("rram-neurram")
    assert table.shape == (card.levels + 1, 2)
    assert np.array_equal(table, level_states(card, 0))
    assert tuple(table[0]) == (0.0, 0.0)
    assert np.allclose(table[1:, 0], np.arange(1, card.levels + 1) * card.g_step, rtol=0.2)
    assert (table[1:, 1] > 0).all()

"""``hwloop maps``: one JSON object or a table of 80 columns on stdout, one line of error, exit status."""

import csv
import dataclasses
import json

import h5py
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from hwloop.cli.maps import maps_app
from hwloop.mapping import assemble, compare_maps, decode, export_csv, write_map

from .maps import map_of, random_layer
from .test_mapfile import example


def run(*arguments):
    return CliRunner().invoke(maps_app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def original():
    return example()


@pytest.fixture
def path(tmp_path, original):
    path = tmp_path / "maps.h5"
    write_map(original, path)
    return path


def test_inspect_shows_every_layer_in_80_columns(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    long = "stage3.block12.downsample.conv_with_a_long_name"
    write_map(map_of(random_layer(long), random_layer("fc")), tmp_path / "maps.h5")
    result = run("inspect", tmp_path / "maps.h5")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    for cell in ("20x12", "6", "ADC bits", "1e+04", "no", "ideal"):
        assert cell in result.stdout


def test_inspect_as_json_holds_what_the_map_holds(path, original):
    facts = json.loads(run("inspect", path, "--json").stdout)
    assert facts["card"] == "rram-neurram"
    assert facts["array_shape"] == [8, 8]
    assert (facts["tiles"], facts["arrays"]) == (original.tiles, original.arrays())
    assert [layer["name"] for layer in facts["layers"]] == list(original.layers)
    fc, conv, gone = facts["layers"]
    assert fc["weights_kept"] == int(original.layers["fc"].mask.sum())
    assert fc["occupancy"] == pytest.approx(fc["weights_kept"] / (6 * 64))
    assert fc["adc_bits"] == original.layers["fc"].adc_bits.tolist()
    assert (fc["programmed"], conv["programmed"]) == (True, False)
    assert (gone["tiles"], gone["occupancy"], gone["adc_bits"]) == (0, 0.0, [])


def test_validate_says_ok_or_what_is_wrong(path):
    result = run("validate", path)
    assert (result.exit_code, result.stdout) == (0, "ok\n")
    assert json.loads(run("validate", path, "--json").stdout)["ok"] is True
    with h5py.File(path, "r+") as file:
        file["layers/fc/codes"][0, 0, 0, 0, 0] += 1
    problem = f"{path}: layers/fc/codes: checksum differs: the data were changed"
    result = run("validate", path)
    assert (result.exit_code, result.stdout) == (1, problem + "\n")
    result = run("validate", path, path.parent / "none.h5", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["problems"] == [problem, f"{path.parent / 'none.h5'}: no such file"]


def test_diff_says_where_and_how_much(path, original):
    result = run("diff", path, path)
    assert (result.exit_code, result.stdout) == (0, "same\n")
    layer = original.layers["fc"]
    actual = layer.actual.clone()
    actual[2, 0, 0, 1, 1] += 3e-6
    other = dataclasses.replace(
        original,
        network="tests:other",
        layers={"fc": dataclasses.replace(layer, actual=actual, input_scale=9.0), "new": random_layer("new")},
        digital=original.digital | {"bn.num_batches_tracked": torch.tensor(9)},
        attributes={"seed": 6},
    )
    changed = path.with_name("other.h5")
    write_map(other, changed)
    result = run("diff", path, changed, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["same"] is False
    whats = {each["where"]: each["what"] for each in found["differences"]}
    assert whats["network"] == "tests:none / tests:other"
    assert whats["layers/fc/actual"] == "1 of 768 differ, by at most 3e-06 S"
    assert whats["layers/fc/input_scale"] == "2.5 / 9.0"
    assert whats["layers/features.conv"] == "only in the first"
    assert whats["layers/new"] == "only in the second"
    assert whats["digital/bn.num_batches_tracked"] == "1 of 1 differ, by at most 2"
    assert "layers/fc/codes" not in whats
    result = run("diff", path, changed)
    assert result.exit_code == 1
    assert "layers/fc/actual" in result.stdout


def test_a_map_compares_equal_to_itself_only(original):
    assert compare_maps(original, original) == []
    unprogrammed = dataclasses.replace(original.layers["fc"], actual=None)
    other = dataclasses.replace(original, layers=original.layers | {"fc": unprogrammed})
    assert [found.what for found in compare_maps(original, other)] == ["only in the first"]


def test_csv_holds_every_cell_of_the_map(path, original, tmp_path):
    out = tmp_path / "tables" / "csv"
    result = run("export", path, "--format", "csv", "--out", out, "--json")
    assert result.exit_code == 0
    names = {"map.json", "digital.npz", "fc.csv", "features.conv.csv", "gone.csv"}
    assert {entry.name for entry in out.iterdir()} == names
    assert {str(out / name) for name in names} == set(json.loads(result.stdout)["files"])
    layer = original.layers["fc"]
    codes, actual = torch.zeros_like(layer.codes), torch.zeros_like(layer.actual)
    matrix = torch.zeros(layer.matrix_shape, dtype=torch.int8)
    with (out / "fc.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            cell = tuple(int(row[at]) for at in ("tile", "polarity", "slice", "word_line", "bit_line"))
            codes[cell], actual[cell] = int(row["level_code"]), float(row["actual_siemens"])
            target = float(original.target("fc", torch.float32)[cell])
            assert float(row["target_siemens"]) == pytest.approx(target, rel=1e-6)
            sign = -1 if cell[1] else 1
            matrix[int(row["matrix_row"]), int(row["matrix_col"])] = sign * int(row["level_code"])
    assert torch.equal(codes, layer.codes)
    assert torch.equal(actual, layer.actual)
    assert torch.equal(
        matrix, assemble(decode(layer, 15), layer.row_index, layer.col_index, layer.matrix_shape)
    )
    facts = json.loads((out / "map.json").read_text())
    assert facts["layers"]["fc"]["weight_per_siemens"] == layer.weight_per_siemens
    assert facts["card"]["g_max"]["unit"] == "S"


def test_npz_holds_the_arrays_of_the_map_file(path, tmp_path):
    assert run("export", path, "--format", "npz", "--out", tmp_path / "npz").exit_code == 0
    with h5py.File(path) as file:
        for name, group in file["layers"].items():
            with np.load(tmp_path / "npz" / f"{name}.npz", allow_pickle=False) as arrays:
                assert set(arrays) == set(group)
                for array in group:
                    assert np.array_equal(arrays[array], group[array])


def test_export_overwrites_nothing_and_leaves_nothing_half_done(path, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "fc.csv").symlink_to(tmp_path / "target")
    result = run("export", path, "--format", "csv", "--out", out)
    assert result.exit_code == 1
    assert result.stderr == f"error: {out / 'fc.csv'}: is there already; choose another folder\n"
    assert [entry.name for entry in out.iterdir()] == ["fc.csv"]
    assert not (tmp_path / "target").exists()


def test_layer_names_cannot_leave_the_folder(tmp_path):
    out = tmp_path / "out"
    conductance_map = map_of(random_layer("../../etc/x"), random_layer(".."), random_layer("/abs"))
    files = export_csv(conductance_map, out)
    assert {file.parent for file in files} == {out}
    assert {entry.name for entry in tmp_path.iterdir()} == {"out"}
    with pytest.raises(ValueError, match="same file name"):
        export_csv(map_of(random_layer("a/b"), random_layer("a_b")), tmp_path / "other")


@pytest.mark.parametrize("command", [("inspect",), ("diff",), ("export", "--format", "csv", "--out", "x")])
def test_what_cannot_be_read_is_one_line_and_exit_1(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.h5").write_text("no map")
    name, *options = command
    files = ["bad.h5", "bad.h5"] if name == "diff" else ["bad.h5"]
    result = run(name, *files, *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: bad.h5: not an HDF5 file\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad.h5"]


def test_wrong_usage_is_exit_2(path):
    assert run("export", path, "--format", "spreadsheet", "--out", "x").exit_code == 2
    assert run("diff", path).exit_code == 2

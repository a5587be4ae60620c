"""Exchange by file: what is exported can be programmed from, and what is measured comes back cell by cell."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from device_models import DeviceCard
from device_models.crossbar import Wires
from hwloop.cli.app import app
from hwloop.hardware import FastHardware, MeasuredHardware
from hwloop.mapping import (
    ConductanceMap,
    ReadbackError,
    export_csv,
    export_npz,
    import_readback,
    read_map,
    write_map,
)
from hwloop.recipe import Readout
from tests.line.maps import card_with, map_of, random_layer
from tests.line.tiny import NETWORK

from .networks import tiny_map, write_tiny

CARD = card_with(read_noise=0.01, programming_error=1e-6)
MAP = map_of(random_layer("a"), random_layer("b.c", matrix_shape=(6, 5)), card=CARD)
Rows = list[dict[str, str]]


def laboratory(conductance_map: ConductanceMap = MAP) -> ConductanceMap:
    """The map as a chip would hold it."""
    return FastHardware(Wires(2.0, 2.0), seed=4).program(conductance_map)


def rows_of(folder: Path, measured: ConductanceMap) -> Rows:
    """What a laboratory writes down: the exported lines, all layers in one table, with what it measured."""
    export_csv(measured, folder)
    rows: Rows = []
    for name, file in (("a", "a.csv"), ("b.c", "b.c.csv")):
        with (folder / file).open(newline="") as text:
            rows += [{"layer": name, **row} for row in csv.DictReader(text)]
    return rows


def write_rows(path: Path, rows: Rows) -> Path:
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


def same_actual(first: ConductanceMap, second: ConductanceMap) -> bool:
    return all(torch.equal(first.layers[name].actual, second.layers[name].actual) for name in first.layers)


@pytest.mark.parametrize("form", ["folder of csv", "folder of npz", "one csv", "one npz", "map"])
def test_what_was_measured_comes_back_to_the_bit(tmp_path: Path, form: str) -> None:
    measured = laboratory()
    if form.startswith("folder"):
        where = tmp_path / "measured"
        (export_csv if form.endswith("csv") else export_npz)(measured, where)
    elif form == "one csv":
        where = write_rows(tmp_path / "all.csv", rows_of(tmp_path, measured)[::-1])
    elif form == "one npz":
        where = tmp_path / "all.npz"
        np.savez_compressed(where, **{name: m.actual.numpy() for name, m in measured.layers.items()})
    else:
        where = tmp_path / "measured.h5"
        write_map(measured, where)
    found = import_readback(MAP, where)
    assert same_actual(found.map, measured)
    assert found.missing == 0
    assert found.measured == sum(int((layer.codes > 0).sum()) for layer in MAP.layers.values())
    assert found.rms_error == pytest.approx(1e-6, rel=0.3)


def test_cells_that_conduct_at_level_0_are_exported_and_come_back(tmp_path: Path) -> None:
    card = CARD.model_dump()
    card["g_min"] = {"value": 2e-6, "unit": "S", "source": "a test"}
    whole = replace(MAP, card=DeviceCard.model_validate(card))
    measured = laboratory(whole)
    export_csv(measured, tmp_path / "x")
    found = import_readback(whole, tmp_path / "x")
    assert same_actual(found.map, measured)
    assert found.measured == sum(int((whole.target(name) > 0).sum()) for name in whole.layers)
    assert found.measured > sum(int((layer.codes > 0).sum()) for layer in whole.layers.values())


def test_cells_that_are_stated_to_be_missing_are_taken_at_their_targets(tmp_path: Path) -> None:
    measured = laboratory()
    rows = rows_of(tmp_path, measured)
    rows[3]["actual_siemens"] = " Missing "
    found = import_readback(MAP, write_rows(tmp_path / "all.csv", rows))
    arrays = {name: m.actual.numpy().copy() for name, m in measured.layers.items()}
    place = tuple(int(rows[3][column]) for column in ("tile", "polarity", "slice", "word_line", "bit_line"))
    arrays["a"][place] = np.nan
    np.savez(tmp_path / "all.npz", **arrays)
    again = import_readback(MAP, tmp_path / "all.npz")
    assert found.missing == again.missing == 1
    assert same_actual(found.map, again.map)
    assert float(found.map.layers["a"].actual[place]) == np.float32(MAP.target("a")[place])


WRONG: list[tuple[Callable[[Rows], object], str]] = [
    (lambda rows: rows.pop(5), r"layer a, tile 0, .* is not in it; measure it, or write 'missing'"),
    (lambda rows: rows.append(rows[0]), r"line \d+: layer a, tile 0, .* comes twice"),
    (lambda rows: rows[0].update(actual_siemens=""), r"line 2: actual_siemens is ''; give siemens"),
    (lambda rows: rows[0].update(actual_siemens="nan"), "actual_siemens is 'nan'; give siemens"),
    (lambda rows: rows[0].update(actual_siemens="inf"), "actual_siemens is 'inf'; give siemens"),
    (lambda rows: rows[0].update(actual_siemens="-1e-6"), "-1e-06 S must not be negative"),
    (lambda rows: rows[0].update(actual_siemens="35"), r"35 S is above 10 times g_max \(4e-05 S\)"),
    (lambda rows: rows[0].update(tile="99"), "tile is '99', must be 0 to"),
    (lambda rows: rows[0].update(tile="-1"), "tile is '-1', must be 0 to"),
    (lambda rows: rows[0].update(layer="z"), "no layer 'z' in the map"),
    (lambda rows: [row.pop("layer") for row in rows], "needs the column layer once"),
    (lambda rows: [row.pop("slice") for row in rows], "needs the column slice once"),
]


@pytest.mark.parametrize(("change", "said"), WRONG)
def test_a_wrong_table_is_one_line_with_the_cell(
    tmp_path: Path, change: Callable[[Rows], object], said: str
) -> None:
    rows = rows_of(tmp_path, laboratory())
    change(rows)
    path = write_rows(tmp_path / "all.csv", rows)
    with pytest.raises(ReadbackError, match=said) as raised:
        import_readback(MAP, path)
    assert "\n" not in str(raised.value)


def test_a_conductance_where_the_map_has_no_cell_is_refused(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, laboratory())
    absent = np.argwhere(MAP.layers["a"].codes.numpy() == 0)[0]
    columns = ("tile", "polarity", "slice", "word_line", "bit_line")
    rows.append({**rows[0], **dict(zip(columns, map(str, absent), strict=True))})
    with pytest.raises(ReadbackError, match="but the map has no cell there"):
        import_readback(MAP, write_rows(tmp_path / "all.csv", rows))


def test_wrong_arrays_are_one_line(tmp_path: Path) -> None:
    measured = laboratory()
    arrays = {name: m.actual.numpy() for name, m in measured.layers.items()}
    path = tmp_path / "x.npz"
    for changed, said in (
        ({"a": arrays["a"]}, "b.c: is not in it"),
        ({**arrays, "a": arrays["a"][:1]}, r"a: float32 \[1, 2, 1, 8, 8\], must be float"),
        ({**arrays, "a": arrays["a"].astype(object)}, "must be float"),
        ({**arrays, "a": arrays["a"] + np.float32(np.inf)}, "must be finite|above 10 times"),
    ):
        np.savez(path, **changed)
        with pytest.raises(ReadbackError, match=said):
            import_readback(MAP, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ReadbackError, match="not a complete NPZ file"):
        import_readback(MAP, path)


def test_an_archive_that_unpacks_to_more_than_it_says_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }"
    header += b" " * (118 - len(header)) + b"\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a", "b.c"):
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + b"\x77\x00" + header + bytes(1 << 20))
    with pytest.raises(ReadbackError, match="must be float"):
        import_readback(MAP, path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReadbackError, match=r"ends in .csv, .npz or .h5"):
        import_readback(MAP, tmp_path / "x.txt")
    with pytest.raises(ReadbackError, match="are both not there"):
        import_readback(MAP, tmp_path)
    other = map_of(random_layer("a", seed=8), MAP.layers["b.c"], card=CARD)
    write_map(laboratory(other), tmp_path / "other.h5")
    with pytest.raises(ReadbackError, match="layer a: has other cells"):
        import_readback(MAP, tmp_path / "other.h5")
    write_map(MAP, tmp_path / "bare.h5")
    with pytest.raises(ReadbackError, match="holds no measured conductances"):
        import_readback(MAP, tmp_path / "bare.h5")
    (tmp_path / "long.csv").write_text("x" * 20_000)
    with pytest.raises(ReadbackError, match="a line of more than"):
        import_readback(MAP, tmp_path / "long.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ReadbackError, match="not a CSV file in UTF-8"):
        import_readback(MAP, tmp_path / "binary.csv")


def test_measured_arrays_read_as_the_chip_they_were_measured_on() -> None:
    chip, measured = (kind(Wires(2.0, 2.0), seed=4) for kind in (FastHardware, MeasuredHardware))
    held = chip.program(MAP)
    measured.program(held)
    x = torch.rand(5, 20)
    assert torch.equal(chip.read("a", x), measured.read("a", x))
    assert measured.identity["backend"] == "measured"
    with pytest.raises(ValueError, match=r"one copy, but hardware\.copies is 2; set it to 1"):
        MeasuredHardware(Wires(2.0, 2.0), Readout(copies=2), seed=4).program(held)
    with pytest.raises(ValueError, match="layer a: the map holds no measured conductances"):
        measured.program(MAP)


def test_from_export_over_the_laboratory_to_accuracy(tmp_path: Path) -> None:
    maps, recipe = write_tiny(tmp_path)
    runner = CliRunner()

    def hwloop(*arguments: object) -> dict[str, object]:
        done = runner.invoke(app, [*map(str, arguments), "--json"])
        assert done.exit_code == 0, done.stderr
        return dict(json.loads(done.stdout))

    hwloop("maps", "export", maps, "--format", "csv", "--out", tmp_path / "lab")
    with (tmp_path / "lab" / "fc1.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["actual_siemens"] == ""
    chip = FastHardware(Wires(1.0, 1.0), seed=4).program(tiny_map()[1])
    export_csv(chip, tmp_path / "back")
    told = hwloop("maps", "import-readback", maps, tmp_path / "back", "--out", tmp_path / "measured.h5")
    assert told["missing"] == 0
    assert same_actual(read_map(tmp_path / "measured.h5"), chip)
    common = ["--recipe", recipe, "--network", NETWORK, "--images", "20"]
    found = hwloop("simulate", tmp_path / "measured.h5", "--backend", "measured", *common)
    assert found["hardware"]["backend"] == "measured"
    done = runner.invoke(app, ["simulate", str(maps), "--backend", "measured", *map(str, common)])
    assert (done.exit_code, "holds no measured conductances" in done.stderr) == (1, True)

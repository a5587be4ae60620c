"""Exported netlists: ``ngspice -b`` runs them alone and prints currents, whatever the map's names hold."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from device_models.crossbar import Wires, effective_conductance
from hwloop.cli.maps import maps_app
from hwloop.hardware.fast import FastHardware
from hwloop.mapping import UNUSED_LINE, export_spice, write_map

from .maps import random_map

WIRES = Wires(word_line=2.0, bit_line=3.0, driver=50.0, sense=80.0)
HOSTILE = [
    "fc\n.control\nshell touch pwned\n.endc",
    "fc\r.include /etc/passwd",
    "fc\u2028.end",
    "fc `touch pwned` $(touch pwned)",
    "../../fc",
]
needs_command = pytest.mark.skipif(shutil.which("ngspice") is None, reason="no ngspice command")


def printed_currents(path):
    """Run a netlist by itself; return the currents that ngspice prints, in order of the bit lines."""
    done = subprocess.run(
        ["ngspice", "-b", path.name], cwd=path.parent, capture_output=True, text=True, check=True
    )
    found = re.findall(r"^\s*vsense_(\d+)#branch\s+(\S+)\s*$", done.stdout, re.MULTILINE)
    currents = {int(number): float(value) for number, value in found}
    return np.array([currents[number] for number in sorted(currents)])


def run(*arguments):
    return CliRunner().invoke(maps_app, [str(argument) for argument in arguments])


@needs_command
def test_every_array_runs_alone_and_gives_the_currents_of_the_fast_solver(tmp_path):
    conductance_map = FastHardware(WIRES, seed=1).program(random_map([(12, 9)]))
    files = export_spice(conductance_map, tmp_path, WIRES, "maps.h5")
    layer = conductance_map.layers["fc0"]
    assert len(files) == int((layer.codes != 0).any(-1).any(-1).sum())
    for path in files:
        tile, polarity = re.fullmatch(r"fc0\.tile-(\d+)\.(\w+)\.slice-0\.cir", path.name).groups()
        g = layer.actual[int(tile), ("positive", "negative").index(polarity), 0].to(torch.float64)
        used = (layer.row_index[int(tile)] != UNUSED_LINE).to(torch.float64)
        exact = (0.2 * used) @ effective_conductance(g, WIRES)
        assert printed_currents(path) == pytest.approx(exact.numpy(), rel=1e-5, abs=1e-15)


def test_the_header_says_what_the_netlist_is_of(tmp_path):
    (first, *_) = export_spice(random_map([(8, 8)]), tmp_path, WIRES, "runs/x/maps.h5")
    lines = first.read_text().splitlines()
    assert lines[0] == ".title fc0 tile 0 positive slice 0"
    assert lines[1] == "* map: runs/x/maps.h5"
    assert "* card: rram-neurram" in lines[:8]
    assert "* conductances: targets" in lines[:8]
    assert "* inputs: 0.2 V on 8 word lines" in lines[:8]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_from_a_map_cannot_inject_lines_or_leave_the_folder(name, tmp_path):
    original = random_map([(8, 8)])
    renamed = {name: replace(original.layers["fc0"], name=name)}
    folder = tmp_path / "out"
    files = export_spice(replace(original, layers=renamed, network=name), folder, WIRES, name)
    assert {path.parent for path in files} == {folder}
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    elements = ("V", "R", ".save i(", ".options reltol", ".op", ".end", "* ", ".title ")
    for path in files:
        first, *rest = path.read_text("utf-8").splitlines()
        assert first.startswith(".title ")
        assert all(line.startswith(elements) for line in rest)
        assert not set("".join([first, *(line for line in rest if line[0] == "*")])) & set(
            "`$;{}\\\"'<>|&()="
        )
        if shutil.which("ngspice"):
            assert len(printed_currents(path)) == 8
    assert not list(tmp_path.rglob("pwned"))


def test_the_command_writes_netlists_with_the_wires_of_the_recipe(tmp_path):
    write_map(random_map([(8, 8)]), tmp_path / "maps.h5")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[hardware]\nnode = '7nm'\n")
    done = run(
        "export",
        tmp_path / "maps.h5",
        "--format",
        "spice",
        "--out",
        tmp_path / "x",
        "--recipe",
        recipe,
        "--json",
    )
    assert done.exit_code == 0, done.output
    (path, _) = json.loads(done.stdout)["files"]
    lines = Path(path).read_text().splitlines()
    assert "* map: maps.h5" in lines
    assert any(re.fullmatch(r"Rword_\d_\d \w+ \w+ 7.06", line) for line in lines)
    again = run("export", tmp_path / "maps.h5", "--format", "spice", "--out", tmp_path / "x")
    assert again.exit_code == 1
    assert "is there already" in again.stderr
    wrong = run(
        "export", tmp_path / "maps.h5", "--format", "csv", "--out", tmp_path / "y", "--recipe", recipe
    )
    assert wrong.exit_code == 2

"""The command line: exit codes, one-line errors, JSON, and nothing half-written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from device_models.card import CardError
from hwloop.cli.app import app
from hwloop.mapping import read_map
from hwloop.networks import build_network, save_weights
from tests.line.tiny import NETWORK, write_recipe

ROOT = Path(__file__).parents[2]


def hwloop(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def failed_with_one_line(result: Result) -> str:
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    line = result.stderr
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    return line


def test_help_needs_no_torch() -> None:
    code = "import sys; from hwloop.cli.app import app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_commands_are_those_that_are_promised() -> None:
    shown = hwloop("--help").output
    for command in (
        "run",
        "prune",
        "map",
        "simulate",
        "verify",
        "retrain",
        "report",
        "devices",
        "maps",
        "doctor",
    ):
        assert f" {command} " in shown


@pytest.mark.parametrize(
    "arguments",
    [["run"], ["nope"], ["run", "--out", "x", "--seed", "-1"], ["simulate", "x.h5", "--backend", "magic"]],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    assert hwloop(*arguments).exit_code == 2


def test_doctor_says_what_is_found_in_which_version() -> None:
    found = json.loads(hwloop("doctor", "--json").stdout)
    assert set(found) == {
        "Python",
        "torch",
        "CUDA",
        "numba",
        "ngspice",
        "libngspice",
        "PySpice",
        "Dask",
        "PyVISA-py",
        "dask-jobqueue",
    }
    assert found["torch"]["version"] == torch.__version__
    for finding in found.values():
        assert finding["needed_for"]
        assert finding["version"] if finding["found"] else finding["fix"]


def test_devices_show_every_figure_with_its_source() -> None:
    assert "rram-neurram" in json.loads(hwloop("devices", "list", "--json").stdout)
    card = json.loads(hwloop("devices", "show", "rram-neurram", "--json").stdout)
    assert card["g_max"] == {"value": 4e-5, "unit": "S", "source": card["g_max"]["source"]}
    assert "programming_error.coefficients" in hwloop("devices", "show", "rram-neurram").stdout
    assert "no device card 'nope'" in failed_with_one_line(hwloop("devices", "show", "nope"))


def test_the_traceback_of_an_error_is_there_for_who_asks() -> None:
    shown = hwloop("--traceback", "devices", "show", "nope")
    assert isinstance(shown.exception, CardError)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"train": "epoch = 3"}, "train.epoch"),
        ({"train": "epochs = -3"}, "train.epochs"),
        ({"hardware": 'node = "3nm"'}, "3nm"),
        ({"hardware": 'card = "nope"'}, "no device card 'nope'"),
        ({"network": 'factory = "tests.line.tiny:nothing"'}, "no factory 'nothing'"),
        ({"network": f'factory = "{NETWORK}"\nweights = "nowhere.safetensors"'}, "nowhere.safetensors"),
        ({"network": 'factory = "hwloop.networks:lenet"'}, "does not take images of shape [1, 8, 8]"),
        ({"data": 'name = "nowhere.npz"'}, "nowhere.npz: no such file; data.name is"),
        ({"prune.keep.fc9": "rows = 3"}, "prune.keep.fc9"),
        ({"hardware": "copies = { fc9 = 4 }"}, "hardware.copies.fc9: the network has no such layer"),
        ({"hardware": "adc_bits = { fc9 = 4 }"}, "hardware.adc_bits.fc9: the network has no such layer"),
        ({"hardware": "copies = { fc1 = 0 }"}, "hardware.copies.fc1: Input should be greater than"),
        ({"hardware": "copies = 65"}, "hardware.copies: Input should be less than"),
        ({"hardware": 'adc_lsb = { fc1 = "a" }'}, "hardware.adc_lsb.fc1: Input should be a valid number"),
        ({"train": "epochs = "}, "not valid TOML"),
    ],
)
def test_a_bad_recipe_is_named_and_nothing_is_written(
    tmp_path: Path, changes: dict[str, str], named: str
) -> None:
    recipe = write_recipe(tmp_path, **changes)
    assert named in failed_with_one_line(hwloop("run", recipe, "--out", tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    assert "nowhere.toml: no such file" in failed_with_one_line(
        hwloop("run", tmp_path / "nowhere.toml", "--out", tmp_path / "run")
    )


def test_weights_of_another_network_are_refused(tmp_path: Path, tiny_recipe: Path) -> None:
    weights = tmp_path / "lenet.safetensors"
    save_weights(build_network("hwloop.networks:lenet"), weights)
    result = hwloop("run", tiny_recipe, "--weights", weights, "--out", tmp_path / "run")
    assert "weights of another network" in failed_with_one_line(result)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, tiny_recipe: Path) -> None:
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in failed_with_one_line(
        hwloop("run", tiny_recipe, "--out", tmp_path / "file" / "run")
    )
    assert str(tmp_path / "file") in failed_with_one_line(
        hwloop("run", tiny_recipe, "--out", tmp_path / "file")
    )


def test_the_stations_one_at_a_time_make_the_same_run(
    tmp_path: Path, tiny_recipe: Path, finished: Path, figures: Callable[[Path], dict[str, Any]]
) -> None:
    out = tmp_path / "run"
    early = hwloop("retrain", out)
    assert "not the folder of a run" in failed_with_one_line(early)
    pruned = hwloop("prune", NETWORK, "--recipe", tiny_recipe, "--out", out, "--json")
    assert json.loads(pruned.stdout)["accuracy"] == figures(finished)["accuracy"]["pruned"]
    assert "has not run yet" in failed_with_one_line(hwloop("report", out))
    assert json.loads(hwloop("map", out, "--json").stdout)["tiles"] == read_map(out / "maps.h5").tiles
    retrained = json.loads(hwloop("retrain", out, "--json").stdout)
    assert retrained["accuracy"] == figures(finished)["accuracy"]["hardware_after"]["instances"]
    reported = hwloop("report", out, "--json")
    assert json.loads(reported.stdout)["accuracy"] == figures(finished)["accuracy"]
    assert figures(out) == figures(finished)


def test_run_prints_one_object_and_where_the_report_is(finished: Path, tiny_recipe: Path) -> None:
    again = hwloop("run", tiny_recipe, "--out", finished, "--json")
    assert json.loads(again.stdout)["format"] == "hwloop-summary"
    assert "done before" in again.stderr
    assert f"report: {finished / 'report.html'}" in hwloop("run", tiny_recipe, "--out", finished).stdout


def test_another_seed_in_the_same_folder_is_refused(finished: Path, tiny_recipe: Path) -> None:
    line = failed_with_one_line(hwloop("run", tiny_recipe, "--seed", "7", "--out", finished))
    assert "another seed" in line
    assert "--fresh" in line


def test_simulate_on_ideal_arrays_has_no_error(finished: Path, tiny_recipe: Path) -> None:
    options = ("--network", NETWORK, "--recipe", tiny_recipe, "--images", "100", "--json")
    ideal = json.loads(hwloop("simulate", finished / "maps.h5", "--backend", "ideal", *options).stdout)
    fast = json.loads(hwloop("simulate", finished / "maps.h5", "--instances", "2", *options).stdout)
    assert ideal["hardware"]["backend"] == "ideal"
    assert all(error < 1e-6 for error in ideal["layer_errors"].values())
    assert len(fast["accuracy"]) == 2
    assert all(0.01 < error < 0.5 for error in fast["layer_errors"].values())


def test_simulate_runs_no_code_that_a_file_names(finished: Path, tiny_recipe: Path) -> None:
    line = failed_with_one_line(hwloop("simulate", finished / "maps.h5", "--recipe", tiny_recipe))
    assert f"--network {NETWORK}" in line


@pytest.mark.parametrize("command", [("simulate",), ("verify",), ("maps", "inspect")])
def test_a_missing_or_truncated_map_is_named(
    finished: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    assert "nowhere.h5: no such file" in failed_with_one_line(hwloop(*command, tmp_path / "nowhere.h5"))
    whole = (finished / "maps.h5").read_bytes()
    for length in (0, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.h5").write_bytes(whole[:length])
        assert "cut.h5" in failed_with_one_line(hwloop(*command, tmp_path / "cut.h5"))


def test_no_color_and_plain_output_where_there_is_no_terminal(tiny_recipe: Path, finished: Path) -> None:
    for text in (hwloop("run", tiny_recipe, "--out", finished), hwloop("doctor"), hwloop("devices", "list")):
        assert "\x1b" not in text.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["lenet"], "command line: network.factory: must read package.module:factory or FILE.onnx"),
        (
            ["hwloop.networks:lenet", "--target", "tiles=many"],
            "command line: prune.target: must read tiles=8x",
        ),
        (
            ["hwloop.networks:lenet", "--method", "magic"],
            "prune.method: no pruning method 'magic'; there are group-scissor",
        ),
    ],
)
def test_words_that_no_recipe_could_hold_are_told_in_one_line(
    words: list[str], told: str, tmp_path: Path
) -> None:
    done = CliRunner().invoke(app, ["prune", *words, "--out", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: {told}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()

"""Long commands go on where they were cut off, say so, and find what they would have found at once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from calibration import write_measurements
from calibration.synthetic import MAKERS
from device_models.folders import alone_in
from hwloop.cli.app import app
from hwloop.unfinished import UnfinishedError, unfinished_folder, unfinished_work

from .killing import kill_when


def hwloop(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def failure(result: Result) -> str:
    assert result.exit_code == 1, result.output
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("measured") / "cells.h5"
    names = ("variation", "drift", "pulse response")
    write_measurements(path, {name.replace(" ", "-"): MAKERS[name](1, True)[0] for name in names})
    return path


def without_seconds(report: dict[str, Any]) -> dict[str, Any]:
    arrays = [{n: v for n, v in array.items() if n != "seconds"} for array in report["arrays"]]
    return {**{n: v for n, v in report.items() if n != "seconds"}, "arrays": arrays}


def test_a_killed_calibration_goes_on_and_gives_the_same_card_and_page(
    measured: Path, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole" / "cell.toml", tmp_path / "cut" / "cell.toml"
    for out in (whole, cut):
        out.parent.mkdir()
    folder = unfinished_folder(cut, "calibrate")
    kill_when(lambda: any(folder.glob("*.json.part")) or len(list(folder.glob("*.json"))) > 1,
              "calibrate", measured, "--out", cut)  # fmt: skip
    assert [path.name for path in cut.parent.iterdir()] == [folder.name]
    assert "with another read_voltage" in failure(
        hwloop("calibrate", measured, "--out", cut, "--read-voltage", "0.3", "--quiet")
    )
    assert hwloop("calibrate", measured, "--out", cut, "--resume").exit_code == 0
    assert hwloop("calibrate", measured, "--out", whole).exit_code == 0
    for suffix in (".toml", ".html"):
        assert cut.with_suffix(suffix).read_bytes() == whole.with_suffix(suffix).read_bytes()
    assert sorted(path.name for path in cut.parent.iterdir()) == ["cell.html", "cell.toml"]


@pytest.mark.ngspice
def test_a_killed_check_goes_on_and_finds_the_same(finished: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    maps = tmp_path / "maps.h5"
    shutil.copy(finished / "maps.h5", maps)
    options = (maps, "--recipe", tiny_recipe, "--tiles", "3", "--columns", "2", "--workers", "1")
    folder = unfinished_folder(maps, "verify")
    kill_when(lambda: len(list(folder.glob("*.safetensors"))) > 1, "verify", *options)
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
    assert kept
    resumed = hwloop("verify", *options, "--resume", "--json")
    assert resumed.exit_code == 0, resumed.stderr
    assert not folder.exists()
    whole = hwloop("verify", *options, "--json")
    assert without_seconds(json.loads(resumed.stdout)) == without_seconds(json.loads(whole.stdout))
    assert "nothing to resume" in failure(hwloop("verify", *options, "--resume"))


def test_retraining_begins_anew_when_it_is_asked_to(
    finished: Path, tmp_path: Path, figures: Callable[[Path], dict[str, Any]]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    trained = (run / "stations" / "train" / "result.json").stat().st_mtime_ns
    evaluated = (run / "stations" / "evaluate_after" / "result.json").stat().st_mtime_ns
    assert hwloop("retrain", run, "--resume").exit_code == 0
    assert (run / "stations" / "evaluate_after" / "result.json").stat().st_mtime_ns == evaluated
    assert hwloop("retrain", run, "--fresh").exit_code == 0
    assert (run / "stations" / "evaluate_after" / "result.json").stat().st_mtime_ns > evaluated
    assert (run / "stations" / "train" / "result.json").stat().st_mtime_ns == trained
    assert hwloop("report", run).exit_code == 0
    assert figures(run) == figures(finished)


@pytest.mark.parametrize("command", ["run", "prune"])
def test_resume_needs_something_to_go_on_with(command: str, tiny_recipe: Path, tmp_path: Path) -> None:
    given = ("run", tiny_recipe) if command == "run" else ("prune", "tests.line.tiny:network")
    options = (*given, "--out", tmp_path / "run")
    assert "nothing to resume" in failure(hwloop(*options, "--resume"))
    assert hwloop(*options, "--resume", "--fresh").exit_code == 2
    assert not (tmp_path / "run").exists()


def test_two_commands_do_not_work_in_one_folder(finished: Path, tiny_recipe: Path) -> None:
    with alone_in(finished):
        line = failure(hwloop("run", tiny_recipe, "--out", finished))
    assert f"{finished}: another process works in this folder" in line


def test_unfinished_work_stays_until_it_is_done_or_thrown_away(tmp_path: Path) -> None:
    beside = tmp_path / "card.toml"
    with pytest.raises(KeyboardInterrupt):
        _interrupt(beside, {"seed": 1})
    with pytest.raises(UnfinishedError, match="with another seed; --fresh throws it away"):
        _interrupt(beside, {"seed": 2})
    with unfinished_work(beside, "try", {"seed": 1}, fresh=False) as folder:
        assert (folder / "part").read_text() == "1"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyboardInterrupt):
        _interrupt(beside, {"seed": 1})
    with unfinished_work(beside, "try", {"seed": 2}, fresh=True) as folder:
        assert not (folder / "part").exists()


def _interrupt(beside: Path, choices: dict[str, int]) -> None:
    with unfinished_work(beside, "try", choices, fresh=False) as folder:
        (folder / "part").write_text(str(choices["seed"]))
        raise KeyboardInterrupt

"""Sweeps: every design is evaluated and priced once, whatever the workers, and the best are told apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
from distributed import Client
from typer.testing import CliRunner

from hwloop.cli.app import app
from hwloop.progress import Silence
from hwloop.recipe import Recipe, load_recipe
from hwloop.sweep import Axis, SweepError, designs, mark_best, sweep

from .tiny import write_recipe

AXES = ["rows+cols=8,16", "adc_bits=3,6", "slices=1,2"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder = tmp_path_factory.mktemp("sweep")
    return load_recipe(write_recipe(folder, train="epochs = 2\nbatch = 64\nlearning_rate = 1e-2"))


@pytest.fixture
def client(clients: Callable[[int], Client]) -> Client:
    return clients(1)


def without_times(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in result.items() if name != "seconds"} for result in results]


def test_every_combination_is_a_design(recipe: Recipe) -> None:
    found = designs(recipe, [Axis.parse(text) for text in AXES])
    assert [design.number for design in found] == list(range(8))
    assert len({design.way for design in found}) == 2
    assert found[0].settings == {"rows": 8, "cols": 8, "adc_bits": 3, "slices": 1}
    assert found[-1].recipe.hardware.rows == found[-1].recipe.hardware.cols == 16
    assert Axis.parse("hardware.node = 22nm, 45nm").values == ("22nm", "45nm")
    assert Axis.parse("rows_at_once=none,4").values == (None, 4)


def test_a_sweep_prices_and_evaluates_and_goes_on_where_it_was_cut_off(
    recipe: Recipe, client: Client, tmp_path: Path
) -> None:
    axes = [Axis.parse(text) for text in AXES]
    first = sweep(recipe, axes, tmp_path / "a", client, Silence())
    assert len(first) == 8
    for result in first:
        assert len(result["accuracy"]) == 2
        assert result["area_mm2"] > 0
        assert max(result["adc_bits"].values()) <= result["settings"]["adc_bits"]
        assert result["arrays"] == 2 * result["settings"]["slices"] * result["tiles"]
    small = {r["settings"]["rows"]: r["tiles"] for r in first}
    assert small[8] > small[16]
    assert any(result["best"] for result in first)
    with h5py.File(tmp_path / "a" / "results.h5", "r+") as file:
        rows = file["results"][:]
        assert rows["accuracy"].tolist() == [value for result in first for value in result["accuracy"]]
        assert rows["slices"].tolist() == [1, 1, 2, 2] * 4
        del file["results"]
        file.create_dataset("results", data=rows[3:])
    again = sweep(recipe, axes, tmp_path / "a", client, Silence())
    assert without_times(again) == without_times(first)
    with h5py.File(tmp_path / "a" / "results.h5") as file:
        assert file["results"][3:].tolist() == rows[3:].tolist()
        assert file["results"]["seconds"][:3].tolist() != rows["seconds"][:3].tolist()
    assert without_times(sweep(recipe, axes, tmp_path / "a", client, Silence(), fresh=True)) == without_times(
        first
    )


def test_an_impossible_design_is_recorded_and_the_others_go_on(
    recipe: Recipe, client: Client, tmp_path: Path
) -> None:
    axes = [Axis.parse("encoding=differential,offset"), Axis.parse("subtraction=analog")]
    results = sweep(recipe, axes, tmp_path / "a", client, Silence())
    assert "accuracy" in results[0]
    assert "analog subtraction needs two polarities" in results[1]["error"]
    assert results[1]["best"] is False
    with h5py.File(tmp_path / "a" / "results.h5") as file:
        rows = file["results"][:]
    assert [bool(row["error"]) for row in rows] == [False, False, True, True]
    assert rows[2]["encoding"] == b"offset"


def test_the_best_are_those_that_nothing_beats() -> None:
    def result(accuracy: float, area: float, energy: float) -> dict[str, Any]:
        return {"accuracy": [accuracy], "area_mm2": area, "energy_per_image_j": energy}

    results = [
        result(0.9, 1, 1),
        result(0.9, 2, 1),
        result(0.95, 3, 3),
        result(0.8, 0.5, 2),
        result(0.9, 1, 1),
    ]
    mark_best(results)
    assert [r["best"] for r in results] == [True, False, True, True, True]


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (["rows"], "write FIELD=VALUE"),
        (["row=1,2"], "hardware has no field 'row'"),
        (["rows=1,2", "rows+cols=1,2"], "rows is on two axes"),
        (["node=9nm"], "node=9nm"),
        (["rows=0"], "rows: Input should be greater than or equal to 1"),
    ],
)
def test_axes_that_cannot_be_are_refused(recipe: Recipe, axes: list[str], message: str) -> None:
    with pytest.raises(SweepError, match=message):
        designs(recipe, [Axis.parse(text) for text in axes])


def test_a_folder_of_something_else_is_left_alone(recipe: Recipe, client: Client, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SweepError, match="not empty, and not the folder of a sweep"):
        sweep(recipe, [Axis.parse("rows=8")], tmp_path, client, Silence())
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(SweepError, match="holds another sweep"):
        sweep(recipe, [Axis.parse("rows=8")], tmp_path, client, Silence())


def test_the_command_gives_the_same_with_processes(
    recipe: Recipe, tiny_recipe: Path, client: Client, tmp_path: Path
) -> None:
    told = CliRunner().invoke(
        app,
        [
            "sweep",
            str(tiny_recipe),
            "--set",
            "adc_bits=2,6",
            "--out",
            str(tmp_path / "a"),
            "--workers",
            "2",
            "--json",
        ],
    )
    assert told.exit_code == 0, told.stderr
    found = json.loads(told.stdout)["designs"]
    assert (tmp_path / "a" / "sweep.svg").read_text("utf-8").startswith("<?xml")
    here = sweep(load_recipe(tiny_recipe), [Axis.parse("adc_bits=2,6")], tmp_path / "b", client, Silence())
    assert without_times(found) == without_times(here)

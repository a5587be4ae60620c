"""The whole line on a small network: what it writes, that it repeats itself, that it may be killed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hwloop.line import STATIONS, RunError, RunFolder
from hwloop.mapping import read_map, validate_map
from hwloop.recipe import load_recipe
from hwloop.report import read_summary
from tests.line.killing import kill_when
from tests.line.tiny import network, write_recipe

Finish = Callable[..., Path]
Figures = Callable[[Path], dict[str, Any]]


def test_the_line_ends_with_summary_map_and_report(finished: Path) -> None:
    summary = read_summary(finished / "summary.json")
    conductance_map = read_map(finished / "maps.h5")
    assert validate_map(finished / "maps.h5") == []
    assert all(layer.actual is not None for layer in conductance_map.layers.values())
    assert summary.compression.tiles_kept == conductance_map.tiles
    assert summary.compression.arrays_kept == conductance_map.arrays()
    assert summary.accuracy.dense > 0.8
    assert (finished / "report.html").read_text("utf-8").endswith("</html>")
    assert set(summary.seconds) == {*STATIONS, "total"}


def test_ideal_arrays_are_the_quantized_network(finished: Path) -> None:
    summary = read_summary(finished / "summary.json")
    assert summary.accuracy.ideal == summary.accuracy.quantized
    assert summary.mapping.max_logit_difference < 1e-4


def test_weights_are_counted_as_they_were_pruned(finished: Path) -> None:
    layers = read_summary(finished / "summary.json").layers
    dense = {name: p.numel() for name, p in network().named_parameters() if name.endswith("weight")}
    assert {f"{name}.weight": layer.weights_dense for name, layer in layers.items()} == dense
    assert layers["fc1"].weights_kept <= 24 * 48
    assert layers["fc2"].weights_kept <= 24 * 10  # filters of fc1 that are gone feed nothing
    assert layers["conv"].weights_kept <= 72


def test_instances_before_and_after_retraining_are_other_devices(finished: Path) -> None:
    before = read_map(finished / "stations" / "program" / "maps.h5").layers["fc1"].actual
    after = read_map(finished / "maps.h5").layers["fc1"].actual
    assert before is not None
    assert after is not None
    both = (before > 0) & (after > 0)
    assert torch.isclose(before[both], after[both], rtol=1e-3).float().mean() < 0.05


def test_spice_is_never_called_passed_where_it_did_not_run(finished: Path, ngspice_missing: str) -> None:
    spice = read_summary(finished / "summary.json").spice
    if ngspice_missing:
        assert spice.status == "not run"
        assert spice.reason
        assert spice.max_rel_error is None
    else:
        assert spice.status == "passed"
        assert spice.tiles_checked == 2
        assert spice.max_rel_error is not None
        assert spice.max_rel_error < 1e-6


def test_the_same_seed_gives_the_same_figures(
    finished: Path, tiny_recipe: Path, finish: Finish, figures: Figures, tmp_path: Path
) -> None:
    again = finish(tiny_recipe, tmp_path / "again")
    assert figures(again) == figures(finished)
    assert (again / "report.html").read_text("utf-8").count("<svg") == 6


def test_another_seed_gives_other_figures(
    finished: Path, tiny_recipe: Path, finish: Finish, figures: Figures, tmp_path: Path
) -> None:
    other = figures(finish(tiny_recipe, tmp_path / "other", seed=2))
    first = figures(finished)
    assert other["accuracy"]["dense"] != first["accuracy"]["dense"]
    assert other["accuracy"]["hardware_after"] != first["accuracy"]["hardware_after"]
    assert other["layers"]["fc1"]["read_error"] != first["layers"]["fc1"]["read_error"]


def test_killed_and_started_again_it_gives_the_same_figures(
    finished: Path, tiny_recipe: Path, finish: Finish, figures: Figures, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    stations = out / "stations"
    pruning, evaluating = "prune/admm-round-1.safetensors", "evaluate_before/instances.json"
    for seen in (stations / pruning, stations / evaluating):
        kill_when(seen.exists, "run", tiny_recipe, "--out", out)
        for path in out.rglob("maps.h5"):
            assert validate_map(path) == []
    assert figures(finish(tiny_recipe, out)) == figures(finished)


def test_finished_stations_are_not_run_again(
    finished: Path, tiny_recipe: Path, finish: Finish, figures: Figures
) -> None:
    results = sorted((finished / "stations").glob("*/result.json"))
    before = [path.stat().st_mtime_ns for path in results]
    figures_before = figures(finished)
    finish(tiny_recipe, finished)
    assert [path.stat().st_mtime_ns for path in results] == before
    assert figures(finished) == figures_before


def test_a_folder_holds_one_recipe(finished: Path, tiny_recipe: Path) -> None:
    recipe = load_recipe(tiny_recipe)
    with pytest.raises(RunError, match="holds a run with another seed; use another folder, or --fresh"):
        RunFolder.create(finished, recipe.model_copy(update={"seed": 5}))
    longer = recipe.retrain.model_copy(update={"epochs": 9})
    with pytest.raises(RunError, match=r"another retrain\.epochs"):
        RunFolder.create(finished, recipe.model_copy(update={"retrain": longer}))


def test_changed_images_are_another_run(tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path))
    RunFolder.create(tmp_path / "run", recipe)
    (tmp_path / "digits.npz").write_bytes(b"other")
    with pytest.raises(RunError, match=r"another content of .*digits\.npz"):
        RunFolder.create(tmp_path / "run", recipe)


def test_fresh_throws_away_the_run_and_nothing_else(tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path))
    folder = RunFolder.create(tmp_path / "run", recipe)
    folder.finish("train", {"accuracy": 1.0})
    (folder.path / "notes.txt").write_text("mine")
    other = recipe.model_copy(update={"seed": 5})
    assert not RunFolder.create(folder.path, other, fresh=True).is_done("train")
    assert (folder.path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, fresh: bool) -> None:
    recipe = load_recipe(write_recipe(tmp_path))
    with pytest.raises(RunError, match="not empty, and not the folder of a run"):
        RunFolder.create(tmp_path, recipe, fresh=fresh)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits.npz", "recipe.toml"]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"format": "other"}'])
def test_a_damaged_run_folder_is_named(tmp_path: Path, damage: bytes) -> None:
    recipe = load_recipe(write_recipe(tmp_path))
    folder = RunFolder.create(tmp_path / "run", recipe)
    (folder.path / "run.json").write_bytes(damage)
    with pytest.raises(RunError, match=r"run\.json"):
        RunFolder.create(folder.path, recipe)
    RunFolder.create(folder.path, recipe, fresh=True)

"""Methods side by side: by the command, on the small network, to the end."""

import json
from importlib import resources

import pytest
import torch
from typer.testing import CliRunner

from hwloop.cli.app import app
from hwloop.cost import crossbar_area, routing_area, scissor_block
from hwloop.recipe import load_recipe
from tests.line.tiny import write_recipe

SHORT = {
    "train": "epochs = 2\nbatch = 64\nlearning_rate = 1e-2",
    "prune": "rounds = 1\ntrials = 2\nretrain_epochs = 1\nfragment = 4",
    "evaluate": "instances = 2\nimages = 200\ndevice_images = 100\nbatch = 200",
}


def run(*arguments):
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    recipe, out = write_recipe(folder, **SHORT), folder / "out"
    arguments = (recipe, "--methods", "admm,forms,ternary,group-scissor", "--target", "weights=2x",
                 "--seeds", "1,2", "--out", out, "--json")  # fmt: skip
    return arguments, out, run(*arguments)


def test_every_method_ends_on_real_arrays_with_the_same_figures(compared):
    _, out, result = compared
    assert result.exit_code == 0, result.output
    rows = {row["label"]: row for row in json.loads(result.stdout)["rows"]}
    assert list(rows) == ["admm", "forms", "ternary", "group-scissor"]
    assert all(row["seeds"] == [1, 2] and row["weights"] >= 2 for row in rows.values())
    assert rows["ternary"]["adc_bits"] < rows["admm"]["adc_bits"]
    assert rows["forms"]["area_mm2"] < rows["admm"]["area_mm2"]
    for name in ("results.json", "results.md", "results.svg", "report.html"):
        assert (out / name).stat().st_size
    assert "ADC energy" in (out / "results.md").read_text("utf-8")


def test_rows_that_are_done_are_not_done_again(compared):
    arguments, out, first = compared
    stamps = {path: path.stat().st_mtime_ns for path in (out / "rows").iterdir()}
    again = run(*arguments, "--resume")
    assert json.loads(again.stdout) == json.loads(first.stdout)
    assert {path: path.stat().st_mtime_ns for path in (out / "rows").iterdir()} == stamps


def test_a_comparison_is_begun_anew_only_when_asked_to(tmp_path):
    recipe, out = write_recipe(tmp_path, **SHORT), tmp_path / "out"
    options = ("--methods", "magnitude", "--target", "weights=2x", "--seeds", "1", "--out", out, "--json")
    assert "nothing to resume" in run(recipe, *options, "--resume").stderr
    assert run(recipe, *options).exit_code == 0
    row = next((out / "rows").iterdir())
    made = row.stat().st_mtime_ns
    other = ("--target", "weights=3x")
    assert "--fresh" in run(recipe, *options[:2], *other, *options[4:]).stderr
    assert row.stat().st_mtime_ns == made
    assert run(recipe, *options[:2], *other, *options[4:], "--fresh").exit_code == 0
    assert json.loads(row.read_text())["target"] == "weights=3x"


def test_a_row_that_is_impossible_is_recorded_and_the_rest_go_on(tmp_path):
    recipe = write_recipe(tmp_path, **SHORT)
    result = run(recipe, "--methods", "admm", "--target", "tiles=500x", "--target", "weights=1x",
                 "--seeds", "1", "--out", tmp_path / "out")  # fmt: skip
    assert result.exit_code == 1
    assert "1 of 2 runs failed" in result.stderr
    assert "admm cannot leave" in result.stderr
    assert len(list((tmp_path / "out" / "rows").iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--methods", "magic"), "no method 'magic'"),
        (("--target", "speed=2"), "write tiles=8x"),
        (("--seeds", "one"), "'one' is no whole number"),
    ],
)
def test_bad_options_are_named_before_anything_starts(tmp_path, arguments, message):
    result = run(write_recipe(tmp_path, **SHORT), *arguments, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


def test_area_by_the_rules_of_group_scissor_is_the_published_one():
    ranks = {"conv1": 5, "conv2": 12, "fc1": 36}
    dense = {"conv1": (25, 20), "conv2": (500, 50), "fc1": (800, 500), "fc2": (500, 10)}
    kept = [(500, 10)]
    for name, rank in ranks.items():
        rows, cols = dense[name]
        kept += [(rows, rank), (rank, cols)]
    assert crossbar_area(kept, dense.values()) == pytest.approx(0.1362, abs=5e-5)
    blocks = [scissor_block(shape, (64, 64)) for shape in ((500, 12), (800, 36), (36, 500), (500, 10))]
    assert blocks == [(50, 12), (50, 36), (36, 50), (50, 10)]


def test_routing_area_is_the_mean_of_squared_wire_fractions():
    mask = torch.ones(100, 10, dtype=torch.bool)
    mask[:50] = False  # one of two blocks of 50 rows loses all its 60 wires
    small = torch.ones(20, 20, dtype=torch.bool)
    assert routing_area({"large": mask, "small": small}) == pytest.approx(0.25)


def test_shipped_rows_are_recipes():
    for file in (resources.files("hwloop") / "recipes" / "compare").iterdir():
        assert load_recipe(str(file)).evaluate.instances == 10

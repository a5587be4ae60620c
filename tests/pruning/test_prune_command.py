"""``hwloop prune`` with methods and targets."""

import json

import pytest
from typer.testing import CliRunner

from hwloop.cli.app import app
from hwloop.cli.run import METHODS as NAMED
from hwloop.pruning import METHODS
from tests.line.tiny import NETWORK, write_recipe

SHORT = {
    "train": "epochs = 2\nbatch = 64\nlearning_rate = 1e-2",
    "prune": "rounds = 1\ntrials = 2\nretrain_epochs = 1",
    "evaluate": "images = 200",
}


def run(command, *arguments):
    return CliRunner().invoke(app, [command, *map(str, arguments)])


def test_help_names_every_method():
    assert NAMED.split(", ") == list(METHODS)


def test_what_was_reached_is_said(tmp_path):
    arguments = (NETWORK, "--recipe", write_recipe(tmp_path, **SHORT), "--target", "weights=3x")
    result = run("prune", *arguments, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "weights:" in result.stdout
    assert "tiles:" in result.stdout
    result = run("prune", *arguments, "--out", tmp_path / "run", "--json")
    weights = json.loads(result.stdout)["sizes"]["weights"]
    assert weights["dense"] / weights["kept"] >= 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--target", "weights=0.5x"), "write tiles=8x or weights=20x"),
        (("--target", "adc_bits=4"), "does not bound ADC bits"),
    ],
)
def test_targets_that_cannot_be_met_are_refused_before_anything_is_trained(tmp_path, options, message):
    recipe = write_recipe(tmp_path, **SHORT)
    result = run("prune", NETWORK, "--recipe", recipe, *options, "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "run").exists()


def test_a_factored_network_goes_through_the_whole_line(tmp_path):
    recipe = write_recipe(
        tmp_path,
        **SHORT | {
            "prune": 'method = "group-scissor"\nrounds = 2\nretrain_epochs = 1',
            "prune.keep.fc1": "rank = 6",
            "quantize": "epochs = 0",
            "retrain": "epochs = 1\nbatch = 300",
            "evaluate": "instances = 1\nimages = 100",
            "spice": "tiles = 0",
        },
    )  # fmt: skip
    result = run("run", recipe, "--out", tmp_path / "run", "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert list(summary["layers"]) == ["conv", "fc1.u", "fc1.v", "fc2"]
    assert summary["compression"]["weights_dense"] == 72 + 72 * 32 + 320
    arguments = ("--recipe", recipe, "--network", f"{NETWORK}[fc1=6]", "--backend", "ideal",
                 "--images", 50, "--json")  # fmt: skip
    result = run("simulate", tmp_path / "run" / "maps.h5", *arguments)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--method", "magic"), "prune.method"),
        (("--target", "tiles=lots"), "prune.target"),
        (("--target", "tiles=0.1x"), "at least 1x"),
        (("--target", "weights=90000x"), "cannot leave"),
    ],
)
def test_what_cannot_be_done_is_one_line(tmp_path, arguments, message):
    result = run(
        "prune", NETWORK, "--recipe", write_recipe(tmp_path, **SHORT), *arguments, "--out", tmp_path / "run"
    )
    assert result.exit_code == 1
    assert message in " ".join(result.stderr.split())

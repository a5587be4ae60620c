"""The ladder: every rung is climbed once, and says what it gives back and what it costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hwloop.cli.app import app
from hwloop.cli.ladder import summary
from hwloop.ladder import RUNGS as DEFAULT_RUNGS
from hwloop.ladder import LadderError, ladder
from hwloop.progress import Silence
from hwloop.recipe import Network, Recipe, load_recipe

from .tiny import write_recipe

RUNGS = (*DEFAULT_RUNGS, "remap")


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(
        tmp_path_factory.mktemp("ladder"),
        train="epochs = 2\nbatch = 64\nlearning_rate = 1e-2",
        prune="rounds = 1\nretrain_epochs = 1",
        hardware='card = "generic-10k"\nrows = 16\ncols = 16\nwire = 20.0\ndac_bits = 5\nbits_per_cycle = 5\n'
        'subtraction = "analog"\nadc_bits = 6\ncopies = 2',
        retrain="epochs = 1\nbatch = 64\nlearning_rate = 3e-3\nimages = 300\ncalibration_instances = 1\n"
        "distill = 0.3",
        quantize="clip = 2.0",
    )


@pytest.fixture(scope="module")
def climbed(recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    out = tmp_path_factory.mktemp("out") / "ladder"
    return out, ladder(load_recipe(recipe_file), out, Silence(), rungs=RUNGS, chips=1)


def test_every_rung_of_both_networks_is_there(climbed: tuple[Path, list[dict[str, Any]]]) -> None:
    found = {(result["network"], result["rung"]): result for result in climbed[1]}
    assert set(found) == {(network, rung) for network in ("dense", "pruned") for rung in RUNGS}
    for (_, rung), result in found.items():
        if rung in ("batch-norm", "chip-batch-norm"):
            assert result["error"] == "the network has no batch norm to calibrate"
        else:
            assert len(result["accuracy"]) == (1 if rung in ("chip", "remap", "digital") else 2)


def test_costs_are_counted(climbed: tuple[Path, list[dict[str, Any]]]) -> None:
    found = {result["rung"]: result for result in climbed[1] if result["network"] == "dense"}
    assert found["none"]["writes"] == found["variation"]["writes"] == found["ir-drop"]["reads"] == 0
    assert found["scale"]["writes"] > 0
    assert found["scale"]["reads"] > 0
    # A chip is written once, and read once for every training image and layer.
    assert found["chip"]["writes"] == found["scale"]["writes"]
    # Every cell is written low and high to find the stuck ones, then the map.
    assert found["remap"]["writes"] > 3 * found["chip"]["writes"]
    assert found["chip"]["trained_on_evaluated"]
    # All but the first rungs are on two copies of each array.
    assert found["none"]["arrays"] == found["clip"]["arrays"]
    for rung in ("copies", "scale", "variation", "chip"):
        assert found[rung]["arrays"] == 2 * found["none"]["arrays"]


def test_what_is_done_is_not_done_again(
    climbed: tuple[Path, list[dict[str, Any]]], recipe_file: Path
) -> None:
    out, results = climbed
    before = {path: path.stat().st_mtime_ns for path in out.rglob("result.json")}
    again = ladder(load_recipe(recipe_file), out, Silence(), rungs=RUNGS, chips=1)
    assert again == results
    assert {path: path.stat().st_mtime_ns for path in out.rglob("result.json")} == before


def test_one_network_alone_and_another_value_of_a_field(recipe_file: Path, tmp_path: Path) -> None:
    command = ["ladder", str(recipe_file), "--out", str(tmp_path / "ladder"), "--rungs", "none,copies"]
    done = CliRunner().invoke(app, [*command, "--networks", "pruned", "--set", "hardware.copies=3", "--json"])
    assert done.exit_code == 0, done.output
    none, copies = json.loads(done.stdout)["rungs"]
    assert {none["network"], copies["network"]} == {"pruned"}
    assert copies["arrays"] == 3 * none["arrays"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("hardware.copies", "--set hardware.copies: write SECTION.FIELD=VALUE"),
        ("hardware.copies=", "write SECTION.FIELD=VALUE"),
        ("hardware.copies=0", "--set hardware.copies=0: hardware.copies: "),
        ("hardware.copy=2", "hardware.copy: no such key; did you mean 'copies'?"),
        ("hardwar.copies=2", "no section 'hardwar'"),
        ("seed.x=2", "no section 'seed'"),
    ],
)
def test_a_value_that_cannot_be_is_named_and_nothing_is_written(
    setting: str, message: str, recipe_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "ladder"
    done = CliRunner().invoke(app, ["ladder", str(recipe_file), "--out", str(out), "--set", setting])
    assert done.exit_code == 1
    assert message in " ".join(done.stderr.split())
    assert not out.exists()


def test_begun_anew_it_reads_as_the_new_recipe_says(recipe_file: Path, tmp_path: Path) -> None:
    recipe, out = load_recipe(recipe_file), tmp_path / "ladder"
    ladder(recipe, out, Silence(), rungs=("none",))
    ladder(_with_bits(recipe, 8), out, Silence(), rungs=("none",), fresh=True)
    bits = json.loads((out / "dense" / "readout.json").read_text("utf-8"))["adc_bits"]
    assert bits == 8 or set(bits.values()) == {8}


def test_it_reads_each_layer_with_the_bits_that_the_recipe_gives_it(
    recipe_file: Path, tmp_path: Path
) -> None:
    bits, out = {"conv": 8, "fc1": 7, "fc2": 6}, tmp_path / "ladder"
    ladder(_with_bits(load_recipe(recipe_file), bits), out, Silence(), rungs=("none",))
    readout = json.loads((out / "dense" / "readout.json").read_text("utf-8"))
    assert readout["adc_bits"] == bits
    assert readout["adc_lsb"].keys() == {"conv", "fc1", "fc2"}


def test_the_command_shows_it(climbed: tuple[Path, list[dict[str, Any]]], recipe_file: Path) -> None:
    out, results = climbed
    command = ["ladder", str(recipe_file), "--out", str(out), "--rungs", ",".join(RUNGS), "--chips", "1"]
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["rungs"] == results
    rows = summary(results)
    assert {row["rung"] for row in rows} == set(RUNGS)
    assert {row["digital"] for row in rows} == {f"{100 * result['digital']:.2f}" for result in results}
    assert {row["rung"] for row in rows if row["accuracy"].endswith("*")} == {
        row["rung"] for row in rows if row["before"]
    }
    assert next(row for row in rows if row["rung"] == "chip")["accuracy"].endswith("*")


def test_wrong_use_says_what_is_wrong(
    climbed: tuple[Path, list[dict[str, Any]]], recipe_file: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(recipe_file)
    with pytest.raises(LadderError, match="no rung 'luck'"):
        ladder(recipe, tmp_path, Silence(), rungs=("luck",))
    with pytest.raises(LadderError, match="no network 'sparse'; the recipe has dense and pruned"):
        ladder(recipe, tmp_path, Silence(), networks=("sparse",))
    with pytest.raises(LadderError, match="holds another ladder"):
        ladder(recipe.model_copy(update={"seed": 7}), climbed[0], Silence())
    missing = r"hardware\.adc_bits\.conv9: the network has no such layer; its layers are conv, fc1, fc2"
    with pytest.raises(ValueError, match=missing):
        ladder(_with_bits(recipe, {"conv9": 3}), tmp_path / "unknown", Silence(), rungs=("none",))
    unknown = recipe.model_copy(update={"network": Network(factory="nothing.here:net")})
    with pytest.raises(ValueError, match=r"module 'nothing\.here' cannot be imported"):
        ladder(unknown, tmp_path / "nowhere", Silence())
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(LadderError, match="not empty"):
        ladder(recipe, tmp_path, Silence())


def _with_bits(recipe: Recipe, bits: int | dict[str, int]) -> Recipe:
    hardware = recipe.hardware.model_copy(update={"adc_bits": bits})
    return recipe.model_copy(update={"hardware": hardware})


def test_the_line_refuses_strategies_that_fresh_devices_do_not_suit(recipe_file: Path) -> None:
    from hwloop.line import load_inputs

    recipe = load_recipe(recipe_file)
    changed: Recipe = recipe.model_copy(
        update={"retrain": recipe.retrain.model_copy(update={"strategy": "chip"})}
    )
    with pytest.raises(ValueError, match="use one of hardware, batch-norm, variation, ir-drop"):
        load_inputs(changed)

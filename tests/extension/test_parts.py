"""Parts of other packages: installed, found by their entry points, used as our own, or refused in a line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from device_models import load_card
from device_models.card import CardError
from device_models.converters import ADCS, AdcDescription
from device_models.effects import EFFECTS
from device_models.parts import PartError, Parts
from device_models.toml import to_toml
from hwloop.bench import DRIVERS
from hwloop.line import load_inputs
from hwloop.pruning import METHODS, Method
from hwloop.recipe import HardwareConfig, RecipeError, load_recipe
from hwloop.training.strategies import STRATEGIES
from tests.line.tiny import write_recipe

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that has the example package, and one that fails to import."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    source = tmp_path_factory.mktemp("source")
    for file in (ROOT / "examples" / "hwloop-parts").iterdir():
        if file.is_file():
            (source / file.name).write_bytes(file.read_bytes())
    subprocess.run([*command, "--target", str(target), str(source)], check=True)
    broken = target / "broken-1.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n", "utf-8")
    (broken / "entry_points.txt").write_text("[hwloop.adcs]\nbroken = nowhere_at_all:Adc\n", "utf-8")
    return {**os.environ, "PYTHONPATH": f"{target}:{ROOT}"}


def run(environment: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hwloop", *map(str, arguments)]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_network_goes_through_the_line_by_parts_of_an_installed_package(
    installed: dict[str, str], tmp_path: Path
) -> None:
    card = to_toml(load_card("rram-neurram").model_dump(mode="json", exclude_none=True))
    aged = card.replace("version = 1", "version = 2") + (
        '\n[effects.ageing]\nloss = {value = 0.2, unit = "1", source = "invented"}\n'
        'spread = {value = 0.01, unit = "1", source = "invented"}\n'
    )
    (tmp_path / "aged.toml").write_text(aged, "utf-8")
    adc = 'adc = {kind = "bowed", bow = 0.5}'
    changes = {
        "train": "epochs = 1",
        "prune": 'method = "whole-rows"\nrounds = 1\nretrain_epochs = 1',
        "prune.parameters": "least = 50",
        "prune.keep.fc1": "share = 0.1",
        "quantize": "epochs = 0",
        "hardware": f'card = "{tmp_path}/aged.toml"\nrows = 16\ncols = 16\n{adc}',
        "spice": "tiles = 0",
        "retrain": 'strategy = "stretch"',
        "retrain.parameters": "by = 1.25",
        "evaluate": "instances = 1\nimages = 50",
    }
    done = run(installed, "run", write_recipe(tmp_path, **changes), "--out", tmp_path / "run", "--quiet")
    assert done.returncode == 0, done.stderr
    pruned = json.loads((tmp_path / "run" / "stations" / "prune" / "result.json").read_text("utf-8"))
    assert pruned["keep"]["fc1"]["rows"] == 50  # the part's own parameter, above a tenth of 72
    # A map names the effect and no code: without the package it is one line.
    maps = tmp_path / "run" / "maps.h5"
    refused = run({**os.environ, "PYTHONPATH": str(ROOT)}, "maps", "inspect", maps)
    assert refused.returncode == 1
    assert "no device effect 'ageing'" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert run(installed, "maps", "inspect", maps).returncode == 0


def test_doctor_lists_what_is_found_and_what_fails(installed: dict[str, str]) -> None:
    done = run(installed, "doctor", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    parts = ("effects ageing", "adcs bowed", "pruning whole-rows", "strategies stretch", "drivers tile-mean")
    for name in parts:
        assert found[f"hwloop.{name}"]["found"], found[f"hwloop.{name}"]
        assert found[f"hwloop.{name}"]["version"] == "hwloop-parts"
    broken = found["hwloop.adcs broken"]
    assert not broken["found"]
    assert "'broken' of broken cannot be imported (ModuleNotFoundError" in broken["fix"]


def test_a_driver_of_an_installed_package_reads_an_instrument(installed: dict[str, str]) -> None:
    code = """
from hwloop.bench import DRIVERS, TileBoard
from tests.bench.conftest import serving
from hwloop.bench import connect
import hwloop, torch
with serving() as server:
    net = torch.nn.Sequential(torch.nn.Linear(6, 4))
    x = torch.rand(3, 6)
    analog = hwloop.convert(net, hwloop.HardwareConfig(rows=8, cols=8), calibrate=x)
    analog.attach(connect(f"127.0.0.1:{server.port}", analog.hardware, driver="tile-mean"))
    assert float((analog(x) - net(x)).abs().max()) < 0.3 * float(net(x).abs().max())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=installed, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_our_own_parts_are_in_the_same_tables() -> None:
    assert {"admm", "tinyadc"} <= set(METHODS)
    assert {"hardware", "ir-drop"} <= set(STRATEGIES)
    assert {"tile", "smu"} <= set(DRIVERS)
    assert {"uniform", "sar", "flash", "ramp", "measured"} <= set(ADCS)
    assert EFFECTS.group == "hwloop.effects"


def test_a_script_registers_parts_by_a_decorator() -> None:
    parts: Parts[type] = Parts(
        "hwloop.tests", "part", __name__, lambda part: "" if isinstance(part, type) else "is no class"
    )

    @parts.add("mine")
    class Mine:
        pass

    assert parts["mine"] is Mine
    with pytest.raises(PartError, match="there is a part 'mine' already"):
        parts.add("mine")(Mine)
    with pytest.raises(PartError, match="is no class"):
        parts.add("other")(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("section", "text", "said"),
    [
        ("prune", 'method = "admn"', "prune.method: no pruning method 'admn'; there are group-scissor"),
        ("prune", 'method = "admm"\nparameters = {a = 1}', "prune.method: parameters.a: it takes"),
        ("retrain", 'strategy = "pray"', "retrain.strategy: no retraining strategy 'pray'"),
    ],
)
def test_an_unknown_name_is_one_line_before_anything_is_trained(
    tmp_path: Path, section: str, text: str, said: str
) -> None:
    recipe = load_recipe(write_recipe(tmp_path, **{section: text}))
    with pytest.raises(RecipeError) as caught:
        load_inputs(recipe)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_kinds_of_adcs_and_effects_are_one_line(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, hardware='adc = {kind = "pipelined"}')
    with pytest.raises(RecipeError, match=r"no kind of ADC 'pipelined'.*\(entry points hwloop\.adcs\)"):
        load_recipe(recipe)
    card = to_toml(load_card("generic-10k").model_dump(mode="json", exclude_none=True))
    (tmp_path / "card.toml").write_text(card + "\n[effects.rust]\nloss = 1\n", "utf-8")
    with pytest.raises(CardError, match="no device effect 'rust'"):
        load_card(tmp_path / "card.toml")


def test_an_adc_of_a_script_keeps_its_figures_in_a_recipe() -> None:
    @ADCS.add("scripted")
    class Scripted(AdcDescription):
        kind: str = "scripted"
        gain: float = 1.0

    try:
        choice = HardwareConfig(adc={"kind": "scripted", "gain": 0.9})
        again = HardwareConfig.model_validate(choice.model_dump(mode="json"))
        assert again.adc == Scripted(gain=0.9)
        assert isinstance(METHODS["admm"], Method)
        with pytest.raises(ValueError, match=r"scripted\.gains"):
            HardwareConfig(adc={"kind": "scripted", "gains": 0.9})
    finally:
        del ADCS._own["scripted"]

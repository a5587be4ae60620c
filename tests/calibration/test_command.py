"""hwloop calibrate: a card that loads, a page, one JSON object, and one line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from calibration import write_measurements
from calibration.synthetic import MAKERS
from device_models import load_card
from device_models.memristor import program
from hwloop.cli.app import app


def hwloop(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("measured") / "levels.h5"
    write_measurements(
        path, {n.replace(" ", "-"): MAKERS[n](1, True)[0] for n in ("programming error", "drift")}
    )
    return path


def test_a_card_is_calibrated_shown_and_programmed(measured: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.toml"
    result = hwloop("calibrate", measured, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["effects"]["programming_error"]["verdict"] == "fits"
    assert "pulse" in told["not_identified"]
    page = Path(told["page"]).read_text("utf-8")
    for text in ("95 % interval", "What these data do not identify", "<svg", "programming error"):
        assert text in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http-equiv", "")
    card = load_card(out)
    target = torch.full((2, 2, 1, 32, 32), 20e-6)
    one, other = (program(target, card, 1, k, "fc", elapsed=3600.0) for k in (0, 1))
    assert not torch.equal(one, other)
    shown = hwloop("devices", "show", out)
    assert shown.exit_code == 0
    assert "±" in shown.output


def test_bad_input_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("# kind: levels\n# temperature: 298 K\ntarget,conductance [S]\n1,1\n")
    result = hwloop("calibrate", tmp_path / "m.csv", "--out", tmp_path / "c.toml")
    assert result.exit_code == 1
    assert "column 'target' has no unit" in result.stderr
    assert not (tmp_path / "c.toml").exists()
    assert hwloop("calibrate", tmp_path / "m.csv", "--out", tmp_path / "c.txt").exit_code == 2
    assert "No such" in hwloop("calibrate", tmp_path / "n.h5", "--out", tmp_path / "c.toml").stderr

"""PySpice is under the GPL, and some remove it: everything but netlists works, and says what is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.line.tiny import write_recipe

WITHOUT = """
import sys

class Removed:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "PySpice":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])

sys.meta_path.insert(0, Removed())
from hwloop.cli import main
main()
"""


def hwloop(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, cwd=folder, env=environment
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("without")
    recipe = write_recipe(folder, train="epochs = 1", prune="rounds = 1\nretrain_epochs = 0")
    done = hwloop("run", recipe, "--out", folder / "run", "--quiet", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_a_run_ends_in_its_report_and_says_why_ngspice_checked_nothing(run: Path) -> None:
    spice = json.loads((run / "summary.json").read_text("utf-8"))["spice"]

    assert spice["status"] == "not run"
    assert "PySpice is not installed" in spice["reason"]
    assert (run / "report.html").exists()


def test_what_needs_netlists_ends_in_one_line(run: Path) -> None:
    done = hwloop("verify", "maps.h5", "--recipe", "../recipe.toml", folder=run)

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(
        "PySpice is not installed, and netlists need it: pip install PySpice"
    )

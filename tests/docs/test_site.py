"""The documentation site is built without a warning, with all that follows from the code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("hwloop", "device_models", "calibration", "spice_netlists")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copy(ROOT / "zensical.toml", folder)
    for name in SOURCES:
        (folder / name).symlink_to(ROOT / name)
    for command in (
        [str(ROOT / "tools" / "reference.py"), str(folder / "docs" / "reference")],
        ["-m", "zensical", "build", "--strict"],
    ):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "build" / "site"


@pytest.mark.parametrize(
    ("page", "holds"),
    [
        ("reference/commands", "hwloop maps inspect"),
        ("reference/recipe", "rows_at_once"),
        ("reference/device-card", "telegraph_noise"),
        ("python", "effective_conductance"),
    ],
)
def test_the_reference_follows_from_the_code(site: Path, page: str, holds: str) -> None:
    assert holds in (site / page / "index.html").read_text("utf-8")

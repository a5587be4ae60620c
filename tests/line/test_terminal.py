"""Commands in a terminal of 80 columns, in none, and in a shell that completes."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from calibration import write_measurements
from calibration.synthetic import MAKERS
from hwloop.cli.app import app

from .killing import ROOT

COMMANDS = (
    "run", "prune", "map", "simulate", "verify", "adc", "retrain", "report", "calibrate", "sweep", "doctor",
)  # fmt: skip


def plain(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "80", "NO_COLOR": "1"})
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output
    return result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_80_columns_and_names_quiet(command: str) -> None:
    shown = plain(command, "--help")
    assert max(map(len, shown.splitlines())) <= 80
    assert "--quiet" in shown
    assert "--json" in shown


@pytest.mark.parametrize("command", ["run", "prune", "retrain", "sweep", "calibrate", "verify"])
def test_long_commands_can_be_resumed_and_begun_anew(command: str) -> None:
    shown = plain(command, "--help")
    assert "--resume" in shown
    assert "--fresh" in shown


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("measured") / "cells.h5"
    write_measurements(path, {"drift": MAKERS["drift"](1, True)[0]})
    return path


def test_quiet_leaves_results_alone(measured: Path, tmp_path: Path) -> None:
    given = ["calibrate", str(measured), "--out", str(tmp_path / "cell.toml")]
    loud, quiet = (CliRunner().invoke(app, [*given, *more]) for more in ([], ["--quiet"]))
    assert "readings in 1 tables" in loud.stderr
    assert quiet.stderr == ""
    assert quiet.stdout == loud.stdout


@pytest.mark.parametrize("no_color", [False, True])
def test_a_terminal_shows_progress_with_time_left(measured: Path, tmp_path: Path, no_color: bool) -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"} | ({"NO_COLOR": "1"} if no_color else {})
    command = [sys.executable, "-m", "hwloop", "calibrate", str(measured), "--out", str(tmp_path / "c.toml")]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        while part := _read(ours):
            shown += part
    assert process.returncode == 0
    assert b" left " in shown
    assert b"readings in 1 tables" in shown
    # Moving the cursor is no colour.
    assert (b"\x1b[3" in shown) is not no_color


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other side is closed
        return b""


def test_a_shell_completes_commands_and_options() -> None:
    words = {"hwloop sw": "sweep", "hwloop sweep --sch": "--scheduler", "hwloop retrain --re": "--resume"}
    for typed, wanted in words.items():
        environment = os.environ | {
            "_HWLOOP_COMPLETE": "complete_bash",
            "COMP_WORDS": typed,
            "COMP_CWORD": str(len(typed.split()) - 1),
        }
        code = "import sys; sys.argv = ['hwloop']; from hwloop.cli import main; main()"
        shown = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert wanted in shown.stdout.split(), shown


@pytest.mark.parametrize("wanted", [None, "ACTIVE"])
def test_threads_that_wait_leave_the_cores_to_others_unless_told(wanted: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_DISPLAY_ENV": "true"} | ({"OMP_WAIT_POLICY": wanted} if wanted else {})
    command = [sys.executable, "-m", "hwloop", "maps", "inspect", "missing.h5"]
    shown = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    policies = [line for line in shown.stderr.splitlines() if "OMP_WAIT_POLICY" in line]
    assert policies, shown.stderr
    assert all(f"'{wanted or 'PASSIVE'}'" in line for line in policies)

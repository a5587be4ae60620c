"""``hwloop bench serve`` and ``hwloop simulate --backend bench:…`` as processes, over a real socket."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hwloop.bench import BenchServer
from hwloop.cli.app import app
from tests.line.tiny import NETWORK

from .networks import write_tiny

runner = CliRunner()


@contextlib.contextmanager
def served(*options: str, stop: signal.Signals = signal.SIGTERM) -> Iterator[str]:
    """The address of a virtual instrument in a process of its own."""
    command = [sys.executable, "-m", "hwloop", "bench", "serve", "--port", "0", "--json", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = "".join(itertools.takewhile("}\n".__ne__, process.stdout)) + "}"
        try:
            yield "{host}:{port}".format(**json.loads(told))
        finally:
            process.send_signal(stop)
            _, notes = process.communicate(timeout=20)
    assert process.returncode == 0
    assert notes.endswith("stopped\n")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_tiny(tmp_path_factory.mktemp("tiny"))


def simulate(tiny: tuple[Path, Path], *options: str) -> dict[str, Any]:
    maps, recipe = tiny
    given = ["simulate", str(maps), "--recipe", str(recipe), "--network", NETWORK, "--images", "40", "--json"]
    done = runner.invoke(app, [*given, *options])
    assert done.exit_code == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_a_network_runs_on_an_instrument_in_another_process(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    with served("--rows", "16", "--cols", "16", "--adc-bits", "10", stop=signal.SIGINT) as address:
        first = simulate(tiny, "--backend", f"bench:{address}")
        record = tmp_path / "run.h5"
        again = simulate(tiny, "--backend", f"bench:{address}", "--record", str(record))
    replayed = simulate(tiny, "--backend", f"recorded:{record}")
    assert first["hardware"]["backend"] == "bench"
    assert first["hardware"]["simulated"] is True
    assert 0 < max(first["layer_errors"].values()) < 0.5
    first["hardware"].pop("address")
    again["hardware"].pop("address")
    assert first == again
    assert replayed["hardware"]["recorded_backend"] == "bench"
    assert {**replayed, "hardware": 0} == {**first, "hardware": 0}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--backend", "bench"], "none of"),
        (["--backend", "bench:127.0.0.1:1", "--instances", "2"], "is one chip"),
        (["--backend", "bench:127.0.0.1:1", "--seed", "2"], "is one chip"),
        (["--record", "x.h5", "--instances", "2"], "a record is of one chip"),
        (["--record", "x.h5", "--backend", "recorded:y.h5"], "not of a record"),
        (["--driver", "smu"], "only an instrument has a driver"),
    ],
)
def test_wrong_use_is_said(tiny: tuple[Path, Path], options: list[str], said: str) -> None:
    done = runner.invoke(app, ["simulate", str(tiny[0]), *options], env={"COLUMNS": "300"})
    assert done.exit_code == 2
    assert said in done.stderr


def test_a_port_in_use_and_a_card_that_cannot_be_programmed_are_one_line(server: BenchServer) -> None:
    done = runner.invoke(app, ["bench", "serve", "--port", str(server.port)])
    assert (done.exit_code, "Address already in use" in done.stderr) == (1, True)
    done = runner.invoke(app, ["bench", "serve", "--port", "0", "--card", "taox-sandia"])
    assert (done.exit_code, "says where a cell lands" in done.stderr) == (1, True)

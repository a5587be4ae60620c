"""Sweeps on Dask: any number of workers gives the same table, each row once; a lost worker costs nothing."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from distributed import Client

from hwloop.progress import Silence
from hwloop.recipe import Recipe, load_recipe
from hwloop.sweep import Axis, SweepError, connect, sweep

from .killing import ROOT, kill_when
from .tiny import write_recipe

AXES = ["rows+cols=8,16", "adc_bits=4,6"]


class Watch(Silence):
    """Progress that acts once, when so many tasks are done."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act: Callable[[], None] | None = act

    def update(self, fraction: float, detail: str = "") -> None:
        if "instances" in detail and self._act is not None:
            self._act()
            self._act = None


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(
        tmp_path_factory.mktemp("sweep"), train="epochs = 1\nbatch = 64\nlearning_rate = 1e-2"
    )


@pytest.fixture(scope="module")
def recipe(recipe_file: Path) -> Recipe:
    return load_recipe(recipe_file)


@pytest.fixture(scope="module")
def rows(recipe: Recipe, clients: Callable[[int], Client], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("one") / "sweep"
    sweep(recipe, [Axis.parse(text) for text in AXES], out, clients(1), Silence())
    return out


def table(out: Path) -> list[tuple[object, ...]]:
    with h5py.File(out / "results.h5") as file:
        whole: np.ndarray = file["results"][:]
    assert len({(row["design"], row["instance"]) for row in whole}) == len(whole)
    return whole[[name for name in whole.dtype.names if name != "seconds"]].tolist()


def begun(of: Path, out: Path) -> Path:
    """A sweep whose network is trained and pruned."""
    shutil.copytree(of / "base", out / "base")
    shutil.copy(of / "sweep.json", out)
    return out


@pytest.mark.parametrize("workers", [2, 4])
def test_any_number_of_workers_gives_the_same_table(
    workers: int, recipe: Recipe, rows: Path, clients: Callable[[int], Client], tmp_path: Path
) -> None:
    axes = [Axis.parse(text) for text in AXES]
    sweep(recipe, axes, begun(rows, tmp_path), clients(workers), Silence())
    assert len(table(tmp_path)) == 8
    assert table(tmp_path) == table(rows)


def test_a_killed_worker_costs_no_row_and_doubles_none(
    recipe: Recipe, rows: Path, clients: Callable[[int], Client], tmp_path: Path
) -> None:
    client = clients(2)
    victim = min(client.run(os.getpid).values())
    axes = [Axis.parse(text) for text in AXES]
    sweep(recipe, axes, begun(rows, tmp_path), client, Watch(lambda: os.kill(victim, signal.SIGKILL)))
    assert victim not in client.run(os.getpid).values()
    assert table(tmp_path) == table(rows)


def test_the_table_can_be_read_while_it_grows(
    recipe: Recipe,
    rows: Path,
    clients: Callable[[int], Client],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hwloop.sweep.table.SHARE", np.inf)
    monkeypatch.setattr("hwloop.sweep.table.LEAST", 0.0)
    seen: list[int] = []
    axes = [Axis.parse(text) for text in AXES]
    sweep(recipe, axes, begun(rows, tmp_path), clients(2), Watch(lambda: seen.append(len(table(tmp_path)))))
    assert 0 < seen[0] < 8
    assert table(tmp_path) == table(rows)


@pytest.mark.ngspice
def test_tiles_of_every_instance_go_through_ngspice_on_the_workers(
    recipe: Recipe, rows: Path, clients: Callable[[int], Client], tmp_path: Path
) -> None:
    shutil.copytree(rows, tmp_path / "sweep")
    axes = [Axis.parse(text) for text in AXES]
    results = sweep(recipe, axes, tmp_path / "sweep", clients(2), Silence(), spice=True)
    assert table(tmp_path / "sweep") == table(rows)
    with h5py.File(tmp_path / "sweep" / "results.h5") as file:
        arrays = file["spice"][:]
    assert len(arrays) == 4 * 2 * 2 * 2  # designs, instances, tiles, polarities
    assert (arrays["rel_error"] < 1e-6).all()
    assert results[0]["spice"]["arrays"] == 8


def test_a_killed_sweep_on_a_scheduler_by_address_goes_on(
    recipe_file: Path, rows: Path, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    dask = [sys.executable, "-m", "distributed.cli."]
    quiet = {"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "DASK_DISTRIBUTED__WORKER__DAEMON": "False",
    }
    scheduler = [*dask[:2], dask[2] + "dask_scheduler", "--host", address, "--no-dashboard"]
    worker = [*dask[:2], dask[2] + "dask_worker", address, "--nthreads", "1", "--no-dashboard"]
    with (
        subprocess.Popen(scheduler, env=environment, **quiet) as first,
        subprocess.Popen(worker, env=environment, **quiet) as second,
    ):
        try:
            begun(rows, tmp_path)
            options = ["--out", str(tmp_path), "--scheduler", address]
            for text in AXES:
                options += ["--set", text]
            kill_when((tmp_path / "results.h5").exists, "sweep", recipe_file, *options)
            with connect(1, address) as client:
                axes = [Axis.parse(text) for text in AXES]
                sweep(load_recipe(recipe_file), axes, tmp_path, client, Silence())
            assert table(tmp_path) == table(rows)
        finally:
            second.terminate()
            first.terminate()


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwloop.sweep.cluster.TIME_LIMIT", 1.0)
    with (
        pytest.raises(SweepError, match=r"--scheduler tcp://127\.0\.0\.1:9: no Dask scheduler answers"),
        connect(1, "tcp://127.0.0.1:9"),
    ):
        pass

"""A run of the whole line that the tests of the line look at; none of them changes it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.line.tiny import write_recipe

if TYPE_CHECKING:
    from distributed import Client


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="session")
def finish() -> Callable[..., Path]:
    """A function that takes a recipe through the whole line, or on to its end."""

    def run(recipe: Path, out: Path, seed: int | None = None) -> Path:
        from hwloop.line import Run, RunFolder, load_inputs, walk, write_results
        from hwloop.progress import Silence
        from hwloop.recipe import load_recipe

        chosen = load_recipe(recipe)
        if seed is not None:
            chosen = chosen.model_copy(update={"seed": seed})
        folder = RunFolder.create(out, chosen)
        walk(Run(folder, load_inputs(chosen), Silence()))
        write_results(folder)
        return out

    return run


@pytest.fixture(scope="session")
def finished(
    tiny_recipe: Path, finish: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return finish(tiny_recipe, tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture(scope="session")
def figures() -> Callable[[Path], dict[str, Any]]:
    """A function that reads the figures of a run: all of its summary but times and versions."""

    def read(run: Path) -> dict[str, Any]:
        summary = json.loads((run / "summary.json").read_text("utf-8"))
        return {name: value for name, value in summary.items() if name not in ("seconds", "versions")}

    return read


@pytest.fixture(scope="session")
def clients() -> Iterator[Callable[[int], Client]]:
    """A function that gives a client of a Dask cluster on this machine, with so many workers."""
    from distributed import LocalCluster

    from hwloop.sweep import connect

    with connect(1) as client:

        def of(workers: int) -> Client:
            cluster = client.cluster
            assert isinstance(cluster, LocalCluster)
            cluster.scale(workers)
            while len(client.scheduler_info()["workers"]) != workers:
                time.sleep(0.05)
            return client

        yield of

"""A SPICE Monte Carlo on Dask: two workers of this machine against one, in one run.

    python benchmarks/sweep_workers.py [--instances 6] [--tiles 2] [--rounds 2] [--out PAGE.md]

LeNet with random weights on 64 x 64 arrays: sampled tiles of freshly programmed device instances go through
ngspice. Timed is the sweep from its first task to its last result, on workers that have started and imported
hwloop; one worker and two take turns, each in a folder of its own.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import h5py
from rich.console import Console

from hwloop.progress import Silence
from hwloop.recipe import Recipe
from hwloop.sweep import connect, sweep


def timed(recipe: Recipe, workers: int, out: Path) -> tuple[float, list[tuple[object, ...]]]:
    """Return seconds of a sweep on so many workers, and the rows of its tables but for times."""
    with connect(workers) as client:
        client.run(importlib.import_module, "hwloop.sweep.tasks")
        sweep(recipe, [], out, client, Silence())  # trains nothing, but leaves the network in its folder
        started = time.perf_counter()
        sweep(recipe, [], out, client, Silence(), spice=True)
        seconds = time.perf_counter() - started
    with h5py.File(out / "results.h5") as file:
        rows = []
        for name in ("results", "spice"):
            table = file[name][:]
            rows += table[[column for column in table.dtype.names if column != "seconds"]].tolist()
    return seconds, rows


def main() -> None:
    """Time both, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--instances", type=int, default=6)
    parser.add_argument("--tiles", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    recipe = Recipe.model_validate(
        {
            "train": {"epochs": 0},
            "quantize": {"epochs": 0},
            "spice": {"tiles": given.tiles, "inputs": 1},
            "evaluate": {"instances": given.instances, "images": 100},
        }
    )
    times: dict[int, list[float]] = {1: [], 2: []}
    first, loads = None, []
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(given.rounds):
            for workers, seconds in times.items():
                loads.append(os.getloadavg()[0])
                took, rows = timed(recipe, workers, Path(scratch) / f"{number}-{workers}")
                seconds.append(took)
                first = first or rows
                if rows != first:
                    raise SystemExit("another number of workers gave other results")
                Console().print(f"{workers} workers: {took:.1f} s, {len(rows)} rows")
    ratio = statistics.median(times[1]) / statistics.median(times[2])
    text = f"""# A SPICE Monte Carlo on two workers and on one

As `python benchmarks/sweep_workers.py --instances {given.instances} --tiles {given.tiles}
--rounds {given.rounds}` wrote it, on {os.cpu_count()} cores ({platform.machine()}):
{given.instances} device instances of LeNet, {given.tiles} tiles of 64 × 64 of each in both
polarities through ngspice. The rows of all runs are the same. Load before the runs:
{", ".join(f"{load:.1f}" for load in loads)}.

| workers | s, run by run |
|--:|---|
| 1 | {", ".join(f"{t:.1f}" for t in times[1])} |
| 2 | {", ".join(f"{t:.1f}" for t in times[2])} |

Two workers are {ratio:.2f} times as fast as one (medians).
"""
    Console().print(text, markup=False, soft_wrap=True)
    if given.out is not None:
        given.out.write_text(text, "utf-8")


if __name__ == "__main__":
    main()

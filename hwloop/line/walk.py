"""Walking the line: the stations in their order, those that are done left out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from device_models.folders import alone_in
from hwloop.line import stations
from hwloop.line.stations import Result, Run
from hwloop.report.summary import Spread

STATIONS: dict[str, Callable[[Run], Result]] = {
    "train": stations.train,
    "prune": stations.prune,
    "quantize": stations.quantize,
    "map": stations.map_,
    "program": stations.program,
    "evaluate_before": stations.evaluate_before,
    "verify": stations.verify_,
    "retrain": stations.retrain_,
    "evaluate_after": stations.evaluate_after,
}
"""Every station by its name, in order."""


def walk(run: Run, until: str = "evaluate_after") -> None:
    """Run the stations of the line that are not done yet.

    Args:
        run: the run.
        until: the last station to run.

    Raises:
        FolderInUseError: if another process works in the run's folder.
    """
    with alone_in(run.folder.path):
        threads = torch.get_num_threads()
        for name, station in STATIONS.items():
            # Compiled loops may leave torch with another number of threads, which changes last bits; no
            # station must depend on which ones ran before it in the same process.
            torch.set_num_threads(threads)
            run.progress.begin(name)
            if run.folder.is_done(name):
                run.progress.end("done before: " + outcome(name, run.folder.result(name)))
            else:
                started = time.monotonic()
                found = station(run)
                found["seconds"] = round(time.monotonic() - started, 3)
                run.folder.finish(name, found)
                run.progress.end(outcome(name, found))
            if name == until:
                break


def outcome(station: str, found: Mapping[str, Any]) -> str:
    """Return what a station found, in a few words."""
    if station.startswith("evaluate"):
        spread = Spread.of(found["accuracy"])
        deviation = "" if spread.std is None else f" ± {100 * spread.std:.2f}"
        return f"{100 * spread.mean:.2f}{deviation} % on {len(spread.instances)} devices"
    if station == "map":
        return f"{found['tiles']} tiles, ideal arrays {100 * found['accuracy']:.2f} %"
    if station == "program":
        return f"{found['arrays']} arrays"
    if station == "verify":
        error = "" if found["max_error"] is None else f", error {found['max_error']:.1e} of full scale"
        return f"{found['status']}{error}{': ' if found['reason'] else ''}{found['reason']}"
    if station == "retrain":
        return f"{len(found['records'])} epochs"
    reached = found.get("reached", {})
    fewer = "".join(
        f", {reached[what]:.1f}x fewer {what}" for what in ("weights", "tiles") if what in reached
    )
    return f"{100 * found['accuracy']:.2f} %{fewer}"

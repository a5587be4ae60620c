"""ngspice against the fast solver: the same arrays, wires and inputs, on a random sample of tiles."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from device_models.crossbar import Wires, effective_conductance
from device_models.memristor import program
from device_models.random import stream
from hwloop.mapping import UNUSED_LINE, ConductanceMap
from spice_netlists import Job, JobResult, crossbar_read, find_ngspice, run_jobs
from spice_netlists.jobs import TIME_LIMIT
from spice_netlists.ngspice import INSTALL_HINT

BUDGET = 1e-6
"""Largest difference of a column current that passes, relative to full scale."""

POLARITIES = ("positive", "negative")


@dataclass(frozen=True)
class ArrayCheck:
    """One array, solved twice.

    Attributes:
        layer: name of the layer.
        tile: tile position in the layer.
        polarity: ``positive`` or ``negative``.
        slice: slice of the weight.
        cells: conducting cells.
        error: largest difference of a column current, relative to full scale: the current of a column whose
            cells all conduct ``g_max`` at the read voltage. None if ngspice failed.
        error_of_largest: the same, relative to the largest column current of the array under these inputs.
        seconds: time that ngspice took.
        failure: why ngspice failed, in one line, with the path of the netlist if it was kept; else empty.
    """

    layer: str
    tile: int
    polarity: str
    slice: int
    cells: int
    error: float | None
    error_of_largest: float | None
    seconds: float
    failure: str


@dataclass(frozen=True)
class VerifyReport:
    """What the check found.

    Attributes:
        status: ``passed`` if every array was solved within the budget, ``failed`` if not, ``not run`` if
            there was nothing to check or nothing to check it with.
        reason: why it is not ``passed``; else empty.
        ngspice: version of ngspice; empty if there is none.
        tiles_checked: tile positions that were checked, each in both polarities.
        inputs: input vectors per array.
        budget: largest error that passes.
        max_error: worst ``error`` of all arrays; None if none was solved.
        typical_error: median ``error``.
        max_error_of_largest: worst ``error_of_largest``.
        arrays: every array, in order of the map.
        seconds: wall-clock time of the check.
    """

    status: Literal["passed", "failed", "not run"]
    reason: str
    ngspice: str
    tiles_checked: int
    inputs: int
    budget: float
    max_error: float | None
    typical_error: float | None
    max_error_of_largest: float | None
    arrays: tuple[ArrayCheck, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every sampled array was solved within the budget."""
        return self.status == "passed"

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON-compatible values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class _Sample:
    """One array with its inputs, and the fast solver's currents."""

    layer: str
    tile: int
    polarity: int
    slice: int
    g: torch.Tensor
    voltages: torch.Tensor
    currents: np.ndarray

    @property
    def label(self) -> str:
        return f"{self.layer} tile {self.tile} {POLARITIES[self.polarity]} slice {self.slice}"


def verify(
    conductance_map: ConductanceMap,
    wires: Wires,
    *,
    tiles: int = 4,
    inputs: int = 2,
    seed: int = 0,
    workers: int = 2,
    time_limit: float = TIME_LIMIT,
    keep_failed: Path | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> VerifyReport:
    """Solve a random sample of tiles with ngspice and with the fast solver, and compare column currents.

    Every sampled tile position is checked in both polarities. The first input drives all of its word lines,
    where wires cost most; the others drive each word line or not, at random. The conductances are the map's
    programmed ones, or a fresh draw from its device card if it is not programmed.

    Args:
        conductance_map: the map.
        wires: figures of the lines of every array, in ohm.
        tiles: tile positions to check; all, if the map has fewer.
        inputs: input vectors per array.
        seed: seed of the sample, the inputs and the draw.
        workers: ngspice processes.
        time_limit: seconds that ngspice may take for one array.
        keep_failed: folder for the netlists of arrays that ngspice could not solve.
        progress: called with the fraction done and a few words.

    Raises:
        ValueError: if ``tiles`` is negative or ``inputs`` is not positive.
    """
    if tiles < 0 or inputs < 1:
        raise ValueError(f"tiles ({tiles}) must not be negative and inputs ({inputs}) must be positive")
    started = time.monotonic()
    install = find_ngspice()
    version = install.version if install else ""
    chosen = _choose(conductance_map, tiles, seed)
    missing = ""
    if not chosen:
        missing = "no tile to check"
    elif install is None or install.library is None:
        missing = f"no ngspice shared library found: {INSTALL_HINT}"
    if missing:
        return VerifyReport("not run", missing, version, 0, inputs, BUDGET, None, None, None, (), 0.0)

    samples = [
        sample
        for layer, tile in chosen
        for sample in _samples(conductance_map, wires, layer, tile, inputs, seed)
    ]
    by_label = {sample.label: sample for sample in samples}
    jobs = [
        Job(sample.label, crossbar_read(sample.g, wires, sample.voltages, sample.label)) for sample in samples
    ]
    full_scale = conductance_map.card.read_voltage.value * conductance_map.card.g_max.value
    full_scale *= conductance_map.array_shape[0]
    checks = {}
    for result in run_jobs(jobs, workers, time_limit, keep_failed):
        checks[result.job.label] = _compare(by_label[result.job.label], result, full_scale)
        if progress is not None:
            progress(len(checks) / len(jobs), f"{len(checks)} of {len(jobs)} arrays")
    arrays = tuple(checks[sample.label] for sample in samples)
    return _report(arrays, version, len(chosen), inputs, time.monotonic() - started)


def _choose(conductance_map: ConductanceMap, tiles: int, seed: int) -> list[tuple[str, int]]:
    """Layer and tile of a random sample of tile positions, in order of the map."""
    positions = [
        (name, tile) for name, layer in conductance_map.layers.items() for tile in range(layer.tiles)
    ]
    count = min(tiles, len(positions))
    chosen = stream(seed, "verify", "tiles").permutation(len(positions))[:count]
    return [positions[k] for k in sorted(chosen.tolist())]


def _samples(
    conductance_map: ConductanceMap, wires: Wires, name: str, tile: int, inputs: int, seed: int
) -> Iterator[_Sample]:
    """The arrays of one tile position."""
    layer = conductance_map.layers[name]
    if layer.actual is not None:
        actual = layer.actual[tile]
    else:
        target = conductance_map.target(name)[tile : tile + 1]
        actual = program(target, conductance_map.card, seed, "verify", name, first_tile=tile)[0]
    actual = actual.to(torch.float64)
    rows = conductance_map.array_shape[0]
    active = stream(seed, "verify", "inputs", name, tile).integers(0, 2, (inputs, rows))
    active[0] = 1
    active[:, layer.row_index[tile].numpy() == UNUSED_LINE] = 0
    voltages = torch.from_numpy(active * conductance_map.card.read_voltage.value)
    for polarity, slices in enumerate(actual):
        for index, g in enumerate(slices):
            currents = (voltages @ effective_conductance(g, wires)).numpy()
            yield _Sample(name, tile, polarity, index, g, voltages, currents)


def _compare(sample: _Sample, result: JobResult, full_scale: float) -> ArrayCheck:
    error = error_of_largest = None
    failure = result.error
    if result.values is not None:
        worst = float(np.abs(result.values - sample.currents).max())
        largest = float(np.abs(result.values).max())
        error = worst / full_scale
        error_of_largest = worst / largest if largest > 0 else 0.0
    elif result.netlist is not None:
        failure += f" (netlist: {result.netlist})"
    return ArrayCheck(
        layer=sample.layer,
        tile=sample.tile,
        polarity=POLARITIES[sample.polarity],
        slice=sample.slice,
        cells=int(torch.count_nonzero(sample.g)),
        error=error,
        error_of_largest=error_of_largest,
        seconds=result.seconds,
        failure=failure,
    )


def _report(
    arrays: tuple[ArrayCheck, ...], version: str, tiles: int, inputs: int, seconds: float
) -> VerifyReport:
    errors = [array.error for array in arrays if array.error is not None]
    of_largest = [array.error_of_largest for array in arrays if array.error_of_largest is not None]
    unsolved = [array for array in arrays if array.error is None]
    over = sum(error > BUDGET for error in errors)
    reason = ""
    if unsolved:
        first = unsolved[0]
        reason = f"ngspice could not solve {len(unsolved)} of {len(arrays)} arrays; "
        reason += f"{first.layer} tile {first.tile}: {first.failure}"
    elif over:
        reason = f"{over} of {len(arrays)} arrays differ by more than {BUDGET:g} of full scale"
    return VerifyReport(
        status="failed" if reason else "passed",
        reason=reason,
        ngspice=version,
        tiles_checked=tiles,
        inputs=inputs,
        budget=BUDGET,
        max_error=max(errors, default=None),
        typical_error=float(np.median(errors)) if errors else None,
        max_error_of_largest=max(of_largest, default=None),
        arrays=arrays,
        seconds=seconds,
    )

"""ngspice against the fast models, station by station of the readout, on a random sample of tiles."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from device_models.crossbar import Wires, effective_conductance
from device_models.memristor import program
from device_models.random import stream
from hwloop.mapping import UNUSED_LINE, ConductanceMap, resolution, wires_of
from hwloop.recipe import Readout
from spice_netlists import MAX_BITS, Job, JobResult, crossbar_read, find_ngspice
from spice_netlists.jobs import TIME_LIMIT
from spice_netlists.ngspice import why_missing

from .pool import Pool
from .readout import Request, adc_under_test, read_all
from .report import ArrayCheck, VerifyReport, make_report
from .stations import CURRENT_BUDGET, Station, readout_stations, without_circuit

POLARITIES = ("positive", "negative")


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
    read: np.ndarray  # bit lines whose currents go on to an ADC, for each input: [inputs, columns]

    @property
    def label(self) -> str:
        return f"{self.layer} tile {self.tile} {POLARITIES[self.polarity]} slice {self.slice}"


def verify(
    conductance_map: ConductanceMap,
    wires: Wires,
    readout: Readout | None = None,
    *,
    tiles: int = 4,
    inputs: int = 2,
    columns: int = 8,
    seed: int = 0,
    workers: int = 2,
    time_limit: float = TIME_LIMIT,
    keep_failed: Path | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> VerifyReport:
    """Read a random sample of tiles with ngspice and with the fast models, and compare them at every station.

    All arrays of a sampled tile position are checked. The first input drives all of its word lines, where
    wires cost most; the others drive each word line or not, at random. The conductances are the map's
    programmed ones, or a fresh draw from its device card if it is not programmed. The currents that ngspice
    finds in some bit lines are then read in transients of an amplifier (``verify_readout.AMPLIFIER``),
    sample-and-hold and ADC, and those of the fast solver by the models of the same parts, without noise. ADCs
    are those of device instance 0, not calibrated.

    Args:
        conductance_map: the map.
        wires: figures of the lines of every array, in ohm.
        readout: what the ADCs are; None = ideal ones that lose nothing.
        tiles: tile positions to check; all, if the map has fewer.
        inputs: input vectors per array.
        columns: bit lines of an array, for each input, that are read through the ADC; 0 = none.
        seed: seed of the sample, the inputs and the draw.
        workers: ngspice processes.
        time_limit: seconds that ngspice may take for one array.
        keep_failed: folder for the netlists of arrays that ngspice could not solve.
        checkpoint: folder in which every circuit that is solved is kept; a second call with the same
            arguments goes on where the first was cut off, and finds the same.
        progress: called with the fraction done and a few words.

    Raises:
        ValueError: if ``tiles`` or ``columns`` is negative or ``inputs`` is not positive.
    """
    if min(tiles, columns) < 0 or inputs < 1:
        raise ValueError(
            f"tiles ({tiles}) and columns ({columns}) must not be negative and inputs ({inputs}) positive"
        )
    started = time.monotonic()
    install = find_ngspice()
    version = install.version if install else ""
    chosen = _choose(conductance_map, tiles, seed)
    missing = why_missing(install) if chosen else "no tile to check"
    if missing:
        return VerifyReport(
            "not run", missing, version, 0, inputs, CURRENT_BUDGET, None, None, None, (), (), 0.0
        )

    samples = [
        sample
        for layer, tile in chosen
        for sample in _samples(conductance_map, wires, layer, tile, inputs, columns, seed)
    ]
    by_label = {sample.label: sample for sample in samples}
    jobs = [
        Job(
            sample.label,
            crossbar_read(sample.g, wires_of(wires, sample.layer), sample.voltages, sample.label),
        )
        for sample in samples
    ]
    full_scale = conductance_map.card.read_voltage.value * conductance_map.card.g_max.value
    full_scale *= conductance_map.array_shape[0]
    checks, solved = {}, {}
    pool = Pool(workers, time_limit, keep_failed, checkpoint)
    for result in pool.run(jobs):
        sample = by_label[result.job.label]
        checks[sample.label] = _compare(sample, result, full_scale)
        if result.values is not None:
            solved[sample.label] = result.values
        if progress is not None:
            progress(0.8 * len(checks) / len(jobs), f"{len(checks)} of {len(jobs)} arrays")
    arrays = tuple(checks[sample.label] for sample in samples)
    pairs = [(sample, solved[sample.label]) for sample in samples if sample.label in solved]
    behind = _read(conductance_map, readout or Readout(), pairs, seed, pool)
    if progress is not None:
        progress(1.0, f"{sum(station.reads for station in behind[-1:])} reads through ADCs")
    return make_report(arrays, behind, version, len(chosen), inputs, time.monotonic() - started)


def _choose(conductance_map: ConductanceMap, tiles: int, seed: int) -> list[tuple[str, int]]:
    """Layer and tile of a random sample of tile positions, in order of the map."""
    positions = [
        (name, tile) for name, layer in conductance_map.layers.items() for tile in range(layer.tiles)
    ]
    count = min(tiles, len(positions))
    chosen = stream(seed, "verify", "tiles").permutation(len(positions))[:count]
    return [positions[k] for k in sorted(chosen.tolist())]


def _samples(
    conductance_map: ConductanceMap,
    wires: Wires,
    name: str,
    tile: int,
    inputs: int,
    columns: int,
    seed: int,
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
            currents = (voltages @ effective_conductance(g, wires_of(wires, name))).numpy()
            used = np.flatnonzero(g.any(dim=0).numpy())
            order = stream(seed, "verify", "columns", name, tile, polarity, index).random((inputs, len(used)))
            read = used[order.argsort(axis=1)[:, :columns]]
            yield _Sample(name, tile, polarity, index, g, voltages, currents, read)


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


def _read(
    conductance_map: ConductanceMap,
    readout: Readout,
    pairs: list[tuple[_Sample, np.ndarray]],
    seed: int,
    pool: Pool,
) -> tuple[Station, Station]:
    """Read currents ``[inputs, cols]`` of samples through ADC circuits, and the fast solver's by models."""
    read = [readout.of(sample.layer) for sample, _ in pairs] or [readout]
    if any(own.subtraction == "analog" or own.accumulation == "analog" for own in read):
        return without_circuit("sums of currents before the ADC have no circuit")
    card = conductance_map.card
    requests = []
    for sample, currents in pairs:
        layer = conductance_map.layers[sample.layer]
        found = resolution(layer, card.levels, readout, idle=card.idle_steps)
        bits = int(found.bits[sample.tile])
        if bits > MAX_BITS:
            return without_circuit(f"ADC circuits have 1 to {MAX_BITS} bits, not {bits}")
        if sample.read.size:
            under_test = adc_under_test(
                readout.of(sample.layer).adc,
                bits,
                found.lsb * card.g_step * card.read_voltage.value,
                1 / float(sample.g.sum(0).max()),
                sample.polarity * layer.slices + sample.slice,
                seed,
                ("adc", 0, sample.layer, sample.tile),
            )
            taken = (np.take_along_axis(x, sample.read, axis=1).ravel() for x in (currents, sample.currents))
            requests.append(Request(under_test, f"{sample.label} ADC", *taken))
    reads, failure = read_all(requests, pool)
    return readout_stations(reads, failure)

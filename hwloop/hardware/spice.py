"""Hardware whose arrays are solved by ngspice; everything around the arrays is the fast simulator's."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import torch

from device_models.crossbar import Wires
from hwloop.hardware.fast import FastHardware
from hwloop.mapping import NEGATIVE, POSITIVE, ConductanceMap, wires_of
from hwloop.recipe import Readout
from spice_netlists import Job, SpiceError, crossbar_read, run_jobs
from spice_netlists.jobs import TIME_LIMIT

_POLARITIES = {POSITIVE: "positive", NEGATIVE: "negative"}


class SpiceHardware(FastHardware):
    """Simulated arrays as :class:`~hwloop.hardware.FastHardware`, with ngspice in place of the fast solver.

    The devices of a seed and instance, the converters and the read noise are the same, so the two differ by
    what ngspice and the fast solver make of the same arrays, and by nothing else.

    The cells are ohmic, so an array is a linear circuit: one sweep that drives one word line after the other
    at the read voltage tells all that ngspice can say about it, and every input is a sum of its steps. The
    sweeps are run when a map is programmed; a 64 x 64 array takes 10 to 15 s of one core with ngspice 39.

    Args:
        wires: figures of the lines of every array.
        readout: how arrays are read.
        seed: seed of the run.
        instance: which device instance to draw.
        adc: False reads currents without conversion.
        workers: ngspice processes.
        time_limit: seconds that ngspice may take for one array.
        keep_failed: folder for the netlists of arrays that ngspice could not solve.
        progress: called with the fraction of a layer's arrays that are solved, and a few words.
    """

    def __init__(
        self,
        wires: Wires,
        readout: Readout | None = None,
        *,
        seed: int,
        instance: int | str = 0,
        adc: bool = True,
        workers: int = 2,
        time_limit: float = TIME_LIMIT,
        keep_failed: Path | None = None,
        progress: Callable[[float, str], None] | None = None,
    ) -> None:
        super().__init__(wires, readout, seed=seed, instance=instance, adc=adc)
        self._workers, self._time_limit, self._keep_failed = workers, time_limit, keep_failed
        self._progress = progress

    @property
    def identity(self) -> dict[str, str | int | float | bool]:
        """What is read."""
        return {**super().identity, "backend": "spice"}

    def program(
        self, conductance_map: ConductanceMap, layers: Collection[str] | None = None
    ) -> ConductanceMap:
        """Draw the devices of this instance and have ngspice solve every array.

        Raises:
            SpiceError: if ngspice is missing or cannot solve an array; the message names the array.
            ValueError: as the fast simulator.
        """
        return super().program(conductance_map, layers)

    def _program_tiles(self, name: str, conductance_map: ConductanceMap) -> tuple[torch.Tensor, np.ndarray]:
        actual, levels = super()._program_tiles(name, conductance_map)
        cells = actual.to(torch.float64).numpy()
        solved = self._solve(name, cells, conductance_map.card.read_voltage.value)
        return actual, np.divide(solved, conductance_map.g_step, out=levels)

    def _solve(self, name: str, cells: np.ndarray, read_voltage: float) -> np.ndarray:
        """Effective conductances of arrays ``[tiles, polarity, slice, rows, cols]``, in siemens."""
        effective, wires = np.zeros_like(cells), wires_of(self._wires, name)
        places = {
            f"{name} tile {tile} {_POLARITIES[polarity]} slice {slice_}": (tile, polarity, slice_)
            for tile, polarity, slice_ in np.argwhere(cells.any(axis=(3, 4))).tolist()
        }
        driven = {label: np.flatnonzero(cells[place].any(axis=1)) for label, place in places.items()}
        one_by_one = read_voltage * np.eye(cells.shape[3])
        jobs = (
            Job(label, crossbar_read(cells[place], wires, one_by_one[driven[label]], label))
            for label, place in places.items()
        )
        results = run_jobs(jobs, self._workers, self._time_limit, self._keep_failed)
        for done, result in enumerate(results, start=1):
            label = result.job.label
            if result.values is None:
                kept = f" (netlist: {result.netlist})" if result.netlist else ""
                raise SpiceError(f"{label}: {result.error}{kept}")
            effective[places[label]][driven[label]] = result.values / read_voltage
            if self._progress is not None:
                self._progress(done / len(places), f"{name}: {done} of {len(places)} arrays")
        return effective

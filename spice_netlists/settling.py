"""Transients of an array: bit-serial drivers, line capacitance, and currents that settle.

Each word line has a driver that applies one level of its DAC in each cycle, with a rise time, behind the
driver resistance. Lines have a capacitance to ground per segment; the bit lines end in virtual ground.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .array import ArrayParts, WireFigures, array_parts
from .crossbar import checked_voltages, safe_title
from .pyspice import Circuit
from .sequencer import staircase


@dataclass(frozen=True, eq=False)
class ArrayTransient:
    """One array whose word lines are driven cycle after cycle.

    Built by :func:`array_transient`, which checks it.

    Attributes:
        title: one line of safe characters.
        array: cells and wires.
        voltages: volts that each word line is driven with, ``[cycles, rows]``; before the first they are 0.
        capacitance: of a segment of a word line and of a bit line, in farad.
        cycle_time: in seconds.
        rise_time: of the drivers, in seconds.
        samples: moments at which each cycle is looked at, evenly to its end.
    """

    title: str
    array: ArrayParts
    voltages: NDArray[np.float64]
    capacitance: tuple[float, float]
    cycle_time: float
    rise_time: float
    samples: int

    @property
    def vectors(self) -> tuple[str, ...]:
        """Result vectors: the current of every bit line, positive into virtual ground."""
        return tuple(f"vsense_{j}#branch" for j in range(self.array.cells.shape[1]))

    @property
    def points(self) -> int:
        """Moments that are looked at, cycle after cycle."""
        return len(self.voltages) * self.samples

    @property
    def times(self) -> NDArray[np.float64]:
        """When they are, in seconds; the first cycle begins at 0."""
        return self.cycle_time / self.samples * np.arange(1.0, self.points + 1)

    def circuit(self) -> Circuit:
        """The PySpice circuit."""
        circuit = Circuit(self.title)
        starts = [self.cycle_time * cycle for cycle in range(-1, len(self.voltages))]
        for i, volts in enumerate(self.voltages.T.tolist()):
            level = staircase(starts, [0.0, *volts], self.rise_time)
            circuit.B(f"in_{i}", f"in_{i}", circuit.gnd, v=level)
        for j in range(self.array.cells.shape[1]):
            circuit.V(f"sense_{j}", f"out_{j}", circuit.gnd, 0.0)
        # A source that nothing hangs on: its corners are moments that the simulation stops at.
        pulse = (0, 1, 0, self.rise_time, self.rise_time, self.cycle_time / 2, self.cycle_time)
        circuit.V("cycle", "cycle", circuit.gnd, f"PULSE({' '.join(map(repr, pulse))})")
        self.array.add(circuit, capacitance=self.capacitance)
        return circuit

    def netlist(self) -> str:
        """The circuit and its analysis."""
        stop = self.cycle_time * (len(self.voltages) + 1e-6)
        step = self.cycle_time / self.samples
        saved = " ".join(f"i(Vsense_{j})" for j in range(self.array.cells.shape[1]))
        # A step may be wrong by 1e-21 C on any segment, well below what one read moves there.
        return f"{self.circuit()}.save {saved}\n.tran {step!r} {stop!r}\n.options chgtol=1e-15\n.end\n"


def array_transient(
    cells: Any,
    wires: WireFigures,
    voltages: ArrayLike,
    title: str,
    *,
    capacitance: tuple[float, float],
    cycle_time: float,
    rise_time: float,
    samples: int = 100,
) -> ArrayTransient:
    """Check the figures of an array and of how it is driven.

    Args:
        cells: as in ``crossbar_read``, one instance.
        wires: wire figures in ohm.
        voltages: that each word line is driven with, ``[cycles, rows]``: for bit-serial inputs 0 or the read
            voltage.
        title: title line of the netlist.
        capacitance: of one segment of a word line and of a bit line to ground, in farad.
        cycle_time: in seconds.
        rise_time: of the drivers in seconds, at most a tenth of the cycle.
        samples: moments at which each cycle is looked at.

    Returns:
        A circuit for a ``Job``, whose result is ``[cycles * samples, cols]`` in ampere.

    Raises:
        ValueError: if a shape does not fit or a number is out of range.
        TypeError: if a law of cells has no circuit.
    """
    array = array_parts(cells, wires, title)
    if len(array.cells.g) != 1:
        raise ValueError(f"{title}: a transient is of one instance, not {len(array.cells.g)}")
    if not all(0 <= farad < 1e-6 for farad in capacitance):
        raise ValueError(f"{title}: capacitance must be 0 to 1e-6 F per segment, not {capacitance}")
    if not 0 < 10 * rise_time <= cycle_time < 1 or samples < 1:
        raise ValueError(
            f"{title}: rise_time ({rise_time} s) must be at most a tenth of cycle_time ({cycle_time} s), "
            f"and samples ({samples}) positive"
        )
    volts = checked_voltages(voltages, array.cells.shape[0], title)
    return ArrayTransient(safe_title(title), array, volts, capacitance, cycle_time, rise_time, samples)


def settling_time(
    currents: NDArray[np.float64], times: NDArray[np.float64], tolerance: float
) -> NDArray[np.float64]:
    """When each current of one cycle comes within ``tolerance`` of where it ends, and stays there.

    Args:
        currents: ``[samples, cols]`` in ampere; the last are taken for settled.
        times: ``[samples]`` in seconds.
        tolerance: in ampere.

    Returns:
        Seconds, ``[cols]``: the first sample from which on a current is within the tolerance.
    """
    away = np.abs(currents - currents[-1]) > tolerance
    last = len(times) - 1 - np.argmax(away[::-1], axis=0)
    return np.where(away.any(axis=0), times[np.minimum(last + 1, len(times) - 1)], times[0])

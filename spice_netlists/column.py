"""One bit line of an array from its drivers to the code, in one circuit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .amplifier import Amplifier, add_sample_and_hold
from .array import ArrayParts, WireFigures, array_parts
from .conversion import AdcCircuit, Converted, add_outputs, read_cycle, read_out
from .crossbar import checked_voltages, safe_title
from .pyspice import Circuit
from .sequencer import ReadCycle, Timing, staircase


@dataclass(frozen=True, eq=False)
class ColumnRead:
    """Inputs that follow each other, read at one bit line; the other bit lines end in virtual ground.

    Built by :func:`column_read`, which checks it.

    Attributes:
        title: one line of safe characters.
        array: cells and wires.
        voltages: volts of the word lines, ``[reads, rows]``.
        column: the bit line.
        adc: its converter.
        amplifier: its transimpedance amplifier.
        feedback: of the amplifier, in ohm.
        timing: clock; drivers rise within its edge.
        capacitance: of a segment of a word line and of a bit line, in farad.
    """

    title: str
    array: ArrayParts
    voltages: NDArray[np.float64]
    column: int
    adc: AdcCircuit
    amplifier: Amplifier
    feedback: float
    timing: Timing
    capacitance: tuple[float, float]

    vectors = ("code", "energy", "seen")

    @property
    def points(self) -> int:
        """One for each read, and one for a read before the first."""
        return len(self.voltages) + 1

    @property
    def times(self) -> NDArray[np.float64]:
        """When the codes are read, in seconds."""
        return self.cycle.code_times(self.points)

    @property
    def cycle(self) -> ReadCycle:
        """Phases of a read."""
        return read_cycle(self.timing, self.adc, held=True)

    def circuit(self) -> Circuit:
        """The PySpice circuit. The first input is read once more beforehand: capacitors begin empty."""
        circuit, cycle = Circuit(self.title), self.cycle
        cycle.add(circuit)
        starts = [read * cycle.duration for read in range(self.points)]
        for i, volts in enumerate(self.voltages.T.tolist()):
            level = staircase(starts, [volts[0], *volts], self.timing.edge)
            circuit.B(f"in_{i}", f"in_{i}", circuit.gnd, v=level)
        for j in range(self.array.cells.shape[1]):
            if j != self.column:
                circuit.V(f"sense_{j}", f"out_{j}", circuit.gnd, 0.0)
        self.array.add(circuit, capacitance=self.capacitance)
        output = self.amplifier.add(circuit, "line", f"out_{self.column}", self.feedback)
        held = add_sample_and_hold(circuit, "line", output, self.timing.period)
        add_outputs(circuit, self.adc.add(circuit, cycle, "adc", held, None), held, "adc")
        return circuit

    def netlist(self) -> str:
        """The circuit and its analysis."""
        saved = " ".join(f"v({name})" for name in self.vectors)
        return f"{self.circuit()}.save {saved}\n{self.cycle.analysis(self.points)}\n.end\n"

    def converted(self, values: NDArray[np.float64]) -> Converted:
        """What the result vectors ``[points, 3]`` say; raises SpiceError if a code was not ready."""
        return read_out(self.title, self.adc, values)


def column_read(
    cells: Any,
    wires: WireFigures,
    voltages: ArrayLike,
    column: int,
    adc: AdcCircuit,
    title: str,
    *,
    lsb_current: float,
    amplifier: Amplifier | None = None,
    timing: Timing | None = None,
    capacitance: tuple[float, float] = (0.0, 0.0),
) -> ColumnRead:
    """Check the figures of a read of one bit line.

    Args:
        cells: as in ``crossbar_read``, one instance.
        wires: wire figures in ohm.
        voltages: of the word lines, ``[reads, rows]``.
        column: the bit line that is read.
        adc: its converter.
        title: title line of the netlist.
        lsb_current: current of one LSB in ampere; the feedback turns it into one LSB of the ADC.
        amplifier: the transimpedance amplifier; of gain 1e5 and 1 GHz if left out.
        timing: clock; 50 MHz if left out.
        capacitance: of one segment of a word line and of a bit line to ground, in farad.

    Raises:
        ValueError: if a shape does not fit or a number is out of range.
        TypeError: if a law of cells has no circuit.
    """
    array = array_parts(cells, wires, title)
    rows, cols = array.cells.shape
    if len(array.cells.g) != 1 or not 0 <= column < cols:
        raise ValueError(f"{title}: a read is of one instance and of a bit line from 0 to {cols - 1}")
    if not 0 < lsb_current < 1:
        raise ValueError(f"{title}: lsb_current must be positive and below 1 A, not {lsb_current}")
    if not all(0 <= farad < 1e-6 for farad in capacitance):
        raise ValueError(f"{title}: capacitance must be 0 to 1e-6 F per segment, not {capacitance}")
    return ColumnRead(
        safe_title(title),
        array,
        checked_voltages(voltages, rows, title),
        column,
        adc,
        amplifier or Amplifier(),
        adc.lsb / lsb_current,
        timing or Timing(),
        capacitance,
    )

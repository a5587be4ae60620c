"""Reads of one array as a PySpice circuit: sources at the word lines, virtual ground at the bit lines.

One input of one instance is an operating point. Several are the steps of one selector source: a sweep costs
ngspice one ordering of the matrix, which is most of the work, where an analysis for each costs one each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .array import ArrayParts, WireFigures, array_parts
from .cells import as_array
from .pyspice import Circuit

MAX_TITLE = 120


@dataclass(frozen=True, eq=False)
class CrossbarRead:
    """One array, or several instances of it, and the inputs that are applied to each.

    Built by :func:`crossbar_read`, which checks them.

    Attributes:
        title: one line of safe characters.
        array: cells and wires.
        voltages: volts, ``[inputs, rows]``.
    """

    title: str
    array: ArrayParts
    voltages: NDArray[np.float64]

    times = None

    @property
    def instances(self) -> int:
        """Instances of the array."""
        return len(self.array.cells.g)

    @property
    def vectors(self) -> tuple[str, ...]:
        """Result vectors: the current of every bit line, positive into virtual ground."""
        return tuple(f"vsense_{j}#branch" for j in range(self.array.cells.shape[1]))

    @property
    def points(self) -> int:
        """Length of each vector: the inputs of the first instance, then of the next."""
        return self.instances * len(self.voltages)

    def circuit(self) -> Circuit:
        """The PySpice circuit, with sources that step through the inputs."""
        circuit, inputs = Circuit(self.title), len(self.voltages)
        if self.points > 1:
            circuit.V("select", "select", circuit.gnd, 0.0)
        for i, volts in enumerate(self.voltages.T.tolist()):
            if inputs == 1:
                circuit.V(f"in_{i}", f"in_{i}", circuit.gnd, volts[0])
            else:
                points = ",".join(f"{step},{volt!r}" for step, volt in enumerate(volts * self.instances))
                circuit.B(f"in_{i}", f"in_{i}", circuit.gnd, v=f"pwl(v(select),{points})")
        for j in range(self.array.cells.shape[1]):
            circuit.V(f"sense_{j}", f"out_{j}", circuit.gnd, 0.0)
        steps = range(0, self.points + 1, inputs) if self.instances > 1 else None
        self.array.add(circuit, steps)
        return circuit

    def netlist(self) -> str:
        """The circuit and its analysis as text that ``ngspice -b`` runs too."""
        analysis = ".op" if self.points == 1 else f".dc Vselect 0 {self.points - 1} 1"
        saved = " ".join(f"i(Vsense_{j})" for j in range(self.array.cells.shape[1]))
        return f"{self.circuit()}.save {saved}\n{analysis}\n.end\n"


def crossbar_read(cells: Any, wires: WireFigures, voltages: ArrayLike, title: str) -> CrossbarRead:
    """Check the figures of one array and its inputs.

    Args:
        cells: conductances in siemens, ``[rows, cols]``, 0 = no cell; or ``[instances, rows, cols]`` for
            several instances that get the same inputs; or a law of ``device_models.crossbar``: ``Ohmic``,
            ``Sinh``, or ``SeriesAccess`` of one of these and a ``Transistor``.
        wires: wire figures in ohm; 0 is an ideal conductor, infinity an open one.
        voltages: word-line voltages, ``[inputs, rows]``.
        title: title line of the netlist; characters that SPICE could act on are replaced.

    Raises:
        ValueError: if a shape does not fit or a number is out of range.
        TypeError: if a law has no circuit.
    """
    array = array_parts(cells, wires, title)
    return CrossbarRead(safe_title(title), array, checked_voltages(voltages, array.cells.shape[0], title))


def crossbar_circuit(cells: Any, wires: WireFigures, voltages: ArrayLike, title: str) -> Circuit:
    """Return one array and its inputs as a PySpice circuit; arguments as in :func:`crossbar_read`."""
    return crossbar_read(cells, wires, voltages, title).circuit()


def checked_voltages(voltages: ArrayLike, rows: int, title: str) -> NDArray[np.float64]:
    """Return word-line voltages ``[inputs, rows]``; raises ValueError if they are none."""
    inputs = as_array("voltages", voltages)
    if inputs.ndim != 2 or len(inputs) == 0 or inputs.shape[1] != rows:
        raise ValueError(f"{title}: voltages need shape [inputs, {rows}], not {list(inputs.shape)}")
    if not np.isfinite(inputs).all():
        raise ValueError(f"{title}: voltages must be finite")
    return inputs


def safe_title(text: str) -> str:
    """Return ``text`` as one line of characters that mean nothing to SPICE, at most 120 of them."""
    return re.sub(r"[^A-Za-z0-9 _.,:/#-]+", "_", text)[:MAX_TITLE].strip()

"""One tile as a PySpice circuit: cells, distributed word and bit lines, drivers and sense.

Word line i (inputs are rows) and bit line j (outputs are columns), with the names that a netlist shows:

    in_i ──Rdriver_i── drv_i ──Rword_i_0── w_i_0 ──Rword_i_1── w_i_1 ── ...
                                             │                   │
                                          Rcell_i_0           Rcell_i_1
                                             │                   │
                                           b_i_0               b_i_1
                                             │                   │
                                           Rbit_i_0            Rbit_i_1
                                            ...                 ...
                            end_j ──Rsense_j── out_j ──Vsense_j── 0

A conductor of 0 ohm is no resistor: its two ends are one node, which keeps the name nearer to the source
(word lines) or to the sense (bit lines). An open segment and a pruned cell are absent.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PySpice.Spice.Netlist import Circuit

MAX_TITLE = 120


class WireFigures(Protocol):
    """Resistances in ohm, numbers or arrays, as in ``device_models.crossbar.Wires``."""

    @property
    def word_line(self) -> Any:
        """One segment of a word line; broadcasts to ``[rows, cols]``."""

    @property
    def bit_line(self) -> Any:
        """One segment of a bit line; broadcasts to ``[rows, cols]``."""

    @property
    def driver(self) -> Any:
        """Between a source and its word line; broadcasts to ``[rows]``."""

    @property
    def sense(self) -> Any:
        """Between a bit line and its virtual ground; broadcasts to ``[cols]``."""


@dataclass(frozen=True, eq=False)
class CrossbarRead:
    """One array and the inputs that are applied to it, as plain arrays that a worker process can be sent.

    Built by :func:`crossbar_read`, which checks them.

    Attributes:
        title: one line of safe characters.
        g: cell conductances in siemens, ``[rows, cols]``; 0 = no cell.
        word_line: ohm, ``[rows, cols]``, the segment left of each cell.
        bit_line: ohm, ``[rows, cols]``, the segment below each cell.
        driver: ohm, ``[rows]``.
        sense: ohm, ``[cols]``.
        voltages: volts, ``[inputs, rows]``.
    """

    title: str
    g: NDArray[np.float64]
    word_line: NDArray[np.float64]
    bit_line: NDArray[np.float64]
    driver: NDArray[np.float64]
    sense: NDArray[np.float64]
    voltages: NDArray[np.float64]

    times = None

    @property
    def vectors(self) -> tuple[str, ...]:
        """Result vectors: the current of every bit line, positive into virtual ground."""
        return tuple(f"vsense_{j}#branch" for j in range(self.g.shape[1]))

    @property
    def points(self) -> int:
        """Length of each vector: one point per input."""
        return len(self.voltages)

    def circuit(self) -> Circuit:
        """The PySpice circuit, with sources that step through the inputs."""
        return _build(self)

    def netlist(self) -> str:
        """The circuit and its analysis as text that ``ngspice -b`` runs too."""
        analysis = ".op" if self.points == 1 else f".dc Vselect 0 {self.points - 1} 1"
        saved = " ".join(f"i(Vsense_{j})" for j in range(self.g.shape[1]))
        return f"{self.circuit()}.save {saved}\n{analysis}\n.end\n"


def crossbar_read(g: ArrayLike, wires: WireFigures, voltages: ArrayLike, title: str) -> CrossbarRead:
    """Check the figures of one array and its inputs.

    Args:
        g: cell conductances in siemens, ``[rows, cols]``; 0 = no cell.
        wires: wire figures in ohm; 0 is an ideal conductor, infinity an open one.
        voltages: word-line voltages, ``[inputs, rows]``.
        title: title line of the netlist; characters that SPICE could act on are replaced.

    Raises:
        ValueError: if a shape does not fit or a number is out of range.
    """
    cells = _array("conductances", g)
    if cells.ndim != 2 or 0 in cells.shape:
        raise ValueError(f"conductances need shape [rows, cols], not {list(cells.shape)}")
    rows, cols = cells.shape
    # 1e-18 S is far below the leakage of any cell, and its resistance is still a number to SPICE.
    if not np.all((cells == 0) | ((cells >= 1e-18) & np.isfinite(cells))):
        raise ValueError(f"{title}: conductances must be 0 or from 1e-18 S up, and finite")
    inputs = _array("voltages", voltages)
    if inputs.ndim != 2 or len(inputs) == 0 or inputs.shape[1] != rows:
        raise ValueError(f"{title}: voltages need shape [inputs, {rows}], not {list(inputs.shape)}")
    if not np.isfinite(inputs).all():
        raise ValueError(f"{title}: voltages must be finite")
    return CrossbarRead(
        title=safe_title(title),
        g=cells,
        word_line=_resistances("word_line", wires.word_line, (rows, cols)),
        bit_line=_resistances("bit_line", wires.bit_line, (rows, cols)),
        driver=_resistances("driver", wires.driver, (rows,)),
        sense=_resistances("sense", wires.sense, (cols,)),
        voltages=inputs,
    )


def crossbar_circuit(g: ArrayLike, wires: WireFigures, voltages: ArrayLike, title: str) -> Circuit:
    """Return one array and its inputs as a PySpice circuit; arguments as in :func:`crossbar_read`."""
    return crossbar_read(g, wires, voltages, title).circuit()


def safe_title(text: str) -> str:
    """Return ``text`` as one line of characters that mean nothing to SPICE, at most 120 of them."""
    return re.sub(r"[^A-Za-z0-9 _.,:/#-]+", "_", text)[:MAX_TITLE].strip()


def _array(name: str, value: Any) -> NDArray[np.float64]:
    """A NumPy array of ``value``, which may be a torch tensor on any device, with or without gradient."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be an array of numbers") from None


def _resistances(name: str, value: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    figures = _array(f"wires.{name}", value)
    if not np.all(figures >= 0):
        raise ValueError(f"wires.{name}: resistances must not be negative or NaN (in ohm)")
    try:
        return np.broadcast_to(figures, shape)
    except ValueError:
        raise ValueError(
            f"wires.{name} has shape {list(figures.shape)}, which does not broadcast to {list(shape)}"
        ) from None


@dataclass
class _Conductors:
    """The resistors of the wires, and which node each cell hangs on."""

    resistors: list[tuple[str, str, str, float]] = field(default_factory=list)

    def extend(self, name: str, start: str, end: str, ohm: float) -> str:
        """Go from node ``start`` through a conductor; return the node at its other end."""
        if ohm == 0:
            return start
        if math.isfinite(ohm):
            self.resistors.append((name, start, end, ohm))
        return end

    def word_line(self, read: CrossbarRead, i: int) -> list[str]:
        """Lay word line i from its source; return the nodes of its cells."""
        node = self.extend(f"driver_{i}", f"in_{i}", f"drv_{i}", float(read.driver[i]))
        nodes = []
        for j, ohm in enumerate(read.word_line[i].tolist()):
            node = self.extend(f"word_{i}_{j}", node, f"w_{i}_{j}", ohm)
            nodes.append(node)
        return nodes

    def bit_line(self, read: CrossbarRead, j: int) -> list[str]:
        """Lay bit line j from its sense upwards; return the nodes of its cells, from row 0 down."""
        node = self.extend(f"sense_{j}", f"out_{j}", f"end_{j}", float(read.sense[j]))
        nodes = []
        for i, ohm in reversed(list(enumerate(read.bit_line[:, j].tolist()))):
            node = self.extend(f"bit_{i}_{j}", node, f"b_{i}_{j}", ohm)
            nodes.append(node)
        return nodes[::-1]


def _build(read: CrossbarRead) -> Circuit:
    rows, cols = read.g.shape
    circuit = Circuit(read.title)
    _add_sources(circuit, read.voltages)
    for j in range(cols):
        circuit.V(f"sense_{j}", f"out_{j}", circuit.gnd, 0.0)
    wires = _Conductors()
    word = [wires.word_line(read, i) for i in range(rows)]
    bit = [wires.bit_line(read, j) for j in range(cols)]
    cells = [
        (f"cell_{i}_{j}", word[i][j], bit[j][i], float(read.g[i, j])) for i, j in np.argwhere(read.g).tolist()
    ]
    links = [(a, b) for _, a, b, _ in (*wires.resistors, *cells)]
    driven = [f"in_{i}" for i in range(rows)] + [f"out_{j}" for j in range(cols)]
    reached = _reached(links, driven)
    # Cells before wires: a fifth less time in the matrix ordering of ngspice 39 (Sparse 1.3, 64 x 64 cells).
    for name, a, b, g in cells:
        if a in reached:
            _add_cell(circuit, name, a, b, g)
    for name, a, b, ohm in wires.resistors:
        if a in reached:
            circuit.R(name, a, b, ohm)
    return circuit


def _add_sources(circuit: Circuit, voltages: NDArray[np.float64]) -> None:
    """Drive the word lines: one input is plain sources; several are steps of one selector source.

    A sweep costs ngspice one ordering of the matrix, which is most of the work, where an analysis per input
    costs one each.
    """
    if len(voltages) == 1:
        for i, volt in enumerate(voltages[0].tolist()):
            circuit.V(f"in_{i}", f"in_{i}", circuit.gnd, volt)
        return
    circuit.V("select", "select", circuit.gnd, 0.0)
    for i, steps in enumerate(voltages.T.tolist()):
        points = ",".join(f"{step},{volt!r}" for step, volt in enumerate(steps))
        circuit.B(f"in_{i}", f"in_{i}", circuit.gnd, v=f"pwl(v(select),{points})")


def _add_cell(circuit: Circuit, name: str, word_node: str, bit_node: str, g: float) -> None:
    """One memristor with a straight I-V curve, from its word line to its bit line."""
    circuit.R(name, word_node, bit_node, 1.0 / g)


def _reached(links: list[tuple[str, str]], sources: list[str]) -> set[str]:
    """Nodes with a path to a source or a sense; the others float between open segments and carry nothing."""
    neighbours: dict[str, list[str]] = defaultdict(list)
    for a, b in links:
        neighbours[a].append(b)
        neighbours[b].append(a)
    reached = set(sources)
    front = list(sources)
    while front:
        fresh = [b for b in neighbours[front.pop()] if b not in reached]
        reached.update(fresh)
        front.extend(fresh)
    return reached

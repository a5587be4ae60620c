"""The cells and lines of one array as circuit elements, with the names that a netlist shows.

Word line i (inputs are rows) and bit line j (outputs are columns):

    in_i ──Rdriver_i── drv_i ──Rword_i_0── w_i_0 ──Rword_i_1── w_i_1 ── ...
                                             │                   │
                                         cell_i_0            cell_i_1
                                             │                   │
                                           b_i_0               b_i_1
                                             │                   │
                                           Rbit_i_0            Rbit_i_1
                                            ...                 ...
                            end_j ──Rsense_j── out_j

A conductor of 0 ohm is no resistor: its two ends are one node, which keeps the name nearer to the source
(word lines) or to the sense (bit lines). An open segment and a pruned cell are absent.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .cells import CellParts, as_array, cell_parts
from .pyspice import Circuit


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
class ArrayParts:
    """One array as plain numbers, which a worker process can be sent.

    Attributes:
        cells: the cells.
        word_line: ohm, ``[rows, cols]``, the segment left of each cell.
        bit_line: ohm, ``[rows, cols]``, the segment below each cell.
        driver: ohm, ``[rows]``.
        sense: ohm, ``[cols]``.
    """

    cells: CellParts
    word_line: NDArray[np.float64]
    bit_line: NDArray[np.float64]
    driver: NDArray[np.float64]
    sense: NDArray[np.float64]

    def add(
        self,
        circuit: Circuit,
        steps: Sequence[int] | None = None,
        capacitance: tuple[float, float] | None = None,
    ) -> None:
        """Add cells and lines between the nodes ``in_i`` and ``out_j``, which the caller drives and senses.

        Args:
            circuit: where.
            steps: as in ``CellParts.add_cell``.
            capacitance: of one segment of a word line and of a bit line to ground, in farad; it lies at the
                cell's end of the segment.
        """
        rows, cols = self.cells.shape
        wires = _Conductors()
        word = [wires.word_line(self, i) for i in range(rows)]
        bit = [wires.bit_line(self, j) for j in range(cols)]
        cells = [(i, j, word[i][j], bit[j][i]) for i, j in np.argwhere(self.cells.present).tolist()]
        links = [(a, b) for _, a, b, _ in wires.resistors] + [(a, b) for _, _, a, b in cells]
        reached = _reached(links, [f"in_{i}" for i in range(rows)] + [f"out_{j}" for j in range(cols)])
        self.cells.add_models(circuit)
        # Cells before wires: a fifth less time in the matrix ordering of ngspice 39 (Sparse 1.3, 64 x 64).
        for i, j, a, b in cells:
            if a in reached:
                self.cells.add_cell(circuit, i, j, a, b, steps)
        for name, a, b, ohm in wires.resistors:
            if a in reached:
                circuit.R(name, a, b, ohm)
        if capacitance is not None:
            for i, j in np.ndindex(rows, cols):
                for line, node, farad in zip(
                    ("word", "bit"), (word[i][j], bit[j][i]), capacitance, strict=True
                ):
                    if node in reached and farad > 0:
                        circuit.C(f"{line}_{i}_{j}", node, circuit.gnd, farad)


def array_parts(cells: Any, wires: WireFigures, title: str) -> ArrayParts:
    """Check the figures of one array.

    Args:
        cells: as in ``cell_parts``.
        wires: wire figures in ohm; 0 is an ideal conductor, infinity an open one.
        title: begins error messages.

    Raises:
        ValueError: if a shape does not fit or a number is out of range.
    """
    parts = cell_parts(cells, title)
    rows, cols = parts.shape
    return ArrayParts(
        cells=parts,
        word_line=_resistances("word_line", wires.word_line, (rows, cols)),
        bit_line=_resistances("bit_line", wires.bit_line, (rows, cols)),
        driver=_resistances("driver", wires.driver, (rows,)),
        sense=_resistances("sense", wires.sense, (cols,)),
    )


def _resistances(name: str, value: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    figures = as_array(f"wires.{name}", value)
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

    def word_line(self, array: ArrayParts, i: int) -> list[str]:
        """Lay word line i from its source; return the nodes of its cells."""
        node = self.extend(f"driver_{i}", f"in_{i}", f"drv_{i}", float(array.driver[i]))
        nodes = []
        for j, ohm in enumerate(array.word_line[i].tolist()):
            node = self.extend(f"word_{i}_{j}", node, f"w_{i}_{j}", ohm)
            nodes.append(node)
        return nodes

    def bit_line(self, array: ArrayParts, j: int) -> list[str]:
        """Lay bit line j from its sense upwards; return the nodes of its cells, from row 0 down."""
        node = self.extend(f"sense_{j}", f"out_{j}", f"end_{j}", float(array.sense[j]))
        nodes = []
        for i, ohm in reversed(list(enumerate(array.bit_line[:, j].tolist()))):
            node = self.extend(f"bit_{i}_{j}", node, f"b_{i}_{j}", ohm)
            nodes.append(node)
        return nodes[::-1]


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

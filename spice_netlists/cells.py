"""Memristors and their access devices as SPICE elements: ohmic, sinh, and both behind a transistor (1T1R).

    word ──memristor── mid ──┤ access ├── bit        gate held ``overdrive`` volts above bit

An ohmic cell is a resistor. Everything else is a sub-circuit between the word line and the bit line. The laws
are those of ``device_models.crossbar``; here they are numbers, so that worker processes need no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .pyspice import Circuit, SubCircuit

if TYPE_CHECKING:
    from device_models.crossbar import Cells

# 1e-18 S is far below the leakage of any cell, and its resistance is still a number to SPICE.
_LEAST = 1e-18
_FAR = 30.0  # alpha v of a current of 5e12 g / alpha


@dataclass(frozen=True, eq=False)
class CellParts:
    """The figures of the cells of an array; absent cells have ``g`` 0 in all instances.

    Attributes:
        g: conductance of the memristors at 0 V in siemens, ``[instances, rows, cols]``.
        alpha: of sinh laws in 1/V, ``[rows, cols]``; None where the memristors are ohmic.
        gain: of the access transistors in A/V^2, ``[rows, cols]``; None where there are none.
        overdrive: gate voltage above threshold in volt, ``[rows, cols]``, with ``gain``.
        modulation: channel-length modulation of all transistors in 1/V.
    """

    g: NDArray[np.float64]
    alpha: NDArray[np.float64] | None = None
    gain: NDArray[np.float64] | None = None
    overdrive: NDArray[np.float64] | None = None
    modulation: float = 0.0

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.g.shape[1], self.g.shape[2]

    @property
    def ohmic(self) -> bool:
        """Whether every cell is a resistor."""
        return self.alpha is None and self.gain is None

    @property
    def present(self) -> NDArray[np.bool_]:
        """Cells that can conduct, ``[rows, cols]``."""
        there: NDArray[np.bool_] = np.any(self.g > 0, axis=0)
        return there if self.gain is None else there & (self.gain > 0)

    def add_models(self, circuit: Circuit) -> None:
        """Add the sub-circuit that the cells are made of, if they are not resistors."""
        if self.ohmic:
            return
        end = "bit" if self.gain is None else "mid"
        figures: dict[str, float] = {"g": 1e-6}
        if self.alpha is not None:
            figures["alpha"] = 1.0
        if self.gain is not None:
            figures |= {"width": 1.0, "overdrive": 1.0}
        cell = SubCircuit("cell", "word", "bit", **figures)
        if self.alpha is None:
            cell.B("memristor", "word", end, i=f"{{g}}*v(word,{end})")
        else:
            # Newton's method may overshoot: far beyond any cell, the law goes on along a tangent.
            x = f"{{alpha}}*v(word,{end})"
            inside = f"min(max({x},-{_FAR!r}),{_FAR!r})"
            beyond = f"{math.cosh(_FAR)!r}*({x}-{inside})"
            cell.B("memristor", "word", end, i=f"{{g}}/{{alpha}}*(sinh({inside})+{beyond})")
        if self.gain is not None:
            cell.M("access", "mid", "gate", "bit", "bit", model="access", w="{width}", l=1)
            cell.V("gate", "gate", "bit", "{overdrive}")
            # Square law alone: junctions that leak nothing, and a gain per width of 1 A/V^2.
            circuit.model("access", "nmos", level=1, vto=0, kp=1, **{"lambda": self.modulation, "is": 1e-30})
        circuit.subcircuit(cell)

    def add_cell(
        self, circuit: Circuit, row: int, col: int, word: str, bit: str, steps: Sequence[int] | None
    ) -> None:
        """Add one cell between two nodes.

        Args:
            circuit: where.
            row: its word line.
            col: its bit line.
            word: node of the word line.
            bit: node of the bit line.
            steps: steps of the selector at which each instance begins, and the one behind the last; None
                where there is one instance.
        """
        name, g = f"cell_{row}_{col}", self.g[:, row, col].tolist()
        if not self.ohmic:
            figures = {"g": g[0]}
            if self.alpha is not None:
                figures["alpha"] = float(self.alpha[row, col])
            if self.gain is not None and self.overdrive is not None:
                figures |= {
                    "width": float(self.gain[row, col]),
                    "overdrive": float(self.overdrive[row, col]),
                }
            circuit.X(name, "cell", word, bit, **figures)
        elif steps is None:
            circuit.R(name, word, bit, 1.0 / g[0])
        else:
            points = []
            for siemens, first, behind in zip(g, steps, steps[1:], strict=False):
                points += [f"{step},{siemens!r}" for step in dict.fromkeys((first, behind - 1))]
            circuit.B(name, word, bit, i=f"v({word},{bit})*pwl(v(select),{','.join(points)})")


def cell_parts(cells: Any, title: str) -> CellParts:
    """Return the figures of cells.

    Args:
        cells: conductances in siemens, ``[rows, cols]``, or ``[instances, rows, cols]`` for several instances
            of an array; or ``Ohmic``, ``Sinh``, or ``SeriesAccess`` of one of these and a ``Transistor``.
        title: begins error messages.

    Raises:
        ValueError: if a shape does not fit or a number is out of range.
        TypeError: if a law has no circuit.
    """
    if hasattr(cells, "evaluate"):
        return _of_law(cells, title)
    g = as_array("conductances", cells)
    if g.ndim not in (2, 3) or 0 in g.shape:
        raise ValueError(
            f"conductances need shape [rows, cols] or [instances, rows, cols], not {list(g.shape)}"
        )
    return CellParts(_checked(g.reshape(-1, *g.shape[-2:]), title))


def _of_law(cells: Cells, title: str) -> CellParts:
    from device_models.crossbar import Ohmic, SeriesAccess, Sinh, Transistor

    if len(cells.shape) != 2:
        raise ValueError(f"{title}: cells need shape [rows, cols], not {list(cells.shape)}")

    def figure(value: Any) -> NDArray[np.float64]:
        return np.broadcast_to(as_array("cells", value), tuple(cells.shape))

    memristor, access = (cells.cell, cells.access) if isinstance(cells, SeriesAccess) else (cells, None)
    if not isinstance(memristor, Ohmic | Sinh) or not isinstance(access, Transistor | None):
        names = type(memristor).__name__ + ("" if access is None else f" behind {type(access).__name__}")
        raise TypeError(
            f"{title}: cells of law {names} have no circuit; give Ohmic or Sinh, alone or behind a Transistor"
        )
    g = _checked(figure(memristor.g)[None], title)
    alpha = figure(memristor.alpha) if isinstance(memristor, Sinh) else None
    if access is None:
        return CellParts(g, alpha)
    modulation = np.unique(figure(access.channel_length_modulation))
    if len(modulation) > 1:
        raise ValueError(f"{title}: channel_length_modulation must be the same for all transistors")
    return CellParts(g, alpha, figure(access.gain), figure(access.overdrive), float(modulation[0]))


def _checked(g: NDArray[np.float64], title: str) -> NDArray[np.float64]:
    if not np.all((g == 0) | ((g >= _LEAST) & np.isfinite(g))):
        raise ValueError(f"{title}: conductances must be 0 or from {_LEAST:g} S up, and finite")
    return g


def as_array(name: str, value: Any) -> NDArray[np.float64]:
    """Return ``value``, which may be a torch tensor on any device, as a NumPy array of float64."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be an array of numbers") from None

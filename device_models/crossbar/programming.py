"""Writing cells of an array: how lines are biased, and what all the other cells feel of it.

A write puts its voltage across one selected cell, or across several cells of one word line at once. Every
other cell shares that voltage in part, and leaks. The bias schemes are those of Chen, IEEE Trans. Electron
Devices 60 (2013):

    scheme      unselected word lines   unselected bit lines
    v/2         V/2                     V/2
    v/3         V/3                     2V/3
    floating    open                    open
    grounded    0                       0

with the selected word line at V and the selected bit lines at 0 V.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from .cells import Cells
from .nonlinear import solve_array
from .wires import Wires

Scheme = Literal["v/2", "v/3", "floating", "grounded"]

# Share of the write voltage on unselected word lines and bit lines.
_SHARES = {"v/2": (1 / 2, 1 / 2), "v/3": (1 / 3, 2 / 3), "floating": (0.0, 0.0), "grounded": (0.0, 0.0)}


@dataclass(frozen=True, eq=False)
class LineBias:
    """Voltages of the lines during writes.

    Attributes:
        word_line: volt, ``[writes, rows]``.
        bit_line: volt, ``[writes, cols]``.
        open_word_line: lines that float, ``[writes, rows]``; their voltage above is 0 and means nothing.
        open_bit_line: the same, ``[writes, cols]``.
    """

    word_line: torch.Tensor
    bit_line: torch.Tensor
    open_word_line: torch.Tensor
    open_bit_line: torch.Tensor


@dataclass(frozen=True, eq=False)
class Writes:
    """What every cell feels during writes, from :func:`write_cells`.

    Attributes:
        selected: the cells that are written, ``[writes, rows, cols]``.
        bias: voltages of the lines.
        cell_voltage: volt, ``[writes, rows, cols]``.
        cell_current: ampere, ``[writes, rows, cols]``.
    """

    selected: torch.Tensor
    bias: LineBias
    cell_voltage: torch.Tensor
    cell_current: torch.Tensor

    @property
    def half_selected(self) -> torch.Tensor:
        """Cells that share one line with a written cell, ``[writes, rows, cols]``."""
        rows, cols = self.selected.any(2), self.selected.any(1)
        return (rows[:, :, None] | cols[:, None, :]) & ~self.selected

    @property
    def unselected(self) -> torch.Tensor:
        """Cells that share no line with a written cell, ``[writes, rows, cols]``."""
        return ~(self.selected | self.half_selected)

    @property
    def selected_voltage(self) -> torch.Tensor:
        """Smallest voltage that a written cell gets, ``[writes]`` (magnitude)."""
        return torch.where(self.selected, self.cell_voltage.abs(), float("inf")).amin((1, 2))

    @property
    def half_selected_voltage(self) -> torch.Tensor:
        """Largest voltage on a half-selected cell, ``[writes]`` (magnitude)."""
        return torch.where(self.half_selected, self.cell_voltage.abs(), 0.0).amax((1, 2))

    @property
    def unselected_voltage(self) -> torch.Tensor:
        """Largest voltage on an unselected cell, ``[writes]`` (magnitude)."""
        return torch.where(self.unselected, self.cell_voltage.abs(), 0.0).amax((1, 2))

    @property
    def sneak_share(self) -> torch.Tensor:
        """Share of the current of the selected word line that does not pass a written cell, ``[writes]``."""
        row = self.selected.any(2)
        total = (self.cell_current.sum(2) * row).sum(1)
        through = (self.cell_current * self.selected).sum((1, 2))
        return torch.where(total != 0, 1 - through / torch.where(total != 0, total, 1.0), 0.0)

    @property
    def power(self) -> torch.Tensor:
        """Power in watt that all sources of all lines deliver together, ``[writes]``."""
        into_word, out_of_bit = self.cell_current.sum(2), self.cell_current.sum(1)
        return (self.bias.word_line * into_word).sum(1) - (self.bias.bit_line * out_of_bit).sum(1)

    def disturbed(self, threshold: float) -> torch.Tensor:
        """Cells that are not written but see more than ``threshold`` volt, ``[writes, rows, cols]``.

        Raises:
            ValueError: if the threshold is not positive.
        """
        if not threshold > 0:
            raise ValueError(f"threshold is {threshold!r}: it must be positive (in volt)")
        return ~self.selected & (self.cell_voltage.abs() > threshold)

    def disturb_probability(
        self, rate: Callable[[torch.Tensor], torch.Tensor], repeats: int = 1
    ) -> torch.Tensor:
        """Probability that each cell is disturbed when all these writes are repeated, ``[rows, cols]``.

        Args:
            rate: expected disturbs per write of a cell, given its voltage (signed, in volt, any shape).
            repeats: how often the writes are repeated.

        A disturb is a Poisson process: the rates of the writes in which a cell is not written itself add up.

        Raises:
            ValueError: if ``repeats`` or a rate is negative.
        """
        if repeats < 0:
            raise ValueError(f"repeats is {repeats}: it must not be negative")
        rates = torch.where(self.selected, 0.0, rate(self.cell_voltage))
        if not (rates >= 0).all():
            raise ValueError("rate must give numbers that are not negative, in disturbs per write")
        return -torch.expm1(-repeats * rates.sum(0))


def select_cells(rows: int, cols: int, row: int, columns: list[int]) -> torch.Tensor:
    """Mask ``[1, rows, cols]`` of one write, to the cells of ``row`` in ``columns``.

    Masks of several writes are concatenated.

    Raises:
        ValueError: if a line does not exist, or no column is given.
    """
    if not 0 <= row < rows or not columns or not all(0 <= j < cols for j in columns):
        raise ValueError(
            f"row {row}, columns {columns}: the array has rows 0..{rows - 1}, columns 0..{cols - 1}"
        )
    mask = torch.zeros(1, rows, cols, dtype=torch.bool)
    mask[0, row, columns] = True
    return mask


def line_bias(scheme: Scheme, voltage: float, selected: torch.Tensor) -> LineBias:
    """Voltages of all lines for writes of ``voltage`` volt (of either sign).

    Args:
        scheme: how unselected lines are biased.
        voltage: between the selected word line and the selected bit lines.
        selected: cells to be written, ``[writes, rows, cols]``.

    Raises:
        ValueError: if the scheme is unknown, or a write selects no cell or cells of several word lines.
    """
    if scheme not in _SHARES:
        raise ValueError(f"scheme {scheme!r}: known are {', '.join(get_args(Scheme))}")
    if selected.dim() != 3 or selected.dtype != torch.bool:
        raise ValueError("selected needs shape [writes, rows, cols] and type bool")
    rows, cols = selected.any(2), selected.any(1)
    wrong = rows.sum(1) != 1
    if wrong.any():
        raise ValueError(
            f"write {int(wrong.nonzero()[0])} selects cells of {int(rows.sum(1)[wrong][0])} word lines: "
            "a write takes one word line, with one or several bit lines"
        )
    share_word, share_bit = _SHARES[scheme]
    word_line = torch.full(rows.shape, share_word * voltage, dtype=torch.float64, device=rows.device)
    bit_line = torch.full(cols.shape, share_bit * voltage, dtype=torch.float64, device=rows.device)
    floats = scheme == "floating"
    return LineBias(
        word_line.masked_fill(rows, voltage), bit_line.masked_fill(cols, 0.0), ~rows & floats, ~cols & floats
    )


def write_cells(
    cells: Cells,
    wires: Wires,
    scheme: Scheme,
    voltage: float,
    selected: torch.Tensor,
    *,
    tolerance: float = 1e-9,
) -> Writes:
    """Solve one array for writes of ``voltage`` volt, each with its own selected cells.

    Args:
        cells: laws of the cells of one array, ``[rows, cols]``.
        wires: wire figures in ohm; the figures of drivers and senses count for lines that do not float.
        scheme: how unselected lines are biased.
        voltage: between the selected word line and the selected bit lines; negative to write the other way.
        selected: cells to be written, ``[writes, rows, cols]``: one word line each (see
            :func:`select_cells`).
        tolerance: as in :func:`solve_array`.

    Raises:
        ValueError: if ``selected`` does not fit the array or the scheme, or a cell ends outside the range of
            its law.
        ConvergenceError: if a write is not solved to the tolerance.
    """
    if selected.shape[1:] != cells.shape:
        raise ValueError(
            f"selected has shape {list(selected.shape)}, but these cells need "
            f"[writes, {', '.join(str(n) for n in cells.shape)}]"
        )
    bias = line_bias(scheme, voltage, selected)
    if scheme == "floating":
        # Every write opens other lines: a circuit of its own.
        ends = (torch.as_tensor(r, dtype=torch.float64) for r in (wires.driver, wires.sense))
        opened = (bias.open_word_line, bias.open_bit_line)
        driver, sense = (torch.where(o, float("inf"), r) for o, r in zip(opened, ends, strict=True))
        own = Wires(wires.word_line, wires.bit_line, driver, sense)
        repeated = cells.map(lambda p: p.expand(len(selected), *p.shape))
        solution = solve_array(
            repeated,
            own,
            bias.word_line[:, None],
            bit_line_voltages=bias.bit_line[:, None],
            tolerance=tolerance,
        )
        across = (solution.word_line - solution.bit_line)[:, 0]
    else:
        solution = solve_array(
            cells, wires, bias.word_line, bit_line_voltages=bias.bit_line, tolerance=tolerance
        )
        across = solution.word_line - solution.bit_line
    with torch.no_grad():
        return Writes(selected, bias, across, cells.evaluate(across)[0])

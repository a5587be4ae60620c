"""Sets of matrices in which only so many groups of entries are not zero.

A group is what hardware saves when it is gone: a filter, a word line, an array, a stretch of a bit line. The
projection onto such a set is the Euclidean one: of the groups that share a budget, those of largest 2-norm
stay. Matrices are in GEMM form, ``[rows, cols]`` (see :mod:`hwloop.networks`).

Sets that have to do with arrays lie on the grid over the matrix without the rows and columns that are zero
already: a block of the full matrix that lost lines to coarser sets would leave an array half empty.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch


class Partition(NamedTuple):
    """Which group each entry of a matrix is in, and which budget each group draws on.

    Attributes:
        groups: int64 ``[rows, cols]``.
        budgets: int64 ``[number of groups]``.
    """

    groups: torch.Tensor
    budgets: torch.Tensor

    def energy(self, matrix: torch.Tensor) -> torch.Tensor:
        """Return the sum of squares of each group of ``matrix``; differentiable."""
        zeros = torch.zeros(len(self.budgets), dtype=matrix.dtype, device=matrix.device)
        return zeros.index_add(0, self.groups.flatten(), matrix.square().flatten())

    def sizes(self) -> torch.Tensor:
        """Return how many entries each group has, int64."""
        return torch.bincount(self.groups.flatten(), minlength=len(self.budgets))


@dataclass(frozen=True)
class Groups(ABC):
    """Matrices with at most ``keep`` groups that are not zero in each budget."""

    keep: int

    @abstractmethod
    def split(self, rows: int, cols: int) -> Partition:
        """Return the groups of a matrix of this shape."""

    def partition(self, matrix: torch.Tensor) -> Partition:
        """Return the groups of a matrix."""
        return Partition(*(part.to(matrix.device) for part in self.split(*matrix.shape)))

    def project(self, matrix: torch.Tensor) -> torch.Tensor:
        """Keep the groups of largest norm."""
        if not matrix.numel():
            return matrix
        partition = self.partition(matrix)
        return matrix * largest(partition.energy(matrix), partition.budgets, self.keep)[partition.groups]


class GridGroups(Groups):
    """Groups on the grid over the rows and columns that are not zero."""

    def partition(self, matrix: torch.Tensor) -> Partition:
        """Return the groups of a matrix; entries of zero rows and columns count as the first."""
        rows, cols = matrix.any(1), matrix.any(0)
        inner = self.split(int(rows.sum()), int(cols.sum()))
        groups = torch.zeros(matrix.shape, dtype=torch.int64, device=matrix.device)
        groups[rows.nonzero(), cols.nonzero()[:, 0]] = inner.groups.to(matrix.device)
        budgets = inner.budgets if len(inner.budgets) else torch.zeros(1, dtype=torch.int64)
        return Partition(groups, budgets.to(matrix.device))


class Weights(Groups):
    """Matrices with at most ``keep`` entries that are not zero, anywhere."""

    def split(self, rows: int, cols: int) -> Partition:
        """Every entry is a group."""
        return _one_budget(torch.arange(rows * cols).reshape(rows, cols))


class Filters(Groups):
    """Matrices with at most ``keep`` columns that are not zero."""

    def split(self, rows: int, cols: int) -> Partition:
        """Every column is a group."""
        return _one_budget(torch.arange(cols).expand(rows, cols))


class Rows(Groups):
    """Matrices with at most ``keep`` rows that are not zero."""

    def split(self, rows: int, cols: int) -> Partition:
        """Every row is a group."""
        return _one_budget(torch.arange(rows)[:, None].expand(rows, cols))


@dataclass(frozen=True)
class Channels(Groups):
    """Matrices with at most ``keep`` input channels, each of ``size`` consecutive rows, that are not zero."""

    size: int

    def split(self, rows: int, cols: int) -> Partition:
        """Every ``size`` rows are a group."""
        return _one_budget((torch.arange(rows) // self.size)[:, None].expand(rows, cols))


@dataclass(frozen=True)
class Blocks(GridGroups):
    """Matrices that need at most ``keep`` arrays of ``rows`` × ``cols`` once zero lines are left out."""

    rows: int = 64
    cols: int = 64

    def split(self, rows: int, cols: int) -> Partition:
        """Every array is a group."""
        return _one_budget(_blocks(rows, cols, self.rows, self.cols))

    def project(self, matrix: torch.Tensor) -> torch.Tensor:
        """Keep the groups of largest norm; again as long as lines that became empty move the grid."""
        while matrix.any() and not torch.equal(kept := super().project(matrix), matrix):
            matrix = kept
        return matrix


@dataclass(frozen=True)
class Segments(GridGroups):
    """Matrices with at most ``keep`` column segments that are not zero: the column grain.

    A segment is what one column has in one group of ``rows`` word lines. Segments that are left are packed
    side by side, whichever columns they belong to (crossbar-aware pruning, 2018).
    """

    rows: int = 64

    def split(self, rows: int, cols: int) -> Partition:
        """Every segment is a group."""
        return _one_budget(_blocks(rows, cols, self.rows, 1))


@dataclass(frozen=True)
class ColumnProportional(GridGroups):
    """Matrices with at most ``keep`` nonzero entries in every column of every array.

    At most ``keep`` cells of a bit line then conduct, whatever the input, which bounds what its ADC must
    resolve (TinyADC, DATE 2021).
    """

    rows: int = 64

    def split(self, rows: int, cols: int) -> Partition:
        """Every entry is a group; a column of an array has its own budget."""
        return Partition(
            torch.arange(rows * cols).reshape(rows, cols), _blocks(rows, cols, self.rows, 1).flatten()
        )


@dataclass(frozen=True)
class BlockRows(GridGroups):
    """Matrices with at most ``keep`` nonzero rows within every block of ``rows`` × ``cols``."""

    rows: int = 64
    cols: int = 64

    def split(self, rows: int, cols: int) -> Partition:
        """A row of a block is a group; a block has its own budget."""
        return _lines_of_blocks(rows, cols, self.rows, self.cols, 1, self.cols)


@dataclass(frozen=True)
class BlockCols(GridGroups):
    """Matrices with at most ``keep`` nonzero columns within every block of ``rows`` × ``cols``."""

    rows: int = 64
    cols: int = 64

    def split(self, rows: int, cols: int) -> Partition:
        """A column of a block is a group; a block has its own budget."""
        return _lines_of_blocks(rows, cols, self.rows, self.cols, self.rows, 1)


@dataclass(frozen=True)
class Connections(Groups):
    """Matrices with at most ``keep`` row pieces, or column pieces, that are not zero, over all blocks.

    A piece is what a row (``along`` "rows") or a column has in one block of ``rows`` × ``cols``; without it
    the wire into or out of the block is not needed (Group Scissor, DAC 2017).
    """

    rows: int
    cols: int
    along: Literal["rows", "cols"]

    def split(self, rows: int, cols: int) -> Partition:
        """Every piece is a group."""
        height, width = (1, self.cols) if self.along == "rows" else (self.rows, 1)
        return _one_budget(_blocks(rows, cols, height, width))


def largest(energy: torch.Tensor, budgets: torch.Tensor, keep: int) -> torch.Tensor:
    """Return a bool tensor, True at the ``keep`` largest entries of each budget; of equals the first."""
    order = energy.sort(descending=True, stable=True).indices
    order = order[budgets[order].sort(stable=True).indices]
    ordered = budgets[order]
    first = torch.searchsorted(ordered, ordered)
    kept = torch.zeros_like(energy, dtype=torch.bool)
    kept[order] = torch.arange(len(order), device=energy.device) - first < keep
    return kept


def _one_budget(groups: torch.Tensor) -> Partition:
    return Partition(groups, torch.zeros(_count(groups), dtype=torch.int64))


def _count(groups: torch.Tensor) -> int:
    return int(groups.max()) + 1 if groups.numel() else 0


def _blocks(rows: int, cols: int, height: int, width: int) -> torch.Tensor:
    """Return the number of the block of ``height`` × ``width`` that each entry is in, row by row."""
    across = -(-cols // width)
    return (torch.arange(rows) // height)[:, None] * across + torch.arange(cols) // width


def _lines_of_blocks(
    rows: int, cols: int, height: int, width: int, line_height: int, line_width: int
) -> Partition:
    """Return lines of ``line_height`` × ``line_width`` as groups, and blocks as budgets."""
    groups, blocks = _blocks(rows, cols, line_height, line_width), _blocks(rows, cols, height, width)
    budgets = torch.zeros(_count(groups), dtype=torch.int64)
    budgets[groups.flatten()] = blocks.flatten()
    return Partition(groups, budgets)

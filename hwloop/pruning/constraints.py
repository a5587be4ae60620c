"""Constraint sets: what a pruned or quantized matrix may look like, and the nearest matrix that does.

Matrices are in GEMM form, ``[rows, cols]`` (see :mod:`hwloop.networks`). A filter is a column, and a block is
one crossbar array. Every projection is the Euclidean one, that is, it gives the element of the set with the
smallest sum of squared differences, except where a class says otherwise. For sets of whole groups it keeps
the groups of largest 2-norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn import functional as F


class ConstraintSet(Protocol):
    """A set of matrices that knows its projection."""

    def project(self, matrix: torch.Tensor) -> torch.Tensor:
        """Return the element of the set that is nearest to ``matrix`` ``[rows, cols]``."""
        ...


@dataclass(frozen=True)
class Filters:
    """Matrices with at most ``keep`` columns that are not zero."""

    keep: int

    def project(self, matrix: torch.Tensor) -> torch.Tensor:
        """Keep the columns of largest norm."""
        return matrix * _largest(matrix.square().sum(0), self.keep)


@dataclass(frozen=True)
class Rows:
    """Matrices with at most ``keep`` rows that are not zero."""

    keep: int

    def project(self, matrix: torch.Tensor) -> torch.Tensor:
        """Keep the rows of largest norm."""
        return matrix * _largest(matrix.square().sum(1), self.keep)[:, None]


@dataclass(frozen=True)
class Blocks:
    """Matrices that need at most ``keep`` arrays of ``rows`` × ``cols`` once zero lines are left out.

    The grid of blocks lies over the matrix without its zero rows and columns, as the mapping lays it: a block
    of the full matrix that lost a few lines to the other sets would leave an array half empty.
    """

    keep: int
    rows: int = 64
    cols: int = 64

    def project(self, matrix: torch.Tensor) -> torch.Tensor:
        """Keep the blocks of largest norm; again as long as lines that became empty move the grid."""
        while not torch.equal(kept := self._without_least(matrix), matrix):
            matrix = kept
        return matrix

    def _without_least(self, matrix: torch.Tensor) -> torch.Tensor:
        """Return the matrix without all blocks but those of largest norm, on the grid that it has now."""
        row_index = matrix.any(1).nonzero()[:, 0]
        col_index = matrix.any(0).nonzero()[:, 0]
        compact = matrix[row_index][:, col_index]
        down, across = -(-len(row_index) // self.rows), -(-len(col_index) // self.cols)
        padded = F.pad(
            compact, (0, across * self.cols - len(col_index), 0, down * self.rows - len(row_index))
        )
        energy = padded.square().reshape(down, self.rows, across, self.cols).sum((1, 3))
        kept = _largest(energy.flatten(), self.keep).reshape(down, across)
        kept = kept.repeat_interleave(self.rows, 0).repeat_interleave(self.cols, 1)
        result = torch.zeros_like(matrix)
        result[row_index[:, None], col_index] = compact * kept[: len(row_index), : len(col_index)]
        return result


@dataclass(frozen=True)
class Intersection:
    """Matrices that belong to all of ``sets``.

    The projection goes through the sets in their order. For sets of whole groups the result belongs to all of
    them, since dropping groups never adds any, but a nearer element may exist: the exact projection is a
    combinatorial problem. Put coarse sets first: filters, then rows of the filters that are left, then blocks
    of what is left of both.
    """

    sets: tuple[ConstraintSet, ...]

    def project(self, matrix: torch.Tensor) -> torch.Tensor:
        """Project onto one set after the other."""
        for constraint in self.sets:
            matrix = constraint.project(matrix)
        return matrix


@dataclass(frozen=True)
class LevelSet:
    """Matrices whose entries are 0 or ``scale`` times a whole number from 1 to ``levels``, of either sign.

    Zero is a pruned cell and not a level: it projects to itself, and nothing else projects to it
    (ADMM with memristor constraint sets, ISLPED 2019).
    """

    scale: float
    levels: int

    def codes(self, matrix: torch.Tensor) -> torch.Tensor:
        """Return the signed level of each entry, int8 in the shape of ``matrix``; 0 where it is 0."""
        magnitude = (matrix.abs() / self.scale).round().clamp(1, self.levels)
        return (magnitude * matrix.sign()).to(torch.int8)

    def project(self, matrix: torch.Tensor) -> torch.Tensor:
        """Move every entry that is not zero to the nearest level."""
        return self.codes(matrix).to(matrix.dtype) * self.scale


def _largest(energy: torch.Tensor, keep: int) -> torch.Tensor:
    """Return a bool tensor that is True at the ``keep`` largest entries of a vector."""
    kept = torch.zeros_like(energy, dtype=torch.bool)
    kept[energy.sort(descending=True, stable=True).indices[:keep]] = True
    return kept

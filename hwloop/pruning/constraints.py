"""Constraint sets: what a pruned matrix may look like, and the nearest matrix that does.

Matrices are in GEMM form, ``[rows, cols]`` (see :mod:`hwloop.networks`). A filter is a column, and a block is
one crossbar array. Every projection is the Euclidean one, that is, it gives the element of the set with the
smallest sum of squared differences, except where a class says otherwise. Sets that keep whole groups are in
:mod:`hwloop.pruning.groups`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn import functional as F

VOTES = 8
"""Rounds in which segments choose shapes and shapes follow their segments."""


class ConstraintSet(Protocol):
    """A set of matrices that knows its projection."""

    def project(self, matrix: torch.Tensor) -> torch.Tensor:
        """Return the element of the set that is nearest to ``matrix`` ``[rows, cols]``."""
        ...


@dataclass(frozen=True)
class Intersection:
    """Matrices that belong to all of ``sets``.

    The projection goes through the sets in their order. For sets that only ever set entries to zero the
    result belongs to all of them, but a nearer element may exist: the exact projection is a combinatorial
    problem. Put coarse sets first: filters, then rows of the filters that are left, then blocks of both.
    """

    sets: tuple[ConstraintSet, ...]

    def project(self, matrix: torch.Tensor) -> torch.Tensor:
        """Project onto one set after the other."""
        for constraint in self.sets:
            matrix = constraint.project(matrix)
        return matrix


@dataclass(frozen=True)
class LowRank:
    """Matrices of rank ``rank`` at most (Group Scissor, DAC 2017); nearest by Eckart and Young's theorem."""

    rank: int

    def project(self, matrix: torch.Tensor) -> torch.Tensor:
        """Keep the largest singular values."""
        u, s, v = torch.linalg.svd(matrix, full_matrices=False)
        return (u[:, : self.rank] * s[: self.rank]) @ v[: self.rank]


@dataclass(frozen=True)
class Above:
    """Matrices without entries whose magnitude is below ``share`` of the largest (ternary weights: 0.05)."""

    share: float

    def project(self, matrix: torch.Tensor) -> torch.Tensor:
        """Drop the small entries; the set depends on the largest entry, which stays."""
        return matrix * (matrix.abs() >= self.share * matrix.abs().max()) if matrix.numel() else matrix


@dataclass(frozen=True)
class OneSign:
    """Matrices in which every fragment has one sign: ``fragment`` consecutive rows of a column.

    Rows that are zero altogether are not counted, since they get no word line (FORMS, ISCA 2021).
    """

    fragment: int

    def project(self, matrix: torch.Tensor) -> torch.Tensor:
        """Keep in each fragment the sign with more energy; again as long as rows become empty."""
        while not torch.equal(kept := self._one_sign(matrix), matrix):
            matrix = kept
        return matrix

    def _one_sign(self, matrix: torch.Tensor) -> torch.Tensor:
        used = matrix.any(1)
        fragments = _cut(matrix[used], self.fragment)
        energy = fragments * fragments.abs()
        wrong = torch.sign(energy.sum(1, keepdim=True)) * torch.sign(fragments) < 0
        # Of a tie the positive side stays.
        tie = (energy.sum(1, keepdim=True) == 0) & (fragments < 0)
        result = torch.zeros_like(matrix)
        result[used] = fragments.masked_fill(wrong | tie, 0).flatten(0, 1)[: int(used.sum())]
        return result


@dataclass(frozen=True)
class SegmentShapes:
    """Matrices whose column segments have one of ``shapes`` supports in each group of ``height`` rows.

    A support has ``keep`` rows. Segments of one shape can be gathered in one array that has only these rows
    (SegPrune, TCAD 2022). Rows that are zero altogether are not counted. Which shapes are best is a
    combinatorial problem; they are found by votes, as medoids are: each segment votes for the shape that
    keeps most of its energy, and each shape then takes the rows where its voters have most. For one shape,
    and for as many as there are columns, that is the nearest matrix.
    """

    shapes: int
    keep: int
    height: int

    def project(self, matrix: torch.Tensor) -> torch.Tensor:
        """Give each segment the shape that keeps most of it."""
        used = matrix.any(1)
        parts = [part * self._support(part.square()) for part in matrix[used].split(self.height)]
        result = torch.zeros_like(matrix)
        result[used] = torch.cat(parts) if parts else matrix[used]
        return result

    def _support(self, energy: torch.Tensor) -> torch.Tensor:
        """Return which entries of a group of rows stay, bool in the shape of ``energy``."""
        if self.shapes >= energy.shape[1]:
            return self._top(energy)
        shapes = self._top(energy.sum(1, keepdim=True))
        while shapes.shape[1] < self.shapes:
            lost = energy.sum(0) - (shapes.T.to(energy) @ energy).amax(0)
            shapes = torch.cat([shapes, self._top(energy[:, lost.argmax()][:, None])], 1)
        for _ in range(VOTES):
            votes = F.one_hot((shapes.T.to(energy) @ energy).argmax(0), shapes.shape[1]).to(energy)
            wanted = energy @ votes
            # A shape without votes stays: segments may come back to it.
            shapes = torch.where(votes.any(0), self._top(wanted), shapes)
        return shapes[:, (shapes.T.to(energy) @ energy).argmax(0)]

    def _top(self, energy: torch.Tensor) -> torch.Tensor:
        """Return the ``keep`` rows of largest energy of each column, bool."""
        order = energy.sort(dim=0, descending=True, stable=True).indices[: self.keep]
        return torch.zeros_like(energy, dtype=torch.bool).scatter(0, order, True)


def _cut(matrix: torch.Tensor, height: int) -> torch.Tensor:
    """Return ``[parts, height, cols]``: consecutive rows of a matrix, zeros below the last."""
    parts = -(-len(matrix) // height)
    padded = F.pad(matrix, (0, 0, 0, parts * height - len(matrix)))
    return padded.reshape(parts, height, matrix.shape[1])

"""Levels: which weights have a code, and the nearest of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch


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

"""Area by the rules of Group Scissor (Wang et al., DAC 2017), to compare with its figures.

A matrix that fits into the largest crossbar has one of its own size; a larger one is cut into equal blocks
whose sides divide its own. Crossbar area counts cells, pruned ones too unless their line is gone. A wire
is there as long as one weight of its block row or column is left; routing area grows with the square of the
number of wires (equation 8).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

import torch


def scissor_block(shape: Sequence[int], largest: tuple[int, int]) -> tuple[int, int]:
    """Return the rows and columns of the blocks of a matrix: its own, or their largest divisors that fit."""
    rows, cols = (
        side if side <= most else max(part for part in range(1, most + 1) if side % part == 0)
        for side, most in zip(shape, largest, strict=True)
    )
    return rows, cols


def crossbar_area(kept: Iterable[Sequence[int]], dense: Iterable[Sequence[int]]) -> float:
    """Return the cells of matrices of these shapes over those of the dense network."""
    return sum(rows * cols for rows, cols in kept) / sum(rows * cols for rows, cols in dense)


def routing_area(masks: Mapping[str, torch.Tensor], largest: tuple[int, int] = (64, 64)) -> float:
    """Return the mean over matrices larger than a crossbar of the squared fraction of wires that are left.

    Args:
        masks: bool ``[rows, cols]`` for each matrix.
        largest: rows and columns of the largest crossbar.
    """
    fractions = []
    for mask in masks.values():
        rows, cols = scissor_block(mask.shape, largest)
        if (rows, cols) != tuple(mask.shape):
            blocks = mask.reshape(mask.shape[0] // rows, rows, mask.shape[1] // cols, cols)
            wires = blocks.any(3).sum() + blocks.any(1).sum()
            fractions.append(float(wires) / (len(blocks) * blocks.shape[2] * (rows + cols)))
    return fmean(fraction**2 for fraction in fractions) if fractions else 1.0

"""Which line of a tile holds which line of the matrix, where wires have resistance.

A word line is driven at its first column and a bit line sensed at its last row, so the current of a cell runs
through more wire the farther it is from that corner. The product does not depend on the order of the lines;
the voltage that wires cost does.
"""

from __future__ import annotations

from typing import Literal

import torch

from .conductance_map import UNUSED_LINE

Placement = Literal["matrix", "near"]
"""Order of the lines in a tile: that of the matrix, or the most current next to drivers and sense ends."""


def near(
    blocks: torch.Tensor,
    row_index: torch.Tensor,
    col_index: torch.Tensor,
    codes: torch.Tensor,
    fragment: int = 1,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Put the lines of each tile whose cells conduct most next to the drivers and the sense ends.

    Bit lines come in falling order of their total conductance, over all arrays of the tile, from the drivers
    on; word lines in rising order, so that the last one, next to the sense ends, conducts most. Unused lines
    are those farthest away. Fragments stay whole, and one that does not use all its word lines is the last.

    Args:
        blocks: ``[tiles, rows, cols]``, as from :func:`~hwloop.mapping.form_tiles`.
        row_index: int32 ``[tiles, rows]``.
        col_index: int32 ``[tiles, cols]``.
        codes: levels of the cells, ``[tiles, polarity, slice, rows, cols]``.
        fragment: word lines of a fragment; 1 unless encoding is polarised.

    Returns:
        The three first arguments, in the new order.
    """
    levels = codes.to(torch.float64).sum(dim=(1, 2))
    rows = _row_order(levels.sum(dim=2), row_index != UNUSED_LINE, fragment)
    cols = torch.where(col_index != UNUSED_LINE, -levels.sum(dim=1), torch.inf).argsort(dim=1, stable=True)
    placed = blocks.take_along_dim(rows[:, :, None], dim=1).take_along_dim(cols[:, None, :], dim=2)
    return placed, row_index.take_along_dim(rows, dim=1), col_index.take_along_dim(cols, dim=1)


def _row_order(totals: torch.Tensor, used: torch.Tensor, fragment: int) -> torch.Tensor:
    """Return the old place of each word line, int64 ``[tiles, rows]``."""
    tiles, rows = totals.shape
    shape = tiles, rows // fragment, fragment
    totals, used = torch.where(used, totals, torch.inf).reshape(shape), used.reshape(shape)
    within = totals.argsort(dim=2, stable=True)
    # An unused fragment is before all others, and one with unused word lines, whose total is infinite, after.
    whole = torch.where(used.any(dim=2), totals.sum(dim=2), -1.0).argsort(dim=1, stable=True)
    return (whole[:, :, None] * fragment + within.take_along_dim(whole[:, :, None], dim=1)).reshape(
        tiles, rows
    )

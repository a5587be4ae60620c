"""Cut a layer's matrix into tiles, leaving out its empty lines.

A matrix in GEMM form is ``[rows, cols]`` with rows = word lines and columns = bit lines. It is
cut in four steps:

1. The matrix of a grouped convolution is block diagonal. Neighbouring groups that together fit into one
   array share it; otherwise each group is cut on its own, because a tile across groups would hold mostly
   cells that no group uses.
2. Rows and columns without a nonzero code are left out.
3. The rows that remain are cut into bands of at most as many rows as the array has word lines. Columns that
   are empty within a band are left out, the others are packed into tiles of at most as many columns as the
   array has bit lines, and rows that are empty within a tile are left out of it.
4. Where that takes fewer tiles, the columns of higher bands that need the same rows share a tile instead
   (:mod:`hwloop.mapping.packing`).

Every nonzero code lies in exactly one cell, no two tiles cross at the same entry of the matrix, and the lines
of a tile keep the order of the matrix.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from .conductance_map import UNUSED_LINE
from .packing import Lines, pack


def tile_count(
    mask: torch.Tensor,
    array_shape: tuple[int, int],
    groups: int = 1,
    fragment: int = 1,
    cells_per_column: int | None = None,
) -> int:
    """Return how many tile positions a layer needs; each is one array per polarity and slice.

    Args:
        mask: ``[rows, cols]`` in GEMM form, nonzero where a weight is kept; any dtype.
        array_shape: word lines and bit lines of one array.
        groups: groups of the convolution (1 for a linear layer).
        fragment: rows that stay together, as polarised encoding needs them: so many used rows of the matrix
            that follow one another (see :func:`fragment_of_rows`). A tile has all of them or none.
        cells_per_column: most weights that a bit line may have; None = as many as it has word lines.

    Raises:
        ValueError: if the shapes do not fit together, or a weight lies outside its group's block.
    """
    return len(tile_lines(mask, array_shape, groups, fragment, cells_per_column))


def tile_lines(
    mask: torch.Tensor,
    array_shape: tuple[int, int],
    groups: int = 1,
    fragment: int = 1,
    cells_per_column: int | None = None,
) -> list[Lines]:
    """Return the matrix rows and columns of every tile; arguments and errors as in :func:`tile_count`."""
    used = _checked(mask, array_shape, groups, fragment)
    return [
        lines
        for rows, cols in _bundles(used, array_shape, groups)
        for lines in _cut(used, rows, cols, array_shape, fragment, cells_per_column)
    ]


def fragment_of_rows(
    mask: torch.Tensor, array_shape: tuple[int, int], groups: int = 1, fragment: int = 1
) -> torch.Tensor:
    """Return the fragment that each row of a layer's matrix lies in.

    In polarised encoding all weights that a column has in the rows of one fragment have the same sign
    (FORMS, ISCA 2021). Rows without weights are left out before fragments are formed, so a mask that loses a
    whole row has other fragments.

    Args:
        mask: as in :func:`tile_count`, which has the other arguments and errors too.

    Returns:
        int64 ``[rows]``: numbers from 0, and -1 for a row without weights. The same in every column.
    """
    used = _checked(mask, array_shape, groups, fragment)
    found, count = np.full(len(used), -1, dtype=np.int64), 0
    for rows, _ in _bundles(used, array_shape, groups):
        found[rows] = count + np.arange(len(rows)) // fragment
        count += -(-len(rows) // fragment)
    return torch.from_numpy(found)


def form_tiles(
    codes: torch.Tensor,
    array_shape: tuple[int, int],
    groups: int = 1,
    fragment: int = 1,
    cells_per_column: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cut a matrix of signed weight codes into tiles.

    Args:
        codes: int8 ``[rows, cols]`` in GEMM form; 0 is a pruned weight.
        array_shape: word lines and bit lines of one array.
        groups: groups of the convolution (1 for a linear layer).
        fragment: rows that stay together, as in :func:`tile_count`.
        cells_per_column: as in :func:`tile_count`.

    Returns:
        Signed weight codes int8 ``[tiles, *array_shape]``, matrix row of each word line int32
        ``[tiles, array rows]`` and matrix column of each bit line int32 ``[tiles, array cols]``, both
        ``UNUSED_LINE`` where the tile uses no line.

    Raises:
        TypeError: if ``codes`` is not int8.
        ValueError: as :func:`tile_count`.
    """
    if codes.dtype != torch.int8:
        raise TypeError(f"weight codes must be int8, not {codes.dtype}")
    tiles = tile_lines(codes, array_shape, groups, fragment, cells_per_column)
    signed = codes.numpy(force=True)
    blocks = np.zeros((len(tiles), *array_shape), dtype=np.int8)
    row_index = np.full((len(tiles), array_shape[0]), UNUSED_LINE, dtype=np.int32)
    col_index = np.full((len(tiles), array_shape[1]), UNUSED_LINE, dtype=np.int32)
    for tile, (rows, cols) in enumerate(tiles):
        blocks[tile, : len(rows), : len(cols)] = signed[np.ix_(rows, cols)]
        row_index[tile, : len(rows)] = rows
        col_index[tile, : len(cols)] = cols
    return torch.from_numpy(blocks), torch.from_numpy(row_index), torch.from_numpy(col_index)


def assemble(
    blocks: torch.Tensor, row_index: torch.Tensor, col_index: torch.Tensor, matrix_shape: tuple[int, int]
) -> torch.Tensor:
    """Put tiles back together: every block at its place in the matrix, zero elsewhere; copies add up.

    Args:
        blocks: ``[tiles, rows, cols]``, as from :func:`form_tiles` or :func:`~hwloop.mapping.decode`.
        row_index: int32 ``[tiles, rows]`` as from :func:`form_tiles`.
        col_index: int32 ``[tiles, cols]``.
        matrix_shape: rows and columns of the matrix.

    Returns:
        ``[matrix rows, matrix cols]`` in the dtype of ``blocks``.
    """
    matrix = torch.zeros(matrix_shape, dtype=blocks.dtype, device=blocks.device)
    for block, rows, cols in zip(blocks, row_index.long(), col_index.long(), strict=True):
        used_rows, used_cols = rows != UNUSED_LINE, cols != UNUSED_LINE
        matrix[rows[used_rows][:, None], cols[used_cols]] += block[used_rows][:, used_cols]
    return matrix


def _checked(mask: torch.Tensor, array_shape: tuple[int, int], groups: int, fragment: int) -> np.ndarray:
    """Return the mask as a bool array, after checking that everything fits together."""
    if mask.ndim != 2:
        raise ValueError(f"a layer's matrix has 2 dimensions, not {mask.ndim}")
    if min(array_shape) < 1:
        raise ValueError(f"an array needs at least one word line and one bit line, not {array_shape}")
    if fragment < 1 or array_shape[0] % fragment:
        raise ValueError(
            f"arrays of {array_shape[0]} word lines cannot be cut into fragments of {fragment}; "
            f"their size must be a multiple"
        )
    if groups < 1 or mask.shape[0] % groups or mask.shape[1] % groups:
        raise ValueError(f"a matrix of shape {tuple(mask.shape)} cannot hold {groups} equal groups")
    used: np.ndarray = mask.numpy(force=True) != 0
    rows, cols = used.shape[0] // groups, used.shape[1] // groups
    inside = sum(
        np.count_nonzero(used[group * rows : (group + 1) * rows, group * cols : (group + 1) * cols])
        for group in range(groups)
    )
    if inside != np.count_nonzero(used):
        raise ValueError(f"the matrix has weights outside the diagonal blocks of its {groups} groups")
    return used


def _bundles(used: np.ndarray, array_shape: tuple[int, int], groups: int) -> Iterator[Lines]:
    """Yield the used rows and columns of each run of groups that is cut on its own (steps 1 and 2)."""
    height, width = used.shape[0] // groups, used.shape[1] // groups
    rows, cols = np.empty(0, dtype=np.intp), np.empty(0, dtype=np.intp)
    for group in range(groups):
        block = used[group * height : (group + 1) * height, group * width : (group + 1) * width]
        group_rows = group * height + np.flatnonzero(block.any(axis=1))
        group_cols = group * width + np.flatnonzero(block.any(axis=0))
        if len(rows) + len(group_rows) > array_shape[0] or len(cols) + len(group_cols) > array_shape[1]:
            yield rows, cols
            rows, cols = group_rows, group_cols
        else:
            rows, cols = np.concatenate([rows, group_rows]), np.concatenate([cols, group_cols])
    yield rows, cols


def _cut(
    used: np.ndarray,
    rows: np.ndarray,
    cols: np.ndarray,
    array_shape: tuple[int, int],
    fragment: int,
    cells_per_column: int | None,
) -> Iterator[Lines]:
    """Yield the tiles of one matrix without empty lines (steps 3 and 4), fragments of rows in one piece."""
    starts = np.arange(0, len(rows), fragment)
    needed = np.logical_or.reduceat(used[np.ix_(rows, cols)], starts, axis=0)
    fragments = np.split(rows, starts[1:])
    fitting = array_shape[0] // fragment, array_shape[1]
    for tile_fragments, tile_cols in pack(needed, rows[starts], array_shape[0], fitting, cells_per_column):
        yield np.concatenate([fragments[number] for number in tile_fragments]), cols[tile_cols]

"""Gather the columns of a matrix into tiles, as few as a search that is quick and always the same finds.

The plain way cuts the rows into bands of one array's height and packs the columns of each band side by side.
A column that is sparse needs a few word lines of every band then. But bit lines may lie in any order, so
columns that need the same rows of a taller band can lie in the same tile, which has only those rows:

* SegPrune (TCAD 2022): columns with the same shape, few shapes in a group of rows;
* PIM-Prune (DAC 2020) and other pruning of lines within blocks: what is left of blocks above one another.

Only the mask decides, so whatever made the shapes, they are found: neighbouring bands are taken together, two
by two, as long as that saves tiles.
"""

from __future__ import annotations

import numpy as np

Lines = tuple[np.ndarray, np.ndarray]
"""Rows and columns of one tile, both ascending."""


def pack(
    used: np.ndarray,
    starts: np.ndarray,
    band_height: int,
    array_shape: tuple[int, int],
    cells_per_column: int | None = None,
) -> list[Lines]:
    """Return tiles that hold every nonzero of a matrix in exactly one cell, and cross no entry twice.

    Bands are cut in two ways: every ``array_shape[0]`` rows of those given, which is the plain one, and where
    ``starts`` passes a multiple of ``band_height``, so that groups of rows by which somebody pruned stay
    together although some of their rows are gone. Of ways that need equally many tiles the plainest is taken.

    Args:
        used: bool ``[rows, cols]`` without empty rows and columns.
        starts: place of each row in the layer's matrix, ascending; int ``[rows]``.
        band_height: what ``starts`` of a band span at most, so that it has no more than ``array_shape[0]``.
        array_shape: rows and columns that a tile can have.
        cells_per_column: most nonzeros of a column of a tile; None = any number. With it, bands end where a
            column would have more, and are not taken together.
    """
    rows, cols = np.arange(len(used)), np.arange(used.shape[1])
    plain = rows[array_shape[0] :: array_shape[0]]
    if cells_per_column is not None:
        bands = _bands(used, array_shape[0], cells_per_column)
        return [lines for band in bands for lines in _side_by_side(used, band, cols, array_shape[1])]
    aligned = rows[1:][np.diff(starts // band_height) > 0]
    ways = [plain] if np.array_equal(plain, aligned) else [plain, aligned]
    return min((_fewest(used, np.split(rows, cuts), cols, array_shape) for cuts in ways), key=len)


def _bands(used: np.ndarray, height: int, cells_per_column: int) -> list[np.ndarray]:
    """Return runs of rows, as long as they fit: fewer cannot be had."""
    bands, begin = [], 0
    while begin < len(used):
        cells = np.cumsum(used[begin : begin + height], axis=0, dtype=np.int64).max(axis=1)
        end = begin + max(1, int(np.count_nonzero(cells <= cells_per_column)))
        bands.append(np.arange(begin, end))
        begin = end
    return bands


def _fewest(
    used: np.ndarray, bands: list[np.ndarray], cols: np.ndarray, array_shape: tuple[int, int]
) -> list[Lines]:
    """Return the tiles of some bands: each half of them on its own, or together if that needs fewer."""
    if len(bands) == 1:
        return _side_by_side(used, bands[0], cols, array_shape[1])
    half = 1 << ((len(bands) - 1).bit_length() - 1)
    apart = _fewest(used, bands[:half], cols, array_shape) + _fewest(used, bands[half:], cols, array_shape)
    band = np.concatenate(bands)
    heights = used[np.ix_(band, cols)].sum(axis=0)
    # Columns that are too high for a tile take at least this many of them, wherever they are cut.
    high = heights > array_shape[0]
    least = -(-int((-(-heights[high] // array_shape[0])).sum()) // array_shape[1])
    gathered = _gathered(used, band, cols[(heights > 0) & ~high], array_shape, len(apart) - least)
    if gathered is None:
        return apart
    if gathered:
        together = gathered + _fewest(used, bands, cols[high], array_shape)
        return together if len(together) < len(apart) else apart
    return _by_shape(used, band, cols[high], array_shape, len(apart)) or apart


def _side_by_side(used: np.ndarray, band: np.ndarray, cols: np.ndarray, width: int) -> list[Lines]:
    """Return the tiles of a band no higher than an array: its columns in their order, without empty lines."""
    cols = cols[used[np.ix_(band, cols)].any(axis=0)]
    return [_lines(used, band, cols[left : left + width]) for left in range(0, len(cols), width)]


def _gathered(
    used: np.ndarray, band: np.ndarray, cols: np.ndarray, array_shape: tuple[int, int], limit: int
) -> list[Lines] | None:
    """Return fewer than ``limit`` tiles, each with all rows of the band that its columns need, or None.

    The columns that need most rows come first, and those that need the same follow one another. Each lies in
    the tile to which it adds the fewest rows, of those that it fits into.
    """
    height, width = array_shape
    if -(-len(cols) // width) >= limit:
        return None
    # Sets of rows as whole numbers: their unions and sizes take a tenth of a microsecond.
    packed = np.packbits(used[np.ix_(band, cols)], axis=0)
    needs = [int.from_bytes(column.tobytes()) for column in packed.T]
    full: list[list[int]] = []
    held: list[int] = []
    counts: list[int] = []
    members: list[list[int]] = []
    for col in sorted(range(len(cols)), key=lambda col: (-needs[col].bit_count(), needs[col], col)):
        need = needs[col]
        best, fewest = -1, height + 1
        for tile, (rows, count) in enumerate(zip(held, counts, strict=True)):
            together = (rows | need).bit_count()
            if together - count < fewest and together <= height:
                best, fewest = tile, together - count
        if best < 0:
            if len(full) + len(held) + 1 >= limit:
                return None
            best = len(held)
            held.append(0)
            counts.append(0)
            members.append([])
        held[best] |= need
        counts[best] = held[best].bit_count()
        members[best].append(col)
        if len(members[best]) == width:
            del held[best], counts[best]
            full.append(members.pop(best))
    return [_lines(used, band, cols[sorted(tile)]) for tile in full + members]


def _by_shape(
    used: np.ndarray, band: np.ndarray, cols: np.ndarray, array_shape: tuple[int, int], limit: int
) -> list[Lines]:
    """Return fewer than ``limit`` tiles whose columns need just the same rows of the band, or none.

    Each such shape is cut by itself, every so many of its own rows.
    """
    height, width = array_shape
    members: dict[bytes, list[int]] = {}
    for col, column in zip(cols.tolist(), np.packbits(used[np.ix_(band, cols)], axis=0).T, strict=True):
        members.setdefault(column.tobytes(), []).append(col)
    shapes = [(band[used[band, same[0]]], np.array(same)) for same in members.values()]
    if sum(-(-len(rows) // height) * -(-len(same) // width) for rows, same in shapes) >= limit:
        return []
    return [
        tile
        for rows, same in shapes
        for top in range(0, len(rows), height)
        for tile in _side_by_side(used, rows[top : top + height], same, width)
    ]


def _lines(used: np.ndarray, band: np.ndarray, cols: np.ndarray) -> Lines:
    """Return the rows of a band that some columns need, and these columns."""
    return band[used[np.ix_(band, cols)].any(axis=1)], cols

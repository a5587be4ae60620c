"""The elimination of :mod:`.elimination` for one tile at a time, compiled for the processor.

Same network, same order, same absence of subtractions; see there for the reasons. What differs is the way of
working: everything of one tile stays in the cache. The block of word-line nodes is inverted in place by
sweeping ``BLOCK`` pivots at a time, and the rows that lead to the senses are swept along, so that nearly
all arithmetic is one product, (rows x BLOCK) times (BLOCK x rows).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from .simd import TILE_COLUMNS, TILE_ROWS, VECTOR_BYTES, multiply, multiply_add

BLOCK = 8
# Products and sums may be fused and reordered: all terms have one sign. Infinities and NaN keep their
# meaning.
compiled: Any = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})


class Workspace(NamedTuple):
    """Scratch of one thread for tiles of up to R rows and C columns; n is R rounded up to whole blocks.

    Attributes:
        m: ``[n + 1 + C + 3, n]``. Lower triangle of the first n rows: couplings between the word-line nodes
            of a column, then their inverse. Row n: conductance to ground. Rows from n + 1: to the senses,
            the one of the last column first; or their sum.
        a: ``[rows of m, BLOCK]``, columns of the pivots of a sweep.
        b: ``[BLOCK, n]``, rows of the pivots.
        d: ``[BLOCK, n]``, inverse of the pivots times ``b``.
        p: ``[BLOCK, BLOCK]``, inverse of the pivots.
        w: ``[BLOCK + 2, BLOCK]``, scratch to find it.
        v: ``[2, n]``, conductance to the next column, and a row of a bit line's inverse.
        cell, word, bit, pivot, ratio: ``[R * C]``, the tile without absent lines, and its bit lines as
        ladders.
        rows, cols: which lines are present.
    """

    m: np.ndarray
    a: np.ndarray
    b: np.ndarray
    d: np.ndarray
    p: np.ndarray
    w: np.ndarray
    v: np.ndarray
    cell: np.ndarray
    word: np.ndarray
    bit: np.ndarray
    pivot: np.ndarray
    ratio: np.ndarray
    rows: np.ndarray
    cols: np.ndarray


def workspace(rows: int, cols: int) -> Workspace:
    """Allocate scratch for tiles ``[rows, cols]``."""
    n = (rows + TILE_COLUMNS - 1) // TILE_COLUMNS * TILE_COLUMNS
    tall = n + 1 + cols + TILE_ROWS - 1
    blocks = [(tall, n), (tall, BLOCK), (BLOCK, n), (BLOCK, n), (BLOCK, BLOCK)]
    m, a, b, d, p = (aligned(shape) for shape in blocks)
    w, v = aligned((BLOCK + 2, BLOCK)), aligned((2, n))
    cell, word, bit, pivot, ratio = (aligned((rows * cols,)) for _ in range(5))
    present = np.zeros(rows, np.int64), np.zeros(cols, np.int64)
    return Workspace(m, a, b, d, p, w, v, cell, word, bit, pivot, ratio, *present)


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros in float64 that start on a vector boundary."""
    size = int(np.prod(shape))
    room = np.zeros(size + VECTOR_BYTES // 8)
    start = -room.ctypes.data % VECTOR_BYTES // 8
    return room[start : start + size].reshape(shape)


@compiled
def ladders(cell: Any, bit: Any, pivot: Any, ratio: Any) -> None:
    """Solve the bit lines of a tile ``[R, C]``; see :class:`.elimination.Ladder`."""
    rows, cols = cell.shape
    below = np.empty(cols)  # conductance from a node downwards, its own cell excluded
    for j in range(cols):
        below[j] = bit[rows - 1, j]
        pivot[0, j] = cell[0, j]
    for i in range(1, rows):  # at first, pivot is the conductance upwards, the node's own cell included
        for j in range(cols):
            total = pivot[i - 1, j] + bit[i - 1, j]
            ratio[i - 1, j] = bit[i - 1, j] / total if total > 0 else 0.0
            pivot[i, j] = cell[i, j] + pivot[i - 1, j] * ratio[i - 1, j]
    ratio[rows - 1] = 0
    for i in range(rows - 1, -1, -1):
        for j in range(cols):
            if i < rows - 1:
                down = below[j] + cell[i + 1, j]
                total = down + bit[i, j]
                below[j] = bit[i, j] * (down / total) if total > 0 else 0.0
            total = pivot[i, j] + below[j]
            pivot[i, j] = 1 / total if total > 0 else 0.0


@compiled
def couple_column(
    j: int, each_sense: bool, cell: Any, bit: Any, pivot: Any, ratio: Any, word: Any, ws: Any
) -> int:
    """Replace the inverse of column j + 1 in the workspace by the couplings of column j; add its sense row.

    The sense rows are one per output, or with ``each_sense`` off their sum. Returns the number of rows in
    use, rounded up to whole blocks.
    """
    m, v, n = ws.m, ws.v, ws.m.shape[1]
    rows, cols = cell.shape
    v[:] = 0
    if j < cols - 1:
        for i in range(rows):
            v[0, i] = word[i, j + 1]
    for i in range(rows):
        width = (i // TILE_COLUMNS + 1) * TILE_COLUMNS
        own, g, w = pivot[i, j] * cell[i, j], cell[i, j], v[0, i]
        for k in range(width):
            m[i, k] = own * v[1, k] + w * v[0, k] * m[i, k]
        step = ratio[i, j]
        v[1, i] = g
        if i < rows - 1:
            for k in range(width):
                v[1, k] *= step
    # v[1] is now the bit line's inverse, row rows - 1, but for its pivot, times the cells.
    sense = bit[rows - 1, j] * pivot[rows - 1, j]
    last = n + cols - j if each_sense else n + 1
    for k in range(n):
        to_sense = v[1, k] * sense
        if not each_sense:
            to_sense += m[last, k] * v[0, k]
        m[last, k] = to_sense
        m[n, k] = to_sense
    for row in range(n + 1, last):
        for k in range(n):
            m[row, k] *= v[0, k]
            m[n, k] += m[row, k]
    for i in range(rows):
        m[n, i] += word[i, j]
    for i in range(rows, n):
        m[n, i] = 1
    return (last + TILE_ROWS) // TILE_ROWS * TILE_ROWS


@compiled
def invert_block(w: Any) -> None:
    """Invert ``diag(ground + couplings) - couplings`` in place, without subtractions.

    ``w`` ``[BLOCK + 2, BLOCK]``: couplings with a zero diagonal, then the conductances to ground, then
    scratch.
    """
    for q in range(BLOCK):
        total = w[BLOCK, q]
        for k in range(q + 1, BLOCK):
            total += w[q, k]
        inverse = 1 / total if total > 0 else 0.0
        ground = w[BLOCK, q] * inverse
        for k in range(BLOCK):
            w[BLOCK, k] += w[q, k] * ground
        for k in range(BLOCK):
            w[BLOCK + 1, k] = 1 if k == q else w[q, k]
        for i in range(BLOCK):
            factor = inverse if i == q else w[i, q] * inverse
            for k in range(BLOCK):
                w[i, k] = (0 if i == q or k == q else w[i, k]) + factor * w[BLOCK + 1, k]


@compiled
def sweep(stop: int, ws: Any) -> None:
    """Turn couplings and ground into the inverse (lower triangle), and multiply the sense rows by it."""
    m, a, b, d, p, w, n = ws.m, ws.a, ws.b, ws.d, ws.p, ws.w, ws.m.shape[1]
    for at in range(0, n, BLOCK):
        after = at + BLOCK
        for q in range(BLOCK):
            for k in range(at):
                b[q, k] = m[at + q, k]
            for k in range(at, after):
                b[q, k] = 0
            b[q, at + q] = 1
            for k in range(q):
                w[q, k] = m[at + q, at + k]
                w[k, q] = m[at + q, at + k]
            w[q, q] = 0
        for k in range(after, stop):
            for q in range(BLOCK):
                a[k, q] = m[k, at + q]
        for k in range(after, stop):
            for q in range(BLOCK):
                m[k, at + q] = 0
        for k in range(after, n):
            for q in range(BLOCK):
                b[q, k] = a[k, q]
        for q in range(BLOCK):
            w[BLOCK, q] = a[n, q]
        for k in range(after, n):
            for q in range(BLOCK):
                w[BLOCK, q] += a[k, q]
        invert_block(w)
        for q in range(BLOCK):
            for k in range(BLOCK):
                p[q, k] = w[q, k]
        for q in range(0, BLOCK, TILE_ROWS):
            for k in range(0, n, TILE_COLUMNS):
                multiply(d, q * n + k, n, p, q * BLOCK, BLOCK, 1, b, k, n, BLOCK)
        for i in range(0, at, TILE_ROWS):
            for k in range(0, i + TILE_ROWS, TILE_COLUMNS):
                multiply_add(m, i * n + k, n, b, i, 1, n, d, k, n, BLOCK)
        for i in range(after, stop, TILE_ROWS):
            for k in range(0, min(n, i + TILE_ROWS), TILE_COLUMNS):
                multiply_add(m, i * n + k, n, a, i * BLOCK, BLOCK, 1, d, k, n, BLOCK)
        for q in range(BLOCK):
            for k in range(after):
                m[at + q, k] = d[q, k]


@compiled
def store_inverse(ws: Any, inverse: Any) -> None:
    """Copy the inverse ``[R, R]`` out of the workspace."""
    for i in range(inverse.shape[0]):
        for k in range(i + 1):
            inverse[i, k] = ws.m[i, k]
            inverse[k, i] = ws.m[i, k]

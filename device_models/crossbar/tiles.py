"""Whole tiles through the compiled elimination: effective conductances, and factors to keep."""

from __future__ import annotations

from typing import Any

from .kernels import compiled, couple_column, ladders, store_inverse, sweep


@compiled
def normalise_tiles(
    start: int,
    stop: int,
    short: float,
    g: Any,
    r_word: Any,
    r_bit: Any,
    cell: Any,
    word: Any,
    bit: Any,
    scale: Any,
) -> None:
    """Scale tiles start..stop; see :func:`.elimination.normalise`. Segments are ``[T or 1, R, C]``."""
    rows, cols = g.shape[1:]
    for t in range(start, stop):
        largest = 0.0
        for i in range(rows):
            for j in range(cols):
                largest = max(largest, g[t, i, j])
        by = largest if largest > 0 else 1.0
        scale[t] = by
        rw, rb = r_word[t % r_word.shape[0]], r_bit[t % r_bit.shape[0]]
        for i in range(rows):
            for j in range(cols):
                cell[t, i, j] = g[t, i, j] / by
                word[t, i, j] = 1 / max(rw[i, j] * by, short)
                bit[t, i, j] = 1 / max(rb[i, j] * by, short)


@compiled
def transfer_tiles(
    start: int, stop: int, cell: Any, word: Any, bit: Any, scale: Any, transfer: Any, ws: Any
) -> None:
    """Effective conductances in siemens of tiles start..stop of ``[T, R, C]``."""
    for t in range(start, stop):
        transfer[t] = 0
        high, wide = compact(cell[t], word[t], bit[t], ws)
        if high == 0:
            continue
        c, w, b, pivot, ratio = _present(ws, high, wide)
        ladders(c, b, pivot, ratio)
        for j in range(wide - 1, -1, -1):
            sweep(couple_column(j, True, c, b, pivot, ratio, w, ws), ws)
        for y in range(high):
            for x in range(wide):
                transfer[t, ws.rows[y], ws.cols[x]] = ws.m[ws.m.shape[1] + wide - x, y] * w[y, 0] * scale[t]


@compiled
def factor_tiles(
    start: int,
    stop: int,
    cell: Any,
    word: Any,
    bit: Any,
    scale: Any,
    pivot: Any,
    ratio: Any,
    inverses: Any,
    transfer: Any,
    ws: Any,
) -> None:
    """Effective conductances (siemens), bit-line ladders ``[T, R, C]``; column inverses ``[C, T, R, R]``."""
    rows, cols = cell.shape[1:]
    for t in range(start, stop):
        ladders(cell[t], bit[t], pivot[t], ratio[t])
        for j in range(cols - 1, -1, -1):
            sweep(couple_column(j, True, cell[t], bit[t], pivot[t], ratio[t], word[t], ws), ws)
            store_inverse(ws, inverses[j, t])
        for i in range(rows):
            for j in range(cols):
                transfer[t, i, j] = ws.m[ws.m.shape[1] + cols - j, i] * word[t, i, 0] * scale[t]


@compiled
def compact(cell: Any, word: Any, bit: Any, ws: Any) -> tuple[int, int]:
    """Copy a tile ``[R, C]`` without the lines that have no cell; segments between present lines add in
    series.
    """
    rows, cols = cell.shape
    high = 0
    for i in range(rows):
        for j in range(cols):
            if cell[i, j] > 0:
                ws.rows[high] = i
                high += 1
                break
    wide = 0
    for j in range(cols):
        for i in range(rows):
            if cell[i, j] > 0:
                ws.cols[wide] = j
                wide += 1
                break
    c, w, b, _, _ = _present(ws, high, wide)
    for y in range(high):
        i, below = ws.rows[y], ws.rows[y + 1] if y + 1 < high else rows
        for x in range(wide):
            j, left = ws.cols[x], ws.cols[x - 1] if x else -1
            c[y, x], w[y, x], b[y, x] = cell[i, j], word[i, j], bit[i, j]
            if j - left > 1:
                w[y, x] = _series(word[i, left + 1 : j + 1])
            if below - i > 1:
                b[y, x] = _series(bit[i:below, j])
    return high, wide


@compiled
def _present(ws: Any, high: int, wide: int) -> Any:
    size = high * wide
    return (
        ws.cell[:size].reshape(high, wide),
        ws.word[:size].reshape(high, wide),
        ws.bit[:size].reshape(high, wide),
        ws.pivot[:size].reshape(high, wide),
        ws.ratio[:size].reshape(high, wide),
    )


@compiled
def _series(conductances: Any) -> Any:
    resistance = 0.0
    for conductance in conductances:
        resistance += 1 / conductance
    return 1 / resistance

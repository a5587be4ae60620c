"""Voltages of one tile at a time from its column inverses, compiled for the processor.

A field is a set of L solutions side by side; the lines of one column are its rows, ``[R, L]``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .kernels import aligned, compiled
from .simd import TILE_COLUMNS, TILE_ROWS, multiply, multiply_row

FIELD_WIDTH = 32


class FieldSpace(NamedTuple):
    """Scratch of one thread for fields of L solutions in tiles ``[R, C]``.

    Attributes:
        inverses: ``[C, R, R]``, only for gradients.
        pivot, ratio: ``[R, C]``, bit lines as ladders, only for gradients.
        word, bit: ``[C, R, L]``, what is injected at the word-line and bit-line nodes; later the voltages
            there.
        fields: ``[7, R, L]``, whatever is needed for one column.
        line: ``[2, L]``, what runs along a bit line.
    """

    inverses: np.ndarray
    pivot: np.ndarray
    ratio: np.ndarray
    word: np.ndarray
    bit: np.ndarray
    fields: np.ndarray
    line: np.ndarray


def field_space(rows: int, cols: int, width: int, gradients: bool) -> FieldSpace:
    """Allocate scratch for fields of ``width`` solutions."""
    lanes = (min(width, FIELD_WIDTH) + TILE_COLUMNS - 1) // TILE_COLUMNS * TILE_COLUMNS
    tile = (rows, cols) if gradients else (0, 0)
    return FieldSpace(
        aligned((cols, rows, rows) if gradients else (0, 0, 0)),
        aligned(tile),
        aligned(tile),
        aligned((cols, rows, lanes)),
        aligned((0, 0, 0) if gradients else (cols, rows, lanes)),
        aligned((7, rows, lanes)),
        aligned((2, lanes)),
    )


@compiled
def product(inverse: Any, field: Any, result: Any, first: int) -> None:
    """``result = inverse @ field`` with ``inverse`` ``[R, R]`` and fields ``[R, L]``, L whole blocks.

    Blocks of solutions before the one that holds number ``first`` are left out.
    """
    rows, lanes = field.shape
    whole = rows // TILE_ROWS * TILE_ROWS
    for k in range(first // TILE_COLUMNS * TILE_COLUMNS, lanes, TILE_COLUMNS):
        for i in range(0, whole, TILE_ROWS):
            multiply(result, i * lanes + k, lanes, inverse, i * rows, rows, 1, field, k, lanes, rows)
        for i in range(whole, rows):
            multiply_row(result, i * lanes + k, lanes, inverse, i * rows, rows, 1, field, k, lanes, rows)


@compiled
def bit_voltages(j: int, pivot: Any, ratio: Any, current: Any, line: Any, voltage: Any) -> None:
    """Voltages of bit line j for currents injected at its nodes, both ``[R, L]``."""
    rows, lanes = current.shape
    gain = pivot[rows - 1, j]
    for k in range(lanes):
        voltage[rows - 1, k] = gain * current[rows - 1, k]
        line[k] = 0
    for i in range(rows - 2, -1, -1):
        gain, step = pivot[i, j], ratio[i, j]
        for k in range(lanes):
            voltage[i, k] = gain * current[i, k] + step * voltage[i + 1, k]
    for i in range(1, rows):
        gain, step = pivot[i, j], ratio[i - 1, j]
        for k in range(lanes):
            line[k] = step * (line[k] + current[i - 1, k])
            voltage[i, k] += gain * line[k]


@compiled
def _add_scaled(field: Any, scale: Any, other: Any) -> None:
    """Add to every row of ``field`` that of ``other`` times its scale."""
    for i in range(field.shape[0]):
        s = scale[i]
        for k in range(field.shape[1]):
            field[i, k] += s * other[i, k]


@compiled
def _transpose(x: Any, y: Any) -> None:
    """``y = x.T`` by small blocks, so that both are read and written in whole cache lines."""
    for top in range(0, x.shape[0], 8):
        for left in range(0, x.shape[1], 8):
            for j in range(left, min(left + 8, x.shape[1])):
                for i in range(top, min(top + 8, x.shape[0])):
                    y[j, i] = x[i, j]


@compiled
def solve_parts(
    start: int,
    stop: int,
    cell: Any,
    word: Any,
    pivot: Any,
    ratio: Any,
    inverses: Any,
    word_in: Any,
    bit_in: Any,
    word_out: Any,
    bit_out: Any,
    fs: Any,
) -> None:
    """Node voltages ``[T, B, R, C]`` for injected currents; parts are FIELD_WIDTH inputs of one tile."""
    batch, rows, cols = word_in.shape[1:]
    parts = (batch + FIELD_WIDTH - 1) // FIELD_WIDTH
    f, u = fs.fields[0], fs.fields[1]
    lanes = f.shape[1]
    for part in range(start, stop):
        t, low = part // parts, part % parts * FIELD_WIDTH
        width = min(FIELD_WIDTH, batch - low)
        if width < lanes:
            fs.word[:] = 0
            fs.bit[:] = 0
        for i in range(rows):
            _transpose(word_in[t, low : low + width, i], fs.word[:, i, :width])
            _transpose(bit_in[t, low : low + width, i], fs.bit[:, i, :width])
        for j in range(cols - 1, -1, -1):
            here = fs.word[j]
            bit_voltages(j, pivot[t], ratio[t], fs.bit[j], fs.line[0], u)
            if j < cols - 1:
                product(inverses[j + 1, t], fs.word[j + 1], f, 0)
                _add_scaled(here, word[t, :, j + 1], f)
            _add_scaled(here, cell[t, :, j], u)
        for j in range(cols):
            here = fs.word[j]
            if j > 0:
                _add_scaled(here, word[t, :, j], fs.word[j - 1])
            product(inverses[j, t], here, f, 0)
            for i in range(rows):
                for k in range(lanes):
                    here[i, k] = f[i, k]
            _add_scaled(fs.bit[j], cell[t, :, j], f)
            bit_voltages(j, pivot[t], ratio[t], fs.bit[j], fs.line[0], u)
            for i in range(rows):
                for k in range(lanes):
                    fs.bit[j, i, k] = u[i, k]
        for i in range(rows):
            _transpose(fs.word[:, i, :width], word_out[t, low : low + width, i])
            _transpose(fs.bit[:, i, :width], bit_out[t, low : low + width, i])

"""Gradients of one tile at a time, compiled for the processor; see :func:`.elimination.gradient`."""

from __future__ import annotations

from typing import Any

from .fields import FIELD_WIDTH, product
from .kernels import compiled, couple_column, ladders, store_inverse, sweep


@compiled
def gradient_tiles(
    start: int,
    stop: int,
    wires: bool,
    cell: Any,
    word: Any,
    bit: Any,
    grad: Any,
    d_cell: Any,
    d_word: Any,
    d_bit: Any,
    ws: Any,
    fs: Any,
) -> None:
    """:func:`.elimination.gradient` of tiles start..stop of ``[T, R, C]``; ``d_word``, ``d_bit`` only
    for ``wires``.
    """
    cols = cell.shape[2]
    n = ws.m.shape[1]
    for t in range(start, stop):
        ladders(cell[t], bit[t], fs.pivot, fs.ratio)
        for j in range(cols - 1, -1, -1):
            sweep(couple_column(j, False, cell[t], bit[t], fs.pivot, fs.ratio, word[t], ws), ws)
            store_inverse(ws, fs.inverses[j])
        d_cell[t] = 0
        if wires:
            d_word[t] = 0
            d_bit[t] = 0
        for low in range(0, cols, FIELD_WIDTH):
            _adjoint_sources(low, cell[t], word[t], bit[t], fs)
            at = t if wires else 0
            _field_products(
                low,
                wires,
                cell[t],
                word[t],
                bit[t],
                grad[t],
                d_cell[t],
                d_word[at],
                d_bit[at],
                ws.m[n + 1],
                fs,
            )


@compiled
def _adjoint_sources(low: int, cell: Any, word: Any, bit: Any, fs: Any) -> None:
    """Fold 1 V at each of the senses low.. into injections at the columns, into ``fs.word``."""
    rows, cols = cell.shape
    f = fs.fields[0]
    lanes = f.shape[1]
    high = min(low + FIELD_WIDTH, cols)
    fs.word[:] = 0
    for j in range(high - 1, -1, -1):
        here = fs.word[j]
        if j < high - 1:
            first = max(0, j + 1 - low)  # before it, nothing comes from the right
            product(fs.inverses[j + 1], fs.word[j + 1], f, first)
            for i in range(rows):
                w = word[i, j + 1]
                for k in range(first, lanes):
                    here[i, k] = w * f[i, k]
        if j >= low:
            voltage = fs.pivot[rows - 1, j] * bit[rows - 1, j]
            for i in range(rows - 1, -1, -1):
                voltage *= fs.ratio[i, j] if i < rows - 1 else 1
                here[i, j - low] = cell[i, j] * voltage


@compiled
def _field_products(
    low: int,
    wires: bool,
    cell: Any,
    word: Any,
    bit: Any,
    grad: Any,
    d_cell: Any,
    d_word: Any,
    d_bit: Any,
    to_sense: Any,
    fs: Any,
) -> None:
    """Go from the drivers to the far end with both sets of fields; sum their products over the outputs.

    ``to_sense``: current into all senses together per ampere injected at the first column.
    """
    rows, cols = cell.shape
    forward, adjoint, f = fs.fields[0], fs.fields[1], fs.fields[2]
    forward_drop, adjoint_drop = fs.fields[3], fs.fields[4]
    forward_current, adjoint_current = fs.fields[5], fs.fields[6]
    lanes = forward.shape[1]
    forward[:] = 0
    adjoint[:] = 0
    for i in range(rows):
        for k in range(min(lanes, cols - low)):
            forward[i, k] = grad[i, low + k]
    if wires:
        _driver_currents(word, forward, to_sense, fs.inverses[0], forward_current)
    for j in range(cols):
        source = fs.word[j]
        for i in range(rows):
            w = word[i, j]
            for k in range(lanes):
                f[i, k] = w * forward[i, k]
        product(fs.inverses[j], f, forward, 0)
        _drops(j, cell, forward, forward_drop, fs)
        for i in range(rows):
            w = word[i, j]
            for k in range(lanes):
                f[i, k] = w * adjoint[i, k] + source[i, k]
        product(fs.inverses[j], f, adjoint, 0)
        _drops(j, cell, adjoint, adjoint_drop, fs)
        if low <= j < low + lanes:
            _sense_drops(j, j - low, bit, adjoint_drop, fs)
        if wires and j == 0:
            for i in range(rows):
                for k in range(lanes):
                    adjoint_current[i, k] = -word[i, 0] * adjoint[i, k]
        for i in range(rows):
            total = 0.0
            for k in range(lanes):
                total += forward_drop[i, k] * adjoint_drop[i, k]
            d_cell[i, j] -= total
        if wires:
            _wire_products(
                j, cell, forward_drop, adjoint_drop, forward_current, adjoint_current, fs.line, d_word, d_bit
            )


@compiled
def _drops(j: int, cell: Any, field: Any, drop: Any, fs: Any) -> None:
    """Voltages across the cells of column j for word-line voltages ``field``, with the sense at 0 V.

    :func:`.fields.bit_voltages` for the currents ``cell * field``, subtracted from ``field``, in two passes.
    """
    rows, lanes = field.shape
    line = fs.line[0]
    gain = fs.pivot[rows - 1, j] * cell[rows - 1, j]
    for k in range(lanes):
        drop[rows - 1, k] = gain * field[rows - 1, k]
        line[k] = 0
    for i in range(rows - 2, -1, -1):
        gain, step = fs.pivot[i, j] * cell[i, j], fs.ratio[i, j]
        for k in range(lanes):
            drop[i, k] = gain * field[i, k] + step * drop[i + 1, k]
    for i in range(rows):
        gain = fs.pivot[i, j]
        step = fs.ratio[i, j]
        into = step * cell[i, j]
        for k in range(lanes):
            drop[i, k] = field[i, k] - (drop[i, k] + gain * line[k])
            line[k] = step * line[k] + into * field[i, k]


@compiled
def _sense_drops(j: int, k: int, bit: Any, drop: Any, fs: Any) -> None:
    """Add what 1 V at sense j takes off the cells of its column, in solution k."""
    last = bit.shape[0] - 1
    voltage = fs.pivot[last, j] * bit[last, j]
    drop[last, k] -= voltage
    for i in range(last - 1, -1, -1):
        voltage *= fs.ratio[i, j]
        drop[i, k] -= voltage


@compiled
def _driver_currents(word: Any, source: Any, to_sense: Any, inverse: Any, current: Any) -> None:
    """Currents out of the drivers for source voltages ``[R, L]``, without taking differences of large
    terms.
    """
    rows, lanes = source.shape
    for i in range(rows):
        for k in range(lanes):
            current[i, k] = word[i, 0] * to_sense[i] * source[i, k]
        for other in range(rows):
            mutual = word[i, 0] * inverse[i, other] * word[other, 0]
            for k in range(lanes):
                current[i, k] += mutual * (source[i, k] - source[other, k])


@compiled
def _wire_products(
    j: int,
    cell: Any,
    forward_drop: Any,
    adjoint_drop: Any,
    forward_current: Any,
    adjoint_current: Any,
    line: Any,
    d_word: Any,
    d_bit: Any,
) -> None:
    """Products of the wire currents at column j; the word-line currents go on less what the cells take."""
    line[:] = 0
    for i in range(forward_drop.shape[0]):
        g = cell[i, j]
        in_word, in_bit = 0.0, 0.0
        for k in range(line.shape[1]):
            in_word += forward_current[i, k] * adjoint_current[i, k]
            forward_cell, adjoint_cell = g * forward_drop[i, k], g * adjoint_drop[i, k]
            forward_current[i, k] -= forward_cell
            adjoint_current[i, k] -= adjoint_cell
            line[0, k] += forward_cell
            line[1, k] += adjoint_cell
            in_bit += line[0, k] * line[1, k]
        d_word[i, j] += in_word
        d_bit[i, j] += in_bit

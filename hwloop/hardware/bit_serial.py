"""Bit-serial reading through ADCs: how arrays are laid out for the compiled loop, and the loop over threads.

Currents are counted in level steps at the read voltage and kept as fixed-point integers, so that a sum of
currents does not depend on the order of its terms: results are the same, to the bit, for every batch size and
number of threads. The fixed point resolves 2^-16 of a level step (less only where a column could carry more
than 2^14 of them), far below any device's error.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from device_models.converters import slices
from hwloop.hardware.adcs import LayerAdcs
from hwloop.hardware.kernel import LANES, draw_vectors, read_band
from hwloop.mapping import UNUSED_LINE, LayerMap

FRACTION_BITS = 16
_BLOCK = 256  # vectors that a thread takes at a time
_PRODUCT = 4096  # vectors that are multiplied at a time


@dataclass(frozen=True)
class Band:
    """Word lines that are read at once, with all bit lines that cross them.

    Bit lines are those that have an ADC: with analog subtraction one stands for a pair. They are padded to an
    even number of vector registers.

    Attributes:
        rows: matrix row of each word line, int64 ``[word lines]``.
        levels: what the drivers apply for each digit, in steps, float32 ``[word lines, digits]``; ``[0, 0]``
            if they are ideal.
        currents: current of a cell under one step of its input in ``2^-current_bits`` level steps, int32
            ``[word lines, bit lines]``.
        current_bits: binary digits after the point of ``currents``.
        variances: variance of that current from read to read in ``2^-variance_bits`` level steps squared,
            int32, of the same shape; ``[0, bit lines]`` if reading is noiseless.
        variance_bits: binary digits after the point of ``variances``.
        real: bit lines that are not padding.
        top: largest code of each bit line's ADC, float32 ``[bit lines]``.
        bottom: code at which it sees no current, float32 ``[bit lines]``.
        shift: what is added to its current before conversion, in LSB, float32 ``[bit lines]``.
        starts: where its transfer curve starts, uint32 ``[bit lines]``.
        weights: what a code counts in the sum of its matrix column, int64 ``[bit lines]``.
        columns: that column, int64 ``[bit lines]``.
        numbers: number of every second bit line among all of the layer, uint32 ``[bit lines / 2]``.
    """

    rows: np.ndarray
    levels: np.ndarray
    currents: np.ndarray
    current_bits: int
    variances: np.ndarray
    variance_bits: int
    real: int
    top: np.ndarray
    bottom: np.ndarray
    shift: np.ndarray
    starts: np.ndarray
    weights: np.ndarray
    columns: np.ndarray
    numbers: np.ndarray


@dataclass(frozen=True)
class BitLines:
    """The bit lines of a layer's tiles that have an ADC, as their codes are put together.

    Attributes:
        levels: effective conductances in level steps, float64 ``[tiles, arrays, rows, cols]``; negative cells
            are those of the lines that are subtracted before the ADC.
        variances: of those conductances from read to read, likewise; None if reading is noiseless.
        weights: what a code counts in its matrix column, int64 ``[tiles, arrays, fragments, cols]``; the word
            lines of a fragment are neighbours, and those of several are not read at once.
    """

    levels: np.ndarray
    variances: np.ndarray | None
    weights: np.ndarray


def form_bands(
    layer: LayerMap,
    lines: BitLines,
    adcs: LayerAdcs,
    drivers: torch.Tensor | None,
    rows_at_once: int | None = None,
) -> list[Band]:
    """Lay the tiles of a layer out for :func:`read_bands`.

    Args:
        layer: where the tiles belong.
        lines: their bit lines.
        adcs: the converters of the layer.
        drivers: what the driver of each matrix row applies for each digit, float32 ``[matrix_rows, digits]``;
            None if they are ideal.
        rows_at_once: word lines that are read at once; None = all.
    """
    row_index, col_index = layer.row_index.numpy(force=True), layer.col_index.numpy(force=True)
    current_bits = min(FRACTION_BITS, _spare_bits(lines.levels))
    variance_bits = 0 if lines.variances is None else _spare_bits(lines.variances)
    members: dict[bytes, list[int]] = {}
    for index, rows in enumerate(row_index):
        members.setdefault(rows.tobytes(), []).append(index)
    arrays, cols = lines.levels.shape[1], col_index.shape[1]
    bands = []
    for band in members.values():
        used = np.flatnonzero(row_index[band[0]] != UNUSED_LINE)
        member, line = np.nonzero(col_index[band] != UNUSED_LINE)
        tile, line = np.tile(np.array(band)[member], arrays), np.tile(line, arrays)
        array = np.repeat(np.arange(arrays), len(member))
        place = (tile, array, line)
        order = _Order(len(tile))
        number = (array * len(row_index) + tile) * cols + line
        height = row_index.shape[1] // lines.weights.shape[2]
        for group in _groups(used, rows_at_once):
            rows = row_index[band[0]][group].astype(np.int64)
            bands.append(
                Band(
                    rows=rows,
                    levels=np.empty((0, 0), np.float32) if drivers is None else drivers.numpy()[rows],
                    currents=_fixed(lines.levels[tile, array, :, line], group, current_bits, order),
                    current_bits=current_bits,
                    variances=np.empty((0, order.width), np.int32)
                    if lines.variances is None
                    else _fixed(lines.variances[tile, array, :, line], group, variance_bits, order),
                    variance_bits=variance_bits,
                    real=len(tile),
                    top=order(adcs.top[tile]).astype(np.float32),
                    bottom=order(adcs.bottom[tile]).astype(np.float32),
                    shift=order(adcs.bottom[tile] + adcs.shift[place]).astype(np.float32),
                    starts=order(adcs.starts[place]).astype(np.uint32),
                    weights=order(lines.weights[tile, array, group[0] // height, line]).astype(np.int64),
                    columns=order(col_index[tile, line]).astype(np.int64),
                    numbers=order(number)[: order.width // 2].astype(np.uint32),
                )
            )
    return bands


class _Order:
    """Bit lines in two halves, padded with zeros to whole vector registers: noise is drawn in pairs."""

    def __init__(self, count: int) -> None:
        self._half = -(-count // 2)
        self._padding = -self._half % (LANES // 2)
        self.width = 2 * (self._half + self._padding)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return ``values [..., count]`` as ``[..., width]``."""
        spread = [(0, 0)] * (values.ndim - 1)
        halves = values[..., : self._half], values[..., self._half :]
        return np.concatenate(
            [np.pad(half, [*spread, (0, self.width // 2 - half.shape[-1])]) for half in halves], axis=-1
        )


def _groups(used: np.ndarray, rows_at_once: int | None) -> list[np.ndarray]:
    """Cut the used word lines of a band into those that are read at once."""
    size = rows_at_once or max(1, len(used))
    return [used[first : first + size] for first in range(0, len(used), size)]


def _spare_bits(cells: np.ndarray) -> int:
    """Binary digits after the point that 32-bit sums over the word lines leave, with one bit in hand."""
    return 30 - int(np.abs(cells).sum(axis=2).max(initial=0.0) + 1).bit_length()


def _fixed(lines: np.ndarray, group: np.ndarray, bits: int, order: _Order) -> np.ndarray:
    """Bit lines ``[bit lines, rows]`` to fixed point ``[word lines of the group, padded bit lines]``."""
    cells = np.rint(lines[:, group].T * 2.0**bits)
    return np.ascontiguousarray(order(cells), dtype=np.int32)


@dataclass(frozen=True)
class Reading:
    """How the bands of a layer are read.

    Attributes:
        scale: input that the DAC's full-scale code stands for.
        bits: input bits.
        digit_bits: of which so many are applied in one cycle.
        signed: whether negative inputs are read too, in a pass of their own that is subtracted.
        at_end: whether currents of all cycles are added up before one conversion.
        key: key of the layer's noise, 64 bits.
    """

    scale: float
    bits: int
    digit_bits: int
    signed: bool
    at_end: bool
    key: int

    @property
    def single(self) -> bool:
        """Whether each pass of an input vector ends in one conversion."""
        return self.at_end or self.digit_bits >= self.bits


def read_bands(
    bands: list[Band], adcs: LayerAdcs, reading: Reading, inputs: torch.Tensor, first: int, out: torch.Tensor
) -> None:
    """Read inputs through DAC, all bands of a layer and ADC, and fill ``out``.

    Vectors are shared among as many threads as torch uses. They are plain threads, each with a part of the
    vectors: unlike a compiled parallel loop, whose threads meet at the end of each band, they never wait.

    Args:
        bands: the layer.
        adcs: its converters.
        reading: how it is read.
        inputs: float32 ``[batch, matrix_rows]``.
        first: running number of ``inputs[0]`` among all vectors that the layer has read.
        out: float64 ``[batch, matrix_cols]``, in LSB times input codes.
    """
    if reading.single and adcs.ideal and not any(band.variances.size or band.levels.size for band in bands):
        _read_products(bands, adcs, reading, inputs, out)
        return
    source, target = inputs.contiguous().numpy(), out.numpy()
    gain = ((1 << reading.bits) - 1) / reading.scale

    def read(start: int) -> None:
        part = slice(start, start + _BLOCK)
        total = np.zeros(target[part].shape, np.int64)
        for band in bands:
            for negative in (False, True) if reading.signed else (False,):
                read_band(
                    source[part], np.float32(-gain if negative else gain), reading.bits, reading.digit_bits,
                    band.rows, band.levels,
                    band.currents, np.float32(2.0**-band.current_bits / adcs.lsb),
                    band.variances, np.float32(2.0**-band.variance_bits / adcs.lsb**2),
                    band.top, band.bottom, band.shift, adcs.curves, band.starts, adcs.corrections,
                    np.float32(adcs.noise**2), reading.at_end, band.weights, band.columns, band.numbers,
                    np.uint64(reading.key), np.uint64(first + start), negative, total,
                )  # fmt: skip
        target[part] = total

    starts = range(0, len(source), _BLOCK)
    threads = min(torch.get_num_threads(), len(starts))
    if threads <= 1:
        for start in starts:
            read(start)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(read, starts))


def _read_products(
    bands: list[Band], adcs: LayerAdcs, reading: Reading, inputs: torch.Tensor, out: torch.Tensor
) -> None:
    """Do as :func:`read_bands` where one matrix product gives all that the noiseless, ideal ADCs see.

    Sums of whole numbers below 2^53 are exact in float64, so they do not depend on the size of the batch.
    """
    top_code, gain = (1 << reading.bits) - 1, ((1 << reading.bits) - 1) / reading.scale
    operands = [
        (
            neighbours(torch.from_numpy(band.rows)),
            torch.from_numpy(_real(band, band.currents).astype(np.float64)),
            2.0**-band.current_bits / adcs.lsb,
            torch.from_numpy(_real(band, band.top)),
            torch.from_numpy(_real(band, band.bottom)),
            torch.from_numpy(_real(band, band.weights)).to(torch.float32),
            neighbours(torch.from_numpy(_real(band, band.columns))),
        )
        for band in bands
    ]
    for part, total in zip(inputs.split(_PRODUCT), out.split(_PRODUCT), strict=True):
        sums = torch.zeros(len(part), out.shape[1])
        for negative in (False, True) if reading.signed else (False,):
            codes = (part * (-gain if negative else gain)).round_().clamp_(0, top_code).to(torch.float64)
            for rows, cells, unit, top, bottom, weights, columns in operands:
                seen = (codes[:, rows] @ cells).to(torch.float32).mul_(unit)
                found = torch.minimum(seen.add_(bottom + 0.5).floor_().clamp_(min=0), top).sub_(bottom)
                found.mul_(-weights if negative else weights)
                add_to_lines(sums, columns, found)
        total.copy_(sums)


def neighbours(index: torch.Tensor) -> slice | torch.Tensor:
    """Return a slice where lines are neighbours in order, since a view costs nothing; otherwise ``index``."""
    first = int(index[0]) if len(index) else 0
    together = torch.equal(index, first + torch.arange(len(index)))
    return slice(first, first + len(index)) if together else index


def add_to_lines(
    total: torch.Tensor, lines: slice | torch.Tensor, values: torch.Tensor, weight: float = 1.0
) -> None:
    """Add weighted ``values [vectors, lines]`` in place to columns of ``total``; see :func:`neighbours`."""
    if isinstance(lines, slice):
        total[:, lines].add_(values, alpha=weight)
    else:
        total.index_add_(1, lines, values, alpha=weight)


def is_exact(band: Band, adcs: LayerAdcs, reading: Reading) -> bool:
    """Return whether every code of a band is the current itself, for any input of ideal drivers.

    It is if converters and cells are without noise and error, all currents are whole level steps, which are
    the least significant bit, and no converter saturates under the sum of its bit line.
    """
    if not adcs.ideal or adcs.lsb != 1 or band.variances.size:
        return False
    whole = not (band.currents & ((1 << band.current_bits) - 1)).any()
    steps = (1 << (reading.bits if reading.at_end else reading.digit_bits)) - 1
    cells = (band.currents.astype(np.int64) >> band.current_bits) * steps
    most, least = cells.clip(min=0).sum(axis=0), cells.clip(max=0).sum(axis=0)
    return whole and bool((most <= band.top - band.bottom).all() and (least >= -band.bottom).all())


def currents(band: Band, codes: torch.Tensor, reading: Reading) -> torch.Tensor:
    """Return what each ADC of a band sees, in level steps, without noise or errors of the drivers.

    Args:
        band: the band.
        codes: DAC codes ``[batch, matrix_rows]``.
        reading: how it is read.

    Returns:
        float64 ``[conversions of a vector, batch, bit lines]``.
    """
    cells = torch.from_numpy(_real(band, band.currents) * 2.0**-band.current_bits)
    digits = slices(codes[:, torch.from_numpy(band.rows)], reading.bits, reading.digit_bits)
    seen = digits.to(torch.float64) @ cells
    if not reading.at_end:
        return seen
    weights = 2.0 ** torch.arange(0, reading.bits, reading.digit_bits, dtype=torch.float64)
    return torch.einsum("cbl,c->bl", seen, weights)[None]


def count_codes(band: Band, adcs: LayerAdcs, codes: torch.Tensor, reading: Reading) -> torch.Tensor:
    """Return how often the ADCs of a band give each code, without noise and errors.

    Returns:
        int64 ``[conversions of a vector, codes]``; no current is the largest ``bottom`` of the layer.
    """
    bottom, top = (torch.from_numpy(_real(band, values)).double() for values in (band.bottom, band.top))
    found = torch.floor(currents(band, codes, reading) / adcs.lsb + bottom + 0.5)
    found = (torch.minimum(found.clamp(min=0), top) - bottom + adcs.bottom.max()).to(torch.int64)
    kinds = int(adcs.top.max(initial=0)) + 1
    return torch.stack([torch.bincount(conversion.flatten(), minlength=kinds) for conversion in found])


def _real(band: Band, values: np.ndarray) -> np.ndarray:
    """Return ``values [..., bit lines]`` without the padding, as an array of their own."""
    half = -(-band.real // 2)
    second = values.shape[-1] // 2
    return np.concatenate([values[..., :half], values[..., second : second + band.real - half]], axis=-1)


def standard_normals(count: int, width: int, key: int, first: int) -> torch.Tensor:
    """Return the draws of ``count`` vectors for ``width`` outputs, float32 ``[count, width]``.

    They depend on the key, the running number of the vector and the output alone.
    """
    draws = np.empty((count, 2 * width), np.float32)
    draw_vectors(np.uint64(key), np.uint64(first), np.arange(width, dtype=np.uint32), draws)
    return torch.from_numpy(draws)[:, :width]

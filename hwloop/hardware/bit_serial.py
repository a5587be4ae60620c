"""Bit-serial reading through ADCs: how tiles are laid out for the compiled loop, and the loop over threads.

Currents are counted in least significant bits of the ADC (one level step at the read voltage) and kept as
fixed-point integers, so that a sum of currents does not depend on the order of its terms: results are the
same, to the bit, for every batch size and number of threads. The fixed point resolves 2^-16 of a level step
(less only where a column could carry more than 2^14 of them), far below any device's error.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from device_models.converters import adc, bit_planes
from hwloop.hardware.kernel import LANES, draw_vectors, read_band
from hwloop.mapping import UNUSED_LINE, LayerMap

FRACTION_BITS = 16
_BLOCK = 256  # vectors that a thread takes at a time
_WIDTH = LANES // 2  # pairs of bit lines are padded to a multiple of this


@dataclass(frozen=True)
class Band:
    """Tiles that share their word lines, side by side.

    Bit lines are padded to ``width`` pairs; the positive ones come first, then the negative ones.

    Attributes:
        rows: matrix row of each word line, int64 ``[lines]``.
        currents: current of a cell under an active input in ``2^-current_bits`` LSB, int32
            ``[lines, 2 * width]``.
        current_bits: binary digits after the point of ``currents``.
        variances: variance of that current from read to read in ``2^-variance_bits`` LSB squared, int32
            ``[lines, 2 * width]``; ``[0, 2 * width]`` if reading is noiseless.
        variance_bits: binary digits after the point of ``variances``.
        pairs: pairs of bit lines that are not padding.
        top: largest code of each bit line's ADC, float32 ``[2 * width]``.
        columns: matrix column of each pair of bit lines, int64 ``[width]``.
        numbers: number of each pair among all bit lines of the layer's tiles, uint32 ``[width]``.
    """

    rows: np.ndarray
    currents: np.ndarray
    current_bits: int
    variances: np.ndarray
    variance_bits: int
    pairs: int
    top: np.ndarray
    columns: np.ndarray
    numbers: np.ndarray

    @property
    def exact(self) -> bool:
        """Whether without read noise every ADC code is the current itself, for any input.

        It is if all currents are whole LSB and no ADC saturates under the sum of its column.
        """
        whole = not (self.currents & ((1 << self.current_bits) - 1)).any()
        sums = self.currents.sum(axis=0, dtype=np.int64) >> self.current_bits
        return whole and bool((sums <= self.top).all())


def form_bands(layer: LayerMap, levels: np.ndarray, read_noise: float) -> list[Band]:
    """Lay the tiles of a layer out for :func:`read_bands`.

    Args:
        layer: where the tiles belong, and their ADC bits.
        levels: effective conductances in level steps, float64 ``[tiles, polarity, rows, cols]``.
        read_noise: spread of a conductance from read to read, relative.
    """
    row_index, col_index = layer.row_index.numpy(force=True), layer.col_index.numpy(force=True)
    variances = (read_noise * levels) ** 2
    current_bits = min(FRACTION_BITS, _spare_bits(levels))
    variance_bits = _spare_bits(variances)
    members: dict[bytes, list[int]] = {}
    for index, rows in enumerate(row_index):
        members.setdefault(rows.tobytes(), []).append(index)
    bands = []
    for band in members.values():
        used = np.flatnonzero(row_index[band[0]] != UNUSED_LINE)
        member, line = np.nonzero(col_index[band] != UNUSED_LINE)
        tile = np.array(band)[member]
        padding = (0, -len(tile) % _WIDTH)
        top = np.pad(2.0 ** layer.adc_bits.numpy(force=True)[tile] - 1, padding)
        currents = _lay_out(levels[tile, :, :, line], used, current_bits)
        bands.append(
            Band(
                rows=row_index[band[0]][used].astype(np.int64),
                currents=currents,
                current_bits=current_bits,
                variances=_lay_out(variances[tile, :, :, line], used, variance_bits)
                if read_noise
                else currents[:0],
                variance_bits=variance_bits,
                pairs=len(tile),
                top=np.tile(top, 2).astype(np.float32),
                columns=np.pad(col_index[tile, line], padding).astype(np.int64),
                numbers=np.pad(tile * col_index.shape[1] + line, padding).astype(np.uint32),
            )
        )
    return bands


def _spare_bits(cells: np.ndarray) -> int:
    """Binary digits after the point that 32-bit sums over the word lines leave, with one bit in hand."""
    return 30 - int(cells.sum(axis=2).max(initial=0.0) + 1).bit_length()


def _lay_out(lines: np.ndarray, used: np.ndarray, bits: int) -> np.ndarray:
    """Bit lines ``[pairs, polarity, rows]`` to fixed point ``[used rows, 2 * width]``."""
    cells = np.rint(lines[:, :, used].transpose(2, 1, 0) * 2.0**bits)
    padded = np.pad(cells, ((0, 0), (0, 0), (0, -len(lines) % _WIDTH)))
    return np.ascontiguousarray(padded.reshape(len(used), -1), dtype=np.int32)


def read_bands(
    bands: list[Band], inputs: torch.Tensor, scale: float, bits: int, *, signed: bool, key: int, first: int,
    out: torch.Tensor,
) -> None:  # fmt: skip
    """Read inputs through DAC, all bands of a layer and ADC, and fill ``out``.

    Vectors are shared among as many threads as torch uses. They are plain threads, each with a part of the
    vectors: unlike a compiled parallel loop, whose threads meet at the end of each band, they never wait.

    Args:
        bands: the layer.
        inputs: float32 ``[batch, matrix_rows]``.
        scale: input that the DAC's full-scale code stands for.
        bits: input bits, of which one is applied in each cycle.
        signed: whether negative inputs are read too, in a pass of their own that is subtracted.
        key: key of the layer's read noise, 64 bits.
        first: running number of ``inputs[0]`` among all vectors that the layer has read.
        out: float64 ``[batch, matrix_cols]``, in level steps times input codes.
    """
    source, target = inputs.contiguous().numpy(), out.numpy()

    def read(start: int) -> None:
        part = slice(start, start + _BLOCK)
        total = np.zeros(target[part].shape, np.int64)
        for band in bands:
            for negative in (False, True) if signed else (False,):
                read_band(
                    source[part], np.float32((-1 if negative else 1) * ((1 << bits) - 1) / scale), bits,
                    band.rows,
                    band.currents, np.float32(2.0**-band.current_bits),
                    band.variances, np.float32(2.0**-band.variance_bits),
                    band.top, band.columns, band.numbers,
                    np.uint64(key), np.uint64(first + start), negative, total,
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


def count_codes(band: Band, codes: torch.Tensor, bits: int, kinds: int) -> torch.Tensor:
    """Return how often the ADCs of a band give each code from 0 to ``kinds - 1``, without read noise."""
    real = [*range(band.pairs), *range(len(band.columns), len(band.columns) + band.pairs)]
    currents = torch.from_numpy(band.currents[:, real] * 2.0**-band.current_bits)
    resolution = torch.from_numpy(np.log2(band.top[real] + 1)).long()
    counts = torch.zeros(kinds, dtype=torch.int64)
    for plane in bit_planes(codes[:, torch.from_numpy(band.rows)], bits):
        found = adc(plane.to(torch.float64) @ currents, 1.0, resolution)
        counts += torch.bincount(found.flatten(), minlength=kinds)
    return counts


def standard_normals(count: int, width: int, key: int, first: int) -> torch.Tensor:
    """Return the draws of ``count`` vectors for ``width`` outputs, float32 ``[count, width]``.

    They depend on the key, the running number of the vector and the output alone.
    """
    draws = np.empty((count, 2 * width), np.float32)
    draw_vectors(np.uint64(key), np.uint64(first), np.arange(width, dtype=np.uint32), draws)
    return torch.from_numpy(draws)[:, :width]

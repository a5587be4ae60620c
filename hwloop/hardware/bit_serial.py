"""Bit-serial reading through ADCs, as one compiled loop over input vectors.

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
from numba import njit

from device_models.converters import MAX_DAC_BITS, adc, bit_planes
from hwloop.mapping import UNUSED_LINE, LayerMap

FRACTION_BITS = 16
_BLOCK = 256  # vectors that a thread takes at a time
_WIDTH = 8  # bit lines are padded to a multiple of this, so that whole SIMD registers are used

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: the step of splitmix64
# ln(1 + y) / y for y in [sqrt(1/2) - 1, sqrt(2) - 1], and sin(2 pi w) / w in powers of w^2 up to 1/16.
L0, L1, L2, L3, L4, L5, L6, L7, L8 = (
    np.float32(c)
    for c in (
        0.9999999819364984, -0.4999999440643617, 0.3333399833527836, -0.2500135593572949, 0.1996299155007083,
        -0.16583218770265357, 0.14908781593984544, -0.14196304844786775, 0.08632569103259255,
    )
)  # fmt: skip
S0, S1, S2, S3, S4 = (
    np.float32(c)
    for c in (
        6.2831852524966125, -41.34167593766476, 81.60229537713779, -76.5792728194269, 39.76023435043402,
    )
)  # fmt: skip


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
        numbers: number of each pair among all bit lines of the layer's tiles, uint64 ``[width]``.
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
                numbers=np.pad(tile * col_index.shape[1] + line, padding).astype(np.uint64),
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
                _read_band(
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
    _draw_vectors(np.uint64(key), np.uint64(first), np.arange(width, dtype=np.uint64), draws)
    return torch.from_numpy(draws)[:, :width]


@njit(cache=True, nogil=True, error_model="numpy")
def _read_band(  # type: ignore[no-untyped-def]
    inputs, gain, bits, rows, currents, current_unit, variances, variance_unit, top, columns, numbers,
    key, first, negative, out,
):  # fmt: skip
    width = columns.size
    full_scale = np.float32((1 << bits) - 1)
    noisy = variances.shape[0] > 0
    live = np.empty(rows.size, np.int64)
    live_code = np.empty(rows.size, np.int64)
    active = np.empty(rows.size, np.int64)
    current = np.empty(2 * width, np.int32)
    variance = np.empty(2 * width, np.int32)
    draw = np.zeros(2 * width, np.float32)
    total = np.zeros(width, np.int32)
    for vector in range(inputs.shape[0]):
        lives = 0
        seen = np.int64(0)
        for line in range(rows.size):
            # As device_models.converters.dac_codes, without a copy of the inputs.
            step = np.rint(inputs[vector, rows[line]] * gain)
            code = np.int64(min(max(step, np.float32(0)), full_scale))
            live[lives], live_code[lives] = line, code
            lives += code != 0
            seen |= code
        if seen == 0:
            continue
        for bit in range(bits):
            # Without any active input no current flows, and there is nothing that could be noisy.
            if not (seen >> bit) & 1:
                continue
            actives = 0
            for i in range(lives):
                active[actives] = live[i]
                actives += (live_code[i] >> bit) & 1
            _add_lines(currents, active, actives, current)
            if noisy:
                _add_lines(variances, active, actives, variance)
                _draw(key, _cycle(first + np.uint64(vector), negative, bit), numbers, draw)
                _convert_noisy(current, current_unit, variance, variance_unit, draw, top, bit, total)
            else:
                _convert(current, current_unit, top, bit, total)
        for pair in range(width):
            out[vector, columns[pair]] += -total[pair] if negative else total[pair]
            total[pair] = 0


@njit(cache=True)
def _add_lines(cells, active, actives, total):  # type: ignore[no-untyped-def]
    """Sum the active word lines of ``cells``, four at a time."""
    total[:] = 0
    i = 0
    while i + 4 <= actives:
        a, b, c, d = active[i], active[i + 1], active[i + 2], active[i + 3]
        for j in range(total.size):
            total[j] += (cells[a, j] + cells[b, j]) + (cells[c, j] + cells[d, j])
        i += 4
    while i < actives:
        a = active[i]
        for j in range(total.size):
            total[j] += cells[a, j]
        i += 1


@njit(cache=True)
def _convert(current, unit, top, bit, total):  # type: ignore[no-untyped-def]
    """Add the difference of both polarities' ADC codes to ``total``, shifted by ``bit``."""
    zero, half = np.float32(0), np.float32(0.5)
    width = total.size
    for j in range(width):
        p = min(max(np.float32(current[j]) * unit + half, zero), top[j])
        q = min(max(np.float32(current[width + j]) * unit + half, zero), top[width + j])
        total[j] += np.int32(np.int32(p) - np.int32(q)) << bit


@njit(cache=True)
def _convert_noisy(current, unit, variance, variance_unit, draw, top, bit, total):  # type: ignore[no-untyped-def]
    """Do as :func:`_convert` with a Gaussian added to each current."""
    for j in range(current.size):
        spread = np.sqrt(np.float32(variance[j]) * variance_unit)
        draw[j] = np.float32(current[j]) * unit + spread * draw[j]
    zero, half = np.float32(0), np.float32(0.5)
    width = total.size
    for j in range(width):
        p = min(max(draw[j] + half, zero), top[j])
        q = min(max(draw[width + j] + half, zero), top[width + j])
        total[j] += np.int32(np.int32(p) - np.int32(q)) << bit


# Read noise. Splitmix64 (Steele, Lea and Flood, OOPSLA 2014) turns a counter into 64 random bits, and the
# transform of Box and Muller (Ann. Math. Stat. 29, 1958) turns those into two Gaussian numbers. Logarithm,
# sine and cosine are short polynomials (least squares at Chebyshev nodes, errors below 3e-8), so that the
# compiler draws several numbers at once.


@njit(cache=True)
def _cycle(vector, negative, bit):  # type: ignore[no-untyped-def]
    """Number of a read cycle: one input bit of one pass of one vector."""
    pass_of_vector = np.uint64(vector) * np.uint64(2) + np.uint64(negative)
    return pass_of_vector * np.uint64(MAX_DAC_BITS) + np.uint64(bit)


@njit(cache=True)
def _mix(z):  # type: ignore[no-untyped-def]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _draw(key, cycle, numbers, out):  # type: ignore[no-untyped-def]
    """Fill ``out [2 * width]`` with standard normal draws, a pair for each of ``numbers``."""
    one, quarter = np.float32(1), np.float32(0.25)
    width = numbers.size
    start = key + (cycle << np.uint64(24)) * GOLDEN  # no layer has 2^24 bit lines
    for j in range(width):
        h = _mix(start + numbers[j] * GOLDEN)
        # Radius: sqrt(-2 ln u) of a u in (0, 1), from exponent and mantissa of u.
        u = np.float32((np.float32(np.int32(h >> np.uint64(33))) + np.float32(0.5)) * np.float32(2.0**-31))
        raw = np.int32(u.view(np.int32))
        exponent = np.int32(np.int32(raw - np.int32(0x3F3504F3)) >> np.int32(23))
        y = np.float32(np.int32(raw - np.int32(exponent << np.int32(23))).view(np.float32)) - one
        y2 = y * y
        y4 = y2 * y2
        log = (L0 + L1 * y) + (L2 + L3 * y) * y2 + ((L4 + L5 * y) + (L6 + L7 * y) * y2 + L8 * y4) * y4
        log = log * y + np.float32(exponent) * np.float32(0.6931471805599453)
        radius = np.sqrt(np.float32(-2) * log)
        # Angle: v turns, v in [-1/2, 1/2); both functions by sin(2 pi w) for w in [-1/4, 1/4].
        low = np.int32(np.uint32(h))
        v = np.float32(low) * np.float32(2.0**-32)
        c = quarter - abs(v)
        s = quarter - abs(c)
        c2 = c * c
        s2 = s * s
        c4 = c2 * c2
        s4 = s2 * s2
        cosine = c * ((S0 + S1 * c2) + ((S2 + S3 * c2) + S4 * c4) * c4)
        sine = s * ((S0 + S1 * s2) + ((S2 + S3 * s2) + S4 * s4) * s4)
        out[j] = radius * cosine
        out[width + j] = radius * (sine if low >= 0 else -sine)


@njit(cache=True, nogil=True)
def _draw_vectors(key, first, numbers, out):  # type: ignore[no-untyped-def]
    """Fill ``out [vectors, 2 * width]`` with the draws of the first cycle of each vector."""
    for vector in range(out.shape[0]):
        _draw(key, _cycle(first + np.uint64(vector), False, 0), numbers, out[vector])

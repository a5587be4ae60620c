"""The compiled loop of bit-serial reading: DAC, currents, read noise and ADC, one input vector at a time."""

# ruff: noqa: ARG001 - numba reads the arity of an intrinsic from its signature

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from device_models.converters import MAX_DAC_BITS

LANES = 16  # 32-bit numbers in the widest vector register

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: the step of splitmix64
# ln(1 + y) / y for y in [sqrt(1/2) - 1, sqrt(2) - 1], and sin(2 pi w) / w in powers of w^2 up to 1/16.
L0, L1, L2, L3, L4, L5, L6 = (
    np.float32(c)
    for c in (1.00000096, -0.50001145, 0.333146738, -0.249082892, 0.204917596, -0.186807514, 0.119310544)
)
S0, S1, S2, S3 = (np.float32(c) for c in (6.28318054, -41.3392539, 81.4083366, -71.6111943))


@njit(cache=True, nogil=True, error_model="numpy")
def read_band(  # type: ignore[no-untyped-def]
    inputs, gain, bits, digit_bits, rows, levels, currents, current_unit, variances, variance_unit,
    top, bottom, shift, curves, starts, corrections, adc_variance, at_end, weights, columns, numbers,
    key, first, negative, out,
):  # fmt: skip
    """Read one band; the arguments are those of :class:`~hwloop.hardware.bit_serial.Band`, and

    Args:
        inputs: float32 ``[vectors, matrix_rows]``.
        gain: input codes per unit of input; negative in the pass of negative inputs.
        bits: input bits.
        digit_bits: input bits that are applied in one cycle.
        current_unit: LSB in one unit of ``currents``; ``variance_unit`` likewise in LSB squared.
        corrections: codes that a transfer curve differs from an ideal one by, at most.
        adc_variance: of the noise at the input of an ADC, in LSB squared.
        at_end: whether currents of all cycles are added up before one conversion.
        key: key of the noise, uint64.
        first: running number of ``inputs[0]``, uint64.
        negative: whether this is the pass of negative inputs; its result is subtracted.
        out: int64 ``[vectors, matrix_cols]``; the result is added.
    """
    lines = columns.size
    full_scale = np.float32((1 << bits) - 1)
    digits = (1 << digit_bits) - 1
    binary = digit_bits == 1 and levels.size == 0
    noisy_cells = variances.shape[0] > 0
    noisy = noisy_cells or adc_variance > 0
    # Without any active input no current flows, and ideal ADCs that see none say nothing.
    real = curves.size > 0
    skip_idle = not real and adc_variance == 0
    live = np.empty(rows.size, np.int64)
    live_code = np.empty(rows.size, np.int64)
    active = np.empty(rows.size, np.int64)
    whole = np.empty(lines, np.int32)
    current = np.empty(lines, np.float32)
    variance = np.empty(lines, np.float32)
    draw = np.empty(lines, np.float32)
    place = np.empty(lines, np.uint32)
    total = np.zeros(lines, np.int32)
    for vector in range(inputs.shape[0]):
        lives = 0
        seen = np.int64(0)
        for line in range(rows.size):
            # As device_models.converters.dac_codes, without a copy of the inputs.
            step = np.rint(inputs[vector, rows[line]] * gain)
            code = np.int64(min(max(step, np.float32(0)), full_scale))
            live[lives], live_code[lives] = line * lines, code
            lives += code != 0
            seen |= code
        if skip_idle and not seen:
            continue
        current[:] = 0
        variance[:] = 0
        for bit in range(0, bits, digit_bits):
            if (skip_idle or at_end) and not (seen >> bit) & digits:
                continue
            weight = np.float32(1 << bit) if at_end else np.float32(1)
            if binary:
                actives = 0
                for i in range(lives):
                    active[actives] = live[i]
                    actives += (live_code[i] >> bit) & 1
                _add_lines(currents, active, actives, whole)
                _scale(whole, current_unit * weight, at_end, current)
                if noisy_cells:
                    _add_lines(variances, active, actives, whole)
                    _scale(whole, variance_unit * weight * weight, at_end, variance)
            else:
                if not at_end:
                    current[:] = 0
                    variance[:] = 0
                for i in range(lives):
                    digit = (live_code[i] >> bit) & digits
                    if digit:
                        level = np.float32(digit)
                        if levels.size:
                            level = levels[live[i] // lines, digit]
                        _add_line(currents, live[i], level * current_unit * weight, current)
                        if noisy_cells:
                            squared = level * level * variance_unit * weight * weight
                            _add_line(variances, live[i], squared, variance)
            if not at_end:
                if noisy:
                    _draw(key, _cycle(first + np.uint64(vector), negative, bit), numbers, draw)
                    _add_noise(variance, adc_variance, draw, current)
                if real:
                    _convert_real(current, top, bottom, shift, curves, starts, corrections, bit, total, place)
                else:
                    _convert(current, top, bottom, bit, total)
        if at_end:
            if noisy:
                _draw(key, _cycle(first + np.uint64(vector), negative, 0), numbers, draw)
                _add_noise(variance, adc_variance, draw, current)
            if real:
                _convert_real(current, top, bottom, shift, curves, starts, corrections, 0, total, place)
            else:
                _convert(current, top, bottom, 0, total)
        for line in range(lines):
            code = weights[line] * np.int64(total[line])
            out[vector, columns[line]] += -code if negative else code
            total[line] = 0


@njit(cache=True, nogil=True)
def draw_vectors(key, first, numbers, out):  # type: ignore[no-untyped-def]
    """Fill ``out [vectors, 2 * width]`` with the draws of the first cycle of each vector."""
    for vector in range(out.shape[0]):
        _draw(key, _cycle(first + np.uint64(vector), False, 0), numbers, out[vector])


# Currents


def _sum_of_lines(vectors: int) -> Any:
    """Make a function that sums lines for ``vectors`` vector registers of neighbouring columns.

    ``total[start + j] = sum over i < actives of cells[active[i] + start + j]``, with flat indices. Sums stay
    in registers, which the compiler does not find by itself.
    """

    @intrinsic
    def add(typingctx, total, start, cells, active, actives):  # type: ignore[no-untyped-def]
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            register = ir.VectorType(ir.IntType(32), LANES)
            target, source, lines = (
                cgutils.create_struct_proxy(signature.args[place])(context, builder, args[place]).data
                for place in (0, 2, 3)
            )

            def at(pointer: Any, index: Any, vector: int) -> Any:
                offset = builder.add(index, ir.IntType(64)(vector * LANES))
                return builder.bitcast(builder.gep(pointer, [offset]), register.as_pointer())

            sums = [cgutils.alloca_once_value(builder, ir.Constant(register, None)) for _ in range(vectors)]
            with cgutils.for_range(builder, args[4], intp=ir.IntType(64)) as loop:
                line = builder.add(builder.load(builder.gep(lines, [loop.index])), args[1])
                for vector, place in enumerate(sums):
                    cell = builder.load(at(source, line, vector), align=4)
                    builder.store(builder.add(builder.load(place), cell), place)
            for vector, place in enumerate(sums):
                builder.store(builder.load(place), at(target, args[1], vector), align=4)
            return context.get_dummy_value()

        return types.void(total, types.intp, cells, active, types.intp), emit

    return add


_add_one = _sum_of_lines(1)
_add_four = _sum_of_lines(4)


@njit(cache=True)
def _add_lines(cells, active, actives, total):  # type: ignore[no-untyped-def]
    """Sum the lines of ``cells`` that begin at the flat indices ``active``."""
    start = 0
    while start + 4 * LANES <= total.size:
        _add_four(total, start, cells, active, actives)
        start += 4 * LANES
    while start < total.size:
        _add_one(total, start, cells, active, actives)
        start += LANES


@njit(cache=True)
def _scale(whole, unit, add, out):  # type: ignore[no-untyped-def]
    """Put ``whole * unit`` into ``out``, or add it."""
    if add:
        for j in range(whole.size):
            out[j] += np.float32(whole[j]) * unit
    else:
        for j in range(whole.size):
            out[j] = np.float32(whole[j]) * unit


@njit(cache=True)
def _add_line(cells, start, factor, out):  # type: ignore[no-untyped-def]
    """Add one line of ``cells``, times ``factor``, to ``out``; ``start`` is its flat index."""
    line = cells.reshape(-1)[start : start + out.size]
    for j in range(out.size):
        out[j] += np.float32(line[j]) * factor


# ADC


@njit(cache=True)
def _add_noise(variance, adc_variance, draw, current):  # type: ignore[no-untyped-def]
    """Add what cells and converters fluctuate by to each current."""
    for j in range(current.size):
        current[j] += np.sqrt(variance[j] + adc_variance) * draw[j]


@njit(cache=True)
def _convert(current, top, bottom, bit, total):  # type: ignore[no-untyped-def]
    """Add the code that an ideal ADC gives for each bit line to ``total``, shifted by ``bit``."""
    zero, half = np.float32(0), np.float32(0.5)
    for j in range(total.size):
        code = np.int32(min(max(current[j] + bottom[j] + half, zero), top[j]))
        total[j] += np.int32(code - np.int32(bottom[j])) << bit


@njit(cache=True, error_model="numpy")
def _convert_real(current, top, bottom, shift, curves, starts, corrections, bit, total, place):  # type: ignore[no-untyped-def]
    """Do as :func:`_convert` with ADCs that have curves; ``place`` is work space.

    The code of an ideal converter is near; it moves up or down while the current is beyond its thresholds.
    Unsigned places and one loop over the bit lines for each move let the compiler look several up at once.
    """
    zero, half = np.float32(0), np.float32(0.5)
    for j in range(total.size):
        current[j] += shift[j]
        place[j] = starts[j] + np.uint32(np.int32(min(max(current[j] + half, zero), top[j])))
    for _ in range(corrections):
        for j in range(total.size):
            at = np.uint64(place[j])
            up = np.int32(current[j] >= curves[at + np.uint64(1)]) - np.int32(current[j] < curves[at])
            place[j] = np.uint32(np.int32(place[j]) + up)
    for j in range(total.size):
        code = np.int32(place[j]) - np.int32(starts[j])
        total[j] += np.int32(code - np.int32(bottom[j])) << bit


# Read noise. Splitmix64 (Steele, Lea and Flood, OOPSLA 2014) turns the number of a cycle into two 32-bit
# words. They are the starts of two counters that run over the bit lines, and a mixer of 32 bits turns each
# count into a random word. The transform of Box and Muller (Ann. Math. Stat. 29, 1958) turns two words into
# two Gaussian numbers. Logarithm, sine and cosine are short polynomials (least squares at Chebyshev nodes,
# errors below 2e-6), so that the compiler draws several numbers at once.


@njit(cache=True)
def _cycle(vector, negative, bit):  # type: ignore[no-untyped-def]
    """Number of a read cycle: one input bit of one pass of one vector."""
    pass_of_vector = np.uint64(vector) * np.uint64(2) + np.uint64(negative)
    return pass_of_vector * np.uint64(MAX_DAC_BITS) + np.uint64(bit)


@njit(cache=True)
def _mix_64(z):  # type: ignore[no-untyped-def]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(cache=True)
def _mix_32(x):  # type: ignore[no-untyped-def]
    """Wellons' triple32: three rounds of shift and multiplication; every bit depends on every bit."""
    x = np.uint32(np.uint32(x ^ (x >> np.uint32(17))) * np.uint32(0xED5AD4BB))
    x = np.uint32(np.uint32(x ^ (x >> np.uint32(11))) * np.uint32(0xAC4C1B51))
    x = np.uint32(np.uint32(x ^ (x >> np.uint32(15))) * np.uint32(0x31848BAB))
    return np.uint32(x ^ (x >> np.uint32(14)))


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _draw(key, cycle, numbers, out):  # type: ignore[no-untyped-def]
    """Fill ``out [2 * width]`` with standard normal draws, a pair for each of ``numbers``."""
    one, quarter = np.float32(1), np.float32(0.25)
    width = numbers.size
    starts = _mix_64(key + cycle * GOLDEN)
    first, second = np.uint32(starts), np.uint32(starts >> np.uint64(32))
    for j in range(width):
        # Radius: sqrt(-2 ln u) of a u in (0, 1), from exponent and mantissa of u.
        high = np.int32(_mix_32(np.uint32(first + numbers[j])) >> np.uint32(1))
        u = np.float32((np.float32(high) + np.float32(0.5)) * np.float32(2.0**-31))
        raw = np.int32(u.view(np.int32))
        exponent = np.int32(np.int32(raw - np.int32(0x3F3504F3)) >> np.int32(23))
        y = np.float32(np.int32(raw - np.int32(exponent << np.int32(23))).view(np.float32)) - one
        y2 = y * y
        log = (L0 + L1 * y) + (L2 + L3 * y) * y2 + ((L4 + L5 * y) + L6 * y2) * (y2 * y2)
        log = log * y + np.float32(exponent) * np.float32(0.6931471805599453)
        radius = np.sqrt(np.float32(-2) * log)
        # Angle: v turns, v in [-1/2, 1/2); both functions by sin(2 pi w) for w in [-1/4, 1/4].
        low = np.int32(_mix_32(np.uint32(second + numbers[j])))
        v = np.float32(low) * np.float32(2.0**-32)
        c = quarter - abs(v)
        s = quarter - abs(c)
        c2 = c * c
        s2 = s * s
        cosine = c * ((S0 + S1 * c2) + (S2 + S3 * c2) * (c2 * c2))
        sine = s * ((S0 + S1 * s2) + (S2 + S3 * s2) * (s2 * s2))
        out[j] = radius * cosine
        out[width + j] = radius * (sine if low >= 0 else -sine)

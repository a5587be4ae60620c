"""Every entry agrees with sparse LU of the same circuit, and, where that errs, with exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from device_models.crossbar import Wires, effective_conductance, factorize

from . import reference

F64 = torch.float64


def conductances(rows, cols, on_off, seed=0):
    """Cells between 1e-4 S and 1e-4 S / on_off, in half the cases of either extreme."""
    rng = np.random.default_rng(seed)
    spread = np.exp(-np.log(on_off) * rng.random((rows, cols)))
    extreme = np.where(rng.random((rows, cols)) < 0.5, 1.0, 1 / on_off)
    return torch.from_numpy(1e-4 * np.where(rng.random((rows, cols)) < 0.5, spread, extreme))


def worst(got, want):
    """Largest relative error of any entry; entries that vanish are compared with the largest."""
    want = torch.as_tensor(np.asarray(want), dtype=F64)
    floor = want.abs().max() * 1e-250
    return ((got.to(F64) - want).abs() / want.abs().clamp_min(floor)).max().item()


SIZES = [(1, 1), (1, 7), (7, 1), (3, 5), (5, 3), (16, 16), (17, 33), (40, 9), (64, 64)]
WIRES = [(1e-3, 1e-3), (2.0, 2.0), (1e3, 1e3), (1e3, 1e-3), (1e-3, 1e3)]


@pytest.mark.parametrize(("word_line", "bit_line"), WIRES)
@pytest.mark.parametrize("on_off", [2.0, 1e6])
@pytest.mark.parametrize(("rows", "cols"), SIZES)
def test_every_entry_agrees_with_sparse_lu(rows, cols, on_off, word_line, bit_line):
    g = conductances(rows, cols, on_off)
    figures = {"word_line": word_line, "bit_line": bit_line, "driver": 10 * word_line, "sense": 3 * bit_line}
    got = effective_conductance(g, Wires(**figures))
    assert worst(got, reference.effective_conductance(g, **figures)) < 1e-12


@pytest.mark.parametrize(("word_line", "bit_line"), [(2.0, 3.0), (1e3, 1e-3)])
@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (5, 3), (17, 20), (32, 9)])
def test_torch_operations_agree_with_sparse_lu(solver, rows, cols, word_line, bit_line):
    g = conductances(rows, cols, 1e3)
    got = effective_conductance(g, Wires(word_line, bit_line, 1.0, 1.0))
    assert worst(got, reference.effective_conductance(g, word_line, bit_line, 1.0, 1.0)) < 1e-12


@pytest.mark.parametrize(("rows", "cols", "wire"), [(256, 256, 2.0), (256, 40, 1e3), (40, 256, 1e-3)])
def test_large_arrays_agree_with_sparse_lu(rows, cols, wire):
    g = conductances(rows, cols, 100.0)
    inputs = np.random.default_rng(1).random((rows, 3))
    r_word, r_bit = reference.segments(rows, cols, wire, wire)
    _, bit = reference.solve(g.numpy(), r_word, r_bit, inputs, np.zeros((cols, 3)))
    got = torch.from_numpy(inputs.T) @ effective_conductance(g, Wires(wire, wire))
    assert worst(got, (bit[-1] / r_bit[-1][:, None]).T) < 1e-11


def exactly(g, r_word, r_bit):
    """Effective conductance in rational arithmetic: plain Gauss elimination of all nodes."""
    rows, cols = g.shape
    cells = rows * cols
    size = 2 * cells + rows + cols
    matrix = [[Fraction(0)] * size for _ in range(size)]
    for i in range(rows):
        for j in range(cols):
            left = 2 * cells + i if j == 0 else i * cols + j - 1
            below = 2 * cells + rows + j if i == rows - 1 else cells + (i + 1) * cols + j
            here = i * cols + j
            for a, b, c in (
                (left, here, 1 / Fraction(float(r_word[i, j]))),
                (cells + here, below, 1 / Fraction(float(r_bit[i, j]))),
                (here, cells + here, Fraction(float(g[i, j]))),
            ):
                matrix[a][a] += c
                matrix[b][b] += c
                matrix[a][b] -= c
                matrix[b][a] -= c
    for p in range(2 * cells):
        for a in range(p + 1, size):
            if matrix[a][p]:
                factor = matrix[a][p] / matrix[p][p]
                matrix[a] = [x - factor * y if y else x for x, y in zip(matrix[a], matrix[p], strict=True)]
    ends = 2 * cells
    return np.array([[float(-matrix[ends + i][ends + rows + j]) for j in range(cols)] for i in range(rows)])


@pytest.mark.parametrize(("word_line", "bit_line"), [(0.1, 1e9), (1e-9, 1e-9), (1e9, 1e-9), (1e6, 1e6)])
def test_small_entries_are_right_to_rounding_where_sparse_lu_is_not(solver, word_line, bit_line):
    g = conductances(3, 4, 1e6)
    r_word, r_bit = reference.segments(3, 4, word_line, bit_line)
    got = effective_conductance(g, Wires(word_line, bit_line))
    assert worst(got, exactly(g.numpy(), r_word, r_bit)) < 1e-14


@pytest.mark.parametrize("wire", [1e-3, 2.0, 1e3])
@pytest.mark.parametrize(("rows", "cols", "on_off"), [(64, 64, 1e6), (33, 65, 10.0), (65, 33, 100.0)])
def test_float32_is_only_rounded_in_the_end(rows, cols, on_off, wire):
    g = conductances(rows, cols, on_off).float()
    got = effective_conductance(g, Wires(wire, wire, wire, wire))
    assert got.dtype == torch.float32
    assert worst(got, effective_conductance(g.double(), Wires(wire, wire, wire, wire))) < 1e-7
    f = factorize(g, Wires(wire, wire))
    word, bit = f.node_voltages(torch.rand(2, rows, generator=torch.Generator().manual_seed(1)))
    assert f.effective_conductance.dtype == word.dtype == bit.dtype == torch.float32


@pytest.mark.parametrize("ideal", ["word", "bit"])
def test_ideal_lines_next_to_resistive_ones(solver, ideal):
    g = conductances(12, 9, 100.0)
    figures = (0.0, 50.0) if ideal == "word" else (50.0, 0.0)
    nearly = [figure or 1e-12 for figure in figures]
    got = effective_conductance(g, Wires(*figures))
    assert worst(got, reference.effective_conductance(g, *nearly)) < 1e-11


def test_absent_lines_change_nothing(solver):
    g = conductances(20, 30, 10.0)
    g[[0, 3, 4, 19]] = 0
    g[:, [0, 7, 8, 9, 29]] = 0
    rng = np.random.default_rng(3)
    word_line, bit_line = rng.random((20, 30)), rng.random((20, 30))
    got = effective_conductance(g, Wires(torch.from_numpy(word_line), torch.from_numpy(bit_line), 1.0, 2.0))
    assert worst(got, reference.effective_conductance(g, word_line, bit_line, 1.0, 2.0)) < 1e-12
    assert (got[3] == 0).all()
    assert (got[:, 8] == 0).all()


def test_an_array_without_any_cell_conducts_nothing(solver):
    g = torch.zeros(2, 6, 5, dtype=F64)
    g[1] = 1e-4
    got = effective_conductance(g, Wires(1.0, 1.0))
    assert (got[0] == 0).all()
    assert (got[1] > 0).all()


def test_node_voltages_agree_with_sparse_lu(solver):
    for rows, cols in ((6, 9), (9, 6)):
        g = conductances(rows, cols, 1e3)
        rng = np.random.default_rng(4)
        drivers, senses = rng.standard_normal((rows, 5)), rng.standard_normal((cols, 5))
        r_word, r_bit = reference.segments(rows, cols, 20.0, 30.0, 100.0, 50.0)
        want = reference.solve(g.numpy(), r_word, r_bit, drivers, senses)
        got = factorize(g, Wires(20.0, 30.0, 100.0, 50.0)).node_voltages(
            torch.from_numpy(drivers.T), torch.from_numpy(senses.T)
        )
        for x, y in zip(got, want, strict=True):
            np.testing.assert_allclose(x.numpy(), y.transpose(2, 0, 1), rtol=1e-10, atol=1e-13)


def test_injected_currents_agree_with_sparse_lu(solver):
    for rows, cols in ((6, 9), (9, 6)):
        g = conductances(rows, cols, 1e3)
        rng = np.random.default_rng(5)
        into_word, into_bit = (1e-5 * rng.standard_normal((rows, cols, 70)) for _ in range(2))
        r_word, r_bit = reference.segments(rows, cols, 20.0, 30.0)
        want = reference.solve(
            g.numpy(), r_word, r_bit, np.zeros((rows, 70)), np.zeros((cols, 70)), into_word, into_bit
        )
        got = factorize(g, Wires(20.0, 30.0)).solve(
            *(torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1))) for x in (into_word, into_bit))
        )
        for x, y in zip(got, want, strict=True):
            np.testing.assert_allclose(x.numpy(), y.transpose(2, 0, 1), rtol=1e-9, atol=1e-14)

"""Which index is a row, which end is driven, which end is sensed, and the sign of the current."""

from __future__ import annotations

import math

import pytest
import torch

from device_models.crossbar import Wires, effective_conductance, factorize

F64 = torch.float64


def one_cell(g=1e-3, word_line=0.0, bit_line=0.0, driver=0.0, sense=0.0):
    return 1 / (1 / g + word_line + bit_line + driver + sense)


@pytest.mark.parametrize("figure", ["word_line", "bit_line", "driver", "sense"])
def test_a_single_cell_is_in_series_with_every_wire_figure(solver, figure):
    g = torch.tensor([[1e-3]], dtype=F64)
    got = effective_conductance(g, Wires(**{"word_line": 0.0, "bit_line": 0.0, figure: 700.0}))
    assert got.item() == pytest.approx(one_cell(**{figure: 700.0}), rel=1e-14)


@pytest.mark.parametrize(
    ("row", "col", "word_segments", "bit_segments"),
    [(0, 0, 1, 3), (0, 3, 4, 3), (2, 0, 1, 1), (2, 3, 4, 1), (1, 2, 3, 2)],
)
def test_a_lopsided_array_shows_the_driven_and_the_sensed_end(solver, row, col, word_segments, bit_segments):
    # 3 word lines, 4 bit lines, one cell: it sees the word segments up to it and the bit segments below it.
    g = torch.zeros(3, 4, dtype=F64)
    g[row, col] = 1e-3
    wires = Wires(word_line=100.0, bit_line=7.0, driver=1000.0, sense=30.0)
    got = effective_conductance(g, wires)
    want = torch.zeros(3, 4, dtype=F64)
    want[row, col] = one_cell(
        word_line=100.0 * word_segments, bit_line=7.0 * bit_segments, driver=1000.0, sense=30.0
    )
    torch.testing.assert_close(got, want, rtol=1e-13, atol=0)


def test_positive_inputs_give_positive_currents_and_superpose_by_a_plain_product(solver):
    g = torch.rand(3, 4, dtype=F64, generator=torch.Generator().manual_seed(1)) * 1e-3
    wires = Wires(word_line=100.0, bit_line=7.0, driver=50.0, sense=30.0)
    voltages = torch.tensor([[0.1, 0.2, 0.3]], dtype=F64)
    currents = voltages @ effective_conductance(g, wires)
    word, bit = factorize(g, wires).node_voltages(voltages)
    assert (currents > 0).all()
    # The current into the sense is what the last segment and the sense resistance let through.
    torch.testing.assert_close(currents, bit[:, -1] / (7.0 + 30.0), rtol=1e-12, atol=0)
    # The nodes nearest to the drivers are those of column 0.
    assert (word[:, :, 0] > word[:, :, -1]).all()
    assert (bit[:, 0] > bit[:, -1]).all()


def test_every_segment_is_the_one_left_of_or_below_its_cell(solver):
    g = torch.full((3, 4), 1e-3, dtype=F64)
    word_line, bit_line = torch.zeros(3, 4, dtype=F64), torch.zeros(3, 4, dtype=F64)
    word_line[1, 2] = math.inf  # cuts cells (1, 2) and (1, 3) off their driver
    bit_line[0, 0] = math.inf  # cuts cell (0, 0) off its sense
    got = effective_conductance(g, Wires(word_line, bit_line))
    want = g.clone()
    want[1, 2:] = 0
    want[0, 0] = 0
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-30)
    bit_line[2, 1] = math.inf  # the last segment: between the line and its sense
    got = effective_conductance(g, Wires(word_line, bit_line))
    assert (got[:, 1] == 0).all()


def test_an_open_sense_lets_currents_sneak_from_line_to_line(solver):
    # Bit line 1 floats. It takes the mean of both word lines, and carries current from the high to the low
    # one.
    g = torch.full((2, 2), 1e-3, dtype=F64)
    wires = Wires(0.0, 0.0, sense=torch.tensor([0.0, math.inf], dtype=F64))
    word, bit = factorize(g, wires).node_voltages(torch.tensor([[1.0, 0.0]], dtype=F64))
    torch.testing.assert_close(bit[0, :, 1], torch.tensor([0.5, 0.5], dtype=F64))
    torch.testing.assert_close(bit[0, :, 0], torch.zeros(2, dtype=F64), atol=1e-20, rtol=0)
    torch.testing.assert_close(word[0, :, 0], torch.tensor([1.0, 0.0], dtype=F64), atol=1e-20, rtol=1e-14)


def test_bit_lines_may_be_driven_from_their_sense_end(solver):
    g = torch.tensor([[1e-3]], dtype=F64)
    wires = Wires(word_line=1000.0, bit_line=1000.0)
    word, bit = factorize(g, wires).node_voltages(
        torch.tensor([[0.0]], dtype=F64), torch.tensor([[3.0]], dtype=F64)
    )
    assert word.item() == pytest.approx(1.0)
    assert bit.item() == pytest.approx(2.0)


def test_zero_wires_give_back_the_conductances_exactly(solver):
    g = torch.rand(2, 5, 3, dtype=F64, generator=torch.Generator().manual_seed(2))
    assert torch.equal(effective_conductance(g, Wires(0.0, 0.0)), g)
    zero = torch.zeros((), dtype=F64, requires_grad=True)
    assert torch.equal(effective_conductance(g, Wires(zero, zero, zero, zero)), g)
    assert torch.equal(factorize(g, Wires(0.0, 0.0)).effective_conductance, g)


def test_leading_dimensions_are_solved_one_by_one(solver):
    g = torch.rand(2, 3, 5, 4, dtype=F64, generator=torch.Generator().manual_seed(3))
    word_line = torch.rand(3, 1, 1, dtype=F64, generator=torch.Generator().manual_seed(4))
    sense = torch.rand(2, 1, 4, dtype=F64, generator=torch.Generator().manual_seed(5))
    got = effective_conductance(g, Wires(word_line, 0.1, 0.2, sense))
    for a in range(2):
        for b in range(3):
            one = effective_conductance(g[a, b], Wires(word_line[b], 0.1, 0.2, sense[a, 0]))
            torch.testing.assert_close(got[a, b], one, rtol=1e-13, atol=0)


def test_results_do_not_depend_on_the_number_of_threads():
    g = torch.rand(9, 12, 10, dtype=F64, generator=torch.Generator().manual_seed(6))
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(effective_conductance(g, Wires(0.5, 0.5)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])

"""Bias schemes for writing: ideal limits, physics with wires, sneak currents and disturb figures."""

import numpy as np
import pytest
import torch

from device_models.crossbar import (
    Ohmic,
    SeriesAccess,
    Sinh,
    Transistor,
    Wires,
    line_bias,
    select_cells,
    solve_array,
    write_cells,
)

SCHEMES = ["v/2", "v/3", "floating", "grounded"]
IDEAL = Wires(0.0, 0.0)
LOSSY = Wires(12.0, 25.0, driver=150.0, sense=40.0)


def conductances(rows, cols, seed=0):
    return torch.from_numpy(1e-6 * 10 ** np.random.default_rng(seed).uniform(0, 2, (rows, cols)))


def some_writes(rows, cols):
    return torch.cat(
        [
            select_cells(rows, cols, 1, [2]),
            select_cells(rows, cols, rows - 1, [0]),
            select_cells(rows, cols, 0, [0, 3]),
        ]
    )


def test_half_voltage_scheme_without_wires_is_exact():
    done = write_cells(Sinh(conductances(5, 4), 3.0), IDEAL, "v/2", 1.2, some_writes(5, 4))
    assert (done.cell_voltage[done.selected] == 1.2).all()
    assert (done.cell_voltage[done.half_selected] == 0.6).all()
    assert (done.cell_voltage[done.unselected] == 0.0).all()


def test_third_voltage_scheme_without_wires_leaves_a_third_on_every_other_cell():
    done = write_cells(Sinh(conductances(5, 4), 3.0), IDEAL, "v/3", -1.2, some_writes(5, 4))
    assert (done.cell_voltage[done.selected] == -1.2).all()
    torch.testing.assert_close(done.cell_voltage[done.half_selected].abs().max().item(), 0.4)
    torch.testing.assert_close(done.cell_voltage[done.half_selected].abs().min().item(), 0.4)
    torch.testing.assert_close(done.cell_voltage[done.unselected].abs().max().item(), 0.4)
    # Unselected cells are biased against the write.
    assert (done.cell_voltage[done.unselected] > 0).all()


def test_grounded_scheme_puts_the_whole_voltage_on_the_selected_word_line():
    done = write_cells(Ohmic(conductances(5, 4)), IDEAL, "grounded", 1.0, select_cells(5, 4, 1, [2]))
    assert (done.cell_voltage[0, 1] == 1.0).all()
    assert (done.cell_voltage[0, [0, 2, 3, 4]] == 0.0).all()


@pytest.mark.parametrize(("rows", "cols"), [(6, 6), (4, 9), (9, 4)])
def test_floating_lines_of_equal_cells_divide_the_voltage_as_three_groups_in_series(rows, cols):
    """In series: cols-1 cells of the row, (rows-1)(cols-1) unselected ones, rows-1 of the column."""
    cells = Ohmic(torch.full((rows, cols), 1e-5).double())
    done = write_cells(cells, IDEAL, "floating", 1.0, select_cells(rows, cols, 2, [1]))
    resistances = np.array([1 / (cols - 1), 1 / ((rows - 1) * (cols - 1)), 1 / (rows - 1)])
    row, inner, column = resistances / resistances.sum()
    voltage = done.cell_voltage[0]
    others = [j for j in range(cols) if j != 1]
    assert voltage[2, 1].item() == pytest.approx(1.0, rel=1e-12)
    assert voltage[2, others].numpy() == pytest.approx(row, rel=1e-9)
    assert voltage[0, others].numpy() == pytest.approx(-inner, rel=1e-9)  # against the write
    assert voltage[[k for k in range(rows) if k != 2], 1].numpy() == pytest.approx(column, rel=1e-9)
    sneak = 1e-5 / resistances.sum()
    assert done.sneak_share.item() == pytest.approx(sneak / (sneak + 1e-5), rel=1e-9)


def test_floating_scheme_with_vanishing_sneak_paths_is_the_series_formula():
    g = torch.full((3, 3), 1e-15).double()
    g[1, 1] = 1e-4
    done = write_cells(Ohmic(g), LOSSY, "floating", 1.0, select_cells(3, 3, 1, [1]))
    path = 1e4 + 150 + 2 * 12 + 2 * 25 + 40
    assert done.cell_current[0, 1, 1].item() == pytest.approx(1 / path, rel=1e-8)
    assert done.power.item() == pytest.approx(1 / path, rel=1e-8)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_wires_take_voltage_from_the_written_cell_most_where_it_is_farthest(scheme):
    g = torch.full((16, 16), 1e-4).double()
    near, far = select_cells(16, 16, 15, [0]), select_cells(16, 16, 0, [15])
    done = write_cells(Sinh(g, 2.0), LOSSY, scheme, 1.0, torch.cat([near, far]))
    assert done.selected_voltage[1] < done.selected_voltage[0] < 1.0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_delivered_power_is_what_cells_and_wires_dissipate(scheme):
    cells = Sinh(conductances(7, 5), 3.0)
    done = write_cells(cells, LOSSY, scheme, 1.1, some_writes(7, 5), tolerance=1e-12)
    in_word = done.cell_current.flip(2).cumsum(2).flip(2)
    in_bit = done.cell_current.cumsum(1)
    heat = 12.0 * in_word.square().sum((1, 2)) + 150.0 * in_word[:, :, 0].square().sum(1)
    heat += 25.0 * in_bit.square().sum((1, 2)) + 40.0 * in_bit[:, -1].square().sum(1)
    in_cells = (done.cell_current * done.cell_voltage).sum((1, 2))
    torch.testing.assert_close(done.power, in_cells + heat, rtol=1e-9, atol=0)


def test_floating_lines_carry_no_net_current():
    done = write_cells(Sinh(conductances(7, 5), 3.0), LOSSY, "floating", 1.1, some_writes(7, 5))
    largest = done.cell_current.abs().max()
    assert (done.cell_current.sum(2)[done.bias.open_word_line].abs() < 1e-9 * largest).all()
    assert (done.cell_current.sum(1)[done.bias.open_bit_line].abs() < 1e-9 * largest).all()


def test_ohmic_array_is_reciprocal():
    """1 V at word line i sends into bit line j what 1 V at bit line j sends into word line i."""
    g = conductances(6, 4)
    forward = solve_array(Ohmic(g), LOSSY, torch.eye(6).double()).currents
    back = solve_array(Ohmic(g), LOSSY, torch.zeros(4, 6).double(), bit_line_voltages=torch.eye(4).double())
    into_word = -(g * (back.word_line - back.bit_line)).sum(2)
    torch.testing.assert_close(forward, into_word.T, rtol=1e-9, atol=0)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_reversed_write_of_odd_cells_is_the_mirror_image(scheme):
    cells = Sinh(conductances(6, 5), 3.0)
    writes = some_writes(6, 5)
    one, other = (write_cells(cells, LOSSY, scheme, v, writes, tolerance=1e-12) for v in (1.0, -1.0))
    torch.testing.assert_close(other.cell_voltage, -one.cell_voltage, rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(other.power, one.power)


def test_non_linear_cells_sneak_less_than_ohmic_ones_of_the_same_write_current():
    g = torch.full((16, 16), 1e-5).double()
    alpha, selected = 8.0, select_cells(16, 16, 3, [3])
    ohmic = write_cells(Ohmic(g), LOSSY, "v/2", 1.0, selected)
    curved = write_cells(Sinh(g * alpha / np.sinh(alpha), alpha), LOSSY, "v/2", 1.0, selected)
    assert ohmic.sneak_share > 0.8
    assert curved.sneak_share < 0.3


def test_access_transistors_that_are_off_remove_sneak_currents():
    gain = torch.zeros(8, 8).double()
    gain[2] = 1e-3
    cells = SeriesAccess(Ohmic(torch.full((8, 8), 1e-5).double()), Transistor(gain, 1.0))
    done = write_cells(cells, LOSSY, "v/2", 1.0, select_cells(8, 8, 2, [1, 5]))
    assert (done.cell_current[0, [0, 1, 3, 4, 5, 6, 7]] == 0).all()
    assert 0 < done.sneak_share < 1


def test_disturbed_cells_are_those_above_the_threshold_that_are_not_written():
    done = write_cells(Ohmic(conductances(5, 4)), IDEAL, "v/2", 1.0, select_cells(5, 4, 1, [2]))
    assert done.disturbed(0.4).sum() == 7
    assert not done.disturbed(0.6).any()
    assert not done.disturbed(0.4)[done.selected].any()


def test_disturb_probability_adds_up_over_the_writes_of_an_array():
    rows, cols, rate = 4, 3, 1e-3
    every = torch.eye(rows * cols, dtype=torch.bool).reshape(-1, rows, cols)
    done = write_cells(Ohmic(conductances(rows, cols)), IDEAL, "v/2", 1.0, every)
    chance = done.disturb_probability(lambda v: rate * (v.abs() > 0.4).double(), repeats=10)
    # Each cell is half selected by the writes to the others on its two lines.
    assert chance.numpy() == pytest.approx(1 - np.exp(-10 * rate * (rows - 1 + cols - 1)), rel=1e-9)
    assert (done.disturb_probability(lambda v: rate * v.abs(), repeats=0) == 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: select_cells(4, 3, 4, [0]), "rows 0..3"),
        (lambda: select_cells(4, 3, 0, []), "columns"),
        (lambda: select_cells(4, 3, 0, [3]), "columns 0..2"),
        (lambda: line_bias("v/4", 1.0, select_cells(4, 3, 0, [0])), "known are v/2, v/3, floating, grounded"),
        (lambda: line_bias("v/2", 1.0, torch.ones(1, 4, 3, dtype=torch.bool)), "write 0 selects cells of 4"),
        (lambda: line_bias("v/2", 1.0, torch.zeros(2, 4, 3, dtype=torch.bool)), "write 0 selects cells of 0"),
        (lambda: line_bias("v/2", 1.0, torch.ones(4, 3)), "type bool"),
        (
            lambda: write_cells(Ohmic(conductances(4, 3)), IDEAL, "v/2", 1.0, select_cells(3, 4, 0, [0])),
            r"\[writes, 4, 3\]",
        ),
    ],
)
def test_writes_that_cannot_be_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_figures_of_disturb_are_checked():
    done = write_cells(Ohmic(conductances(4, 3)), IDEAL, "v/2", 1.0, select_cells(4, 3, 0, [0]))
    with pytest.raises(ValueError, match="threshold"):
        done.disturbed(0.0)
    with pytest.raises(ValueError, match="rate"):
        done.disturb_probability(lambda v: v - 1)
    with pytest.raises(ValueError, match="repeats"):
        done.disturb_probability(torch.abs, repeats=-1)

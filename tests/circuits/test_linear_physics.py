"""What no correct resistive network can violate."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from device_models.crossbar import Wires, effective_conductance, factorize

F64 = torch.float64
SETTINGS = settings(max_examples=25, deadline=None)
SIZE = st.integers(1, 12)
OHM = st.one_of(st.just(0.0), st.floats(1e-3, 1e4))
SEED = st.integers(0, 2**31)


def cells(seed, rows, cols, present=0.8):
    generator = torch.Generator().manual_seed(seed)
    g = 1e-3 * 10 ** (-4 * torch.rand(rows, cols, dtype=F64, generator=generator))
    return g * (torch.rand(rows, cols, generator=generator) < present)


@SETTINGS
@given(SEED, SIZE, SIZE, OHM, OHM, OHM, OHM)
def test_mirroring_the_array_and_exchanging_the_ends_changes_nothing(
    seed, rows, cols, word, bit, driver, sense
):
    g = cells(seed, rows, cols)
    there = effective_conductance(g, Wires(word, bit, driver, sense))
    mirrored = g.flip(-1, -2).mT.contiguous()
    back = effective_conductance(mirrored, Wires(bit, word, sense, driver)).flip(-1, -2).mT
    torch.testing.assert_close(there, back, rtol=1e-12, atol=1e-30)


@SETTINGS
@given(SEED, SIZE, SIZE, OHM, OHM, OHM, OHM)
def test_a_column_never_carries_more_than_its_cells_or_a_row_would_alone(
    seed, rows, cols, word, bit, driver, sense
):
    g = cells(seed, rows, cols)
    effective = effective_conductance(g, Wires(word, bit, driver, sense))
    assert (effective >= 0).all()
    # Wires only take current away from a column with all inputs high, and from a row with all senses at
    # ground.
    assert (effective.sum(0) <= g.sum(0) * (1 + 1e-12)).all()
    assert (effective.sum(1) <= g.sum(1) * (1 + 1e-12)).all()


@SETTINGS
@given(SEED, SIZE, SIZE, OHM, OHM, st.sampled_from(["word_line", "bit_line", "driver", "sense"]))
def test_more_resistance_never_means_more_dissipation(seed, rows, cols, word, bit, figure):
    g = cells(seed, rows, cols, present=1.0)
    figures = {"word_line": word, "bit_line": bit, "driver": 1.0, "sense": 1.0}
    more = {**figures, figure: figures[figure] + 10.0}

    def power(wires):
        # All word lines at 1 V, senses at ground (Rayleigh's monotonicity law).
        return effective_conductance(g, Wires(**wires)).sum()

    assert power(more) <= power(figures) * (1 + 1e-12)


@SETTINGS
@given(SEED, SIZE, SIZE, st.floats(1e-3, 1e4), st.floats(1e-3, 1e4))
def test_power_delivered_is_power_dissipated(seed, rows, cols, word, bit):
    g = cells(seed, rows, cols)
    generator = torch.Generator().manual_seed(seed + 1)
    voltages = torch.randn(3, rows, dtype=F64, generator=generator)
    behind = torch.randn(3, cols, dtype=F64, generator=generator)
    wires = Wires(word, bit, driver=5.0, sense=7.0)
    v, u = factorize(g, wires).node_voltages(voltages, behind)
    r_word, r_bit = wires.segments(g)
    along_word = torch.cat([voltages[:, :, None], v[:, :, :-1]], 2) - v
    along_bit = u - torch.cat([u[:, 1:], behind[:, None, :]], 1)
    delivered = (voltages * along_word[:, :, 0] / r_word[:, :, 0]).sum(1)
    delivered = delivered - (behind * along_bit[:, -1] / r_bit[:, -1]).sum(1)
    dissipated = sum(
        x.flatten(1).sum(1) for x in (g * (v - u) ** 2, along_word**2 / r_word, along_bit**2 / r_bit)
    )
    torch.testing.assert_close(delivered, dissipated, rtol=1e-7, atol=1e-14)


@SETTINGS
@given(SEED, SIZE, SIZE, OHM, OHM)
def test_kirchhoffs_current_law_holds_at_every_node(seed, rows, cols, word, bit):
    g = cells(seed, rows, cols)
    wires = Wires(word + 0.1, bit + 0.1, driver=5.0, sense=7.0)
    generator = torch.Generator().manual_seed(seed + 2)
    into_word, into_bit = (
        1e-4 * torch.randn(2, rows, cols, dtype=F64, generator=generator) for _ in range(2)
    )
    v, u = factorize(g, wires).solve(into_word, into_bit)
    r_word, r_bit = wires.segments(g)
    zero_v, zero_u = torch.zeros(2, rows, 1, dtype=F64), torch.zeros(2, 1, cols, dtype=F64)
    along_word = (torch.cat([zero_v, v[:, :, :-1]], 2) - v) / r_word
    along_bit = (u - torch.cat([u[:, 1:], zero_u], 1)) / r_bit
    through = g * (v - u)
    at_word = into_word + along_word - torch.cat([along_word[:, :, 1:], zero_v], 2) - through
    at_bit = into_bit + through - along_bit + torch.cat([zero_u, along_bit[:, :-1]], 1)
    largest = max(into_word.abs().max(), v.abs().max() / 0.1, u.abs().max() / 0.1)
    assert max(at_word.abs().max(), at_bit.abs().max()) <= 1e-12 * largest


@SETTINGS
@given(SEED, SIZE, SIZE, OHM, OHM)
def test_the_solution_operator_is_symmetric(seed, rows, cols, word, bit):
    f = factorize(cells(seed, rows, cols), Wires(word, bit, driver=5.0, sense=7.0))
    generator = torch.Generator().manual_seed(seed + 3)
    a, b, c, d = (torch.randn(1, rows, cols, dtype=F64, generator=generator) for _ in range(4))
    v, u = f.solve(a, b)
    x, y = f.solve(c, d)
    left, right = (v * c + u * d).sum(), (x * a + y * b).sum()
    scale = (v.abs() * c.abs() + u.abs() * d.abs()).sum()
    assert abs(left - right) <= 1e-12 * scale


@pytest.mark.parametrize("wire", [1e-3, 1e-6, 1e-9])
def test_thin_wires_approach_the_ideal_crossbar_linearly(solver, wire):
    g = cells(0, 10, 14, present=1.0)
    loss = (g - effective_conductance(g, Wires(wire, wire))).abs().max() / g.max()
    assert loss <= 14 * 10 * wire * g.max()
    assert loss > 0


def test_scaling_all_impedances_scales_the_result(solver):
    g = cells(1, 9, 7)
    small = effective_conductance(g, Wires(2.0, 3.0, 4.0, 5.0))
    large = effective_conductance(g * 1e9, Wires(2e-9, 3e-9, 4e-9, 5e-9))
    torch.testing.assert_close(large, small * 1e9, rtol=1e-12, atol=0)


def test_a_floating_array_is_at_rest(solver):
    g = cells(2, 5, 4)
    f = factorize(g, Wires(1.0, 1.0, driver=math.inf, sense=math.inf))
    word, bit = f.node_voltages(torch.ones(1, 5, dtype=F64))
    assert not word.any()
    assert not bit.any()
    assert not f.effective_conductance.any()


def test_cells_touch_only_their_own_tile(solver):
    g = torch.stack([cells(3, 8, 8), cells(4, 8, 8)])
    before = effective_conductance(g, Wires(1.0, 1.0))
    g[1, 2, 3] += 1e-3
    after = effective_conductance(g, Wires(1.0, 1.0))
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])

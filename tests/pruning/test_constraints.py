"""Projections: against brute force over all supports, and by what a projection must satisfy."""

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hwloop.mapping import LevelSet
from hwloop.pruning import Blocks, Filters, Intersection, Rows

MATRICES = arrays("float64", st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.floats(-9, 9)).map(
    torch.from_numpy
)


def distance(a, b):
    return float((a - b).square().sum())


def nearest(matrix, groups, keep):
    """Smallest distance over every choice of ``keep`` groups to keep; a group is a bool mask."""
    best = float("inf")
    for chosen in combinations(groups, min(keep, len(groups))):
        support = torch.stack(chosen).any(0)
        best = min(best, distance(matrix, matrix * support))
    return best


def lines(matrix, axis):
    """The masks of all rows (axis 0) or all columns (axis 1)."""
    index = torch.arange(matrix.shape[axis])
    shape = (-1, 1) if axis == 0 else (1, -1)
    return [(index == i).reshape(shape).expand(matrix.shape) for i in index]


@settings(deadline=None)
@given(MATRICES, st.integers(1, 6))
def test_filters_and_rows_are_nearest_among_all_choices(matrix, keep):
    for constraint, axis in ((Rows(keep), 0), (Filters(keep), 1)):
        projected = constraint.project(matrix)
        assert int(projected.any(1 - axis).sum()) <= keep
        assert distance(matrix, projected) == pytest.approx(nearest(matrix, lines(matrix, axis), keep))


@settings(deadline=None)
@given(MATRICES, st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_blocks_are_nearest_among_all_choices_on_the_compacted_grid(matrix, keep, rows, cols):
    matrix = matrix[matrix.any(1)][:, matrix.any(0)]
    groups = []
    for i in range(0, matrix.shape[0], rows):
        for j in range(0, matrix.shape[1], cols):
            block = torch.zeros(matrix.shape, dtype=torch.bool)
            block[i : i + rows, j : j + cols] = True
            groups.append(block)
    projected = Blocks(keep, rows, cols).project(matrix)
    if groups:
        assert distance(matrix, projected) == pytest.approx(nearest(matrix, groups, keep))


@settings(deadline=None)
@given(MATRICES, st.floats(0.1, 3), st.integers(1, 5))
def test_levels_are_nearest_among_all_levels_and_zero_stays_zero(matrix, scale, levels):
    projected = LevelSet(scale, levels).project(matrix)
    allowed = scale * torch.tensor([*range(-levels, 0), *range(1, levels + 1)], dtype=torch.float64)
    best = (matrix[..., None] - allowed).abs().amin(-1)
    expected = torch.where(matrix == 0, 0.0, best)
    torch.testing.assert_close((projected - matrix).abs(), expected)


def test_blocks_are_counted_on_the_grid_that_dropped_lines_leave():
    matrix = torch.zeros(4, 6, dtype=torch.float64)
    matrix[0, 1], matrix[0, 2], matrix[2, 3], matrix[3, 0] = 1, 1, 1, 2
    once = Blocks(2, 2, 2).project(matrix)
    torch.testing.assert_close(Blocks(2, 2, 2).project(once), once)


@settings(deadline=None)
@given(MATRICES, st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))
def test_projecting_twice_changes_nothing(matrix, filters, rows, blocks):
    group_sets = (Filters(filters), Rows(rows), Blocks(blocks, 2, 2))
    for constraint in (*group_sets, Intersection(group_sets), LevelSet(0.5, 7)):
        once = constraint.project(matrix)
        torch.testing.assert_close(constraint.project(once), once)


@settings(deadline=None)
@given(MATRICES, st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))
def test_an_intersection_satisfies_all_of_its_sets(matrix, filters, rows, blocks):
    projected = Intersection((Filters(filters), Rows(rows), Blocks(blocks, 2, 2))).project(matrix)
    assert int(projected.any(0).sum()) <= filters
    assert int(projected.any(1).sum()) <= rows
    compact = projected[projected.any(1)][:, projected.any(0)]
    occupied = sum(
        bool(compact[i : i + 2, j : j + 2].any())
        for i in range(0, compact.shape[0], 2)
        for j in range(0, compact.shape[1], 2)
    )
    assert occupied <= blocks


def test_blocks_count_arrays_of_the_compacted_matrix():
    """Lines that are already gone must not count as part of a block."""
    matrix = torch.zeros(8, 4)
    matrix[::2] = 1.0  # four rows are left: two arrays of 2 × 4, not four
    assert torch.equal(Blocks(2, 2, 4).project(matrix), matrix)


def test_kept_entries_are_unchanged_and_keeping_all_changes_nothing():
    matrix = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    for constraint in (Filters(3), Rows(2), Blocks(2, 2, 3)):
        projected = constraint.project(matrix)
        assert torch.equal(projected, matrix * (projected != 0))
    for constraint in (Filters(7), Rows(99), Blocks(99, 2, 3), Intersection(())):
        assert torch.equal(constraint.project(matrix), matrix)


def test_an_all_zero_matrix_stays_zero():
    zero = torch.zeros(3, 4)
    for constraint in (Filters(1), Rows(1), Blocks(1, 2, 2), LevelSet(1.0, 3)):
        assert torch.equal(constraint.project(zero), zero)

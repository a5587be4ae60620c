"""Sets of groups: against brute force over all supports, and what each promises of its elements."""

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hwloop.pruning import (
    Above,
    BlockCols,
    BlockRows,
    Blocks,
    Channels,
    ColumnProportional,
    Filters,
    Intersection,
    LowRank,
    OneSign,
    Rows,
    Segments,
    SegmentShapes,
    Weights,
)
from hwloop.pruning.groups import largest

SMALL = arrays("float64", st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=st.floats(-9, 9)).map(
    torch.from_numpy
)


def full(matrix):
    """A matrix without zeros, so that no line is left out of the grid."""
    return torch.where(matrix == 0, 0.5, matrix)


def distance(a, b):
    return float((a - b).square().sum())


def nearest(matrix, constraint):
    """Smallest distance over every choice of groups within every budget."""
    groups, budgets = constraint.partition(matrix)
    best = [0.0] * (int(budgets.max()) + 1)
    for budget in range(len(best)):
        members = [group for group in range(len(budgets)) if budgets[group] == budget]
        energies = [float(matrix[groups == group].square().sum()) for group in members]
        kept = min(constraint.keep, len(members))
        best[budget] = sum(energies) - max(sum(chosen) for chosen in combinations(energies, kept))
    return sum(best)


@settings(deadline=None, max_examples=60)
@given(SMALL, st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_projections_are_nearest_among_all_choices(matrix, keep, height, width):
    matrix = full(matrix)
    for constraint in (
        Weights(keep),
        Filters(keep),
        Rows(keep),
        Channels(keep, height),
        Blocks(keep, height, width),
        Segments(keep, height),
        ColumnProportional(keep, height),
        BlockRows(keep, height, width),
        BlockCols(keep, height, width),
    ):
        once = matrix * (first_projection(constraint, matrix) != 0)
        assert distance(matrix, once) == pytest.approx(nearest(matrix, constraint), abs=1e-9)


def first_projection(constraint, matrix):
    """One projection on the grid of the matrix as it is; sets on a moving grid go on from there."""
    partition = constraint.partition(matrix)
    return matrix * largest(partition.energy(matrix), partition.budgets, constraint.keep)[partition.groups]


@settings(deadline=None, max_examples=40)
@given(SMALL, st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_a_projection_only_drops_entries_and_what_has_no_grid_stays_where_it_is(matrix, keep, height, width):
    still = (
        Weights(keep),
        Filters(keep),
        Channels(keep, height),
        Blocks(keep, height, width),
        OneSign(height + 1),
        Above(0.3),
    )
    moving = (
        Segments(keep, height),
        ColumnProportional(keep, height),
        BlockRows(keep, height, width),
        BlockCols(keep, height, width),
        SegmentShapes(keep, width, height + width),
        Intersection((Filters(keep), ColumnProportional(1, height), OneSign(2))),
    )
    for constraint in (*still, *moving):
        once = constraint.project(matrix)
        assert ((once == 0) | (once == matrix)).all()
        if constraint in still:
            torch.testing.assert_close(constraint.project(once), once, rtol=0, atol=0)


@settings(deadline=None)
@given(SMALL, st.integers(1, 3))
def test_columns_of_tiles_hold_no_more_cells_than_allowed(matrix, keep):
    projected = ColumnProportional(keep, 2).project(matrix)
    for band in projected[matrix.any(1)].split(2):
        assert int((band != 0).sum(0).max() if len(band) else 0) <= keep


@settings(deadline=None)
@given(SMALL, st.integers(2, 3))
def test_fragments_keep_the_sign_with_more_energy(matrix, height):
    projected = OneSign(height).project(matrix)
    for fragment in projected[projected.any(1)].split(height):
        assert ((fragment >= 0).all(0) | (fragment <= 0).all(0)).all()
    first = full(matrix)[:height]
    once = OneSign(height).project(first)
    if once.any(1).all():
        for before, after in zip(first.T, once.T, strict=True):
            signs = [distance(before, before.clamp(min=0)), distance(before, before.clamp(max=0))]
            assert distance(before, after) == pytest.approx(min(signs))


def test_as_many_shapes_as_columns_lose_only_what_each_column_must():
    matrix = torch.randn(12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    projected = SegmentShapes(5, 4, 6).project(matrix)
    assert distance(matrix, projected) == pytest.approx(nearest(matrix, ColumnProportional(4, 6)))


def test_one_shape_keeps_the_rows_of_most_energy():
    matrix = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(SegmentShapes(1, 3, 8).project(matrix), Rows(3).project(matrix))


def test_planted_shapes_are_found():
    generator = torch.Generator().manual_seed(5)
    shapes = torch.zeros(16, 2, dtype=torch.bool)
    shapes[:4, 0] = shapes[8:12, 1] = True
    matrix = torch.randn(16, 20, dtype=torch.float64, generator=generator)
    matrix = matrix * shapes[:, torch.arange(20) % 2]
    noisy = matrix + 1e-3 * torch.randn(16, 20, dtype=torch.float64, generator=generator)
    assert torch.equal(SegmentShapes(2, 4, 16).project(noisy) != 0, matrix != 0)


def test_low_rank_is_the_nearest_by_the_singular_values_left_out():
    matrix = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    projected = LowRank(2).project(matrix)
    assert torch.linalg.matrix_rank(projected) == 2
    left_out = torch.linalg.svdvals(matrix)[2:].square().sum()
    assert distance(matrix, projected) == pytest.approx(float(left_out))

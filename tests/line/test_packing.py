"""Columns that need the same rows share tiles: shapes that somebody planted are found, in any order."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hwloop.mapping import form_tiles, tile_count

ROWS, COLS = 8, 8


@st.composite
def planted(draw):
    """Segments of groups of 4 R rows, each with one of K shapes of R rows; and the columns of each shape."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kinds, groups, cols = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 6)) * COLS
    mask = np.zeros((groups * 4 * ROWS, cols), dtype=bool)
    members = []
    for top in range(0, len(mask), 4 * ROWS):
        # Disjoint shapes: a column of another shape would need rows beyond what a tile has.
        shapes = rng.permutation(4 * ROWS).reshape(4, ROWS)[:kinds]
        shape_of = rng.integers(0, kinds, cols)
        for col, kind in enumerate(shape_of):
            mask[top + shapes[kind], col] = True
        members.append(np.bincount(shape_of, minlength=kinds))
    return torch.from_numpy(mask), members


@given(planted())
@settings(max_examples=150, deadline=None)
def test_planted_shapes_take_the_fewest_tiles_that_they_can(case):
    mask, members = case
    ideal = sum(math.ceil(count / COLS) for counts in members for count in counts)
    assert tile_count(mask, (ROWS, COLS)) <= ideal


def test_a_quarter_kept_in_shapes_takes_a_quarter_of_the_tiles():
    mask = np.zeros((4 * 64, 256), dtype=bool)
    rows = np.random.default_rng(0).permutation(len(mask)).reshape(4, 64)
    for col in range(256):
        mask[rows[col % 4], col] = True
    assert tile_count(torch.ones(mask.shape), (64, 64)) == 16
    assert tile_count(torch.from_numpy(mask), (64, 64)) == 4


def test_groups_of_rows_that_lost_rows_of_all_columns_are_found_too():
    """Two shapes of a quarter each leave half of the rows empty: bands of used rows would mix two groups."""
    rng = np.random.default_rng(1)
    mask = np.zeros((8 * 64, 128), dtype=bool)
    for top in range(0, len(mask), 256):
        rows = rng.permutation(256)[:120]
        for col in range(128):
            mask[top + rows[60 * (col % 2) :][:60], col] = True
    assert tile_count(torch.from_numpy(mask), (64, 64)) == 4


def test_segments_that_lost_weights_still_lie_with_their_shape():
    rng = np.random.default_rng(2)
    mask = np.zeros((256, 256), dtype=bool)
    rows = rng.permutation(256).reshape(4, 64)
    for col in range(256):
        mask[rows[col % 4], col] = rng.random(64) < 0.8
    assert tile_count(torch.from_numpy(mask), (64, 64)) == 4


@pytest.mark.parametrize(("kept", "tiles"), [(32, 8), (16, 4), (8, 4)])
def test_rows_that_every_block_dropped_for_itself_are_made_up_for(kept, tiles):
    """PIM-Prune: each block of a grid of 4 x 4 keeps some of its rows; a tile holds at least 64 columns."""
    rng = np.random.default_rng(3)
    mask = np.zeros((256, 256), dtype=bool)
    for top in range(0, 256, 64):
        for left in range(0, 256, 64):
            mask[top + rng.permutation(64)[:kept], left : left + 64] = True
    assert tile_count(torch.from_numpy(mask), (64, 64)) == tiles


def test_blocks_that_dropped_as_many_rows_as_they_liked_are_cut_by_their_own_rows():
    """Two blocks above one another hardly ever have just 64 rows together, but all of a block column do."""
    rng = np.random.default_rng(4)
    mask = np.zeros((1024, 128), dtype=bool)
    for top in range(0, 1024, 64):
        for left in (0, 64):
            mask[top : top + 64, left : left + 64] = (rng.random(64) < 0.5)[:, None]
    ideal = sum(math.ceil(int(mask[:, left].sum()) / 64) for left in (0, 64))
    assert ideal < 0.6 * tile_count(torch.ones(mask.shape), (64, 64))
    assert tile_count(torch.from_numpy(mask), (64, 64)) == ideal


def test_blocks_of_few_lines_share_an_array_like_a_diagonal():
    mask = torch.block_diag(*[torch.ones(16, 16)] * 8)
    mask = torch.stack([mask, torch.zeros_like(mask)], dim=1).reshape(256, 128)
    assert tile_count(mask, (64, 64)) == 2


@given(st.integers(0, 2**32), st.floats(0, 1), st.integers(1, 40), st.integers(1, 30))
@settings(max_examples=100, deadline=None)
def test_the_same_mask_gives_the_same_tiles_whatever_the_codes(seed, density, rows, cols):
    rng = np.random.default_rng(seed)
    mask = rng.random((rows, cols)) < density
    codes = (rng.integers(1, 127, mask.shape) * rng.choice([-1, 1], mask.shape) * mask).astype(np.int8)
    first = form_tiles(torch.from_numpy(codes), (ROWS, COLS))
    second = form_tiles(torch.from_numpy(mask.astype(np.int8)), (ROWS, COLS))
    for one, other in zip(first[1:], second[1:], strict=True):
        assert torch.equal(one, other)
    assert torch.equal(first[0] != 0, second[0] != 0)

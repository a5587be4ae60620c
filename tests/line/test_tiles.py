"""Cutting matrices into tiles: exact both ways, and never more tiles than the rule needs."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hwloop.mapping import UNUSED_LINE, assemble, form_tiles, tile_count
from hwloop.mapping.tiles import tile_lines
from hwloop.networks import to_matrix


@st.composite
def matrices(draw):
    """Signed level codes, block diagonal for several groups, with the shape of the arrays to cut them for."""
    groups = draw(st.integers(1, 6))
    height, width = draw(st.integers(1, 14)), draw(st.integers(1, 14))
    array_shape = (draw(st.integers(1, 12)), draw(st.integers(1, 12)))
    density = draw(st.sampled_from([0.0, 0.05, 0.3, 1.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    codes = np.zeros((groups * height, groups * width), np.int8)
    for group in range(groups):
        block = rng.integers(-127, 128, (height, width)) * (rng.random((height, width)) < density)
        # Whole empty lines are what compaction is about.
        block *= (rng.random(height) < 0.7)[:, None] * (rng.random(width) < 0.7)
        codes[group * height : (group + 1) * height, group * width : (group + 1) * width] = block
    return torch.from_numpy(codes), array_shape, groups


def used_lines(block):
    rows = [i for i in range(len(block)) if any(block[i])]
    cols = [j for j in range(len(block[0])) if any(row[j] for row in block)]
    return rows, cols


def plain_tiles(codes, array_shape, groups):
    """The plain way in plain Python: bundles of groups that fit one array, bands of rows, packed columns."""
    matrix = codes.tolist()
    height, width = len(matrix) // groups, len(matrix[0]) // groups
    tiles, shared = [], None
    for group in range(groups):
        block = [row[group * width :][:width] for row in matrix[group * height :][:height]]
        rows, cols = (
            [group * size + line for line in lines]
            for size, lines in zip((height, width), used_lines(block), strict=True)
        )
        if not rows:
            continue
        if len(rows) > array_shape[0] or len(cols) > array_shape[1]:
            for top in range(0, len(rows), array_shape[0]):
                band = rows[top : top + array_shape[0]]
                band_cols = [j for j in cols if any(matrix[i][j] for i in band)]
                for left in range(0, len(band_cols), array_shape[1]):
                    part = band_cols[left : left + array_shape[1]]
                    tiles.append(([i for i in band if any(matrix[i][j] for j in part)], part))
            shared = None
        elif shared and len(shared[0] + rows) <= array_shape[0] and len(shared[1] + cols) <= array_shape[1]:
            shared[0].extend(rows)
            shared[1].extend(cols)
        else:
            shared = (rows, cols)
            tiles.append(shared)
    return tiles


@given(matrices())
@settings(max_examples=300, deadline=None)
def test_tiles_put_together_are_the_matrix(case):
    codes, array_shape, groups = case
    tiles, row_index, col_index = form_tiles(codes, array_shape, groups)
    assert tiles.dtype == torch.int8
    assert tiles.shape[1:] == array_shape
    assert torch.equal(assemble(tiles, row_index, col_index, tuple(codes.shape)), codes)


@given(matrices())
@settings(max_examples=300, deadline=None)
def test_tiles_are_those_of_the_plain_way_or_fewer(case):
    codes, array_shape, groups = case
    plain = plain_tiles(codes, array_shape, groups)
    found = [(rows.tolist(), cols.tolist()) for rows, cols in tile_lines(codes, array_shape, groups)]
    assert found == plain or len(found) < len(plain)
    assert tile_count(codes != 0, array_shape, groups) == len(found)
    assert len(form_tiles(codes, array_shape, groups)[0]) == len(found)


@given(matrices())
@settings(max_examples=300, deadline=None)
def test_every_weight_is_in_one_place_and_every_line_of_a_tile_is_used(case):
    codes, array_shape, groups = case
    tiles, row_index, col_index = form_tiles(codes, array_shape, groups)
    assert int((tiles != 0).sum()) == int((codes != 0).sum())
    crossed = torch.zeros(codes.shape, dtype=torch.int64)
    for block, rows, cols in zip(tiles, row_index, col_index, strict=True):
        kept = block != 0
        crossed[rows[rows != UNUSED_LINE].long()[:, None], cols[cols != UNUSED_LINE].long()] += 1
        assert torch.equal(kept.any(dim=1), rows != UNUSED_LINE)
        assert torch.equal(kept.any(dim=0), cols != UNUSED_LINE)
        for lines in (rows[rows != UNUSED_LINE], cols[cols != UNUSED_LINE]):
            assert (lines.diff() > 0).all()
    assert int(crossed.max()) <= 1


@given(matrices())
@settings(max_examples=100, deadline=None)
def test_pruning_blocks_of_a_dense_matrix_never_costs_tiles(case):
    codes, array_shape, groups = case
    dense = torch.block_diag(
        *[torch.ones(codes.shape[0] // groups, codes.shape[1] // groups) for _ in range(groups)]
    )
    assert tile_count(codes, array_shape, groups) <= tile_count(dense, array_shape, groups)


@pytest.mark.parametrize("array_shape", [(1, 1), (64, 64)])
def test_one_weight_takes_one_tile(array_shape):
    tiles, row_index, col_index = form_tiles(torch.tensor([[-3]], dtype=torch.int8), array_shape)
    assert tiles[0, 0, 0] == -3
    assert int(tiles.sum()) == -3
    assert (int(row_index[0, 0]), int(col_index[0, 0])) == (0, 0)


def test_a_layer_without_weights_takes_no_tile():
    tiles, row_index, col_index = form_tiles(torch.zeros(100, 30, dtype=torch.int8), (64, 64))
    assert tiles.shape == (0, 64, 64)
    assert row_index.shape == col_index.shape == (0, 64)
    assert not assemble(tiles, row_index, col_index, (100, 30)).any()


def test_conductances_are_put_together_as_they_are():
    tiles, row_index, col_index = form_tiles(torch.tensor([[2, 0], [0, -5]], dtype=torch.int8), (4, 4))
    conductances = tiles.double() * 1.5e-6
    expected = torch.tensor([[3e-6, 0], [0, -7.5e-6]], dtype=torch.float64)
    assert torch.equal(assemble(conductances, row_index, col_index, (2, 2)), expected)


LENET = [(25, 20), (500, 50), (800, 500), (500, 10)]
CONVNET = [(75, 32), (800, 32), (800, 64), (1024, 10)]


# Dense tile counts: arithmetic of ceil(rows / R) * ceil(cols / C) per layer.
@pytest.mark.parametrize(
    ("layers", "array_shape", "tiles"),
    [
        (LENET, (32, 32), 449),
        (LENET, (64, 64), 121),
        (LENET, (128, 64), 65),
        (LENET, (256, 256), 13),
        (CONVNET, (64, 64), 44),
        (CONVNET, (128, 128), 23),
    ],
)
def test_dense_networks_take_the_known_number_of_tiles(layers, array_shape, tiles):
    assert sum(tile_count(torch.ones(shape), array_shape) for shape in layers) == tiles


def test_small_groups_share_arrays_and_large_ones_do_not():
    depthwise = to_matrix(nn.Conv2d(64, 64, 3, groups=64))
    # 7 groups of 9 rows fill 63 of 64 word lines.
    assert tile_count(depthwise, (64, 64), groups=64) == math.ceil(64 / 7)
    halves = torch.block_diag(torch.ones(100, 100), torch.ones(100, 100))
    assert tile_count(halves, (64, 64), groups=2) == 8


def test_input_that_does_not_fit_together_is_named():
    codes = torch.ones(6, 4, dtype=torch.int8)
    with pytest.raises(TypeError, match="int8"):
        form_tiles(codes.int(), (4, 4))
    with pytest.raises(ValueError, match="outside the diagonal blocks"):
        form_tiles(codes, (4, 4), groups=2)
    with pytest.raises(ValueError, match="4 equal groups"):
        form_tiles(codes, (4, 4), groups=4)
    with pytest.raises(ValueError, match="at least one word line"):
        tile_count(codes, (0, 4))
    with pytest.raises(ValueError, match="2 dimensions"):
        tile_count(codes[0], (4, 4))

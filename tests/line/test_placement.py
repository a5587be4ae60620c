"""Placement: the same product from other places, and less current lost on the way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from device_models import load_card
from device_models.crossbar import Wires, effective_conductance
from hwloop.cost import chip_facts
from hwloop.hardware import FastHardware, IdealHardware
from hwloop.mapping import (
    UNUSED_LINE,
    assemble,
    build_map,
    compare_maps,
    decode,
    fragment_of_rows,
    largest_code,
    read_map,
    validate_map,
    write_map,
)
from hwloop.recipe import Readout

CARD = load_card("ideal")


def map_of(codes, array_shape, encoding="differential", fragment=1, placement="near", slices=1):
    """One layer of these weight codes, its lines placed."""
    net = nn.Sequential()
    net.fc = nn.Linear(*codes.shape)
    quantized, inputs = {"fc": (torch.from_numpy(codes.astype(np.int8)), 0.5)}, {"fc": (1.0, False)}
    how = {"encoding": encoding, "fragment": fragment, "placement": placement, "slices": slices}
    return build_map("tests:none", net, quantized, CARD, array_shape, inputs, **how)


@st.composite
def cases(draw):
    """Signed codes of a sparse layer, its encoding, and the word lines of a fragment."""
    encoding = draw(st.sampled_from(["differential", "offset", "polarised"]))
    fragment = draw(st.integers(1, 4)) if encoding == "polarised" else 1
    array_shape = (fragment * draw(st.integers(1, 4)), draw(st.integers(1, 8)))
    slices = draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape, largest = (draw(st.integers(1, 20)), draw(st.integers(1, 12))), largest_code(encoding, 15, slices)
    codes = rng.integers(-largest, largest + 1, shape) * (rng.random(shape) < draw(st.sampled_from([0.2, 1])))
    if encoding == "polarised":
        fragments = fragment_of_rows(torch.from_numpy(codes), array_shape, 1, fragment).numpy()
        codes = np.abs(codes) * rng.choice([-1, 1], (len(codes), shape[1]))[fragments]
    return codes, array_shape, encoding, fragment, slices


@given(cases())
@settings(max_examples=150, deadline=None)
def test_the_lines_of_a_tile_come_in_order_of_their_conductance_and_hold_the_same_weights(case):
    codes, array_shape, encoding, fragment, slices = case
    plain, placed = (
        map_of(codes, array_shape, encoding, fragment, placement, slices).layers["fc"]
        for placement in ("matrix", "near")
    )
    for layer in (plain, placed):
        blocks = decode(layer, 15)
        matrix = assemble(blocks, layer.row_index, layer.col_index, layer.matrix_shape)
        assert np.array_equal(matrix, codes)
        assert torch.equal(layer.mask, blocks != 0)
    for name in ("row_index", "col_index"):
        lines = getattr(plain, name).sort(dim=1).values, getattr(placed, name).sort(dim=1).values
        assert torch.equal(*lines)
    totals = placed.codes.double().sum(dim=(1, 2))
    for tile, rows, cols in zip(totals, placed.row_index, placed.col_index, strict=True):
        used = cols != UNUSED_LINE
        assert (used.int().diff() <= 0).all()
        assert (tile.sum(dim=0)[used].diff() <= 0).all()
        word_lines, used = tile.sum(dim=1), rows != UNUSED_LINE
        if fragment == 1:
            assert (used.int().diff() >= 0).all()
            assert (word_lines[used].diff() >= 0).all()
        by_fragment = word_lines.reshape(-1, fragment)
        whole = used.reshape(-1, fragment).all(dim=1)
        assert (by_fragment.diff(dim=1)[whole] >= 0).all()
        assert (by_fragment.sum(dim=1)[whole].diff() >= 0).all()


@pytest.mark.parametrize(("encoding", "fragment"), [("differential", 1), ("offset", 1), ("polarised", 4)])
def test_placed_layers_are_read_and_stored_like_others(encoding, fragment, tmp_path):
    rng = np.random.default_rng(0)
    codes = rng.integers(-7, 8, (30, 11)) * (rng.random((30, 11)) < 0.4)
    if encoding == "polarised":
        fragments = fragment_of_rows(torch.from_numpy(codes), (8, 8), 1, fragment).numpy()
        codes = np.abs(codes) * rng.choice([-1, 1], codes.shape)[fragments]
    made = map_of(codes, (8, 8), encoding, fragment)
    write_map(made, tmp_path / "maps.h5")
    assert validate_map(tmp_path / "maps.h5") == []
    assert compare_maps(read_map(tmp_path / "maps.h5"), made) == []
    x = torch.randint(0, 256, (6, 30)) / 255
    for rows_at_once in (4, 2):
        fast = FastHardware(Wires(0.0, 0.0), Readout(rows_at_once=rows_at_once), seed=0)
        for hardware in (fast, IdealHardware()):
            hardware.program(made)
            expected = x @ torch.from_numpy(codes * 0.5).float()
            torch.testing.assert_close(hardware.read("fc", x), expected, rtol=1e-5, atol=1e-4)


def test_the_order_of_the_lines_is_kept_in_bits():
    codes = np.arange(1, 9)[:, None] * np.ones((8, 4), dtype=np.int64)
    codes[0, 3] = 9
    bits = {
        placement: chip_facts(map_of(codes, (8, 4), placement=placement), {"fc": 1}).layers["fc"].tiles[0]
        for placement in ("matrix", "near")
    }
    assert bits["matrix"].index_bits == 0
    assert bits["near"].index_bits == 8 * 3 + 4 * 2


def lost(layer, wires):
    """Share of the current that the wires of a layer's arrays cost when all word lines are driven."""
    g = layer.codes.double() * 1e-4 / 15
    return 1 - float(effective_conductance(g, wires).sum() / g.sum())


@pytest.mark.parametrize("density", [0.08, 1.0])
@pytest.mark.parametrize("rows", [20, 40], ids=["part of the word lines", "all and part"])
def test_less_current_is_lost_than_in_the_order_of_the_matrix(density, rows):
    rng = np.random.default_rng(1)
    codes = np.rint(rng.laplace(0, 3, (rows, 32))).clip(-15, 15) * (rng.random((rows, 32)) < density)
    for wires in (Wires(5.0, 5.0, 100.0, 100.0), Wires(1.0, 3.0, 1.0, 1.0)):
        matrix, near = (
            lost(map_of(codes, (32, 32), placement=placement).layers["fc"], wires)
            for placement in ("matrix", "near")
        )
        assert near < 0.98 * matrix

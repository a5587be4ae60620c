"""Weight encodings: products come back exactly through the stated ADC bits, and not through one bit fewer."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from device_models import load_card
from device_models.converters import lossless_bits
from hwloop.hardware import IdealHardware
from hwloop.mapping import (
    UNUSED_LINE,
    LayerMap,
    assemble,
    build_map,
    decode,
    encode,
    exact_adc_bits,
    form_tiles,
    fragment_of_rows,
    largest_code,
    line_weights,
    resolution,
)
from hwloop.recipe import Readout

CARD = load_card("ideal")


def layer_of(
    codes: np.ndarray,
    array_shape: tuple[int, int],
    encoding: str,
    levels: int,
    slices: int,
    fragment: int = 1,
):
    """A layer that holds these signed weight codes."""
    signed = torch.from_numpy(codes.astype(np.int8))
    blocks, row_index, col_index = form_tiles(signed, array_shape, 1, fragment)
    cells = encode(blocks, row_index, col_index, encoding, levels, slices, fragment)
    return LayerMap(
        name="fc",
        kind="linear",
        weight_shape=codes.shape[::-1],
        groups=1,
        row_index=row_index,
        col_index=col_index,
        weight_per_siemens=1.0,
        input_scale=1.0,
        input_signed=False,
        adc_bits=torch.full((len(blocks),), 20, dtype=torch.uint8),
        **cells._asdict(),
    )


@st.composite
def layers(draw, encodings=("differential", "offset", "polarised")):
    """A random sparse layer, with the levels of its cells and the generator that made it."""
    encoding, slices = draw(st.sampled_from(encodings)), draw(st.integers(1, 3))
    levels = draw(st.integers(1, 15))
    assume((levels + 1) ** slices > (2 if encoding == "offset" else 1))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (draw(st.integers(1, 14)), draw(st.integers(1, 10)))
    largest = largest_code(encoding, levels, slices)
    codes = rng.integers(-largest, largest + 1, shape) * (rng.random(shape) < draw(st.sampled_from([0.2, 1])))
    array_shape, fragment = (draw(st.integers(1, 8)), draw(st.integers(1, 8))), 1
    if encoding == "polarised":
        fragment = draw(st.sampled_from([n for n in range(1, 9) if array_shape[0] % n == 0]))
        codes = polarised(codes, array_shape, fragment, rng)
    return layer_of(codes, array_shape, encoding, levels, slices, fragment), codes, levels, rng


def polarised(codes, array_shape, fragment, rng):
    """The same magnitudes, with one sign for each fragment of a column."""
    fragments = fragment_of_rows(torch.from_numpy(codes), array_shape, 1, fragment).numpy()
    return np.abs(codes) * rng.choice([-1, 1], (len(codes), codes.shape[1]))[fragments]


def read_crossbar(layer, x, levels, bits, *, dac_slice=1, input_bits=6, rows_at_once=None):
    """The product, as bit lines, converters that clip and shifts and adds make it: integers alone."""
    weights, per_input = line_weights(layer, levels)
    height = layer.codes.shape[3] // weights.shape[3]
    out = np.zeros(layer.matrix_shape[1], np.int64)
    for tile in range(layer.tiles):
        lines = [i for i, row in enumerate(layer.row_index[tile].tolist()) if row != UNUSED_LINE]
        cols = [(j, col) for j, col in enumerate(layer.col_index[tile].tolist()) if col != UNUSED_LINE]
        inputs = {i: int(x[layer.row_index[tile, i]]) for i in lines}
        for j, col in cols:
            out[col] += int(per_input[tile, j]) * sum(inputs.values())
            at_once = rows_at_once or max(1, len(lines))
            groups = [lines[first : first + at_once] for first in range(0, len(lines), at_once)]
            for low, group in itertools.product(range(0, input_bits, dac_slice), groups):
                digits = [(inputs[i] >> low) % 2**dac_slice for i in group]
                for polarity, part in np.ndindex(layer.codes.shape[1:3]):
                    cells = layer.codes[tile, polarity, part, :, j].tolist()
                    current = sum(cells[i] * digit for i, digit in zip(group, digits, strict=True))
                    code = min(current, 2 ** int(bits[tile, polarity, part, j]) - 1)
                    out[col] += int(weights[tile, polarity, part, group[0] // height, j]) * (code << low)
    return out


@given(layers(), st.integers(1, 3), st.sampled_from([None, 1, 3]))
@settings(max_examples=120, deadline=None)
def test_the_stated_bits_lose_nothing_and_one_fewer_does(case, dac_slice, rows_at_once):
    layer, codes, levels, rng = case
    if layer.encoding == "polarised":
        rows_at_once = layer.fragment
    how = {"dac_slice": dac_slice, "rows_at_once": rows_at_once}
    bits = exact_adc_bits(layer, dac_slice, rows_at_once)
    for x in (rng.integers(0, 64, len(codes)), np.full(len(codes), 63)):
        assert np.array_equal(read_crossbar(layer, x, levels, bits, **how), x @ codes)
    if not layer.codes.any():
        return
    worst = np.unravel_index(
        int(torch.where((layer.codes != 0).any(dim=3), bits, 0).argmax()), tuple(bits.shape)
    )
    fewer = bits.clone()
    fewer[worst] -= 1
    # Full-scale digits on the word lines of the group that carries most through the worst bit line.
    lines = (layer.row_index[worst[0]] != UNUSED_LINE).nonzero()[:, 0]
    cells = layer.codes[worst[0], worst[1], worst[2], :, worst[3]].long()
    group = max(lines.split(rows_at_once or len(lines)), key=lambda group: int(cells[group].sum()))
    x = np.zeros(len(codes), np.int64)
    x[layer.row_index[worst[0], group]] = 2**dac_slice - 1
    assert np.array_equal(read_crossbar(layer, x, levels, bits, **how), x @ codes)
    assert not np.array_equal(read_crossbar(layer, x, levels, fewer, **how), x @ codes)


@given(layers())
@settings(max_examples=120, deadline=None)
def test_cells_stand_for_the_codes_and_pruned_weights_are_not_kept(case):
    layer, codes, levels, _ = case
    blocks = decode(layer, levels)
    matrix = assemble(blocks, layer.row_index, layer.col_index, layer.matrix_shape)
    assert matrix.dtype == torch.int8
    assert np.array_equal(matrix, codes)
    assert torch.equal(layer.mask, blocks != 0)
    steps = assemble(
        decode(layer, levels, layer.codes.double()), layer.row_index, layer.col_index, layer.matrix_shape
    )
    assert torch.equal(steps, matrix.double())


def digits_of(number, levels, slices):
    return [number // (levels + 1) ** place % (levels + 1) for place in range(slices)]


@given(layers())
@settings(max_examples=80, deadline=None)
def test_cells_hold_the_digits_that_the_encoding_says(case):
    layer, codes, levels, _ = case
    polarities, slices = layer.codes.shape[1:3]
    for tile, i, j in np.ndindex(layer.tiles, *layer.codes.shape[3:]):
        row, col = int(layer.row_index[tile, i]), int(layer.col_index[tile, j])
        expected = [[0] * slices] * polarities
        if UNUSED_LINE not in (row, col):
            code = int(codes[row, col])
            numbers = [max(code, 0), max(-code, 0)]
            if layer.encoding == "offset":
                numbers = [code + min(127, ((levels + 1) ** slices - 1) // 2)]
            if layer.encoding == "polarised":
                numbers = [abs(code)]
            expected = [digits_of(number, levels, slices) for number in numbers]
            if layer.encoding == "offset":
                flipped = layer.flipped[tile, :, j].tolist()
                expected = [[levels - d if f else d for d, f in zip(expected[0], flipped, strict=True)]]
        assert layer.codes[tile, :, :, i, j].tolist() == expected


@given(layers(encodings=("offset",)), st.integers(1, 3))
@settings(max_examples=80, deadline=None)
def test_flipping_spares_a_bit_of_what_full_columns_need(case, dac_slice):
    layer, _, levels, _ = case
    rows = (layer.row_index != UNUSED_LINE).sum(dim=1).tolist()
    for bits, used in zip(exact_adc_bits(layer, dac_slice), rows, strict=True):
        assert int(bits.max()) <= max(1, lossless_bits(used, levels, dac_slice) - 1)


@pytest.mark.parametrize(
    ("rows", "lowest", "without", "flipped"),
    [
        # Full scale of 85 cells of 3 levels is 255: random columns need all 8 bits, and 7 when flipped.
        (85, -127, 8, 7),
        # ISAAC, ISCA 2016: 128 rows of 2-bit cells need 9 bits in the worst case, and 8 when flipped.
        (128, 64, 9, 8),
    ],
)
def test_dense_offset_columns_need_a_bit_more_without_flipping(rows, lowest, without, flipped):
    codes = np.random.default_rng(0).integers(lowest, 128, (rows, 64))
    layer = layer_of(codes, (128, 64), "offset", 3, 4)
    assert layer.flipped.any()
    assert not layer.flipped.all()
    digits = torch.where(layer.flipped[:, None, :, None], 3 - layer.codes, layer.codes)
    digits *= (layer.row_index != UNUSED_LINE)[:, None, None, :, None]
    plain = dataclasses.replace(layer, codes=digits, flipped=torch.zeros_like(layer.flipped))
    assert torch.equal(decode(plain, 3), decode(layer, 3))
    assert int(exact_adc_bits(plain).max()) == without
    assert int(exact_adc_bits(layer).max()) == flipped


@pytest.mark.parametrize(
    ("encoding", "levels", "slices", "largest"),
    [
        ("differential", 1, 1, 1),
        ("differential", 15, 1, 15),
        ("differential", 3, 2, 15),
        ("differential", 15, 3, 127),
        ("polarised", 3, 2, 15),
        ("polarised", 15, 3, 127),
        ("offset", 2, 1, 1),
        ("offset", 15, 1, 7),
        ("offset", 3, 4, 127),
        ("offset", 1, 8, 127),
    ],
)
def test_the_largest_code_is_what_the_cells_hold(encoding, levels, slices, largest):
    assert largest_code(encoding, levels, slices) == largest
    codes = np.array([[largest, -largest]])
    layer = layer_of(codes, (1, 2), encoding, levels, slices)
    assert decode(layer, levels).flatten().tolist() == [largest, -largest]
    if largest < 127:
        with pytest.raises(ValueError, match=f"weight code {largest + 1} is above {largest}"):
            layer_of(codes + 1, (1, 2), encoding, levels, slices)


def test_the_exact_bits_are_never_above_the_formula_of_conducting_cells():
    rng = np.random.default_rng(1)
    codes = rng.integers(-15, 16, (30, 20)) * (rng.random((30, 20)) < 0.4)
    for dac_slice, slices in itertools.product((1, 2, 3), (1, 2)):
        layer = layer_of(codes, (16, 8), "differential", 15, slices)
        conducting = (layer.codes != 0).sum(dim=3)
        for cells, bits in zip(conducting.flatten(), exact_adc_bits(layer, dac_slice).flatten(), strict=True):
            assert bits <= lossless_bits(int(cells), 15, dac_slice)
            assert bits >= 1
    one_at_a_time = exact_adc_bits(layer, rows_at_once=1)
    assert int(one_at_a_time.max()) == math.ceil(math.log2(int(layer.codes.max()) + 1))


@pytest.mark.parametrize("encoding", ["differential", "offset"])
@pytest.mark.parametrize("slices", [1, 2])
@pytest.mark.parametrize("cell_levels", [3, 15])
def test_ideal_arrays_give_the_product_with_the_quantized_weights(encoding, slices, cell_levels):
    torch.manual_seed(2)
    card = load_card("rram-neurram").with_levels(cell_levels)
    net = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.Flatten(), nn.Linear(24, 10))
    largest = largest_code(encoding, card.levels, slices)
    shapes = {"0": (36, 6), "2": (24, 10)}
    quantized = {}
    for name, (rows, cols) in shapes.items():
        codes = torch.randint(-largest, largest + 1, (rows, cols)).to(torch.int8)
        if name == "0":
            codes *= torch.block_diag(torch.ones(18, 3), torch.ones(18, 3)).to(torch.int8)
        quantized[name] = (codes, 0.01)
    inputs = dict.fromkeys(shapes, (1.0, False))
    made = build_map("tests:none", net, quantized, card, (16, 4), inputs, encoding=encoding, slices=slices)
    hardware = IdealHardware()
    programmed = hardware.program(made)
    for name, (codes, scale) in quantized.items():
        x = torch.rand(5, len(codes))
        torch.testing.assert_close(hardware.read(name, x), x @ (codes * scale).float(), rtol=1e-5, atol=1e-5)
        layer = programmed.layers[name]
        assert layer.codes.shape[1:3] == (2 if encoding == "differential" else 1, slices)
        assert layer.actual.max() <= card.g_max.value * (1 + 1e-6)


@given(layers(encodings=("polarised",)))
@settings(max_examples=120, deadline=None)
def test_fragments_of_a_tile_are_those_of_the_matrix_and_never_broken(case):
    layer, codes, levels, _ = case
    array_shape, fragment = tuple(layer.codes.shape[3:]), layer.fragment
    fragments = fragment_of_rows(torch.from_numpy(codes), array_shape, 1, fragment)
    assert torch.equal(fragments >= 0, torch.from_numpy(codes != 0).any(dim=1))
    members = fragments[fragments >= 0].bincount().tolist()
    assert all(count == fragment for count in members[:-1])
    signed = decode(layer, levels).sign()
    for tile, index in enumerate(layer.row_index.long()):
        used = index[index != UNUSED_LINE]
        for place, rows in enumerate(used.split(fragment)):
            numbers = set(fragments[rows].tolist())
            assert len(numbers) == 1
            assert len(rows) == members[numbers.pop()]
            signs = signed[tile, place * fragment : place * fragment + len(rows)]
            expected = torch.where(layer.negative[tile, place], -1, 1) * signs.any(dim=0)
            assert torch.equal(torch.where(signs.any(dim=0), signs.sum(dim=0).sign(), 0), expected)


def test_a_fragment_of_both_signs_is_named():
    codes = torch.ones(20, 3, dtype=torch.int8)
    codes[14, 2] = -1
    inputs, card = {"fc": (1.0, False)}, load_card("ideal")
    net = nn.Sequential()
    net.fc = nn.Linear(20, 3)
    how = {"encoding": "polarised", "fragment": 4}
    with pytest.raises(
        ValueError, match=r"layer fc: tile 1, bit line 2, fragment 1 \(word lines 4 to 7\): .* both signs"
    ):
        build_map("tests:none", net, {"fc": (codes, 1.0)}, card, (8, 4), inputs, **how)
    with pytest.raises(
        ValueError, match="layer fc: arrays of 10 word lines cannot be cut into fragments of 4"
    ):
        build_map("tests:none", net, {"fc": (codes, 1.0)}, card, (10, 4), inputs, **how)
    codes[12:16, 2] = -1
    made = build_map("tests:none", net, {"fc": (codes, 1.0)}, card, (8, 4), inputs, **how).layers["fc"]
    assert made.negative.nonzero().tolist() == [[1, 1, 2]]
    assert (made.encoding, made.fragment, made.tiles) == ("polarised", 4, 3)


def test_word_lines_of_two_fragments_are_not_read_at_once():
    layer = layer_of(np.ones((16, 2)), (8, 4), "polarised", 15, 1, 4)
    for rows_at_once in (4, 2, 1):
        assert int(resolution(layer, 15, Readout(rows_at_once=rows_at_once)).bits[0]) == lossless_bits(
            rows_at_once, 15
        )
    for rows_at_once, what in ((None, "all of an array"), (8, "8"), (3, "3")):
        with pytest.raises(
            ValueError, match=f"layer fc: each 4 word lines have a sign .* must divide .*{what}"
        ):
            resolution(layer, 15, Readout(rows_at_once=rows_at_once))


def test_a_card_with_fewer_levels_has_coarser_ones_up_to_the_same_conductance():
    card = load_card("rram-neurram")
    fewer = card.with_levels(3)
    assert (fewer.levels, fewer.g_max, fewer.name) == (3, card.g_max, card.name)
    assert fewer.g_step == pytest.approx(5 * card.g_step)
    assert fewer.level_count.source.startswith("3 of the 15 levels")
    assert card.with_levels(15) is card
    for wrong in (0, 16):
        with pytest.raises(ValueError, match=f"card rram-neurram has 15 levels; choose 1 to 15, not {wrong}"):
            card.with_levels(wrong)


def test_wrong_use_says_what_is_wrong():
    with pytest.raises(ValueError, match="offset encoding in 1 slices of 1 levels holds no weight but 0"):
        largest_code("offset", 1, 1)
    for slices in (0, 9):
        with pytest.raises(ValueError, match=f"a weight has 1 to 8 slices, not {slices}"):
            largest_code("differential", 15, slices)
    layer = layer_of(np.ones((2, 2)), (2, 2), "offset", 3, 1)
    for wrong in ({"flipped": None}, {"kept": None}, {"codes": layer.codes.repeat(1, 2, 1, 1, 1)}):
        with pytest.raises(ValueError, match=r"layer fc: cells of one polarity have either flipped and kept"):
            dataclasses.replace(layer, **wrong)
    for wrong in ({"dac_slice": 0}, {"rows_at_once": 0}):
        with pytest.raises(ValueError, match="dac_slice and rows_at_once are at least 1"):
            exact_adc_bits(layer, **wrong)

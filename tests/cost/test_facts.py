"""The facts of a chip, from a map and from shapes alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from device_models import load_card
from hwloop.cost import (
    ChipFacts,
    LayerFacts,
    TileFacts,
    chip_facts,
    dense_facts,
    layer_facts,
    saving,
    vectors_per_image,
)
from hwloop.mapping import ConductanceMap, build_map
from hwloop.networks import crossbar_layers, factor_layers, lenet, to_matrix
from hwloop.recipe import Readout

from .chips import one_layer_map

RESNET_18 = [(27, 64)] + 4 * [(576, 64)] + [(576, 128)] + 3 * [(1152, 128)] + [(1152, 256)]
RESNET_18 += (
    3 * [(2304, 256)] + [(2304, 512)] + 3 * [(4608, 512)] + [(64, 128), (128, 256), (256, 512), (512, 10)]
)


def test_used_lines_resolution_and_index_bits_of_a_map() -> None:
    found = chip_facts(
        one_layer_map([[0, 1, 2], [4, 7]], [[1, 2], [0, 3]], array=(4, 2), matrix=(10, 4), bits=[5, 3]),
        {"fc": 6},
    )
    assert found.array_shape == (4, 2)
    assert found.layers["fc"] == LayerFacts(
        # runs of lines need no index; 2 rows of 10 take 4 bits each, 2 columns of 4 take 2 each
        tiles=(TileFacts(3, 2, 5, 0), TileFacts(2, 2, 3, 2 * 4 + 2 * 2)),
        arrays_per_tile=2,
        vectors=6,
    )
    assert found.layers["fc"].arrays == 4
    assert found.layers["fc"].wires == 5 + 4


@pytest.mark.parametrize(("copies", "times"), [(3, 3), ({"fc": 3}, 3), ({"other": 3}, 1)])
def test_each_copy_has_arrays_of_its_own(copies: int | dict[str, int], times: int) -> None:
    mapped = one_layer_map([[0, 1, 2]], [[1, 2]], array=(4, 2), matrix=(10, 4), bits=[5])
    copied = chip_facts(mapped, {"fc": 6}, Readout(copies=copies)).layers["fc"]
    assert copied.arrays == mapped.arrays(Readout(copies=copies)) == times * mapped.arrays()
    assert copied.arrays == times * chip_facts(mapped, {"fc": 6}).layers["fc"].arrays


def test_the_dense_counterpart_of_a_map_keeps_every_line() -> None:
    pruned = one_layer_map([[0, 9]], [[0, 3]], array=(4, 2), matrix=(10, 4), bits=[2])
    dense = dense_facts(pruned, {"fc": 6}).layers["fc"]
    assert [(tile.rows, tile.cols) for tile in dense.tiles] == [
        (4, 2),
        (4, 2),
        (4, 2),
        (4, 2),
        (2, 2),
        (2, 2),
    ]
    assert sum(tile.index_bits for tile in dense.tiles) == 0
    assert dense.vectors == 6


def test_polarised_tiles_keep_a_sign_for_each_fragment_and_would_be_pairs_if_nothing_were_pruned() -> None:
    codes = torch.ones(10, 5, dtype=torch.int8)
    codes[4:8] = -1
    net = nn.Sequential()
    net.fc = nn.Linear(10, 5)
    how = {"encoding": "polarised", "fragment": 4, "slices": 2}
    made = build_map(
        "m:f", net, {"fc": (codes, 1.0)}, load_card("ideal"), (8, 4), {"fc": (1.0, False)}, **how
    )
    readout = Readout(rows_at_once=4)
    layer = chip_facts(made, {"fc": 1}, readout).layers["fc"]
    # Fragments of rows 0 to 3, 4 to 7 and 8 to 9: two in the upper tiles, one in the lower.
    assert [(tile.rows, tile.cols, tile.index_bits) for tile in layer.tiles] == [
        (8, 4, 2 * 4),
        (8, 1, 2 * 1),
        (2, 4, 1 * 4),
        (2, 1, 1 * 1),
    ]
    assert layer.arrays_per_tile == 2
    dense = dense_facts(made, {"fc": 1}, readout).layers["fc"]
    assert dense.arrays_per_tile == 4
    assert sum(tile.index_bits for tile in dense.tiles) == 0


@pytest.mark.parametrize(("size", "arrays"), [(64, 2733), (128, 698), (256, 195)])
def test_resnet_18_takes_the_published_number_of_tiles(size: int, arrays: int) -> None:
    layers = [layer_facts(shape, (size, size), levels=3, vectors=1) for shape in RESNET_18]
    assert sum(len(layer.tiles) for layer in layers) == arrays


@pytest.mark.parametrize(("cells", "bits"), [(None, 9), (64, 8), (32, 7), (8, 5), (1, 2)])
def test_resolution_of_a_column_proportional_layer(cells: int | None, bits: int) -> None:
    """TinyADC's table for two-bit cells: bits fall by one for each halving of l."""
    layer = layer_facts((256, 128), (128, 128), levels=3, vectors=1, cells_per_column=cells)
    assert {tile.adc_bits for tile in layer.tiles} == {bits}


def test_a_short_tile_needs_fewer_bits() -> None:
    layer = layer_facts((27, 64), (128, 128), levels=3, vectors=1)
    assert layer.tiles == (TileFacts(27, 64, 7),)  # 27 * 3 = 81 < 128


def test_groups_that_share_an_array_do_not_share_columns() -> None:
    layer = layer_facts((18, 2), (128, 128), levels=1, vectors=1, groups=2)
    assert layer.tiles == (TileFacts(18, 2, 4),)  # each column holds 9 cells


def test_impossible_facts_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        TileFacts(0, 3, 4)
    with pytest.raises(ValueError, match="arrays_per_tile and vectors are at least 1: 2, 0"):
        LayerFacts((), 2, 0)
    with pytest.raises(ValueError, match="layer fc, tile 1: 5 x 3 lines do not fit into an array of 4 x 4"):
        ChipFacts((4, 4), {"fc": LayerFacts((TileFacts(4, 4, 2), TileFacts(5, 3, 2)), 2, 1)})


def test_vectors_per_image_are_output_positions() -> None:
    image = torch.zeros(1, 1, 28, 28)
    assert vectors_per_image(lenet(), image) == {"conv1": 24 * 24, "conv2": 8 * 8, "fc1": 1, "fc2": 1}


def test_vectors_of_a_strided_grouped_convolution() -> None:
    net = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2))
    assert vectors_per_image(net, torch.zeros(1, 4, 9, 9)) == {"0": 25}


def test_a_layer_that_became_two_is_saved_against_the_whole_one() -> None:
    net = nn.Sequential()
    net.fc = nn.Linear(10, 6)
    whole = dense_facts(_map_of(net), {"fc": 3})
    factor_layers(net, {"fc": 2})
    made, vectors = _map_of(net), {"fc.u": 3, "fc.v": 3}
    dense = dense_facts(made, vectors, factored=["fc"])
    assert dense.layers["fc.u"] == whole.layers["fc"]
    assert not dense.layers["fc.v"].tiles
    found = saving(
        dense, chip_facts(made, vectors), lambda chip: sum(la.wires for la in chip.layers.values())
    )
    assert (found.before, found.after) == (whole.layers["fc"].wires, (10 + 2 * 3) + (2 * 3 + 6))
    assert found.parts["arrays"] == found.before - found.after


def _map_of(net: nn.Module) -> ConductanceMap:
    codes = {name: (torch.ones_like(to_matrix(la), dtype=torch.int8), 1.0)
             for name, la in crossbar_layers(net).items()}  # fmt: skip
    return build_map("m:f", net, codes, load_card("ideal"), (4, 2), dict.fromkeys(codes, (1.0, False)))

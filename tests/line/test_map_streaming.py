"""Maps in parts: what is written and read part by part is what is written and read whole."""

import dataclasses
from itertools import chain

import numpy as np
import pytest
import torch

from hwloop.mapping import (
    MapFileError,
    create_map,
    encode,
    open_map,
    read_map,
    validate_map,
    write_map,
)

from .maps import map_of, random_layer
from .test_mapfile import assert_equal, example, programmed


def parts_of(layer, tiles):
    """A layer cut into layers of a few tiles."""
    names = [field.name for field in dataclasses.fields(layer)]
    tensors = {name: value for name in names if isinstance(value := getattr(layer, name), torch.Tensor)}
    for first in range(0, max(1, layer.tiles), tiles):
        cut = {name: value[first : first + tiles] for name, value in tensors.items()}
        yield dataclasses.replace(layer, **cut)


def offset_layer():
    """A layer in offset encoding, with flipped bit lines."""
    rng = np.random.default_rng(0)
    blocks = torch.from_numpy(rng.integers(-7, 8, (5, 8, 8)).astype(np.int8))
    row_index = torch.arange(40, dtype=torch.int32).reshape(5, 8)
    col_index = torch.arange(8, dtype=torch.int32).repeat(5, 1)
    cells = encode(blocks, row_index, col_index, "offset", 15, 1)
    return dataclasses.replace(
        random_layer("fc3"),
        weight_shape=(8, 40),
        row_index=row_index,
        col_index=col_index,
        adc_bits=torch.full((5,), 8, dtype=torch.uint8),
        **cells._asdict(),
    )


def whole():
    conductance_map = example()
    layers = {**conductance_map.layers, "fc3": offset_layer()}
    return dataclasses.replace(conductance_map, layers=layers)


def write_in_parts(conductance_map, path, tiles, **options):
    with create_map(path, conductance_map, **options) as writer:
        for layer in conductance_map.layers.values():
            writer.layer(parts_of(layer, tiles), layer.tiles)
        for name, value in conductance_map.digital.items():
            writer.digital(name, value)


@pytest.mark.parametrize("tiles", [1, 4, 1000])
def test_parts_of_any_size_make_the_same_file(tmp_path, tiles):
    conductance_map = whole()
    write_map(conductance_map, tmp_path / "whole.h5")
    write_in_parts(conductance_map, tmp_path / "parts.h5", tiles)
    assert (tmp_path / "parts.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_parts_together_are_the_map(tmp_path):
    conductance_map = whole()
    write_map(conductance_map, tmp_path / "maps.h5")
    with open_map(tmp_path / "maps.h5") as stored:
        read = {name: list(stored.parts(name, tiles=4)) for name in stored.layers}
        digital = dict(stored.digital())
        header = stored.header
    assert max(part.tiles for part in chain.from_iterable(read.values())) == 4
    again = dataclasses.replace(header, digital=digital)
    write = tmp_path / "again.h5"
    with create_map(write, again) as writer:
        for parts in read.values():
            writer.layer(parts, sum(part.tiles for part in parts))
        for name, value in digital.items():
            writer.digital(name, value)
    assert_equal(read_map(write), conductance_map)


def test_a_map_without_targets_is_smaller_and_the_same(tmp_path):
    conductance_map = whole()
    write_in_parts(conductance_map, tmp_path / "with.h5", 4)
    write_in_parts(conductance_map, tmp_path / "without.h5", 4, targets=False)
    assert (tmp_path / "without.h5").stat().st_size < (tmp_path / "with.h5").stat().st_size
    assert validate_map(tmp_path / "without.h5") == []
    assert_equal(read_map(tmp_path / "without.h5"), conductance_map)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda parts: parts[:-1], "layers/fc: its parts have 4 tiles, not 6"),
        (lambda parts: [*parts, parts[0]], "layers/fc: its parts have more than 6 tiles"),
        (lambda parts: [*parts[:2], parts[1]], "layers/fc: codes: tile 4: .* holds a weight held before"),
        (lambda parts: [parts[0], dataclasses.replace(parts[1], input_scale=1.0), parts[2]], "parts differ"),
        (lambda parts: [parts[0], dataclasses.replace(parts[1], actual=None), parts[2]], "actual is missing"),
        (lambda parts: [], "a layer has no part"),
    ],
)
def test_parts_that_are_no_layer_leave_nothing(tmp_path, change, message):
    conductance_map = example()
    parts = list(parts_of(conductance_map.layers["fc"], 2))
    with (
        pytest.raises(MapFileError, match=message),
        create_map(tmp_path / "maps.h5", conductance_map) as writer,
    ):
        writer.layer(change(parts), 6)
    assert list(tmp_path.iterdir()) == []


def test_whatever_ends_the_writing_leaves_nothing(tmp_path):
    def endless():
        yield from parts_of(example().layers["fc"], 2)
        raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        create_map(tmp_path / "maps.h5", map_of(random_layer("fc"))) as writer,
    ):
        writer.layer(endless(), 7)
    assert list(tmp_path.iterdir()) == []


def test_reading_in_parts_needs_less_memory_than_the_map(tmp_path):
    layer = programmed(random_layer("fc", matrix_shape=(200, 200), array_shape=(32, 32)))
    write_map(map_of(layer), tmp_path / "maps.h5")
    room = layer.codes.numel() * 3 // 2
    with pytest.raises(MapFileError, match="raise max_bytes"):
        read_map(tmp_path / "maps.h5", max_bytes=room)
    with open_map(tmp_path / "maps.h5", max_bytes=room) as stored:
        assert sum(part.tiles for part in stored.parts("fc", tiles=2)) == layer.tiles
    with open_map(tmp_path / "maps.h5", max_bytes=room) as stored, pytest.raises(MapFileError, match="raise"):
        list(stored.parts("fc", tiles=1000))

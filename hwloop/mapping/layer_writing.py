"""One layer of a conductance map file, written part by part and checked on the way."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

import h5py
import numpy as np

from . import map_schema as schema
from .conductance_map import ConductanceMap, LayerMap
from .hdf5_writing import ArrayWriter, put_array, put_attributes
from .map_checks import LayerFacts, TileChecker, check_mask
from .map_errors import MapProblemError

_CELLS = ("codes", "actual")


def write_layer(
    group: h5py.Group, parts: Iterable[LayerMap], tiles: int, position: int, of: ConductanceMap, targets: bool
) -> LayerFacts:
    """Write the facts and data sets of one layer, and return the facts.

    Memory is taken for one part, and for the line indices, ADC bits and matrix entries of the whole layer.

    Args:
        group: the layer's group, empty.
        parts: the layer in parts, each a layer map with some of its tiles, in order; at least one.
        tiles: of all parts together.
        position: of the layer in the network.
        of: the map it belongs to; only card and array shape are used.
        targets: whether to write the target conductances as well, which level code and step tell too.

    Raises:
        MapProblemError: if the layer is not consistent, or the parts are not of one layer.
    """
    iterator = iter(parts)
    first = next(iterator)
    facts = dataclasses.replace(LayerFacts.of(first, position), tiles=tiles)
    facts.check()
    put_attributes(group, description=schema.LAYER, **schema.attributes_of(facts))
    shapes = schema.shapes(facts, of.array_shape)
    if first.actual is None:
        del shapes["actual"]
    if not targets:
        del shapes["target"]
    writers = {
        name: ArrayWriter(group, name, shapes[name], kind, 1, unit, description)
        for name, (kind, unit, description) in schema.DATA.items()
        if name in schema.PER_TILE and name in shapes
    }
    whole = {
        name: np.zeros(shape, dtype=schema.DATA[name][0])
        for name, shape in shapes.items()
        if name not in schema.PER_TILE
    }
    done, seen = 0, None
    for part in itertools.chain([first], iterator):
        stated = dataclasses.replace(LayerFacts.of(part, position), tiles=tiles)
        if (part.name, stated) != (first.name, facts):
            raise MapProblemError("its parts differ in what they state of the layer")
        if done + part.tiles > tiles:
            raise MapProblemError(f"its parts have more than {tiles} tiles")
        data = _arrays(part, shapes)
        for name, values in whole.items():
            values[done : done + part.tiles] = data[name]
        lines: dict[str, Any] = {name: data[name] for name in whole}
        checker = TileChecker(facts, of.card.levels, **lines, first=done, seen=seen)
        seen = checker.seen
        for tile, codes in enumerate(data["codes"]):
            kept = checker.check(done + tile, codes, data["actual"][tile] if "actual" in data else None)
            if part.kept is not None:
                check_mask("kept", done + tile, part.kept[tile].numpy(force=True), kept)
            cells = {name: data[name][tile] for name in _CELLS if name in data}
            cells["mask"] = kept
            if targets:
                cells["target"] = schema.target_of(codes, data["row_index"][tile], of.card)
            for name, writer in writers.items():
                writer.add(cells[name][None])
        done += part.tiles
    if done != tiles:
        raise MapProblemError(f"its parts have {done} tiles, not {tiles}")
    for writer in writers.values():
        writer.finish()
    for name, values in whole.items():
        put_array(group, name, values, *schema.DATA[name])
    return facts


def _arrays(part: LayerMap, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Return the arrays of a part by the names of their data sets, type and shape checked."""
    data = {}
    for name in (*_CELLS, *(name for name in shapes if name not in schema.PER_TILE)):
        value = getattr(part, name)
        if value is None:
            if name in shapes:
                raise MapProblemError(f"{name} is missing in one part and there in another")
            continue
        array = value.numpy(force=True)
        data[name] = array.astype(np.uint8) if array.dtype == np.bool_ else array
        dtype, shape = np.dtype(schema.DATA[name][0]), (part.tiles, *shapes.get(name, (0,))[1:])
        if name not in shapes or data[name].shape != shape or data[name].dtype != dtype:
            must = f"must be {dtype} {list(shape)}" if name in shapes else "but is missing in an earlier part"
            raise MapProblemError(f"{name} is {data[name].dtype} {list(data[name].shape)}, {must}")
    return data

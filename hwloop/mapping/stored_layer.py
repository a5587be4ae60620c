"""One layer of a conductance map file: written whole, read tile by tile, checked either way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import h5py
import numpy as np
import torch

from . import map_schema as schema
from .conductance_map import ConductanceMap, LayerMap
from .hdf5_reading import SafeArray, SafeGroup
from .hdf5_writing import put_array, put_attributes, slab_length, slabs_of
from .map_checks import LayerFacts, TileChecker
from .map_errors import MapFileError, MapProblemError, guarded

_WHOLE = ("row_index", "col_index", "adc_bits", "flipped", "negative")
_FLAGS = ("flipped", "negative")


class Budget:
    """The memory that is left for a map, in bytes."""

    def __init__(self, left: int) -> None:
        self._left = left

    def take(self, array: SafeArray) -> None:
        """Account for reading a whole array; raises MapFileError if it does not fit."""
        self._left -= array.nbytes
        if self._left < 0:
            raise MapFileError(f"{array.where}: the map takes more memory than the limit; raise max_bytes")


class StoredLayer:
    """A layer of a file from a stranger, its facts and data sets checked but for their values.

    Args:
        group: the layer's group.
        name: the layer's name.
        of: the map it belongs to; only card and array shape are used.

    Raises:
        MapFileError: naming the first data set that is not as it must be.
    """

    def __init__(self, group: SafeGroup, name: str, of: ConductanceMap) -> None:
        self._name, self._of, self._where = name, of, group.where
        self._facts = schema.read_facts(group)
        present = group.names(schema.MAX_DATA)
        shapes = schema.shapes(self._facts, of.array_shape)
        if unknown := set(present) - shapes.keys():
            raise MapFileError(f"{group.where}: {min(unknown)} is no data set of such a layer")
        wanted = (name for name in shapes if name != schema.OPTIONAL or name in present)
        self._arrays = {name: self._open(group, name, shapes[name]) for name in wanted}

    def read(self, budget: Budget) -> LayerMap:
        """Return the layer after checking every tile; raises MapFileError."""
        facts = self._facts
        kept = ["mask"] if facts.encoding == "offset" else []
        arrays = {name: self._arrays[name] for name in ("codes", "actual", *kept) if name in self._arrays}
        for array in arrays.values():
            budget.take(array)
        with guarded(self._where):
            cells = {name: np.empty(array.shape, dtype=array.dtype) for name, array in arrays.items()}
        whole = self._read_whole(budget)
        for tile, data in enumerate(self._tiles(whole)):
            for name, values in cells.items():
                values[tile] = data[name]
        if facts.encoding == "offset":
            cells["kept"] = cells.pop("mask") != 0
        whole |= {name: whole[name] != 0 for name in _FLAGS if name in whole}
        return LayerMap(
            name=self._name,
            kind=facts.kind,
            weight_shape=facts.weight_shape,
            groups=facts.groups,
            weight_per_siemens=facts.weight_per_siemens,
            input_scale=facts.input_scale,
            input_signed=bool(facts.input_signed),
            **{name: torch.from_numpy(data) for name, data in (cells | whole).items()},
        )

    def problems(self, budget: Budget) -> list[str]:
        """Return what is wrong: every data set on its own, then, if nothing is, how they fit together."""
        found = []
        for array in self._arrays.values():
            try:
                for _ in array.slabs():
                    pass
            except MapFileError as error:
                found.append(str(error))
        if not found:
            try:
                for _ in self._tiles(self._read_whole(budget)):
                    pass
            except MapFileError as error:
                found.append(str(error))
        return found

    def _open(self, group: SafeGroup, name: str, shape: tuple[int, ...]) -> SafeArray:
        """Return a data set, its type, shape, unit and chunks checked."""
        kind, unit, _ = schema.DATA[name]
        array = group.array(name, (kind,), shape)
        if array.unit != unit:
            raise MapFileError(f"{array.where}: unit is {ascii(array.unit)[:20]}, must be {unit!r}")
        if name in schema.PER_TILE and array.slab != 1:
            raise MapFileError(f"{array.where}: must be stored in chunks of one tile")
        return array

    def _read_whole(self, budget: Budget) -> dict[str, np.ndarray]:
        """Return line indices, ADC bits, and which bit lines are flipped or fragments negative."""
        arrays = {name: self._arrays[name] for name in _WHOLE if name in self._arrays}
        for array in arrays.values():
            budget.take(array)
        return {name: array.read() for name, array in arrays.items()}

    def _tiles(self, whole: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """Yield the data sets of every tile after checking it."""
        with guarded(self._where):
            checker = TileChecker(self._facts, self._of.card.levels, **whole)
        names = [name for name in schema.PER_TILE if name in self._arrays]
        # Strict, so that every stream runs to its end, where its checksum is compared.
        for tile, slabs in enumerate(zip(*(self._arrays[name].slabs() for name in names), strict=True)):
            data = {name: slab[0] for name, slab in zip(names, slabs, strict=True)}
            with guarded(self._where):
                kept = checker.check(tile, data["codes"], data.get("actual"))
                target = schema.target_of(data["codes"], whole["row_index"][tile], self._of.card)
                if not np.array_equal(data["target"], target):
                    raise MapProblemError(
                        f"target: tile {tile}: is not level code times g_step_siemens above g_min"
                    )
                _check_mask("mask", tile, data["mask"], kept)
            yield data


def write_layer(group: h5py.Group, layer: LayerMap, position: int, of: ConductanceMap) -> None:
    """Write the facts and data sets of one layer after checking every tile.

    Raises:
        MapProblemError: if the layer is not consistent.
    """
    facts = LayerFacts.of(layer, position)
    facts.check()
    put_attributes(group, description=schema.LAYER, **schema.attributes_of(facts))
    shapes = schema.shapes(facts, of.array_shape)
    data = {
        name: getattr(layer, name).numpy(force=True)
        for name in ("codes", "actual", *_WHOLE)
        if getattr(layer, name) is not None
    }
    data |= {name: data[name].astype(np.uint8) for name in _FLAGS if name in data}
    for name, value in data.items():
        dtype = np.dtype(schema.DATA[name][0])
        if value.shape != shapes[name] or value.dtype != dtype:
            must = f"must be {dtype} {list(shapes[name])}"
            raise MapProblemError(f"{name} is {value.dtype} {list(value.shape)}, {must}")
    checker = TileChecker(facts, of.card.levels, **{name: data[name] for name in _WHOLE if name in data})
    data["mask"] = np.empty(shapes["mask"], dtype=np.bool_)
    for tile, codes in enumerate(data["codes"]):
        kept = checker.check(tile, codes, data["actual"][tile] if "actual" in data else None)
        data["mask"][tile] = kept
        if layer.kept is not None:
            _check_mask("kept", tile, layer.kept[tile].numpy(force=True), kept)
    for name, shape in shapes.items():
        kind, unit, description = schema.DATA[name]
        if name in _WHOLE:
            length = slab_length(data[name])
            put_array(group, name, slabs_of(data[name], length), shape, kind, length, unit, description)
        elif name == "target":
            slabs: Iterable[np.ndarray] = (
                schema.target_of(codes, rows, of.card)
                for codes, rows in zip(data["codes"][:, None], data["row_index"], strict=True)
            )
            put_array(group, name, slabs, shape, kind, 1, unit, description)
        elif name in data:
            put_array(group, name, data[name][:, None], shape, kind, 1, unit, description)


def _check_mask(name: str, tile: int, mask: np.ndarray, kept: np.ndarray) -> None:
    """Raise unless a mask is set exactly where a weight is kept."""
    if not np.array_equal(mask, kept):
        raise MapProblemError(f"{name}: tile {tile}: is not 1 exactly where a weight code is not 0")

"""One layer of a conductance map file: written whole, read tile by tile, checked either way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat

import h5py
import numpy as np
import torch

from . import map_schema as schema
from .conductance_map import ConductanceMap, LayerMap
from .hdf5_reading import SafeArray, SafeGroup
from .hdf5_writing import put_array, put_attributes, slab_length, slabs_of
from .map_checks import LayerFacts, TileChecker
from .map_errors import MapFileError, MapProblemError, guarded

_WHOLE = ("row_index", "col_index", "adc_bits")


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
        if unknown := set(present) - schema.DATA.keys():
            raise MapFileError(f"{group.where}: {min(unknown)} is no data set of a layer")
        wanted = (name for name in schema.DATA if name != schema.OPTIONAL or name in present)
        self._arrays = {array: self._open(group, array) for array in wanted}

    def read(self, budget: Budget) -> LayerMap:
        """Return the layer after checking every tile; raises MapFileError."""
        arrays = {name: self._arrays[name] for name in ("codes", "actual") if name in self._arrays}
        for array in arrays.values():
            budget.take(array)
        with guarded(self._where):
            cells = {name: np.empty(array.shape, dtype=array.dtype) for name, array in arrays.items()}
        whole = self._read_whole(budget)
        for tile, (codes, actual) in enumerate(self._tiles(whole)):
            cells["codes"][tile] = codes
            if actual is not None:
                cells["actual"][tile] = actual
        facts = self._facts
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

    def _open(self, group: SafeGroup, name: str) -> SafeArray:
        """Return a data set, its type, shape, unit and chunks checked."""
        kind, unit, _ = schema.DATA[name]
        array = group.array(name, (kind,), schema.shapes(self._facts, self._of.array_shape)[name])
        if array.unit != unit:
            raise MapFileError(f"{array.where}: unit is {ascii(array.unit)[:20]}, must be {unit!r}")
        if name in schema.PER_TILE and array.slab != 1:
            raise MapFileError(f"{array.where}: must be stored in chunks of one tile")
        return array

    def _read_whole(self, budget: Budget) -> dict[str, np.ndarray]:
        """Return line indices and ADC bits."""
        for name in _WHOLE:
            budget.take(self._arrays[name])
        return {name: self._arrays[name].read() for name in _WHOLE}

    def _tiles(self, whole: dict[str, np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yield level codes and programmed conductances of every tile after checking it."""
        with guarded(self._where):
            checker = TileChecker(self._facts, self._of.card.levels, **whole)
        streams = (
            self._arrays[name].slabs() if name in self._arrays else repeat(None, self._facts.tiles)
            for name in schema.PER_TILE
        )
        # Strict, so that every stream runs to its end, where its checksum is compared.
        for tile, (codes, target, mask, actual) in enumerate(zip(*streams, strict=True)):
            cells = None if actual is None else actual[0]
            with guarded(self._where):
                checker.check(tile, codes[0], cells)
                if not np.array_equal(target, schema.target_of(codes, self._of.g_step)):
                    raise MapProblemError(f"target: tile {tile}: is not level code times g_step_siemens")
                if not np.array_equal(mask, schema.mask_of(codes)):
                    raise MapProblemError(f"mask: tile {tile}: is not 1 exactly where a level code is not 0")
            yield codes[0], cells


def write_layer(group: h5py.Group, layer: LayerMap, position: int, of: ConductanceMap) -> None:
    """Write the facts and data sets of one layer after checking every tile.

    Raises:
        MapProblemError: if the layer is not consistent.
    """
    facts = LayerFacts.of(layer, position)
    facts.check()
    put_attributes(group, description=schema.LAYER, **schema.attributes_of(facts))
    shapes = schema.shapes(facts, of.array_shape)
    data = {name: getattr(layer, name).numpy(force=True) for name in ("codes", *_WHOLE)}
    if layer.actual is not None:
        data["actual"] = layer.actual.numpy(force=True)
    for name, value in data.items():
        dtype = np.dtype(schema.DATA[name][0])
        if value.shape != shapes[name] or value.dtype != dtype:
            must = f"must be {dtype} {list(shapes[name])}"
            raise MapProblemError(f"{name} is {value.dtype} {list(value.shape)}, {must}")
    checker = TileChecker(facts, of.card.levels, **{name: data[name] for name in _WHOLE})
    for tile, codes in enumerate(data["codes"]):
        checker.check(tile, codes, data["actual"][tile] if "actual" in data else None)
    for name, (kind, unit, description) in schema.DATA.items():
        length, slabs = 1, _slabs(name, data, of.g_step)
        if name in _WHOLE:
            length = slab_length(data[name])
            slabs = slabs_of(data[name], length)
        if name != schema.OPTIONAL or name in data:
            put_array(group, name, slabs, shapes[name], kind, length, unit, description)


def _slabs(name: str, data: dict[str, np.ndarray], g_step: float) -> Iterable[np.ndarray]:
    """Return the tiles of a data set that is stored tile by tile, one after the other."""
    if name == "target":
        return (schema.target_of(codes, g_step) for codes in data["codes"][:, None])
    if name == "mask":
        return (schema.mask_of(codes) for codes in data["codes"][:, None])
    return data[name][:, None] if name in data else ()

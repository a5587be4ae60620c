"""One layer of a conductance map file, read part by part and checked on the way."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from . import map_schema as schema
from .conductance_map import ConductanceMap, LayerMap
from .hdf5_reading import SafeArray, SafeGroup
from .map_checks import TileChecker, check_mask
from .map_errors import MapFileError, MapProblemError, guarded

PART_TILES = 64
"""Tiles of a part, unless the caller says otherwise."""
_WHOLE = ("row_index", "col_index", "adc_bits", "flipped", "negative")
_FLAGS = ("flipped", "negative")
_CELLS = ("codes", "actual", "mask")


class Budget:
    """The memory that is left for a map, in bytes."""

    def __init__(self, left: int) -> None:
        self._left = left

    def take(self, array: SafeArray) -> None:
        """Account for reading a whole array; raises MapFileError if it does not fit."""
        self.reserve(array.where, array.nbytes)

    def reserve(self, where: str, count: int) -> None:
        """Account for so many bytes; raises MapFileError if they are not left."""
        self._left -= count
        if self._left < 0:
            raise MapFileError(f"{where}: the map takes more memory than the limit; raise max_bytes")


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
        wanted = (name for name in shapes if name not in schema.OPTIONAL or name in present)
        self._arrays = {name: self._open(group, name, shapes[name]) for name in wanted}

    @property
    def name(self) -> str:
        """Dotted module name in the network."""
        return self._name

    @property
    def tiles(self) -> int:
        """Number of tile positions."""
        return self._facts.tiles

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Rows and columns of the layer's matrix in GEMM form."""
        return self._facts.matrix_shape

    @property
    def programmed(self) -> bool:
        """Whether programmed conductances are there."""
        return "actual" in self._arrays

    def parts(self, budget: Budget, tiles: int = PART_TILES) -> Iterator[LayerMap]:
        """Yield the layer in parts, each a layer map with some of its tiles, in order; at least one.

        What a part holds is checked before it is yielded, but a checksum that differs is found at the end of
        the layer: whoever uses the parts must throw away what it made of them if this raises.

        Args:
            budget: memory that may be taken: of the line indices and matrix entries of the layer, and of one
                part.
            tiles: of a part, at most.

        Raises:
            MapFileError: naming data set and tile.
        """
        budget.reserve(self._where, math.prod(self._facts.matrix_shape))
        whole = self._read_whole(budget)
        names = [name for name in _CELLS if name in self._arrays]
        per_tile = sum(self._arrays[name].nbytes for name in names) // max(1, self._facts.tiles)
        budget.reserve(self._where, per_tile * min(tiles, self._facts.tiles))
        checked = self._tiles(whole)
        for first in range(0, max(1, self._facts.tiles), tiles):
            part = slice(first, min(first + tiles, self._facts.tiles))
            cells = self._room(names, part.stop - part.start)
            for tile in range(part.stop - part.start):
                data = next(checked)
                for name, values in cells.items():
                    values[tile] = data[name]
            if part.stop == self._facts.tiles:
                for _ in checked:  # to its end, where checksums are compared
                    pass
            yield self._layer(cells, {name: values[part] for name, values in whole.items()})

    def read(self, budget: Budget) -> LayerMap:
        """Return the whole layer after checking every tile; raises MapFileError."""
        names = [name for name in _CELLS if name in self._arrays]
        for name in names:
            budget.take(self._arrays[name])
        with guarded(self._where):
            cells = self._room(names, self._facts.tiles)
        whole = self._read_whole(budget)
        for tile, data in enumerate(self._tiles(whole)):
            for name, values in cells.items():
                values[tile] = data[name]
        return self._layer(cells, whole)

    def _room(self, names: list[str], tiles: int) -> dict[str, np.ndarray]:
        """Return arrays for the cells of so many tiles."""
        return {
            name: np.empty((tiles, *array.shape[1:]), dtype=array.dtype)
            for name, array in self._arrays.items()
            if name in names
        }

    def _layer(self, cells: dict[str, np.ndarray], whole: dict[str, np.ndarray]) -> LayerMap:
        """Return a layer map of these tiles."""
        facts, fields = self._facts, {name: values for name, values in cells.items() if name != "mask"}
        if facts.encoding == "offset":
            fields["kept"] = cells["mask"] != 0
        flags = {name: whole[name] != 0 for name in _FLAGS if name in whole}
        return LayerMap(
            name=self._name,
            kind=facts.kind,
            weight_shape=facts.weight_shape,
            groups=facts.groups,
            weight_per_siemens=facts.weight_per_siemens,
            input_scale=facts.input_scale,
            input_signed=bool(facts.input_signed),
            **{name: torch.from_numpy(data) for name, data in (fields | whole | flags).items()},
        )

    def problems(self, budget: Budget) -> list[str]:
        """Return what is wrong: every data set on its own, or, if nothing is, how they fit together."""
        try:
            for _ in self._tiles(self._read_whole(budget)):
                pass
        except MapFileError as error:
            return self._damaged() or [str(error)]
        return []

    def _damaged(self) -> list[str]:
        """Return what is wrong with single data sets."""
        found = []
        for array in self._arrays.values():
            try:
                for _ in array.slabs():
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

    def _read_whole(self, budget: Budget) -> dict[str, Any]:
        """Return line indices, ADC bits, and which bit lines are flipped or fragments negative."""
        arrays = {name: self._arrays[name] for name in _WHOLE if name in self._arrays}
        for array in arrays.values():
            budget.take(array)
        return {name: array.read() for name, array in arrays.items()}

    def _tiles(self, whole: dict[str, Any]) -> Iterator[dict[str, np.ndarray]]:
        """Yield the data sets of every tile after checking it."""
        with guarded(self._where):
            checker = TileChecker(self._facts, self._of.card.levels, **whole)
        names = [name for name in schema.PER_TILE if name in self._arrays]
        # Strict, so that every stream runs to its end, where its checksum is compared.
        for tile, slabs in enumerate(zip(*(self._arrays[name].slabs() for name in names), strict=True)):
            data = {name: slab[0] for name, slab in zip(names, slabs, strict=True)}
            with guarded(self._where):
                kept = checker.check(tile, data["codes"], data.get("actual"))
                lines = whole["row_index"][tile]
                if "target" in data and not self._is_target(data["target"], data["codes"], lines):
                    raise MapProblemError(
                        f"target: tile {tile}: is not level code times g_step_siemens above g_min"
                    )
                check_mask("mask", tile, data["mask"], kept)
            yield data

    def _is_target(self, target: np.ndarray, codes: np.ndarray, row_index: np.ndarray) -> bool:
        return np.array_equal(target, schema.target_of(codes, row_index, self._of.card))

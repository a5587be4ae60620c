"""The conductance map at rest: an HDF5 file that is understood from its attributes alone.

``docs/conductance-map.md`` describes the format. Tiles are written and read one at a time, so the memory that
reading takes is that of the map it returns, and checking a file takes that of one tile and the line indices.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import h5py
import numpy as np
import torch

from device_models.card import CardError, DeviceCard, parse_card

from . import map_schema as schema
from .conductance_map import ConductanceMap, LayerMap
from .hdf5_reading import SafeGroup, opening
from .hdf5_writing import creating, put_array, put_attributes, put_text
from .layer_writing import write_layer
from .map_checks import LayerFacts, check_header
from .map_errors import NAME, MapFileError, MapProblemError, guarded
from .stored_layer import PART_TILES, Budget, StoredLayer

MAX_BYTES = 4 << 30
"""How much memory reading a map may take unless the caller says otherwise."""


class MapWriter:
    """A map file that is written layer by layer and part by part; made by :func:`create_map`."""

    def __init__(self, file: h5py.File, where: str, header: ConductanceMap, targets: bool) -> None:
        self._file, self._where, self._header, self._targets = file, where, header, targets
        self._facts: list[LayerFacts] = []
        rows, cols = header.array_shape
        check_header(header.network, (rows, cols))
        put_attributes(file, description=schema.ROOT, format=schema.FORMAT, network=header.network)
        put_attributes(file, rows=rows, cols=cols, g_step_siemens=header.g_step)
        put_text(file, "card", header.card.model_dump_json(indent=1), schema.CARD)
        attributes = json.dumps(dict(header.attributes), allow_nan=False, indent=1)
        put_text(file, "attributes", attributes, schema.ATTRIBUTES)
        self._layers, self._digital = (file.create_group(name) for name in ("layers", "digital"))
        put_attributes(self._layers, description=schema.LAYERS)
        put_attributes(self._digital, description=schema.DIGITAL)

    def layer(self, parts: Iterable[LayerMap], tiles: int) -> None:
        """Write the next layer.

        Args:
            parts: the layer in parts, each a layer map with some of its tiles, in order; at least one. They
                are taken one at a time, so they may be made on the way.
            tiles: of all parts together.

        Raises:
            MapFileError: naming the layer and the tile, if it is not consistent.
        """
        iterator = iter(parts)
        first = next(iterator, None)
        if first is None:
            raise MapFileError(f"{self._where}: a layer has no part; one without tiles has one")
        name = _allowed(self._where, first.name)
        with guarded(f"{self._where}: layers/{name}", "cannot be written"):
            group, position = self._layers.create_group(name), len(self._facts)
            parts = itertools.chain([first], iterator)
            self._facts.append(write_layer(group, parts, tiles, position, self._header, self._targets))

    def digital(self, name: str, value: torch.Tensor) -> None:
        """Write a parameter or buffer that stays digital; raises MapFileError."""
        with guarded(f"{self._where}: digital/{_allowed(self._where, name)}", "cannot be written"):
            _write_digital(self._digital, name, value.numpy(force=True))

    def finish(self) -> None:
        """Seal the file."""
        put_attributes(self._file, version=schema.version(self._facts, self._targets))
        put_attributes(self._file, sha256=schema.fingerprint(SafeGroup(self._file, self._where, 0)))


@contextlib.contextmanager
def create_map(path: str | Path, header: ConductanceMap, *, targets: bool = True) -> Iterator[MapWriter]:
    """Create a map file and write it layer by layer, so that the map may be larger than memory.

    After the ``with`` block ``path`` is the whole new file, or, if anything was raised, as it was before.

    Args:
        path: the file.
        header: the map; its layers and digital parameters are not looked at, so it may have none.
        targets: whether to write the target conductances too. Without them a file is smaller, and its readers
            multiply level code and step.

    Raises:
        MapFileError: if the map is not consistent, or the file cannot be written.
    """
    with creating(path) as file:
        writer = MapWriter(file, str(path), header, targets)
        yield writer
        writer.finish()


def write_map(conductance_map: ConductanceMap, path: str | Path) -> None:
    """Write a map, atomically: ``path`` is then the whole new file, or as it was before.

    Raises:
        MapFileError: if the map is not consistent, or the file cannot be written.
    """
    with create_map(path, conductance_map) as writer:
        for layer in conductance_map.layers.values():
            writer.layer([layer], layer.tiles)
        for name, value in conductance_map.digital.items():
            writer.digital(name, value)


class StoredMap:
    """A map file that is open for reading; made by :func:`open_map`.

    Attributes:
        header: the map without layers and digital parameters.
        layers: in the order of the network, to be read in parts.
        max_bytes: how much memory reading one of them may take.
    """

    def __init__(self, root: SafeGroup, max_bytes: int) -> None:
        self.header, self.max_bytes = _read_header(root), max_bytes
        layers, self._digital = root.group("layers"), root.group("digital")
        self.layers = {
            name: StoredLayer(layers.group(name), name, self.header) for name in schema.layer_names(layers)
        }
        _check_fingerprint(root)

    def parts(self, layer: str, tiles: int = PART_TILES) -> Iterator[LayerMap]:
        """Yield a layer in parts of at most so many tiles; see :meth:`StoredLayer.parts`."""
        return self.layers[layer].parts(Budget(self.max_bytes), tiles)

    def digital(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the parameters and buffers that stay digital; raises MapFileError."""
        for name in self._digital.names(schema.MAX_DIGITAL):
            yield name, torch.from_numpy(_read_digital(self._digital, name, Budget(self.max_bytes)))


@contextlib.contextmanager
def open_map(path: str | Path, max_bytes: int = MAX_BYTES) -> Iterator[StoredMap]:
    """Open a map that may be larger than memory, to read its layers in parts.

    Args:
        path: the file.
        max_bytes: how much memory reading may take at a time: of one part, and of the line indices and one
            byte for each matrix entry of its layer.

    Raises:
        MapFileError: naming file, data set and the first problem, here or where parts are taken.
    """
    with opening(path) as root:
        yield StoredMap(root, max_bytes)


def read_map(path: str | Path, max_bytes: int = MAX_BYTES) -> ConductanceMap:
    """Read a map after checking everything in the file; nothing in it is imported, run or followed.

    Args:
        path: the file.
        max_bytes: how much memory the map may take.

    Raises:
        MapFileError: naming file, data set and the first problem.
    """
    budget = Budget(max_bytes)
    with opening(path) as root:
        empty = _read_header(root)
        layers, digital = root.group("layers"), root.group("digital")
        maps = {
            name: StoredLayer(layers.group(name), name, empty).read(budget)
            for name in schema.layer_names(layers)
        }
        parameters = {
            name: torch.from_numpy(_read_digital(digital, name, budget))
            for name in digital.names(schema.MAX_DIGITAL)
        }
        _check_fingerprint(root)
    return dataclasses.replace(empty, layers=maps, digital=parameters)


def validate_map(path: str | Path, max_bytes: int = MAX_BYTES) -> list[str]:
    """Return what is wrong with a file, one line per problem with file and data set; empty if nothing is.

    Tiles are checked one at a time, so a file may hold a map that is larger than memory; ``max_bytes`` bounds
    the line indices and matrix entries of one layer, or one digital parameter.
    """
    problems: list[str] = []
    with _collected(problems), opening(path) as root:
        empty = _read_header(root)
        layers, digital = root.group("layers"), root.group("digital")
        for name in schema.layer_names(layers):
            with _collected(problems):
                problems += StoredLayer(layers.group(name), name, empty).problems(Budget(max_bytes))
        for name in digital.names(schema.MAX_DIGITAL):
            with _collected(problems):
                _read_digital(digital, name, Budget(max_bytes))
        if not problems:
            _check_fingerprint(root)
    return problems


@contextlib.contextmanager
def _collected(problems: list[str]) -> Iterator[None]:
    """Add the problem that ends the block, if any, to the list."""
    try:
        yield
    except MapFileError as error:
        problems.append(str(error))


def _allowed(where: str, name: str) -> str:
    """Return a name of a layer or parameter; raises MapFileError if it is a path or more."""
    if not NAME.fullmatch(name):
        raise MapFileError(f"{where}: name {ascii(name)[:80]} is not allowed")
    return name


def _write_digital(group: h5py.Group, name: str, value: np.ndarray) -> None:
    """Write a parameter or buffer."""
    kind = value.dtype.newbyteorder("<").str
    if kind not in schema.DIGITAL_TYPES:
        raise MapProblemError(f"numbers of type {value.dtype} cannot be stored")
    _check_finite(value)
    put_array(group, name, value, kind, "1", schema.DIGITAL_ENTRY)


def _read_header(root: SafeGroup) -> ConductanceMap:
    """Return the map without its layers and digital parameters."""
    if (kind := root.string("format")) != schema.FORMAT:
        raise MapFileError(f"{root.where}: format is {ascii(kind)[:80]}, not {schema.FORMAT}")
    if (version := root.integer("version")) not in schema.VERSIONS:
        known = " and ".join(map(str, schema.VERSIONS))
        raise MapFileError(f"{root.where}: format version {version}; this program reads {known}")
    network, array_shape = root.string("network"), (root.integer("rows"), root.integer("cols"))
    with guarded(root.where):
        check_header(network, array_shape)
    with guarded(f"{root.where}: card"):
        try:
            text = root.text("card", schema.MAX_CARD_BYTES)
            card = parse_card(DeviceCard, json.loads(text), "device card")
        except CardError as error:
            raise MapProblemError(str(error)) from error
        if root.real("g_step_siemens") != card.g_step:
            raise MapProblemError(f"its level step is {card.g_step} S, which g_step_siemens is not")
    with guarded(f"{root.where}: attributes"):
        attributes = json.loads(root.text("attributes", schema.MAX_ATTRIBUTES_BYTES))
        if not isinstance(attributes, dict):
            raise MapProblemError("must be a JSON object")
    return ConductanceMap(network, card, array_shape, {}, {}, attributes)


def _read_digital(digital: SafeGroup, name: str, budget: Budget) -> np.ndarray:
    """Return a parameter or buffer."""
    array = digital.array(name, schema.DIGITAL_TYPES)
    budget.take(array)
    value = array.read()
    with guarded(array.where):
        _check_finite(value)
    return value


def _check_fingerprint(root: SafeGroup) -> None:
    if root.string("sha256") != schema.fingerprint(root):
        raise MapFileError(f"{root.where}: attribute sha256: differs: attributes of the file were changed")


def _check_finite(value: np.ndarray) -> None:
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise MapProblemError("has values that are not finite")

"""The conductance map at rest: an HDF5 file that is understood from its attributes alone.

``docs/conductance-map.md`` describes the format. Tiles are written and read one at a time, so the memory that
reading takes is that of the map it returns, and checking a file takes that of one tile and the line indices.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import torch

from device_models.card import CardError, DeviceCard, parse_card

from . import map_schema as schema
from .conductance_map import ConductanceMap
from .hdf5_reading import SafeGroup, opening
from .hdf5_writing import creating, put_array, put_attributes, put_text, slab_length, slabs_of
from .map_checks import check_header
from .map_errors import NAME, MapFileError, MapProblemError, guarded
from .stored_layer import Budget, StoredLayer, write_layer

MAX_BYTES = 4 << 30
"""How much memory reading a map may take unless the caller says otherwise."""


def write_map(conductance_map: ConductanceMap, path: str | Path) -> None:
    """Write a map, atomically: ``path`` is then the whole new file, or as it was before.

    Raises:
        MapFileError: if the map is not consistent, or the file cannot be written.
    """
    network, (rows, cols) = conductance_map.network, conductance_map.array_shape
    with creating(path) as file:
        check_header(network, (rows, cols))
        version = schema.version(layer.encoding for layer in conductance_map.layers.values())
        put_attributes(file, description=schema.ROOT, format=schema.FORMAT, version=version)
        put_attributes(file, network=network, rows=rows, cols=cols, g_step_siemens=conductance_map.g_step)
        put_text(file, "card", conductance_map.card.model_dump_json(indent=1), schema.CARD)
        attributes = json.dumps(dict(conductance_map.attributes), allow_nan=False, indent=1)
        put_text(file, "attributes", attributes, schema.ATTRIBUTES)
        layers, digital = file.create_group("layers"), file.create_group("digital")
        put_attributes(layers, description=schema.LAYERS)
        put_attributes(digital, description=schema.DIGITAL)
        for name in (*conductance_map.layers, *conductance_map.digital):
            if not NAME.fullmatch(name):
                raise MapProblemError(f"name {ascii(name)[:80]} is not allowed")
        for position, (name, layer) in enumerate(conductance_map.layers.items()):
            with guarded(f"{path}: layers/{name}", "cannot be written"):
                write_layer(layers.create_group(name), layer, position, conductance_map)
        for name, value in conductance_map.digital.items():
            with guarded(f"{path}: digital/{name}", "cannot be written"):
                _write_digital(digital, name, value.numpy(force=True))
        put_attributes(file, sha256=schema.fingerprint(SafeGroup(file, str(path), 0)))


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
    the line indices of one layer, or one digital parameter.
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


@contextmanager
def _collected(problems: list[str]) -> Iterator[None]:
    """Add the problem that ends the block, if any, to the list."""
    try:
        yield
    except MapFileError as error:
        problems.append(str(error))


def _write_digital(group: h5py.Group, name: str, value: np.ndarray) -> None:
    """Write a parameter or buffer."""
    kind = value.dtype.newbyteorder("<").str
    if kind not in schema.DIGITAL_TYPES:
        raise MapProblemError(f"numbers of type {value.dtype} cannot be stored")
    _check_finite(value)
    length = slab_length(value)
    put_array(group, name, slabs_of(value, length), value.shape, kind, length, "1", schema.DIGITAL_ENTRY)


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

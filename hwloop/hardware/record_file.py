"""Exchanges with hardware at rest: one HDF5 file each while a record is made, all in one when it is whole.

``docs/bench.md`` describes the format. A file of a record may come from anywhere: nothing in it is followed,
run, or allocated on its word.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from hwloop.mapping import ConductanceMap, MapFileError
from hwloop.mapping.hdf5_reading import SafeGroup, opening
from hwloop.mapping.hdf5_writing import creating, put_array, put_attributes, put_text

FORMAT, VERSION = "hwloop-hardware-record", 1
MAX_EXCHANGES = 1_000_000
MAX_ARRAY_BYTES = 1 << 30

_ROOT = (
    "What was asked of hardware that holds a neural network, and what it answered, in order. An exchange is "
    "a group: kind program (facts.layers were written; arrays are the conductances they ended with) or read "
    "(facts.layers[0] was multiplied with inputs; outputs are in weight units). facts.request is the SHA-256 "
    "of what was asked."
)
_FACTS = "What was asked, and of what hardware, as JSON."
_MAX_FACTS = 1 << 20
_DATA = {
    "inputs": ("1", "Activations, one vector in each row."),
    "outputs": ("1", "Products, one vector in each row."),
}
_ACTUAL = ("S", "Conductance after programming. [tile, polarity, slice, word line, bit line]")


class RecordError(ValueError):
    """A record that cannot be used, or not for this; the message names its file."""


@dataclass(frozen=True)
class Exchange:
    """One request, and the answer.

    Attributes:
        kind: ``program`` or ``read``.
        layers: names of the layers that were programmed, or of the one that was read.
        all: whether all layers were programmed, and what was held before was forgotten.
        request: SHA-256 of what was asked.
        hardware: identity of the hardware afterwards.
        arrays: of a read ``inputs`` and ``outputs``, of programming the conductances of each layer, float32.
    """

    kind: str
    layers: tuple[str, ...]
    all: bool
    request: str
    hardware: dict[str, Any]
    arrays: dict[str, np.ndarray]


def program_request(conductance_map: ConductanceMap, layers: tuple[str, ...]) -> str:
    """Return the SHA-256 of layers as they are to be programmed, with the card."""
    digest = hashlib.sha256(conductance_map.card.model_dump_json().encode())
    for name in layers:
        layer = conductance_map.layers[name]
        facts = (name, layer.weight_per_siemens, layer.input_scale, layer.input_signed)
        digest.update(repr(facts).encode())
        for values in (layer.codes, layer.row_index, layer.col_index, layer.flipped, layer.negative):
            digest.update(b"-" if values is None else _bytes(values))
    return digest.hexdigest()


def read_request(layer: str, inputs: torch.Tensor) -> str:
    """Return the SHA-256 of what is to be read."""
    return hashlib.sha256(layer.encode() + _bytes(inputs.detach().to("cpu", torch.float32))).hexdigest()


def write_exchange(path: Path, exchange: Exchange) -> None:
    """Write one exchange to a file of its own, whole or not at all.

    Raises:
        MapFileError: if it cannot be written.
    """
    with creating(path) as file:
        group = file.create_group("exchange")
        put_attributes(group, kind=exchange.kind)
        facts = {
            "layers": exchange.layers,
            "all": exchange.all,
            "request": exchange.request,
            "hardware": exchange.hardware,
        }
        put_text(group, "facts", json.dumps(facts), _FACTS)
        arrays = group.create_group("arrays")
        for name, values in exchange.arrays.items():
            unit, description = _DATA[name] if exchange.kind == "read" else _ACTUAL
            put_array(arrays, name, values, "<f4", unit, description)


def gather(parts: list[Path], path: Path) -> None:
    """Write a record from the files of its exchanges.

    Raises:
        MapFileError: if it cannot be written.
    """
    with creating(path) as file:
        put_attributes(file, description=_ROOT, format=FORMAT, version=VERSION)
        exchanges = file.create_group("exchanges")
        for number, part in enumerate(parts):
            with h5py.File(part, "r", locking=False) as one:
                one.copy("exchange", exchanges, name=f"{number:08d}")


def read_part(path: Path) -> Exchange:
    """Read the file of one exchange; raises MapFileError."""
    with opening(path) as root:
        return _read(root.group("exchange"))


@contextmanager
def opening_record(path: Path) -> Iterator[Iterator[Exchange]]:
    """Open a record; yields its exchanges in order, each read when its turn comes.

    Raises:
        MapFileError: if it is damaged.
        RecordError: if it is no record.
    """
    with opening(path) as root:
        if (kind := root.string("format")) != FORMAT:
            raise RecordError(f"{path}: format is {ascii(kind)[:80]}, not {FORMAT}")
        if (version := root.integer("version")) != VERSION:
            raise RecordError(f"{path}: format version {version}; this program reads {VERSION}")
        exchanges = root.group("exchanges")
        names = exchanges.names(MAX_EXCHANGES)
        yield (_read(exchanges.group(name)) for name in names)


def _read(group: SafeGroup) -> Exchange:
    try:
        facts = json.loads(group.text("facts", _MAX_FACTS))
        layers = tuple(str(name) for name in facts["layers"])
        hardware = {str(name): value for name, value in facts["hardware"].items()}
        everything, request = bool(facts["all"]), str(facts["request"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, MapFileError):
            raise
        raise RecordError(f"{group.where}: its facts are not those of an exchange") from error
    kind = group.string("kind")
    if kind not in ("program", "read"):
        raise RecordError(f"{group.where}: kind is {ascii(kind)[:40]}, must be program or read")
    # The inputs are there for people; that they are the same is seen from the request.
    names = ("outputs",) if kind == "read" else layers
    found = group.group("arrays")
    arrays = {}
    for name in names:
        array = found.array(name, ("<f4",))
        if array.nbytes > MAX_ARRAY_BYTES:
            raise RecordError(f"{array.where}: more than {MAX_ARRAY_BYTES} bytes, which are not read")
        arrays[name] = array.read()
    return Exchange(kind, layers, everything, request, hardware, arrays)


def _bytes(values: torch.Tensor) -> bytes:
    array = np.ascontiguousarray(values.numpy(force=True))
    return repr((array.dtype.str, array.shape)).encode() + array.tobytes()

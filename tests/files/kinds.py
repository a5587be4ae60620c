"""The kinds of files that come from strangers: an example of each, what damages it, what reads it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from calibration import read_measurements, write_measurements
from calibration.synthetic import MAKERS
from device_models import load_card
from device_models.toml import to_toml
from hwloop.hardware.record_file import Exchange, gather, opening_record, write_exchange
from hwloop.mapping import export_csv, import_tables, read_map, validate_map, write_map
from hwloop.mapping.hdf5_reading import SafeGroup
from hwloop.mapping.hdf5_writing import put_attributes
from hwloop.mapping.map_schema import fingerprint
from hwloop.networks import digest, load_onnx, load_weights, save_weights
from hwloop.recipe import Recipe, load_recipe
from tests.line.maps import map_of, random_layer

from .mutations import BYTES, Edits, Mutation, Structures, tensors, text


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: what it is called.
        file: name of an example.
        read: reads one; raises ValueError or OSError if it is refused.
        examples: whole files.
        damage: mutations after which a file is refused, or holds the same as before: it has checksums.
        deceit: mutations after which a file may hold something else, because they mend the checksums or
            because the kind has none.
    """

    name: str
    file: str
    read: Callable[[Path], Any]
    examples: tuple[bytes, ...]
    damage: tuple[Mutation, ...]
    deceit: tuple[Mutation, ...]

    def mutated(self, seed: int) -> tuple[bytes, bytes, bool]:
        """Return an example, a mutation of it, and whether what it holds must have stayed."""
        rng = random.Random(f"{self.name} {seed}")
        example = rng.choice(self.examples)
        mutation = rng.choice([*self.damage, *self.deceit])
        return example, mutation(rng, example), mutation in self.damage


def all_kinds(folder: Path) -> dict[str, Kind]:
    """Return every kind; the folder takes the files that making and editing the examples needs."""
    kinds = (
        _maps(folder),
        _exported(folder),
        _cards(),
        _recipes(),
        _weights(folder),
        _networks(),
        _records(folder),
        _measurements(folder),
        _tables(),
    )
    return {kind.name: kind for kind in kinds}


def _maps(folder: Path) -> Kind:
    plain = random_layer("fc", array_shape=(8, 8))
    factor = torch.rand(plain.codes.shape, generator=torch.Generator().manual_seed(0)) * 0.1 + 0.95
    programmed = replace(plain, actual=(plain.codes * factor * 1e-6).float())
    example = map_of(programmed, random_layer("fc2", matrix_shape=(12, 6)), card="rram-neurram")
    examples = []
    for count in (1, 7, 40):  # so that groups are stored in each of the ways that HDF5 has
        digital = {f"bn{n}.bias": torch.linspace(-1, 1, 3) for n in range(count)}
        write_map(replace(example, digital=digital), folder / "maps.h5")
        examples.append((folder / "maps.h5").read_bytes())
    structures = {data: Structures(data) for data in examples}

    def read(path: Path) -> object:
        found = read_map(path)
        assert validate_map(path) == []
        return [
            *[tensor.tolist() for layer in found.layers.values() for tensor in _tensors(layer)],
            *[(layer.name, layer.weight_per_siemens, layer.input_scale) for layer in found.layers.values()],
            {name: value.tolist() for name, value in found.digital.items()},
            (found.network, found.array_shape, found.card, dict(found.attributes)),
        ]

    return Kind(
        "conductance map",
        "maps.h5",
        read,
        tuple(examples),
        (*BYTES, Edits(folder)),
        (Edits(folder, _seal_map), *[lambda rng, data: structures[data](rng, data)] * 4),
    )


def _tensors(layer: Any) -> list[torch.Tensor]:
    tensors = (layer.codes, layer.actual, layer.row_index, layer.col_index, layer.adc_bits)
    return [tensor for tensor in tensors if tensor is not None]


def _seal_map(file: h5py.File) -> None:
    """Give every data set of a map the checksum of what it holds, and the file its fingerprint."""

    def put(_: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset):
            stored = item[()]
            data = stored if isinstance(stored, bytes) else np.ascontiguousarray(stored).tobytes()
            put_attributes(item, sha256=hashlib.sha256(data).hexdigest())

    file.visititems(put)
    put_attributes(file, sha256=fingerprint(SafeGroup(file, "", 0)))


def _cards() -> Kind:
    names = ("rram-neurram", "ideal")
    examples = tuple(
        to_toml(load_card(name).model_dump(mode="json", exclude_none=True)).encode() for name in names
    )
    return Kind("device card", "card.toml", lambda path: load_card(path), examples, (), (*BYTES, *[text] * 4))


def _recipes() -> Kind:
    example = to_toml(Recipe().model_dump(mode="json", exclude_none=True)).encode()
    return Kind("recipe", "recipe.toml", load_recipe, (example,), (), (*BYTES, *[text] * 4))


def _network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 4))


def _weights(folder: Path) -> Kind:
    save_weights(_network(), folder / "weights.safetensors")
    example = (folder / "weights.safetensors").read_bytes()

    def read(path: Path) -> object:
        net = _network()
        load_weights(net, path)
        return digest(net.state_dict())

    return Kind("weights", "weights.safetensors", read, (example,), BYTES, (tensors, tensors))


def _exported(folder: Path) -> Kind:
    """The summary of exported tables, beside tables that stay as they are."""
    files = export_csv(map_of(random_layer("fc"), card="rram-neurram"), folder / "tables")
    tables = {file.name: file.read_bytes() for file in files}

    def read(path: Path) -> object:
        for name, data in tables.items():
            if name != "map.json":
                (path.parent / name).write_bytes(data)
        found = import_tables(path.parent)
        write_map(found, path.parent / "imported.h5")
        return [tensor.tolist() for layer in found.layers.values() for tensor in _tensors(layer)]

    return Kind("exported tables", "map.json", read, (tables["map.json"],), (), (*BYTES, *[text] * 4))


def _networks() -> Kind:
    """A network in ONNX: one convolution, and a matrix product after it."""
    rng = np.random.default_rng(0)
    values = {
        "w": rng.standard_normal((2, 1, 3, 3)).astype(np.float32),
        "m": rng.standard_normal((8, 4)).astype(np.float32),
        "shape": np.array([0, -1]),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["a"], "conv", pads=[1, 1, 1, 1], strides=[2, 2]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Reshape", ["b", "shape"], ["c"]),
            helper.make_node("MatMul", ["c", "m"], ["y"], "fc"),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    example = helper.make_model(graph).SerializeToString()
    return Kind(
        "network (ONNX)",
        "net.onnx",
        lambda path: digest(load_onnx(path).state_dict()),
        (example,),
        (),
        BYTES,
    )


def _records(folder: Path) -> Kind:
    """What hardware was asked and what it answered."""
    rng = np.random.default_rng(0)
    arrays = {"fc": rng.random((2, 2, 1, 4, 4)).astype(np.float32)}
    answers = {name: rng.random((3, 4)).astype(np.float32) for name in ("inputs", "outputs")}
    hardware = {"backend": "fast", "seed": 1}
    parts = [folder / f"{number}.h5" for number in range(3)]
    write_exchange(parts[0], Exchange("program", ("fc",), True, "0" * 64, hardware, arrays))
    for part in parts[1:]:
        write_exchange(part, Exchange("read", ("fc",), False, "1" * 64, hardware, answers))
    gather(parts, folder / "record.h5")
    example = (folder / "record.h5").read_bytes()

    def read(path: Path) -> object:
        with opening_record(path) as exchanges:
            return [
                (found.kind, found.layers, found.request, {n: a.tolist() for n, a in found.arrays.items()})
                for found in exchanges
            ]

    return Kind(
        "recording",
        "record.h5",
        read,
        (example,),
        BYTES,
        (Edits(folder), *[Structures(example)] * 4),
    )


def _measurements(folder: Path) -> Kind:
    tables = {name.replace(" ", "-"): make(1, False)[0] for name, make in MAKERS.items()}
    small = {name: table.rows(np.arange(len(table)) < 40) for name, table in tables.items()}
    write_measurements(folder / "all.h5", small)
    old = (folder / "all.h5").read_bytes()
    with h5py.File(folder / "all.h5") as file, h5py.File(folder / "new.h5", "w", libver="latest") as other:
        other.attrs.update(file.attrs)
        for name, group in file.items():
            other.create_group(name).attrs.update(group.attrs)
            for column, data in group.items():
                new = other[name].create_dataset(column, data=data[()], compression=4, chunks=(8,))
                new.attrs.update(data.attrs)
    latest = (folder / "new.h5").read_bytes()
    structures = Structures(latest)

    def resealed(rng: random.Random, data: bytes) -> bytes:
        return structures(rng, latest) if data is latest else BYTES[0](rng, data)

    return Kind(
        "measurements (HDF5)",
        "all.h5",
        _columns,
        (old, latest),
        (),
        (*BYTES, Edits(folder), Edits(folder), *[resealed] * 4),
    )


def _tables() -> Kind:
    lines = ["# kind: levels", "# temperature: 298 K", "device,target [uS],conductance [uS],wafer"]
    lines += [f"{n},{n % 5 * 10},{n % 5 * 9.9:.3f},1" for n in range(30)]
    example = "\n".join(lines).encode()
    return Kind("measurements (CSV)", "levels.csv", _columns, (example,), (), (*BYTES, *[text] * 4))


def _columns(path: Path) -> object:
    return [
        (table.kind, table.temperature, {name: column.tolist() for name, column in table.columns.items()})
        for table in read_measurements(path)
    ]

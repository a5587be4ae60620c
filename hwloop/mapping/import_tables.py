"""Conductance maps from CSV or NPZ files, as :mod:`hwloop.mapping.export` writes them."""

from __future__ import annotations

import csv
import io
import json
import math
import zipfile
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from device_models.card import DeviceCard
from device_models.files import open_regular

from .conductance_map import ConductanceMap, LayerMap
from .encoding import decode
from .export import CSV_COLUMNS, DIGITAL, FLAGS, SUMMARY
from .map_checks import LayerFacts, check_header
from .map_errors import MapProblemError, guarded
from .map_schema import DATA, DIGITAL_TYPES, shapes, target_of
from .mapfile import MAX_BYTES

MAX_SUMMARY_BYTES = 1 << 28
MAX_TABLE_BYTES = 1 << 40
_MAX_COMPRESSION = 1032

Whole = Annotated[int, Field(ge=0, lt=2**31)]


class _Layer(BaseModel):
    """What ``map.json`` states of a layer."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    position: Whole
    kind: str
    weight_shape: list[Annotated[int, Field(ge=1, lt=2**31)]]
    groups: Whole
    tiles: Whole
    polarities: Whole
    slices: Whole
    fragments: Whole
    weight_per_siemens: float
    input_scale: float
    input_signed: Whole
    programmed: bool
    file: Annotated[str, Field(max_length=250, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\.(csv|npz)$")]
    adc_bits: list[Annotated[int, Field(ge=0, le=255)]]
    row_index: list[list[int]]
    col_index: list[list[int]]
    flipped: list[list[Whole]] | None = None
    negative: list[list[Whole]] | None = None


class _Summary(BaseModel):
    """What ``map.json`` states of a map."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    network: str
    card: DeviceCard
    g_step_siemens: float
    array_shape: tuple[int, int]
    layers: dict[str, _Layer]
    attributes: dict[str, Any]


def import_tables(folder: str | Path, max_bytes: int = MAX_BYTES) -> ConductanceMap:
    """Read a map from a folder that :func:`export_csv` or :func:`export_npz` wrote; exactly the same map.

    Only files that lie directly in the folder are read, and no more of them than the shapes stated can hold.
    Level codes say what a cell is; target conductances that disagree with them are an error. Whether the
    cells make a consistent map is checked where it is written.

    Args:
        folder: the folder, with ``map.json``.
        max_bytes: how much memory the map may take.

    Raises:
        MapFileError: naming file, layer and the first problem.
    """
    folder = Path(folder)
    where = str(folder / SUMMARY)
    with guarded(where):
        try:
            with open_regular(folder / SUMMARY, MAX_SUMMARY_BYTES) as file:
                summary = _Summary.model_validate(json.load(file))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part)[:40] for part in first["loc"])
            raise MapProblemError(f"{ascii(place)[1:-1]}: {ascii(first['msg'])[1:-1][:200]}") from error
        check_header(summary.network, summary.array_shape)
        if summary.g_step_siemens != summary.card.g_step:
            raise MapProblemError(f"g_step_siemens is not {summary.card.g_step} S, that of the card")
        if sorted(layer.position for layer in summary.layers.values()) != list(range(len(summary.layers))):
            raise MapProblemError("positions of the layers must be 0, 1, 2, ... once each")
    left, layers = max_bytes, {}
    for name, stated in sorted(summary.layers.items(), key=lambda item: item[1].position):
        with guarded(f"{folder / stated.file}"):
            facts = _facts(stated)
            wanted = _sizes(facts, stated, summary.array_shape)
            left -= sum(math.prod(shape) * np.dtype(DATA[key][0]).itemsize for key, shape in wanted.items())
            if left < 0:
                raise MapProblemError("the map takes more memory than the limit")
            layers[name] = _layer(folder, name, stated, facts, wanted, summary)
    digital = _digital(folder / DIGITAL, left) if (folder / DIGITAL).exists() else {}
    return ConductanceMap(
        summary.network, summary.card, summary.array_shape, layers, digital, summary.attributes
    )


def _facts(stated: _Layer) -> LayerFacts:
    fields = LayerFacts.__dataclass_fields__
    values = {name: getattr(stated, name) for name in fields}
    facts = LayerFacts(**{**values, "weight_shape": tuple(stated.weight_shape)})
    facts.check()
    return facts


def _sizes(facts: LayerFacts, stated: _Layer, array_shape: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every array of a layer, each of which the summary backs with a list."""
    lists = (stated.adc_bits, stated.row_index, stated.col_index)
    if any(len(given) != facts.tiles for given in lists):
        raise MapProblemError(f"adc_bits, row_index and col_index must have {facts.tiles} entries")
    wanted = shapes(facts, array_shape)
    if not stated.programmed:
        del wanted["actual"]
    return wanted


def _layer(
    folder: Path,
    name: str,
    stated: _Layer,
    facts: LayerFacts,
    wanted: Mapping[str, tuple[int, ...]],
    summary: _Summary,
) -> LayerMap:
    """Return a layer from its table or arrays."""
    data: dict[str, np.ndarray] = {
        key: np.array(getattr(stated, key), dtype=DATA[key][0]).reshape(wanted[key])
        for key in ("row_index", "col_index", "adc_bits")
    }
    for key in FLAGS:
        if key in wanted:
            data[key] = np.zeros(wanted[key], dtype=np.bool_)
            for place in getattr(stated, key) or []:
                data[key][tuple(place)] = True
    read = _read_csv if stated.file.endswith(".csv") else _read_npz
    cells = read(folder / stated.file, wanted, data["row_index"], summary.card)
    layer = {key: torch.from_numpy(values) for key, values in (data | cells).items()}
    if facts.encoding == "offset":
        layer["kept"] = torch.zeros(wanted["mask"], dtype=torch.bool)
    made = LayerMap(
        name=name,
        kind=facts.kind,
        weight_shape=facts.weight_shape,
        groups=facts.groups,
        weight_per_siemens=facts.weight_per_siemens,
        input_scale=facts.input_scale,
        input_signed=bool(facts.input_signed),
        **layer,
    )
    if made.kept is not None:
        made.kept.copy_(decode(made, summary.card.levels) != 0)
    return made


def _read_csv(
    path: Path, wanted: Mapping[str, tuple[int, ...]], row_index: np.ndarray, card: DeviceCard
) -> dict[str, np.ndarray]:
    """Return level codes and programmed conductances from a table of the cells that conduct."""
    cells = {key: np.zeros(wanted[key], dtype=DATA[key][0]) for key in ("codes", "actual") if key in wanted}
    seen = np.zeros(wanted["codes"], dtype=np.bool_)
    target = target_of(cells["codes"], row_index, card)
    count = math.prod(wanted["codes"])
    with open_regular(path, 200 * count + 1000) as file, io.TextIOWrapper(file, "utf-8", newline="") as text:
        table = csv.reader(text)
        if tuple(next(table, ())) != CSV_COLUMNS:
            raise MapProblemError(f"its first line must be {','.join(CSV_COLUMNS)}")
        for number, row in enumerate(table, start=2):
            if len(row) != len(CSV_COLUMNS):
                raise MapProblemError(f"line {number}: {len(row)} values, but {len(CSV_COLUMNS)} columns")
            try:
                place = tuple(int(value) for value in row[:5])
                code, stated = int(row[7]), np.float32(row[8])
                if min(place) < 0 or not 0 <= code <= card.levels:
                    raise IndexError
                if seen[place]:
                    raise MapProblemError(f"line {number}: the cell comes twice")
                seen[place] = True
                cells["codes"][place] = code
            except (ValueError, IndexError, OverflowError) as error:
                if isinstance(error, MapProblemError):
                    raise
                raise MapProblemError(f"line {number}: is no cell of the map") from None
            target[place] = stated
            if "actual" in cells:
                cells["actual"][place] = np.float32(row[9])
    _check_target(target, cells["codes"], row_index, card)
    return cells


def _read_npz(
    path: Path, wanted: Mapping[str, tuple[int, ...]], row_index: np.ndarray, card: DeviceCard
) -> dict[str, np.ndarray]:
    """Return level codes and programmed conductances from arrays."""
    sizes = {key: math.prod(shape) * np.dtype(DATA[key][0]).itemsize for key, shape in wanted.items()}
    arrays = _arrays(path, ("codes", "actual", "target"), sum(sizes.values()) + 1000 * len(DATA))
    for key in ("codes", "actual", "target"):
        if key not in arrays and key in wanted and key != "target":
            raise MapProblemError(f"has no array {key}")
        if key in arrays and (arrays[key].shape, arrays[key].dtype) != (wanted.get(key), DATA[key][0]):
            raise MapProblemError(
                f"{key} is {arrays[key].dtype} {list(arrays[key].shape)}, must be as stated"
            )
    if "target" in arrays:
        _check_target(arrays["target"], arrays["codes"], row_index, card)
    return {key: arrays[key] for key in ("codes", "actual") if key in arrays}


def _check_target(target: np.ndarray, codes: np.ndarray, row_index: np.ndarray, card: DeviceCard) -> None:
    if not np.array_equal(target, target_of(codes, row_index, card)):
        tile = int(np.argwhere(target != target_of(codes, row_index, card))[0][0])
        raise MapProblemError(f"target: tile {tile}: is not what level code and card make")


def _arrays(path: Path, names: Container[str] | None, most: int) -> dict[str, np.ndarray]:
    """Return the arrays of an NPZ file with these names (None: all), of at most so many bytes together."""
    with open_regular(path, MAX_TABLE_BYTES) as file, zipfile.ZipFile(file) as archive:
        entries, packed = archive.infolist(), path.stat().st_size
        if sum(entry.file_size for entry in entries) > min(most, _MAX_COMPRESSION * packed + 1000):
            raise MapProblemError("unpacks to more than it may")
        file.seek(0)
        with np.load(file, allow_pickle=False) as opened:
            return {name: opened[name] for name in opened.files if names is None or name in names}


def _digital(path: Path, most: int) -> dict[str, torch.Tensor]:
    with guarded(str(path)):
        arrays = _arrays(path, None, most)
        for name, array in arrays.items():
            if array.dtype.newbyteorder("<").str not in DIGITAL_TYPES:
                raise MapProblemError(f"{ascii(name)[:80]}: numbers of type {array.dtype} are not read")
        return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}

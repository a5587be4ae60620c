"""Conductances that a laboratory measured, back into the map that it programmed from."""

from __future__ import annotations

import csv
import io
import math
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from device_models.files import open_regular

from .conductance_map import ConductanceMap, LayerMap
from .export import file_names
from .mapfile import read_map

MISSING = "missing"
"""What a table says of a cell that could not be measured; arrays have NaN there."""
MAX_BYTES = 1 << 32
MAX_LINE = 10_000
RANGE = 10.0
"""Largest plausible conductance over the card's g_max."""

_PLACE = ("tile", "polarity", "slice", "word_line", "bit_line")
_MEASURED = "actual_siemens"
_HEADER_BYTES = 10_000


class ReadbackError(ValueError):
    """Measured conductances that cannot be used; the message names the file, the cell and the problem."""


class Readback(NamedTuple):
    """A map with what was measured.

    Attributes:
        map: with ``actual`` of every layer; where nothing could be measured it is the target.
        measured: cells that were measured.
        missing: cells that are stated to be missing.
        rms_error: root of the mean square of measured less target, in siemens.
    """

    map: ConductanceMap
    measured: int
    missing: int
    rms_error: float


def import_readback(conductance_map: ConductanceMap, path: str | Path) -> Readback:
    """Fill in the conductances that were measured.

    Every cell with a target comes exactly once, with its conductance in siemens or the word that it is
    missing; no other cell comes. Four layouts are understood:

    * a folder as ``hwloop maps export`` writes it, with one CSV or NPZ file for each layer;
    * one CSV file with a column ``layer``, which a map of one layer may leave out;
    * one NPZ file with an array for each layer, of the layer's name and the shape of its cells;
    * a map file with the same cells.

    Args:
        conductance_map: what was programmed.
        path: what was measured.

    Raises:
        ReadbackError: naming file and cell, if a value is missing, twice, not plausible, or of no cell.
        MapFileError: if a map file is damaged.
        OSError: if a file cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        measured = dict(_folder(conductance_map, path))
    elif path.suffix.lower() == ".csv":
        measured = _table(conductance_map.layers, path)
    elif path.suffix.lower() == ".npz":
        measured = {
            name: _array(path, name, layer.codes.shape) for name, layer in conductance_map.layers.items()
        }
    elif path.suffix.lower() in (".h5", ".hdf5"):
        measured = _other_map(conductance_map, path)
    else:
        raise ReadbackError(f"{path}: give a folder, or a file that ends in .csv, .npz or .h5")
    layers, counts, squares = {}, [0, 0], 0.0
    for name, layer in conductance_map.layers.items():
        target = conductance_map.target(name).numpy()
        _check(path, name, measured[name], target, conductance_map.card.g_max.value)
        known = np.isfinite(measured[name]) & (target > 0)
        counts[0] += int(known.sum())
        counts[1] += int((target > 0).sum() - known.sum())
        squares += float(((measured[name] - target)[known] ** 2).sum())
        actual = np.where(known, measured[name], target).astype(np.float32)
        layers[name] = replace(layer, actual=torch.from_numpy(actual))
    whole = replace(conductance_map, layers=layers)
    return Readback(whole, counts[0], counts[1], math.sqrt(squares / counts[0]) if counts[0] else 0.0)


def _folder(conductance_map: ConductanceMap, folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what was measured of each layer from files named as exported ones."""
    for name, start in file_names(conductance_map).items():
        layer = conductance_map.layers[name]
        table, arrays = folder / f"{start}.csv", folder / f"{start}.npz"
        if table.exists() == arrays.exists():
            both = "are both there" if table.exists() else "are both not there"
            raise ReadbackError(f"{folder}: {table.name} and {arrays.name} {both}; one of them is read")
        if table.exists():
            yield name, _table({name: layer}, table)[name]
        else:
            yield name, _array(arrays, "actual", layer.codes.shape)


def _table(layers: dict[str, LayerMap], path: Path) -> dict[str, np.ndarray]:
    """Return what a CSV file says, NaN where it says that a cell is missing; 0 where it says nothing."""
    measured = {name: np.zeros(layer.codes.shape) for name, layer in layers.items()}
    seen = {name: np.zeros(layer.codes.shape, dtype=np.bool_) for name, layer in layers.items()}
    with open_regular(path, MAX_BYTES) as file, io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        try:
            table = csv.reader(_lines(text, path))
            headings = [heading.strip() for heading in next(table, [])]
            for column in (*_PLACE, _MEASURED, *(("layer",) if len(layers) > 1 else ())):
                if headings.count(column) != 1:
                    raise ReadbackError(f"{path}: line 1: needs the column {column} once")
            columns = {heading: number for number, heading in enumerate(headings)}
            for row in table:
                if not row:
                    continue
                where = f"{path}: line {table.line_num}"
                if len(row) != len(headings):
                    raise ReadbackError(f"{where}: {len(row)} values, but {len(headings)} headings")
                name = row[columns["layer"]] if "layer" in columns else next(iter(layers))
                if name not in layers:
                    raise ReadbackError(f"{where}: no layer {ascii(name)[:80]} in the map")
                place = _place(where, [row[columns[column]] for column in _PLACE], measured[name].shape)
                if seen[name][place]:
                    raise ReadbackError(f"{where}: {_cell(name, place)} comes twice")
                seen[name][place] = True
                measured[name][place] = _siemens(where, row[columns[_MEASURED]])
        except (csv.Error, UnicodeDecodeError) as error:
            raise ReadbackError(f"{path}: not a CSV file in UTF-8 ({error})") from error
    for name, layer in layers.items():
        # Of cells that no line tells, those without a target are found later to be right.
        untold = ~seen[name] & (layer.codes.numpy(force=True) > 0)
        if untold.any():
            place = tuple(np.argwhere(untold)[0].tolist())
            raise ReadbackError(
                f"{path}: {_cell(name, place)} is not in it; measure it, or write {MISSING!r}"
            )
        measured[name][~seen[name]] = -1.0
    return measured


def _lines(text: io.TextIOWrapper, path: Path) -> Iterator[str]:
    """Yield lines of bounded length."""
    while line := text.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise ReadbackError(f"{path}: a line of more than {MAX_LINE} characters")
        yield line


def _place(where: str, values: list[str], shape: tuple[int, ...]) -> tuple[int, ...]:
    place = []
    for column, value, extent in zip(_PLACE, values, shape, strict=True):
        text = value.strip()
        if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) < extent):
            raise ReadbackError(f"{where}: {column} is {ascii(value)[:40]}, must be 0 to {extent - 1}")
        place.append(int(text))
    return tuple(place)


def _siemens(where: str, value: str) -> float:
    text = value.strip()
    if text.lower() == MISSING:
        return math.nan
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ReadbackError(
            f"{where}: {_MEASURED} is {ascii(value)[:40]}; give siemens, or {MISSING!r} for a cell that "
            "could not be measured"
        )
    return number


def _array(path: Path, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return one array of an NPZ file, of a known shape: nothing is allocated on the file's word."""
    where = f"{path}: {name}"
    try:
        with open_regular(path, MAX_BYTES) as file, zipfile.ZipFile(file) as archive:
            if f"{name}.npy" not in archive.namelist():
                raise ReadbackError(f"{where}: is not in it")
            with archive.open(f"{name}.npy") as member:
                version = np.lib.format.read_magic(member)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else None
                if read is None:
                    raise ReadbackError(f"{where}: NPY version {version}; version (1, 0) is read")
                found, fortran, dtype = read(member, max_header_size=_HEADER_BYTES)
                if tuple(found) != tuple(shape) or fortran or dtype.kind != "f":
                    raise ReadbackError(
                        f"{where}: {dtype} {list(found)}, must be float {list(shape)} in C order"
                    )
                size = math.prod(shape) * dtype.itemsize
                data = member.read(size + 1)
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, ReadbackError):
            raise
        raise ReadbackError(f"{path}: not a complete NPZ file ({error})") from error
    if len(data) != size:
        raise ReadbackError(f"{where}: {len(data)} bytes of data, not {size}")
    return np.frombuffer(data, dtype=dtype).reshape(shape).astype(np.float64)


def _other_map(conductance_map: ConductanceMap, path: Path) -> dict[str, np.ndarray]:
    """Return the conductances of a map file that holds the same cells."""
    other = read_map(path)
    measured = {}
    for name, layer in conductance_map.layers.items():
        same = other.layers.get(name)
        if same is None or not torch.equal(same.codes, layer.codes):
            raise ReadbackError(f"{path}: layer {name}: has other cells than the map that was programmed")
        if same.actual is None:
            raise ReadbackError(f"{path}: layer {name}: holds no measured conductances")
        measured[name] = same.actual.numpy().astype(np.float64)
    return measured


def _check(path: Path, name: str, measured: np.ndarray, target: np.ndarray, g_max: float) -> None:
    """Raise unless every cell has a plausible conductance, and nothing else has one."""
    there = target > 0
    # NaN is a cell that is stated to be missing; a table has -1 where it says nothing.
    for bad, problem in (
        (there & (measured < 0), "must not be negative, and every cell must come"),
        (there & (measured > RANGE * g_max), f"is above {RANGE:g} times g_max ({g_max:g} S); give siemens"),
        (~there & (measured > 0), "but the map has no cell there"),
        (np.isinf(measured), "must be finite"),
    ):
        if bad.any():
            place = tuple(np.argwhere(bad)[0].tolist())
            raise ReadbackError(f"{path}: {_cell(name, place)}: {measured[place]:g} S {problem}")


def _cell(name: str, place: tuple[int, ...]) -> str:
    tile, polarity, slice_, word_line, bit_line = place
    return (
        f"layer {name}, tile {tile}, polarity {polarity}, slice {slice_}, word line {word_line}, "
        f"bit line {bit_line}"
    )

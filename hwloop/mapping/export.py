"""Conductance maps as CSV or NPZ files, one per layer, for programs that do not read HDF5."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import errno
import json
import re
import secrets
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from device_models.card import DeviceCard

from .conductance_map import ConductanceMap, LayerMap
from .map_checks import LayerFacts
from .map_schema import target_of

SUMMARY, DIGITAL = "map.json", "digital.npz"
FLAGS = ("flipped", "negative")
CSV_COLUMNS = (
    "tile",
    "polarity",
    "slice",
    "word_line",
    "bit_line",
    "matrix_row",
    "matrix_col",
    "level_code",
    "target_siemens",
    "actual_siemens",
)


def export_csv(conductance_map: ConductanceMap, folder: str | Path) -> list[Path]:
    """Write ``map.json``, ``digital.npz`` and, per layer, a table with one line for each cell that conducts.

    Columns are ``CSV_COLUMNS``; polarity is 0 for positive and 1 for negative, and 0 throughout with one
    polarity: then ``map.json`` lists the flipped bit lines as tile, slice and bit line (offset), or the
    negative fragments as tile, fragment and bit line (polarised). ``actual_siemens`` is empty before
    programming.

    Returns:
        The files written.

    Raises:
        FileExistsError: if one of them is there already; nothing is written then.
        OSError: if the folder cannot be written; nothing is left behind then.
    """
    return _export(conductance_map, Path(folder), ".csv", _write_csv)


def export_npz(conductance_map: ConductanceMap, folder: str | Path) -> list[Path]:
    """Write ``map.json``, ``digital.npz`` and, per layer, the arrays of the map file under the same names.

    Returns and raises as :func:`export_csv`.
    """
    return _export(conductance_map, Path(folder), ".npz", _write_npz)


def _export(
    conductance_map: ConductanceMap,
    folder: Path,
    ending: str,
    write: Callable[[Path, LayerMap, DeviceCard], None],
) -> list[Path]:
    names = file_names(conductance_map)
    files = {name: folder / (names[name] + ending) for name in names}
    if {SUMMARY, DIGITAL} & {path.name for path in files.values()}:
        raise ValueError("a layer has a name that gives the file name of something else")

    def layer(name: str) -> Callable[[Path], None]:
        return lambda path: write(path, conductance_map.layers[name], conductance_map.card)

    def summary(path: Path) -> None:
        with path.open("x", encoding="utf-8") as file:
            json.dump(_summary(conductance_map, files), file, indent=1, allow_nan=False)

    def digital(path: Path) -> None:
        arrays = {name: value.numpy(force=True) for name, value in conductance_map.digital.items()}
        with path.open("xb") as file:
            _save_arrays(file, arrays)

    writers = {path: layer(name) for name, path in files.items()} | {folder / SUMMARY: summary}
    return write_together(folder, writers | ({folder / DIGITAL: digital} if conductance_map.digital else {}))


def file_names(conductance_map: ConductanceMap) -> dict[str, str]:
    """Return for each layer the beginning of a file name, without folders, hidden files or odd characters.

    Layer names come from a file: whatever they hold, the files lie directly in the folder.

    Raises:
        ValueError: if two layers get the same.
    """
    names = {
        name: re.sub(r"[^\w.-]", "_", name, flags=re.ASCII).lstrip(".") or "_"
        for name in conductance_map.layers
    }
    if len(set(names.values())) < len(names):
        raise ValueError("two layers have names that give the same file name")
    return names


def write_together(folder: Path, writers: dict[Path, Callable[[Path], None]]) -> list[Path]:
    """Write all files of a folder, or none.

    Args:
        folder: made if it is not there.
        writers: for each file a function that writes it to the path it is given.

    Returns:
        The files.

    Raises:
        FileExistsError: if one of them is there already; nothing is written then.
        OSError: if the folder cannot be written; nothing is left behind then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial = {path: path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp") for path in writers}
    for path in writers:
        if path.exists() or path.is_symlink():
            raise FileExistsError(errno.EEXIST, "is there already; choose another folder", str(path))
    try:
        for path, write in writers.items():
            write(partial[path])
        for path, temporary in partial.items():
            temporary.replace(path)
    finally:
        for temporary in partial.values():
            with contextlib.suppress(OSError):
                temporary.unlink()
    return list(writers)


def _summary(conductance_map: ConductanceMap, files: dict[str, Path]) -> dict[str, Any]:
    """Return all facts that the tables of the layers do not hold."""
    layers = {
        name: dataclasses.asdict(LayerFacts.of(layer, position))
        | {"file": files[name].name, "programmed": layer.actual is not None}
        | {line: getattr(layer, line).tolist() for line in ("adc_bits", "row_index", "col_index")}
        | {
            flag: getattr(layer, flag).nonzero().tolist()
            for flag in FLAGS
            if getattr(layer, flag) is not None
        }
        for position, (name, layer) in enumerate(conductance_map.layers.items())
    }
    return {
        "network": conductance_map.network,
        "card": conductance_map.card.model_dump(mode="json"),
        "g_step_siemens": conductance_map.g_step,
        "array_shape": list(conductance_map.array_shape),
        "layers": layers,
        "attributes": dict(conductance_map.attributes),
    }


def _write_csv(path: Path, layer: LayerMap, card: DeviceCard) -> None:
    codes = layer.codes.numpy(force=True)
    row_index, col_index = layer.row_index.numpy(force=True), layer.col_index.numpy(force=True)
    with path.open("x", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(CSV_COLUMNS)
        for tile, cells in enumerate(codes):
            target = target_of(cells, row_index[tile], card)
            programmed = np.zeros(0) if layer.actual is None else layer.actual[tile].numpy(force=True)
            there = (cells != 0) | (target > 0) | (programmed > 0 if layer.actual is not None else False)
            polarity, slices, lines, bits = np.nonzero(there)
            levels = cells[polarity, slices, lines, bits]
            actual = [""] * len(levels)
            if layer.actual is not None:
                actual = _shortest(programmed[polarity, slices, lines, bits])
            columns = (
                polarity.tolist(),
                slices.tolist(),
                lines.tolist(),
                bits.tolist(),
                row_index[tile, lines].tolist(),
                col_index[tile, bits].tolist(),
                levels.tolist(),
                _shortest(target[polarity, slices, lines, bits]),
                actual,
            )
            table.writerows((tile, *cell) for cell in zip(*columns, strict=True))


def _write_npz(path: Path, layer: LayerMap, card: DeviceCard) -> None:
    codes = layer.codes.numpy(force=True)
    arrays = {
        "codes": codes,
        "target": target_of(codes, layer.row_index.numpy(force=True), card),
        "mask": layer.mask.numpy(force=True).astype(np.uint8),
        "row_index": layer.row_index.numpy(force=True),
        "col_index": layer.col_index.numpy(force=True),
        "adc_bits": layer.adc_bits.numpy(force=True),
    }
    if layer.actual is not None:
        arrays["actual"] = layer.actual.numpy(force=True)
    for name in FLAGS:
        if (flags := getattr(layer, name)) is not None:
            arrays[name] = flags.numpy(force=True).astype(np.uint8)
    with path.open("xb") as file:
        _save_arrays(file, arrays)


def _save_arrays(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an NPZ file; names of arrays may be those of arguments of :func:`numpy.savez`."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _shortest(conductances: np.ndarray) -> list[str]:
    """Write float32 numbers with just as many digits as give them back."""
    return [str(value) for value in conductances]

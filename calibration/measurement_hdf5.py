"""Measurement files in HDF5: one group for each table, with units in attributes."""

from __future__ import annotations

import math
from pathlib import Path

import h5py
import numpy as np

from device_models.files import open_regular, replacing
from device_models.hdf5_screen import ScreenError, reason, screen

from .measurement import KINDS, Array, Measurement, MeasurementError, unit_scale

FORMAT, VERSION = "hwloop-measurements", 1
MAX_ROWS = 20_000_000
MAX_TABLES = 1000
MAX_FILE_BYTES = 1 << 33
MAX_DATA_BYTES = 1 << 29
"""How much memory the columns of a file may take."""
# Deflate cannot shrink by more; a column that claims to is not backed by the file.
_MAX_COMPRESSION = 1032
_FILTERS = {
    h5py.h5z.FILTER_DEFLATE,
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_FLETCHER32,
    h5py.h5z.FILTER_LZF,
}


def read_hdf5(path: Path) -> list[Measurement]:
    """Read every table of a file.

    Nothing in it is followed to another file, no filter is loaded for it, and no more is allocated than its
    size can hold.

    Raises:
        MeasurementError: naming file, group and column.
        OSError: if the file cannot be read.
    """
    with open_regular(path, MAX_FILE_BYTES) as file:
        if file.read(8) != b"\x89HDF\r\n\x1a\n":
            raise MeasurementError(f"{path}: not an HDF5 file")
    try:
        screen(path, data=True)
    except ScreenError as error:
        raise MeasurementError(f"{path}: {error}") from error
    try:
        with h5py.File(path, locking=False) as file:
            return _read_tables(path, file)
    except MeasurementError:
        raise
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError, MemoryError) as error:
        raise MeasurementError(f"{path}: damaged ({reason(error)})") from error


def _read_tables(path: Path, file: h5py.File) -> list[Measurement]:
    if _text(file, "format") != FORMAT or _number(file, "version") != VERSION:
        raise MeasurementError(f"{path}: the root has no attributes format = {FORMAT!r}, version = {VERSION}")
    if len(file) > MAX_TABLES:
        raise MeasurementError(f"{path}: holds {len(file)} groups; at most {MAX_TABLES} are read")
    groups = {name: group for name, group in _members(str(path), file) if isinstance(group, h5py.Group)}
    columns = {
        f"{path}:{ascii(name)[1:-1]}": dict(_members(f"{path}:{ascii(name)[1:-1]}", group))
        for name, group in groups.items()
    }
    if not columns:
        raise MeasurementError(f"{path}: holds no group, and so no table")
    size = path.stat().st_size
    total = sum(
        _check_column(where, name, column, size)
        for where, members in columns.items()
        for name, column in members.items()
    )
    if total > MAX_DATA_BYTES:
        raise MeasurementError(f"{path}: holds {total} bytes of columns; at most {MAX_DATA_BYTES} are read")
    return [
        _read_table(where, group, members)
        for (where, members), group in zip(columns.items(), groups.values(), strict=True)
    ]


def _members(where: str, group: h5py.Group) -> list[tuple[str, h5py.HLObject]]:
    """Return the members of a group, none of which may be a link to somewhere else."""
    if len(group) > MAX_TABLES:
        raise MeasurementError(f"{where}: has {len(group)} members; at most {MAX_TABLES} are read")
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise MeasurementError(
                f"{where}: {ascii(name)[:80]} is a link to somewhere else, which is not followed"
            )
    return list(group.items())


def _check_column(where: str, name: str, data: h5py.HLObject, file_bytes: int) -> int:
    """Return how many bytes of memory a column takes, after checking what it is before reading it."""
    place = f"{where}: column {ascii(name)[:80]}"
    if not isinstance(data, h5py.Dataset):
        raise MeasurementError(f"{place}: must be a list of numbers")
    plan = data.id.get_create_plist()
    if plan.get_layout() == h5py.h5d.VIRTUAL or plan.get_external_count():
        raise MeasurementError(f"{place}: is made of data in other files, which are not followed")
    if data.ndim != 1 or data.dtype.kind not in "iuf" or data.dtype.itemsize > 16:
        raise MeasurementError(f"{place}: must be a list of numbers")
    if data.size > MAX_ROWS:
        raise MeasurementError(f"{place}: {data.size} rows are more than {MAX_ROWS}")
    if data.nbytes > _MAX_COMPRESSION * file_bytes:
        raise MeasurementError(f"{place}: claims more rows than a file of {file_bytes} bytes can hold")
    unknown = {plan.get_filter(index)[0] for index in range(plan.get_nfilters())} - _FILTERS
    if unknown:
        raise MeasurementError(
            f"{place}: is stored with filter {min(unknown)}; deflate, shuffle, lzf and fletcher32 are read"
        )
    return int(data.size) * max(8, data.dtype.itemsize)


def _read_table(where: str, group: h5py.Group, members: dict[str, h5py.HLObject]) -> Measurement:
    kind = _text(group, "kind")
    if kind is None or kind not in KINDS:
        raise MeasurementError(f"{where}: attribute kind is {ascii(kind)[:40]}; known are {', '.join(KINDS)}")
    wanted = {**KINDS[kind].columns, **KINDS[kind].optional}
    columns: dict[str, Array] = {}
    for column, data in members.items():
        place = f"{where}: column {ascii(column)[:80]}"
        if column not in wanted:
            raise MeasurementError(f"{place}: a table of kind {kind} has {', '.join(wanted)}")
        unit = _text(data, "unit") if "unit" in data.attrs or wanted[column] != "1" else "1"
        if unit is None:
            raise MeasurementError(f"{place}: has no attribute unit; give it, such as {wanted[column]!r}")
        columns[column] = data[()].astype(np.float64) * unit_scale(unit, wanted[column], place)
    one_wafer(where, _number(group, "wafer"), kind, columns)
    temperature = _number(group, "temperature_kelvin")
    if temperature is None and "temperature" in columns and columns["temperature"].size:
        temperature = float(columns["temperature"].min())
    if temperature is None:
        raise MeasurementError(f"{where}: has no attribute temperature_kelvin")
    return Measurement(kind, columns, temperature, where)


def _text(owner: h5py.HLObject, name: str) -> str | None:
    """Return an attribute that is one string; None where there is none."""
    value = owner.attrs.get(name)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else None


def _number(owner: h5py.HLObject, name: str) -> float | None:
    """Return an attribute that is one number; None where there is none."""
    value = owner.attrs.get(name)
    if isinstance(value, (int, float, np.integer, np.floating)) and math.isfinite(value):
        return float(value)
    return None


def one_wafer(where: str, value: object, kind: str, columns: dict[str, Array]) -> None:
    """Add the column ``wafer`` of a table that says once which wafer all of it is from."""
    if value is None or "wafer" not in KINDS[kind].optional:
        return
    if "wafer" in columns:
        raise MeasurementError(f"{where}: wafer is there as a column and for the whole table; keep one")
    try:
        number = float(str(value))
    except ValueError:
        raise MeasurementError(f"{where}: wafer is {ascii(value)[:40]}; give its number") from None
    columns["wafer"] = np.full(len(next(iter(columns.values()), ())), number)


def write_measurements(path: str | Path, tables: dict[str, Measurement]) -> None:
    """Write tables to an HDF5 file in SI units, atomically; one group for each, by its name."""
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
        for name, table in tables.items():
            group = file.create_group(name)
            group.attrs["kind"], group.attrs["temperature_kelvin"] = table.kind, table.temperature
            units = {**KINDS[table.kind].columns, **KINDS[table.kind].optional}
            for column, values in table.columns.items():
                group.create_dataset(column, data=values).attrs["unit"] = units[column]

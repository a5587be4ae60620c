"""The table of a sweep: one HDF5 file that can be read while it grows.

It is written anew beside the old one, which it then replaces: whoever opens it finds a whole file, with any
HDF5 viewer and on any file system, and a sweep that is killed loses the last seconds at most. (HDF5's mode of
one writer and many readers needs a file system that keeps the order of writes; those of clusters do not.)
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from device_models.files import replacing
from hwloop.sweep.axes import Axis, SweepError

FORMAT = "hwloop-sweep-table-1"
FIGURES = {
    "accuracy": "1",
    "accuracy_ideal": "1",
    "area_mm2": "mm2",
    "power_w": "W",
    "energy_per_image_j": "J",
    "latency_s": "s",
    "images_per_s": "1/s",
}
"""Figures of one device instance of a design that are no whole numbers, and their units."""
ERROR = "S500"
SHARE = 0.05
"""Largest share of the time that goes into writing the table."""
LEAST = 1.0
"""Seconds between two versions of the table, at least."""

Key = tuple[int, int]
"""Design and device instance that a row is of."""


def row_types(axes: Sequence[Axis], layers: Sequence[str]) -> dict[str, np.dtype[np.void]]:
    """Return the columns of ``results``, a row for each instance, and of ``spice``, a row for each array.

    Args:
        axes: what is varied; each field is a column, of numbers where all its values are.
        layers: names of the network's crossbar layers.
    """
    settings = [(field, _column(axis.values)) for axis in axes for field in axis.fields]
    bits = [(f"adc_bits {layer}", "i2") for layer in layers]
    longest = max(len(layer.encode()) for layer in layers)
    key = [("design", "i4"), ("instance", "i4")]
    end = [("seconds", "f8"), ("error", ERROR)]
    results = [*key, *settings, *((name, "f8") for name in FIGURES), ("tiles", "i4"), ("arrays", "i4"), *bits]
    array = [("layer", f"S{longest}"), ("tile", "i4"), ("polarity", "S8"), ("slice", "i4"), ("cells", "i4")]
    errors = [("rel_error", "f8"), ("rel_error_of_largest", "f8")]
    return {"results": np.dtype([*results, *end]), "spice": np.dtype([*key, *array, *errors, *end])}


class Table:
    """Rows of the tasks that are done, as they will stand in the file."""

    def __init__(
        self, path: Path, types: Mapping[str, np.dtype[np.void]], attributes: Mapping[str, Any]
    ) -> None:
        """Start with the rows that the file has, if it is there.

        Raises:
            SweepError: if the file is damaged, or a table of other columns.
        """
        self.path, self._types, self._attributes = path, dict(types), dict(attributes)
        self._rows: dict[str, dict[Key, np.ndarray]] = {name: {} for name in types}
        self._written, self._cost = time.monotonic(), 0.0
        if path.exists():
            self._read()

    def add(self, name: str, key: Key, rows: Iterable[Mapping[str, Any]]) -> None:
        """Put the rows of one task in place of any that it had; the file follows within moments."""
        self._rows[name][key] = np.array(
            [_row(self._types[name], {"design": key[0], "instance": key[1], **row}) for row in rows],
            dtype=self._types[name],
        )
        now = time.monotonic()
        if now - self._written > max(LEAST, self._cost / SHARE):
            self.write()

    def done(self, name: str) -> set[Key]:
        """Return the tasks that have rows, and none with an error."""
        return {key for key, rows in self._rows[name].items() if not rows["error"].any()}

    def rows(self, name: str, key: Key) -> np.ndarray:
        """Return the rows of one task; none if it is not done."""
        return self._rows[name].get(key, np.zeros(0, self._types[name]))

    def write(self) -> None:
        """Write the file, atomically.

        Raises:
            OSError: if the folder cannot be written.
        """
        started = time.monotonic()
        with replacing(self.path) as temporary, h5py.File(temporary, "w") as file:
            file.attrs["format"] = FORMAT
            for name, value in self._attributes.items():
                file.attrs[name] = json.dumps(value)
            for name, parts in self._rows.items():
                rows = [parts[key] for key in sorted(parts)]
                whole = np.concatenate(rows) if rows else np.zeros(0, self._types[name])
                file.create_dataset(name, data=whole)
            file["results"].attrs["units"] = json.dumps({**FIGURES, "seconds": "s"})
        self._written = time.monotonic()
        self._cost = self._written - started

    def _read(self) -> None:
        try:
            with h5py.File(self.path, "r") as file:
                for name, wanted in self._types.items():
                    whole = file[name][()]
                    if whole.dtype != wanted:
                        raise SweepError(f"{self.path}: {name} has other columns; delete it and sweep again")
                    keys, first = np.unique(whole[["design", "instance"]], return_index=True)
                    # Rows of one task stand together.
                    for key, rows in zip(keys, np.split(whole, first)[1:], strict=True):
                        self._rows[name][int(key["design"]), int(key["instance"])] = rows
        except (OSError, KeyError, AttributeError) as error:
            raise SweepError(f"{self.path}: damaged ({error}); delete it and sweep again") from error


def _column(values: Sequence[Any]) -> str:
    """Type of a column that holds the values of an axis."""
    kinds = {type(value) for value in values}
    if kinds == {int}:
        return "i8"
    if kinds <= {int, float, type(None)}:
        return "f8"
    return f"S{max(len(_text(value)) for value in values)}"


def _text(value: Any) -> bytes:
    return (value if isinstance(value, str) else json.dumps(value)).encode()


def _row(row_type: np.dtype[np.void], values: Mapping[str, Any]) -> Any:
    """One row; what has no value is NaN, -1 or empty."""
    row = np.zeros((), row_type)
    for name in row_type.names or ():
        column, value = row_type[name], values.get(name)
        if column.kind == "S":
            row[name] = b"" if name not in values else _text(value)[: column.itemsize]
        elif value is None:
            row[name] = np.nan if column.kind == "f" else -1
        else:
            row[name] = value
    return row[()]

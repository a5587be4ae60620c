"""Conductance maps as netlists, one per array, that ``ngspice -b`` runs without hwloop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .chip_wires import wires_of
from .conductance_map import UNUSED_LINE, ConductanceMap
from .export import file_names, write_together

if TYPE_CHECKING:
    from device_models.crossbar import Wires

POLARITIES = ("positive", "negative")


def export_spice(
    conductance_map: ConductanceMap, folder: str | Path, wires: Wires, source: str
) -> list[Path]:
    """Write a netlist for each array of a map that has cells: lines, cells, sources and an operating point.

    The conductances are the programmed ones, or the targets of a map that is not programmed. All word lines
    that the tile uses are driven at the read voltage; ``ngspice -b`` prints all node voltages, and
    the currents of the bit lines as those of the sources ``vsense_N``.

    Args:
        conductance_map: the map.
        folder: made if it is not there.
        wires: figures of the lines of every array, in ohm.
        source: name of the map's file, for the header.

    Returns:
        The files written, ``LAYER.tile-N.POLARITY.slice-N.cir``.

    Raises:
        FileExistsError: if one of them is there already; nothing is written then.
        OSError: if the folder cannot be written; nothing is left behind then.
        ValueError: if two layers have names that give the same file name.
    """
    folder, writers = Path(folder), dict[Path, Callable[[Path], None]]()
    for name, start in file_names(conductance_map).items():
        layer = conductance_map.layers[name]
        filled = layer.codes.numpy(force=True).any(axis=(3, 4))
        for tile, polarity, slice_ in np.argwhere(filled).tolist():
            file = f"{start}.tile-{tile}.{POLARITIES[polarity]}.slice-{slice_}.cir"
            writers[folder / file] = _writer(conductance_map, wires, source, name, (tile, polarity, slice_))
    return write_together(folder, writers)


def _writer(
    conductance_map: ConductanceMap, wires: Wires, source: str, name: str, place: tuple[int, int, int]
) -> Callable[[Path], None]:
    """Return what writes the netlist of one array."""
    # Maps are read by commands that need no SPICE, and PySpice takes a tenth of a second to import.
    from spice_netlists import crossbar_read, safe_title
    from spice_netlists.ngspice import with_options

    def write(path: Path) -> None:
        layer, (tile, polarity, slice_) = conductance_map.layers[name], place
        cells = layer.actual
        if cells is None:
            cells = conductance_map.target(name)
        used = layer.row_index[tile].numpy(force=True) != UNUSED_LINE
        title = f"{name} tile {tile} {POLARITIES[polarity]} slice {slice_}"
        voltages = [used * conductance_map.card.read_voltage.value]
        read = crossbar_read(cells[place], wires_of(wires, name), voltages, title)
        header = {
            "map": source,
            "network": conductance_map.network,
            "card": conductance_map.card.name,
            "conductances": "targets" if layer.actual is None else "programmed",
            "inputs": f"{conductance_map.card.read_voltage.value:g} V on {int(used.sum())} word lines",
        }
        # Names come from a file: each stays one comment without a character that SPICE acts on.
        comments = "".join(f"* {key}: {safe_title(text)}\n" for key, text in header.items())
        first, rest = with_options(read.netlist(), klu=False, aids=False).split("\n", 1)
        path.write_text(f"{first}\n{comments}{rest}", encoding="utf-8")

    return write

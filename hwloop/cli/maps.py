"""``hwloop maps``: look at, check, compare and convert conductance maps."""

from __future__ import annotations

import dataclasses
import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from .common import JsonOption, TerminalProgress, emit_json, new_app, note, output
from .sources import recipe_of

if TYPE_CHECKING:
    from hwloop.mapping import ConductanceMap, LayerMap

maps_app = new_app(help="Conductance maps: look at, check, compare and convert them.")

_SIZE = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>[kMGT]?B)?", re.IGNORECASE)
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}

MapArgument = Annotated[Path, typer.Argument(metavar="MAP", help="Conductance map file, such as maps.h5.")]


def _bytes_of(text: str) -> int:
    """Return a size as bytes; raises BadParameter."""
    match = _SIZE.fullmatch(str(text).strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is no size; write such as 500MB or 4GB")
    return int(float(match["number"]) * _UNITS[(match["unit"] or "B").upper()])


MapOutOption = Annotated[Path, typer.Option("--out", metavar="MAP", help="Map to write.", show_default=False)]


class ExportFormat(StrEnum):
    """What ``maps export`` writes."""

    CSV = "csv"
    NPZ = "npz"
    SPICE = "spice"
    CROSSSIM = "crosssim"
    AIHWKIT = "aihwkit"
    NEUROSIM = "neurosim"


_WITH_WIRES = (ExportFormat.SPICE, ExportFormat.CROSSSIM)

MemoryOption = Annotated[
    int,
    typer.Option(
        parser=_bytes_of, metavar="SIZE", help="Memory that reading a map may take, such as 500MB or 4GB."
    ),
]


@maps_app.command()
def inspect(file: MapArgument, as_json: JsonOption = False) -> None:
    """Show the layers of a map: matrix, tiles, occupancy, ADC bits, scale."""
    from hwloop.mapping import read_map

    conductance_map = read_map(file)
    layers = [_layer_facts(layer) for layer in conductance_map.layers.values()]
    if as_json:
        emit_json({"file": str(file), **_map_facts(conductance_map), "layers": layers})
        return
    rows, cols = conductance_map.array_shape
    card = conductance_map.card
    output.print(
        Text(f"{conductance_map.network} on {card.name}: {card.levels} levels up to {card.g_max.value:g} S")
    )
    output.print(Text(f"{conductance_map.arrays()} arrays of {rows}x{cols} in {conductance_map.tiles} tiles"))
    table = Table(box=None, pad_edge=False)
    table.add_column("layer", overflow="fold")
    for heading in ("matrix", "tiles", "occupied", "ADC bits", "weight/S", "programmed"):
        table.add_column(heading, justify="right", no_wrap=True)
    for layer in layers:
        table.add_row(
            layer["name"],
            "x".join(map(str, layer["matrix_shape"])),
            str(layer["tiles"]),
            f"{layer['occupancy']:.1%}" if layer["tiles"] else "-",
            _span(layer["adc_bits"]),
            f"{layer['weight_per_siemens']:.4g}",
            "yes" if layer["programmed"] else "no",
        )
    output.print(table)


@maps_app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(metavar="MAP...", help="Conductance map files.")],
    memory: MemoryOption = "4GB",  # type: ignore[assignment]  # as typer parses it
    as_json: JsonOption = False,
) -> None:
    """Check every byte of maps: format, checksums, values. Exit 1 if anything is wrong."""
    from hwloop.mapping import validate_map

    problems = [problem for file in files for problem in validate_map(file, memory)]
    if as_json:
        emit_json({"ok": not problems, "files": [str(file) for file in files], "problems": problems})
    else:
        for line in problems or ["ok"]:
            typer.echo(line)
    if problems:
        raise typer.Exit(1)


@maps_app.command()
def diff(first: MapArgument, second: MapArgument, as_json: JsonOption = False) -> None:
    """Say which layers and data sets of two maps differ, and by how much. Exit 1 if they do."""
    from hwloop.mapping import compare_maps, read_map

    differences = compare_maps(read_map(first), read_map(second))
    if as_json:
        emit_json({"same": not differences, "differences": [found._asdict() for found in differences]})
    elif differences:
        table = Table(box=None, pad_edge=False)
        table.add_column("where", overflow="fold")
        table.add_column("what differs (first / second)", overflow="fold")
        for found in differences:
            table.add_row(Text(found.where), Text(found.what))
        output.print(table)
    else:
        typer.echo("same")
    if differences:
        raise typer.Exit(1)


@maps_app.command()
def export(
    file: MapArgument,
    form: Annotated[ExportFormat, typer.Option("--format", help="What to write.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder; made if it is not there.")],
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="Recipe with the wires of netlists; the map's own if left out.", show_default=False
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a map as one file per layer, or per array for spice; files that are there are left alone."""
    from hwloop import mapping
    from hwloop.line import make_wires

    if recipe is not None and form not in _WITH_WIRES:
        raise typer.BadParameter("only netlists and CrossSim need wires", param_hint="--recipe")
    conductance_map = mapping.read_map(file)
    if form in _WITH_WIRES:
        wires = make_wires(recipe_of(conductance_map, file, recipe).hardware)
        if form is ExportFormat.SPICE:
            written = mapping.export_spice(conductance_map, out, wires, file.name)
        else:
            written = mapping.export_crosssim(conductance_map, out, wires)
    else:
        writers = {
            ExportFormat.CSV: mapping.export_csv,
            ExportFormat.NPZ: mapping.export_npz,
            ExportFormat.AIHWKIT: mapping.export_aihwkit,
            ExportFormat.NEUROSIM: mapping.export_neurosim,
        }
        written = writers[form](conductance_map, out)
    if as_json:
        emit_json({"files": [str(path) for path in written]})
    else:
        note(f"{len(written)} files in {out}")


@maps_app.command("import")
def import_(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder that export --format csv or npz wrote.")
    ],
    out: MapOutOption,
    as_json: JsonOption = False,
) -> None:
    """Make a map of the tables of a folder; exactly the map that was exported."""
    from hwloop.mapping import import_tables, write_map

    conductance_map = import_tables(folder)
    write_map(conductance_map, out)
    facts = {"file": str(out), **_map_facts(conductance_map)}
    emit_json(facts) if as_json else note(f"{conductance_map.arrays()} arrays in {out}")


@maps_app.command()
def program(
    file: MapArgument,
    out: MapOutOption,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the devices.")] = 1,
    instance: Annotated[int, typer.Option(min=0, help="Which device instance to draw.")] = 0,
    memory: MemoryOption = "4GB",  # type: ignore[assignment]  # as typer parses it
    as_json: JsonOption = False,
) -> None:
    """Draw the devices of every array, tile by tile; a map may be larger than memory."""
    from hwloop.hardware import program_stored

    with TerminalProgress() as progress:
        progress.begin("program")
        program_stored(file, out, seed=seed, instance=instance, max_bytes=memory, progress=progress.update)
        progress.end(f"instance {instance}")
    if as_json:
        emit_json({"file": str(out), "seed": seed, "instance": instance})


@maps_app.command()
def solve(
    file: MapArgument,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Tiles to solve; all if left out.", show_default=False)
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(help="Recipe with the wires; the map's own if left out.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the inputs.")] = 1,
    memory: MemoryOption = "4GB",  # type: ignore[assignment]  # as typer parses it
    as_json: JsonOption = False,
) -> None:
    """Solve arrays exactly, tile by tile: what wires and devices change in the currents of each layer."""
    from hwloop.hardware import solve_stored
    from hwloop.line import make_wires
    from hwloop.mapping import open_map

    with open_map(file, memory) as stored:
        wires = make_wires(recipe_of(stored.header, file, recipe).hardware)
    with TerminalProgress() as progress:
        progress.begin("solve")
        found = solve_stored(
            file, wires, sample=sample, seed=seed, max_bytes=memory, progress=progress.update
        )
        progress.end(f"{sum(layer.solved for layer in found)} tiles")
    if as_json:
        emit_json({"file": str(file), "layers": [dataclasses.asdict(layer) for layer in found]})
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("layer", overflow="fold")
    for heading in ("tiles", "solved", "RMS error"):
        table.add_column(heading, justify="right", no_wrap=True)
    for layer in found:
        table.add_row(Text(layer.name), str(layer.tiles), str(layer.solved), f"{layer.error:.2e}")
    output.print(table)


@maps_app.command("import-readback")
def import_readback_command(
    file: MapArgument,
    readback: Annotated[
        Path,
        typer.Argument(
            metavar="READBACK",
            help="Measured conductances: a folder as exported, or a .csv, .npz or .h5 file.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The map with what was measured.")],
    as_json: JsonOption = False,
) -> None:
    """Fill measured conductances into the map that was programmed; simulate --backend measured reads it."""
    from hwloop.mapping import import_readback, read_map, write_map

    found = import_readback(read_map(file), readback)
    write_map(found.map, out)
    facts = {"measured": found.measured, "missing": found.missing, "rms_error_siemens": found.rms_error}
    if as_json:
        emit_json({"file": str(out), **facts})
    else:
        note(
            f"{out}: {found.measured} cells measured, {found.missing} missing (taken at their targets), "
            f"RMS error {found.rms_error:.3g} S"
        )


def _map_facts(conductance_map: ConductanceMap) -> dict[str, Any]:
    return {
        "network": conductance_map.network,
        "card": conductance_map.card.name,
        "levels": conductance_map.card.levels,
        "g_step_siemens": conductance_map.g_step,
        "array_shape": list(conductance_map.array_shape),
        "tiles": conductance_map.tiles,
        "arrays": conductance_map.arrays(),
        "digital": sorted(conductance_map.digital),
        "attributes": dict(conductance_map.attributes),
    }


def _layer_facts(layer: LayerMap) -> dict[str, Any]:
    mask = layer.mask
    kept = int(mask.sum())
    return {
        "name": layer.name,
        "kind": layer.kind,
        "weight_shape": list(layer.weight_shape),
        "groups": layer.groups,
        "matrix_shape": list(layer.matrix_shape),
        "tiles": layer.tiles,
        "weights_kept": kept,
        "occupancy": kept / mask.numel() if layer.tiles else 0.0,
        "adc_bits": layer.adc_bits.tolist(),
        "weight_per_siemens": layer.weight_per_siemens,
        "input_scale": layer.input_scale,
        "input_signed": layer.input_signed,
        "programmed": layer.actual is not None,
    }


def _span(bits: list[int]) -> str:
    if not bits:
        return "-"
    return f"{min(bits)}" if min(bits) == max(bits) else f"{min(bits)}..{max(bits)}"

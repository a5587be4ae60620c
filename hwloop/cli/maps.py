"""``hwloop maps``: look at, check, compare and convert conductance maps."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from .common import JsonOption, emit_json, new_app, note, output
from .sources import recipe_of

if TYPE_CHECKING:
    from hwloop.mapping import ConductanceMap, LayerMap

maps_app = new_app(help="Conductance maps: look at, check, compare and convert them.")

MapArgument = Annotated[Path, typer.Argument(metavar="MAP", help="Conductance map file, such as maps.h5.")]


class ExportFormat(StrEnum):
    """What ``maps export`` writes."""

    CSV = "csv"
    NPZ = "npz"
    SPICE = "spice"


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
    output.print(Text(f"{conductance_map.arrays} arrays of {rows}x{cols} in {conductance_map.tiles} tiles"))
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
    as_json: JsonOption = False,
) -> None:
    """Check every byte of maps: format, checksums, values. Exit 1 if anything is wrong."""
    from hwloop.mapping import validate_map

    problems = [problem for file in files for problem in validate_map(file)]
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
    from hwloop.line import make_wires
    from hwloop.mapping import export_csv, export_npz, export_spice, read_map

    if recipe is not None and form is not ExportFormat.SPICE:
        raise typer.BadParameter("only netlists need wires", param_hint="--recipe")
    conductance_map = read_map(file)
    if form is ExportFormat.SPICE:
        choice = recipe_of(conductance_map, file, recipe)
        written = export_spice(conductance_map, out, make_wires(choice.hardware), file.name)
    else:
        written = {ExportFormat.CSV: export_csv, ExportFormat.NPZ: export_npz}[form](conductance_map, out)
    if as_json:
        emit_json({"files": [str(path) for path in written]})
    else:
        note(f"{len(written)} files in {out}")


def _map_facts(conductance_map: ConductanceMap) -> dict[str, Any]:
    return {
        "network": conductance_map.network,
        "card": conductance_map.card.name,
        "levels": conductance_map.card.levels,
        "g_step_siemens": conductance_map.g_step,
        "array_shape": list(conductance_map.array_shape),
        "tiles": conductance_map.tiles,
        "arrays": conductance_map.arrays,
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

"""``hwloop verify``: ngspice against the fast models on a sample of a map's tiles."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from .common import (
    FreshOption,
    JsonOption,
    ResumeOption,
    TerminalProgress,
    check_resume,
    emit_json,
    fail,
    output,
    resumable,
)
from .sources import MapRecipeOption, MapsArgument, recipe_of

if TYPE_CHECKING:
    from hwloop.verify import VerifyReport


def verify_command(
    maps: MapsArgument,
    tiles: Annotated[int, typer.Option(min=1, help="Tile positions to check, drawn at random.")] = 4,
    inputs: Annotated[int, typer.Option(min=1, help="Input vectors per array.")] = 2,
    columns: Annotated[
        int, typer.Option(min=0, help="Bit lines per array and input that are read through an ADC circuit.")
    ] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample and the inputs.")] = 0,
    recipe: MapRecipeOption = None,
    workers: Annotated[int, typer.Option(min=1, help="ngspice processes.")] = os.cpu_count() or 1,
    keep_failed: Annotated[
        Path | None,
        typer.Option(help="Folder for netlists that ngspice could not solve.", show_default=False),
    ] = None,
    resume: ResumeOption = False,
    fresh: FreshOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check arrays, amplifiers and ADCs against ngspice on a random sample of tiles, both polarities.

    What ngspice has solved is kept in MAPS.H5.verify until the check is done: the same command again goes on.
    """
    from hwloop.line import make_wires
    from hwloop.mapping import read_map
    from hwloop.unfinished import file_digest, unfinished_folder, unfinished_work
    from hwloop.verify import verify

    check_resume(resume, fresh, unfinished_folder(maps, "verify").is_dir(), maps)
    conductance_map = read_map(maps)
    choice = recipe_of(conductance_map, maps, recipe)
    choices = {
        "map": file_digest(maps),
        "recipe": choice.model_dump(mode="json"),
        "tiles": tiles,
        "inputs": inputs,
        "columns": columns,
        "seed": seed,
    }
    with (
        resumable(),
        unfinished_work(maps, "verify", choices, fresh) as folder,
        TerminalProgress() as progress,
    ):
        progress.begin("verify")
        report = verify(
            conductance_map,
            make_wires(choice.hardware),
            choice.hardware,
            tiles=tiles,
            inputs=inputs,
            columns=columns,
            seed=seed,
            workers=workers,
            keep_failed=keep_failed,
            checkpoint=folder,
            progress=progress.update,
        )
        progress.end(report.status)
    if as_json:
        emit_json(report.as_dict())
    elif report.arrays:
        _print(report)
    if not report.passed:
        fail(f"{maps}: {report.status}: {report.reason}")


def _print(report: VerifyReport) -> None:
    output.print(f"ngspice {report.ngspice} against the fast models, {report.inputs} inputs per array")
    table = Table(box=None, pad_edge=False)
    table.add_column("layer", overflow="fold")
    for heading in ("tile", "polarity", "cells", "of full scale", "of largest", "seconds"):
        table.add_column(heading, justify="left" if heading == "polarity" else "right")
    for array in report.arrays:
        table.add_row(
            escape(array.layer),
            str(array.tile),
            array.polarity,
            str(array.cells),
            _figure(array.error, "not solved"),
            _figure(array.error_of_largest, "not solved"),
            f"{array.seconds:.1f}",
        )
    output.print(table)
    stations = Table(box=None, pad_edge=False)
    stations.add_column("station")
    for heading in ("worst", "typical", "unit", "budget", "reads", "near", ""):
        stations.add_column(heading, justify="left" if heading in ("unit", "") else "right")
    for station in report.stations:
        stations.add_row(
            station.name,
            _figure(station.worst, "-"),
            _figure(station.typical, "-"),
            station.unit,
            f"{100 * station.budget:g} % differ" if station.unit == "codes" else f"{station.budget:g}",
            str(station.reads),
            str(station.unclear),
            station.status,
        )
    output.print(stations)
    for station in report.stations:
        if station.reason:
            output.print(f"{station.name}: {station.reason}", markup=False)
    output.print(f"{report.tiles_checked} tiles: {report.status} (near: within 0.05 LSB of a threshold)")


def _figure(error: float | None, missing: str) -> str:
    return missing if error is None else f"{error:.1e}"

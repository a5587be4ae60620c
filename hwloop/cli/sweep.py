"""``hwloop sweep``: many designs of the hardware for one network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
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

COLUMNS = {
    "area_mm2": ("area, mm²", 1.0),
    "power_w": ("power, mW", 1e3),
    "energy_per_image_j": ("energy, µJ", 1e6),
    "latency_s": ("latency, µs", 1e6),
}
"""Figures of a design that are shown: heading, and by what they are multiplied."""


def sweep(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="Recipe.", show_default=False)],
    settings: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="FIELD=A,B,...",
            help="Field of the recipe's hardware, and its values; FIELD+FIELD=... where two go together.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the sweep.", show_default=False)],
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = os.cpu_count() or 1,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Address of a Dask scheduler, in place of this machine.", show_default=False),
    ] = None,
    spice: Annotated[
        bool, typer.Option("--spice", help="Also solve sampled tiles of every device instance in ngspice.")
    ] = False,
    resume: ResumeOption = False,
    fresh: FreshOption = False,
    as_json: JsonOption = False,
) -> None:
    """Evaluate and price many designs of the hardware, and tell which are not beaten by another.

    Results are in OUT/results.h5 as they come. The same command again goes on where it was interrupted, and
    tries again what failed.
    """
    from hwloop.recipe import load_recipe
    from hwloop.report import pareto_chart, save_chart
    from hwloop.sweep import Axis, connect
    from hwloop.sweep import sweep as run_sweep

    check_resume(resume, fresh, (out / "sweep.json").is_file(), out)

    chosen, axes = load_recipe(recipe), [Axis.parse(text) for text in settings]
    with resumable(), TerminalProgress() as progress, connect(workers, scheduler) as client:
        results = run_sweep(chosen, axes, out.resolve(), client, progress, spice=spice, fresh=fresh)
    good = [result for result in results if "error" not in result]
    if good:
        save_chart(pareto_chart(good), out / "sweep.svg")
    if as_json:
        emit_json({"out": str(out), "designs": results})
    else:
        output.print(_table(results))
        output.print("* not beaten in accuracy, area and energy by another design")
        output.print(f"figure: {out / 'sweep.svg'}", soft_wrap=True)
        output.print(f"table: {out / 'results.h5'}", soft_wrap=True)
    if failed := [result for result in results if "error" in result]:
        fail(f"{len(failed)} of {len(results)} designs failed; the first: {failed[0]['error']}")


def _table(results: list[dict[str, Any]]) -> Table:
    import statistics

    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for field in results[0]["settings"]:
        table.add_column(field, justify="right")
    for heading in ("accuracy, %", "±", *(heading for heading, _ in COLUMNS.values())):
        table.add_column(heading, justify="right")
    for result in results:
        settings = [str(value) for value in result["settings"].values()]
        if "error" in result:
            table.add_row("", *settings, "failed")
            continue
        accuracy = [100 * value for value in result["accuracy"]]
        spread = f"{statistics.stdev(accuracy):.2f}" if len(accuracy) > 1 else ""
        figures = [f"{result[name] * factor:.3g}" for name, (_, factor) in COLUMNS.items()]
        best = "*" if result["best"] else ""
        table.add_row(best, *settings, f"{statistics.fmean(accuracy):.2f}", spread, *figures)
    return table

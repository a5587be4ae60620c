"""``hwloop sweep``: many designs of the hardware for one network."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated, Any

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
    from hwloop.report import pareto_chart, save_chart, write_choices
    from hwloop.sweep import AREA, BEST, ENERGY, Axis, choices, connect, sweep_page
    from hwloop.sweep import sweep as run_sweep

    check_resume(resume, fresh, (out / "sweep.json").is_file(), out)

    chosen, axes = load_recipe(recipe), [Axis.parse(text) for text in settings]
    with resumable(), TerminalProgress() as progress, connect(workers, scheduler) as client:
        results = run_sweep(chosen, axes, out.resolve(), client, progress, spice=spice, fresh=fresh)
    write_choices(sweep_page(results, chosen, _command(recipe, settings, out)), out / "report.html")
    if good := [choice for choice in choices(results) if choice.accuracy]:
        save_chart(pareto_chart(good, [AREA, ENERGY], BEST), out / "sweep.svg")
    if as_json:
        emit_json({"out": str(out), "designs": results})
    else:
        output.print(_table(results))
        output.print("* not beaten in accuracy, area and energy by another design")
        output.print(f"table: {out / 'results.h5'}", soft_wrap=True)
        output.print(f"report: {out / 'report.html'}", soft_wrap=True)
    if failed := [result for result in results if "error" in result]:
        fail(f"{len(failed)} of {len(results)} designs failed; the first: {failed[0]['error']}")


def _command(recipe: Path, settings: list[str], out: Path) -> str:
    """Return the command that makes the sweep again."""
    axes = [word for text in settings for word in ("--set", text)]
    return shlex.join(["hwloop", "sweep", recipe.name, *axes, "--out", out.name])


def _table(results: list[dict[str, Any]]) -> Table:
    import statistics

    from hwloop.sweep import AREA, ENERGY

    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for field in results[0]["settings"]:
        table.add_column(field, justify="right", overflow="fold")
    for heading in ("accuracy, %", "±", AREA.heading, "energy, µJ"):
        table.add_column(heading, justify="right")
    for result in results:
        settings = [escape(str(value)) for value in result["settings"].values()]
        if "error" in result:
            table.add_row("", *settings, "failed")
            continue
        accuracy = [100 * value for value in result["accuracy"]]
        spread = f"{statistics.stdev(accuracy):.2f}" if len(accuracy) > 1 else ""
        figures = [f"{result[column.key] * column.factor:.3g}" for column in (AREA, ENERGY)]
        best = "*" if result["best"] else ""
        table.add_row(best, *settings, f"{statistics.fmean(accuracy):.2f}", spread, *figures)
    return table

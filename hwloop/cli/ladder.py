"""``hwloop ladder``: what each way of retraining gives back of what arrays take."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from .common import (
    FreshOption,
    JsonOption,
    ResumeOption,
    SettingsOption,
    TerminalProgress,
    check_resume,
    emit_json,
    output,
    resumable,
)


def ladder(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="Recipe.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Folder of the ladder.", show_default=False)],
    rungs: Annotated[
        str | None,
        typer.Option(
            metavar="RUNG,...",
            help="Rungs, from below; all that suit every network if left out.",
            show_default=False,
        ),
    ] = None,
    networks: Annotated[
        str | None,
        typer.Option(
            metavar="NETWORK,...",
            help="dense, pruned; all that the recipe has if left out.",
            show_default=False,
        ),
    ] = None,
    settings: SettingsOption = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each rung that trains.")] = 1,
    chips: Annotated[int, typer.Option(min=1, help="Chips that chip-in-the-loop is done on.")] = 3,
    resume: ResumeOption = False,
    fresh: FreshOption = False,
    as_json: JsonOption = False,
) -> None:
    """Climb from nothing to chip-in-the-loop, for the dense network of a recipe and the pruned one.

    Devices that are evaluated are never those that were trained on, except on rungs that stay on one chip
    (chip-batch-norm, chip, hybrid, remap). The same command again goes on where it was interrupted.
    """
    from hwloop.ladder import RUNGS
    from hwloop.ladder import ladder as climb
    from hwloop.recipe import load_recipe, with_setting

    check_resume(resume, fresh, (out / "ladder.json").is_file(), out)
    choice = load_recipe(recipe)
    for text in settings or ():
        choice = with_setting(choice, text)
    with resumable(), TerminalProgress() as progress:
        results = climb(
            choice,
            out.resolve(),
            progress,
            rungs=RUNGS if rungs is None else tuple(rungs.split(",")),
            networks=None if networks is None else tuple(networks.split(",")),
            seeds=seeds,
            chips=chips,
            fresh=fresh,
        )
    if as_json:
        emit_json({"out": str(out), "rungs": results})
        return
    rows = summary(results)
    output.print(_table(rows))
    for result in results:
        if "error" in result:
            output.print(f"{result['network']} {result['rung']}: {result['error']}", soft_wrap=True)
    digital = {row["network"]: row["digital"] for row in rows}
    output.print("without arrays: " + ", ".join(f"{name} {value} %" for name, value in digital.items()))
    if any(row["before"] for row in rows):
        output.print("* trained and evaluated on the same chips; before: what these gave before")


def _table(rows: list[dict[str, str]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("network", "rung"):
        table.add_column(heading, no_wrap=True)
    for heading in ("before", "%", "±", "recovered", "arrays", "devices", "writes", "reads", "s"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*(value for name, value in row.items() if name != "digital"))
    return table


def summary(results: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return a row of text for each network and rung, its seeds together; accuracy in percent."""
    rows: list[dict[str, str]] = []
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault((result["network"], result["rung"]), []).append(result)
    for (network, rung), group in groups.items():
        row = {"network": network, "rung": rung, "digital": f"{100 * group[0]['digital']:.2f}"}
        if "error" in group[0]:
            rows.append({**row, "before": "", "accuracy": "–"})
            continue
        values = [100 * value for result in group for value in result["accuracy"]]
        before = [value for result in group for value in result.get("before", [])]
        nothing = groups.get((network, "none"))
        star = "*" if group[0].get("trained_on_evaluated") else ""
        rows.append(
            {
                **row,
                "before": f"{100 * statistics.fmean(before):.2f}" if before else "",
                "accuracy": f"{statistics.fmean(values):.2f}{star}",
                "spread": f"{statistics.stdev(values):.2f}" if len(values) > 1 else "",
                "recovered": _recovered(group, nothing),
                "arrays": str(group[0]["arrays"]),
                "devices": str(len(values)),
                **{
                    name: _short(statistics.fmean(result[name] for result in group))
                    for name in ("writes", "reads", "seconds")
                },
            }
        )
    return rows


def _short(count: float) -> str:
    """Two digits of a count and its thousands: 4.3M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.{1 if count < 10 * size else 0}f}{letter}"
    return f"{count:.0f}"


def _recovered(group: list[dict[str, Any]], nothing: list[dict[str, Any]] | None) -> str:
    """Share of the accuracy that arrays take which a rung gives back; nothing where they take little."""
    if nothing is None or "error" in nothing[0]:
        return ""
    digital = group[0]["digital"]
    lost = digital - statistics.fmean(nothing[0]["accuracy"])
    if lost < 0.005:
        return ""
    reached = statistics.fmean(value for result in group for value in result["accuracy"])
    return f"{100 * (reached - digital + lost) / lost:.0f} %"

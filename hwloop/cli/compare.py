"""``hwloop compare``: pruning methods side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from hwloop.recipe import Recipe


def compare(
    out: Annotated[Path, typer.Option("--out", help="Folder of the comparison.", show_default=False)],
    recipes: Annotated[
        list[Path] | None,
        typer.Argument(help="Recipes in TOML, each a row; LeNet on MNIST if left out.", show_default=False),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Methods by which each recipe is pruned, with commas between, or all.", show_default=False
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="Target of each, such as tiles=8x; again for more.", show_default=False),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds, with commas between.")] = "1,2,3",
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    resume: ResumeOption = False,
    fresh: FreshOption = False,
    as_json: JsonOption = False,
) -> None:
    """Prune a network in many ways, with the same effort, and compare what is left on real arrays.

    The same command again goes on where it was interrupted, and adds rows and seeds that are new.
    """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    from hwloop.compare import compare as run_compare
    from hwloop.compare import compare_page, summarize
    from hwloop.recipe import load_recipe
    from hwloop.report import methods_chart, save_chart, write_choices

    check_resume(resume, fresh, (out / "compare.json").is_file(), out)
    paths: list[Path | None] = [*recipes] if recipes else [None]
    given = {"lenet-mnist" if path is None else path.stem: load_recipe(path) for path in paths}
    if len(given) < len(paths):
        fail("two recipes have the same name; a row is called by its recipe's name")
    rows = _rows(given, methods, target or [])
    chosen = [_seed(text) for text in seeds.split(",")]
    with resumable(), TerminalProgress() as progress:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context) as executor:
            found = run_compare(rows, chosen, out.resolve(), executor, progress, fresh=fresh)
    table = summarize(found)
    from device_models.files import write_atomically

    write_atomically(out / "results.json", (json.dumps(found, indent=1) + "\n").encode())
    write_atomically(out / "results.md", (_markdown(table) + "\n").encode())
    command = f"hwloop compare {' '.join(str(path) for path in recipes or [])} --seeds {seeds} --out {out}"
    if methods:
        command += f" --methods {methods}"
    command += "".join(f" --target {text}" for text in target or [])
    write_choices(compare_page(table, found, rows, command), out / "report.html")
    good = [row for row in table if "error" not in row]
    if good:
        save_chart(methods_chart(good), out / "results.svg")
    if as_json:
        emit_json({"out": str(out), "rows": table, "runs": found})
    else:
        output.print(_table(table))
        output.print(f"report: {out / 'report.html'}", soft_wrap=True)
    if failed := [row for row in found if "error" in row]:
        first = failed[0]
        fail(f"{len(failed)} of {len(found)} runs failed; the first, {first['label']}: {first['error']}")


def _rows(given: dict[str, Recipe], methods: str | None, targets: list[str]) -> dict[str, Recipe]:
    """Return every recipe with every method and target, by a label that tells them apart."""
    from hwloop.pruning import METHODS, Target
    from hwloop.recipe import with_values

    names = list(METHODS) if methods == "all" else (methods or "").split(",")
    for text in targets:
        Target.parse(text)
    rows = {}
    wanted: list[str | None] = [*targets] if targets else [None]
    for stem, recipe in given.items():
        for method in names:
            for target in wanted:
                changed: dict[str, object] = {}
                if method:
                    if method not in METHODS:
                        fail(f"--methods: no method {method!r}; there are {', '.join(METHODS)}")
                    changed |= {"method": method}
                if target is not None:
                    changed |= {"target": target, "keep": {}}
                label = [stem] * (len(given) > 1 or not method) + [method] * bool(method)
                label += [target.replace("=", "")] if target is not None and len(wanted) > 1 else []
                rows["-".join(label)] = with_values(recipe, "prune", **changed)
    return rows


def _seed(text: str) -> int:
    if not text.strip().isdecimal():
        fail(f"--seeds: {text!r} is no whole number")
    return int(text)


HEADINGS = {
    "label": "row",
    "dense": "dense, %",
    "pruned": "pruned, %",
    "hardware": "arrays, %",
    "weights": "weights",
    "tiles": "tiles",
    "bits": "bits",
    "area": "mm²",
}


def _cells(row: dict[str, Any]) -> list[str]:
    if "error" in row:
        return [row["label"], "failed", *[""] * 6]
    return [
        row["label"],
        _spread(row["dense"]),
        _spread(row["quantized"]),
        _spread(row["hardware"]),
        f"{row['weights']:.1f}x",
        f"{row['tiles']:.1f}x",
        str(row["adc_bits"]),
        f"{row['area_mm2']:.3g}",
    ]


def _spread(values: dict[str, float]) -> str:
    return f"{100 * values['mean']:.2f}±{100 * values['std']:.2f}"


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, heading in enumerate(HEADINGS.values()):
        table.add_column(heading, justify="left" if number == 0 else "right", no_wrap=number > 0)
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _markdown(rows: list[dict[str, Any]]) -> str:
    """Return the table with what does not fit into a terminal."""
    headings = [*HEADINGS.values(), "pruned float, %", "inner weights", "32x32", "64x64", "128x64", "128x128"]
    headings += ["used cells", "index bits", "ADC energy, nJ", "epochs", "crossbar area", "routing area"]
    headings += ["area saved by arrays / cells / ADC bits"]
    lines = ["| " + " | ".join(headings) + " |", "| --- " + "| ---: " * (len(headings) - 1) + "|"]
    for row in rows:
        cells = _cells(row)
        if "error" in row:
            cells += [row["error"]]
        else:
            cells += [_spread(row["pruned"]), f"{row['inner_weights']:.1f}x"]
            cells += [f"{factor:.1f}x" for factor in row["tiles_by_array"].values()]
            cells += [f"{100 * row['utilisation']:.0f} %", f"{row['index_bits']:.0f}"]
            cells += [f"{1e9 * row['adc_energy_j']:.1f}", f"{row['epochs']:.0f}"]
            cells += [f"{100 * row['crossbar_area']:.2f} %", f"{100 * row['routing_area']:.2f} %"]
            saved = sum(row["area_saving_mm2"].values()) or 1.0
            cells += [" / ".join(f"{100 * part / saved:.0f} %" for part in row["area_saving_mm2"].values())]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)

"""``hwloop run``, and its stations one at a time: ``prune``, ``map``, ``retrain``, ``report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import (
    FreshOption,
    JsonOption,
    ResumeOption,
    SettingsOption,
    TerminalProgress,
    check_resume,
    emit_json,
    note,
    output,
    resumable,
)

if TYPE_CHECKING:
    from hwloop.recipe import Recipe
    from hwloop.report import Summary

METHODS = (
    "group-scissor, crossbar-aware, admm, tiny, admm-nn, tinyadc, forms, segprune, block, ternary, "
    "magnitude, l1-filter, random, hard-threshold, small"
)

OutOption = Annotated[Path, typer.Option("--out", help="Folder of the run.", show_default=False)]
RunArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run.", show_default=False)]
RecipeOption = Annotated[
    Path | None,
    typer.Option(
        "--recipe",
        help="Recipe in TOML; if left out, LeNet on MNIST, or defaults for another network.",
        show_default=False,
    ),
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", min=0, help="Seed, in place of the recipe's.", show_default=False)
]
WeightsOption = Annotated[
    Path | None,
    typer.Option("--weights", help="Weights in safetensors, in place of training.", show_default=False),
]

MasksOption = Annotated[
    Path | None,
    typer.Option(
        "--masks", help="Which of these weights are pruned: masks in safetensors or NPZ.", show_default=False
    ),
]


def run(
    out: OutOption,
    recipe: Annotated[
        Path | None,
        typer.Argument(
            help="Recipe in TOML; if left out, LeNet on MNIST, or defaults for another network.",
            show_default=False,
        ),
    ] = None,
    seed: SeedOption = None,
    network: Annotated[
        str | None,
        typer.Option(help="Network, as package.module:factory or FILE.onnx.", show_default=False),
    ] = None,
    weights: WeightsOption = None,
    masks: MasksOption = None,
    settings: SettingsOption = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            help="Retraining: hardware, variation, ir-drop or batch-norm; the recipe's if left out.",
            show_default=False,
        ),
    ] = None,
    resume: ResumeOption = False,
    fresh: FreshOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take a network through the whole line, and report.

    The same command again goes on where it was interrupted.
    """
    from hwloop.recipe import with_values

    check_resume(resume, fresh, (out / "run.json").is_file(), out)
    chosen = _choose(recipe, seed, network, weights, masks, settings)
    if strategy is not None:
        chosen = with_values(chosen, "retrain", strategy=strategy)
    _walk(chosen, out, "evaluate_after", fresh)
    _report(out, as_json)


def prune(
    network: Annotated[
        str, typer.Argument(help="Network, as package.module:factory or FILE.onnx.", show_default=False)
    ],
    out: OutOption,
    method: Annotated[
        str | None,
        typer.Option(help=f"Pruning method: {METHODS}.", show_default="the recipe's"),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="tiles=8x|weights=20x|adc_bits=5|accuracy=-0.5",
            help="What to reach, in place of what the recipe says that layers keep.",
            show_default=False,
        ),
    ] = None,
    recipe: RecipeOption = None,
    seed: SeedOption = None,
    weights: WeightsOption = None,
    masks: MasksOption = None,
    settings: SettingsOption = None,
    resume: ResumeOption = False,
    fresh: FreshOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a network, or load its weights, and prune it."""
    from hwloop.recipe import with_values

    check_resume(resume, fresh, (out / "run.json").is_file(), out)
    chosen = _choose(recipe, seed, network, weights, masks, settings)
    if method is not None:
        chosen = with_values(chosen, "prune", method=method)
    if target is not None:
        chosen = with_values(chosen, "prune", target=target, keep={})
    _walk(chosen, out, "prune", fresh)
    _show_station(out, "prune", as_json)
    if not as_json:
        _print_pruned(out)


def map_command(run: RunArgument, as_json: JsonOption = False) -> None:
    """Quantize the pruned network of a run, and map it to crossbars."""
    _continue(run, "map")
    _show_station(run, "map", as_json)


def retrain(
    run: RunArgument, resume: ResumeOption = False, fresh: FreshOption = False, as_json: JsonOption = False
) -> None:
    """Retrain the mapped network of a run with the hardware in the loop, and evaluate it before and after."""
    from hwloop.line import STATIONS, RunFolder

    names = list(STATIONS)
    stations = names[names.index("map") + 1 :]
    folder = RunFolder.reopen(run)
    check_resume(resume, fresh, any(folder.has_begun(name) for name in stations), run)
    if fresh:
        folder.forget(stations)
    _continue(run, "evaluate_after")
    _show_station(run, "evaluate_after", as_json)


def report(
    run: RunArgument,
    other: Annotated[
        Path | None,
        typer.Argument(metavar="OTHER", help="Another run, to put beside the first.", show_default=False),
    ] = None,
    out: Annotated[Path, typer.Option(help="Page of two runs to write.", show_default=True)] = Path(
        "side-by-side.html"
    ),
    as_json: JsonOption = False,
) -> None:
    """Write summary.json and report.html of a run anew, or with OTHER a page with both side by side."""
    if other is None:
        _report(run, as_json)
        return
    from hwloop.report import read_summary, write_side_by_side

    names = (str(run), str(other)) if run.name == other.name else (run.name, other.name)
    summaries = (read_summary(run / "summary.json"), read_summary(other / "summary.json"))
    write_side_by_side(names, summaries, out)
    if as_json:
        emit_json({"page": str(out), "runs": [str(run), str(other)]})
    else:
        output.print(f"page: {out}", markup=False, soft_wrap=True)


def _choose(
    recipe: Path | None,
    seed: int | None,
    network: str | None,
    weights: Path | None,
    masks: Path | None,
    settings: list[str] | None,
) -> Recipe:
    """Return the recipe with what the command line puts in its place.

    A network without a recipe gets the neutral one: what LeNet's says of LeNet's layers is not for others.
    """
    from hwloop.recipe import load_recipe, neutral_recipe, with_setting, with_values

    if recipe is None and network is not None and network != load_recipe().network.factory:
        chosen = neutral_recipe(network)
    else:
        chosen = load_recipe(recipe)
    files = {"factory": network, "weights": weights, "masks": masks}
    given = {field: str(value) for field, value in files.items() if value is not None}
    chosen = with_values(chosen, "network", **given)
    if seed is not None:
        chosen = chosen.model_copy(update={"seed": seed})
    for text in settings or ():
        chosen = with_setting(chosen, text)
    return chosen


def _walk(recipe: Recipe, out: Path, until: str, fresh: bool = False) -> None:
    from hwloop.line import Run, RunFolder, load_inputs, walk
    from hwloop.networks import digital_modules

    inputs = load_inputs(recipe)
    if digital := digital_modules(inputs.network()):
        named = [f"{name or 'the network itself'} ({kind})" for name, kind in digital.items()]
        more = f" and {len(named) - 8} more" if len(named) > 8 else ""
        note(f"digital: {', '.join(named[:8])}{more}")
    folder = RunFolder.create(out, recipe, fresh)
    with resumable(), TerminalProgress() as progress:
        walk(Run(folder, inputs, progress), until)


def _continue(run: Path, until: str) -> None:
    from hwloop.line import RunFolder

    _walk(RunFolder.reopen(run).recipe, run, until)


def _report(run: Path, as_json: bool) -> None:
    from hwloop.line import RunFolder, write_results

    with TerminalProgress() as progress:
        progress.begin("report")
        summary = write_results(RunFolder.reopen(run))
        progress.end("summary.json, report.html")
    if as_json:
        emit_json(summary.model_dump(mode="json"))
        return
    _print_summary(summary)
    output.print(f"report: {run / 'report.html'}", markup=False, soft_wrap=True)


def _print_pruned(out: Path) -> None:
    from hwloop.line import RunFolder

    folder = RunFolder.reopen(out)
    dense, found = folder.result("train"), folder.result("prune")
    hardware, left = folder.recipe.hardware, found["sizes"]
    tiles = left["tiles"][f"{hardware.rows}x{hardware.cols}"]
    weights = left["weights"]
    lines = [
        f"accuracy: dense {100 * dense['accuracy']:.2f} %, pruned {100 * found['accuracy']:.2f} %",
        f"weights: {weights['kept']} of {weights['dense']} ({weights['dense'] / weights['kept']:.1f}x fewer)",
        f"tiles: {tiles['kept']} of {tiles['dense']} ({tiles['dense'] / tiles['kept']:.1f}x fewer)",
    ]
    if found["ranks"]:
        lines.append("ranks: " + ", ".join(f"{name} {rank}" for name, rank in found["ranks"].items()))
    for line in lines:
        output.print(line, markup=False)
    if weights["kept"] == weights["dense"]:
        note("nothing was pruned: say what layers keep ([prune.keep]), or what to reach (--target tiles=4x)")


def _print_summary(summary: Summary) -> None:
    accuracy, compression = summary.accuracy, summary.compression
    after = accuracy.hardware_after
    spread = "" if after.std is None else f" ± {100 * after.std:.2f}"
    lines = [
        f"accuracy: dense {100 * accuracy.dense:.2f} %, pruned {100 * accuracy.pruned:.2f} %, "
        f"quantized {100 * accuracy.quantized:.2f} %",
        f"on arrays: {100 * accuracy.hardware_before.mean:.2f} %, retrained {100 * after.mean:.2f}{spread} % "
        f"({len(after.instances)} devices)",
        f"compression: {compression.weights:.1f}x fewer weights, {compression.tiles:.1f}x fewer tiles "
        f"({compression.tiles_kept} of {compression.tiles_dense})",
        f"SPICE check: {summary.spice.status}",
        f"arrays: {summary.cost.area_mm2:.3g} mm2, {1e3 * summary.cost.power_w:.3g} mW",
    ]
    for line in lines:
        output.print(line, markup=False)


def _show_station(run: Path, station: str, as_json: bool) -> None:
    from hwloop.line import RunFolder

    if as_json:
        emit_json(RunFolder.reopen(run).result(station))
    else:
        note(f"{station} is done; its results are in {run / 'stations' / station}")

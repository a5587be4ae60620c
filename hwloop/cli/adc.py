"""``hwloop adc``: how many bits the ADCs of a map need."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from .common import JsonOption, TerminalProgress, emit_json, note, output
from .sources import MapRecipeOption, MapsArgument, NetworkOption, network_of, recipe_of

if TYPE_CHECKING:
    from hwloop.adc import Choice, LayerNeed
    from hwloop.mapping import ConductanceMap
    from hwloop.recipe import Recipe


def adc(
    maps: MapsArgument,
    max_loss: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=100.0,
            help="Find the fewest bits that lose at most so many points of validation accuracy.",
            show_default=False,
        ),
    ] = None,
    on_off: Annotated[
        float | None,
        typer.Option(help="On/off ratio of cells that are pruned but formed; absent if left out."),
    ] = None,
    recipe: MapRecipeOption = None,
    network: NetworkOption = None,
    images: Annotated[int, typer.Option(min=1, help="Validation images of the search.")] = 1000,
    instances: Annotated[int, typer.Option(min=1, help="Device instances of the search.")] = 2,
    out: Annotated[
        Path | None,
        typer.Option(help="Recipe to write, with the bits and ranges that were found.", show_default=False),
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Figure to write: .svg, .png or .pdf.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say how many ADC bits each layer needs: to lose nothing, and with --max-loss to keep its accuracy."""
    from hwloop.adc import lossless_need
    from hwloop.mapping import read_map

    if out is not None and max_loss is None:
        raise typer.BadParameter("--out needs --max-loss", param_hint="--out")
    conductance_map = read_map(maps)
    choice = recipe_of(conductance_map, maps, recipe)
    needs = lossless_need(conductance_map, choice.hardware, on_off or float("inf"))
    found = None
    if max_loss is not None:
        spec = network_of(conductance_map, maps, network)
        found = _search(conductance_map, choice, spec, max_loss, images, instances)
    if out is not None and found is not None:
        _write_recipe(choice, found, out)
    if figure is not None:
        from hwloop.report import bits_chart, save_chart

        save_chart(bits_chart(needs, None if found is None else found.bits), figure)
    if as_json:
        emit_json({"maps": str(maps), **_as_json(needs, found, choice.hardware.bit_lines_per_adc)})
    else:
        _print(needs, found, leaking=on_off is not None)
        if found is not None and not found.within:
            note(f"no resolution loses at most {max_loss:g} points; the widest are shown")


def _search(
    conductance_map: ConductanceMap,
    choice: Recipe,
    network: str,
    max_loss: float,
    images: int,
    instances: int,
) -> Choice:
    from hwloop.adc import CALIBRATION_IMAGES, Search
    from hwloop.line import load_images, make_wires
    from hwloop.networks import build_network
    from hwloop.recipe import RecipeError

    dataset = load_images(choice, choice.evaluate.images)
    if not len(dataset.validation_x):
        raise RecipeError("data.validation: 0 images are held back, but bits are chosen by such images")
    with TerminalProgress() as progress:
        progress.begin("adc")
        search = Search(
            build_network(network),
            conductance_map,
            make_wires(choice.hardware),
            choice.hardware,
            seed=choice.seed,
            calibration=dataset.train_x[:CALIBRATION_IMAGES],
            validation=(dataset.validation_x[:images].clone(), dataset.validation_y[:images]),
            instances=instances,
            batch=choice.evaluate.batch,
            goal=dataset.goal,
            progress=progress.update,
        )
        found = search.run(max_loss / 100)
        progress.end(f"{100 * found.accuracy:.2f} % against {100 * found.lossless:.2f} % lossless")
    return found


def _write_recipe(choice: Recipe, found: Choice, out: Path) -> None:
    from device_models.files import write_atomically
    from device_models.toml import to_toml

    hardware = choice.hardware.model_copy(update={"adc_bits": found.bits, "adc_lsb": found.lsb})
    recipe = choice.model_copy(update={"hardware": hardware})
    write_atomically(out, to_toml(recipe.model_dump(mode="json")).encode())


def _as_json(
    needs: dict[str, LayerNeed], found: Choice | None, bit_lines_per_adc: int | None
) -> dict[str, Any]:
    layers: dict[str, dict[str, Any]] = {
        name: {
            "tiles": need.tiles,
            "conducting_cells": need.conducting,
            "formula_bits": need.formula,
            "exact_bits": int(need.exact.max()) if need.tiles else 1,
            "leakage_lsb": need.leakage,
            "bits_with_leakage": need.with_leakage,
            "exact_bits_per_tile": need.exact.amax((1, 2, 3)).tolist(),
            "exact_bits_per_adc": need.per_adc(bit_lines_per_adc).tolist(),
            "exact_bits_per_bit_line": need.exact.tolist(),
        }
        for name, need in needs.items()
    }
    if found is None:
        return {"layers": layers}
    for name, layer in layers.items():
        layer |= {"chosen_bits": found.bits[name], "chosen_lsb": found.lsb[name]}
    return {
        "layers": layers,
        "validation_accuracy": found.accuracy,
        "validation_accuracy_lossless": found.lossless,
        "within": found.within,
        "reads": found.reads,
    }


def _print(needs: dict[str, LayerNeed], found: Choice | None, *, leaking: bool) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("layer", overflow="fold")
    headings = ["tiles", "cells", "formula", "exact", "mean"]
    headings += ["leakage", "with it"] if leaking else []
    headings += ["chosen", "LSB, levels"] if found is not None else []
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, need in needs.items():
        used = need.exact[need.exact > 0].double()
        cells = [str(need.tiles), str(need.conducting), str(need.formula)]
        cells += [str(int(need.exact.max())), f"{float(used.mean()):.1f}"] if len(used) else ["1", "1.0"]
        cells += [f"{need.leakage:.1f}", str(need.with_leakage)] if leaking else []
        cells += [str(found.bits[name]), f"{found.lsb[name]:.3g}"] if found is not None else []
        table.add_row(escape(name), *cells)
    output.print("ADC bits: formula, by the most conducting cells of a bit line; exact, by their levels")
    output.print(table)
    if found is not None:
        output.print(
            f"validation accuracy {100 * found.accuracy:.2f} %, lossless {100 * found.lossless:.2f} %"
        )

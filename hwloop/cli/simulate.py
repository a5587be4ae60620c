"""``hwloop simulate``: a conductance map on hardware, its accuracy and the error of each layer."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table

from hwloop.recipe import Recipe, RecipeError, load_recipe

from .common import JsonOption, TerminalProgress, emit_json, fail, output

if TYPE_CHECKING:
    from hwloop.hardware import Hardware
    from hwloop.mapping import ConductanceMap

OWN_NETWORKS = "hwloop.networks:"
ERROR_IMAGES = 100


class Backend(StrEnum):
    """What reads the arrays."""

    IDEAL = "ideal"
    FAST = "fast"
    SPICE = "spice"


class NetworkNotNamedError(ValueError):
    """A map of a network that only the user may name, because its code would run."""


def simulate(
    maps: Annotated[Path, typer.Argument(metavar="MAPS.H5", help="Conductance map.", show_default=False)],
    backend: Annotated[Backend, typer.Option(help="What reads the arrays.")] = Backend.FAST,
    network: Annotated[
        str | None,
        typer.Option(
            help="Network, as package.module:factory; needed unless it is one of hwloop's own.",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(help="Recipe with data and hardware; the map's own if left out.", show_default=False),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the devices.", show_default=False)] = None,
    instances: Annotated[int, typer.Option(min=1, help="Device instances to program.")] = 1,
    images: Annotated[
        int | None,
        typer.Option(min=1, help="Test images to use; the recipe's if left out.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the network of a map on simulated hardware: accuracy, and error of each layer."""
    from hwloop.datasets import load_dataset
    from hwloop.evaluation import evaluate_instances
    from hwloop.line import layer_errors
    from hwloop.mapping import read_map
    from hwloop.networks import build_network
    from spice_netlists import SpiceError

    conductance_map = read_map(maps)
    choice = _recipe_of(conductance_map, maps) if recipe is None else load_recipe(recipe)
    net = build_network(_network_of(conductance_map, maps) if network is None else network)
    dataset = load_dataset(choice.data.name, choice.data.validation, choice.seed)
    count = choice.evaluate.images if images is None else images
    x, y = dataset.test_x[:count], dataset.test_y[:count]
    made: list[Hardware] = []
    with TerminalProgress() as progress:

        def make_hardware(instance: int | str) -> Hardware:
            made.append(
                _make(backend, choice, choice.seed if seed is None else seed, instance, progress.update)
            )
            return made[-1]

        progress.begin("simulate")
        try:
            accuracies = evaluate_instances(
                net,
                conductance_map,
                make_hardware,
                x,
                y,
                instances=range(instances),
                batch=choice.evaluate.batch,
                progress=progress.update,
            )
        except SpiceError as error:
            fail(str(error))
        errors = layer_errors(net, conductance_map, made[-1], x[:ERROR_IMAGES])
        progress.end(f"{100 * statistics.fmean(accuracies):.2f} %")
    if as_json:
        emit_json(
            {
                "maps": str(maps),
                "hardware": made[-1].identity,
                "images": len(x),
                "accuracy": accuracies,
                "layer_errors": errors,
            }
        )
        return
    shown = ", ".join(f"{100 * value:.2f} %" for value in accuracies)
    output.print(f"accuracy on {len(x)} images: {shown}", markup=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("layer", overflow="fold")
    table.add_column("RMS error of a read, relative", justify="right")
    for name, rms in errors.items():
        table.add_row(escape(name), f"{rms:.2e}")
    output.print(table)


def _make(
    backend: Backend,
    choice: Recipe,
    seed: int,
    instance: int | str,
    progress: Callable[[float, str], None],
) -> Hardware:
    from hwloop.hardware import FastHardware, IdealHardware
    from hwloop.hardware.spice import SpiceHardware
    from hwloop.line import make_wires

    if backend is Backend.IDEAL:
        return IdealHardware()
    wires, bits = make_wires(choice.hardware), choice.hardware.dac_bits
    if backend is Backend.FAST:
        return FastHardware(wires, dac_bits=bits, seed=seed, instance=instance)
    return SpiceHardware(
        wires, dac_bits=bits, seed=seed, instance=instance, workers=os.cpu_count() or 1, progress=progress
    )


def _recipe_of(conductance_map: ConductanceMap, maps: Path) -> Recipe:
    """Return the recipe that a map remembers; nothing in it may name a file to open."""
    try:
        recipe = Recipe.model_validate(conductance_map.attributes.get("recipe", {}))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise RecipeError(f"{maps}: its recipe: {field}: {first['msg']}; give one with --recipe") from error
    if recipe.data.name.endswith(".npz"):
        raise RecipeError(f"{maps}: was made with images from a file; name them in a recipe with --recipe")
    return recipe


def _network_of(conductance_map: ConductanceMap, maps: Path) -> str:
    """Return the network that a map names, if it is one of hwloop's own: no file says which code runs."""
    if not conductance_map.network.startswith(OWN_NETWORKS):
        raise NetworkNotNamedError(
            f"{maps}: is of network {conductance_map.network!r}; if you trust that code, "
            f"add --network {conductance_map.network}"
        )
    return conductance_map.network

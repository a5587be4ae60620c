"""What commands that read a map take from it, and what only the user may name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hwloop.mapping import ConductanceMap
    from hwloop.recipe import Recipe

MapsArgument = Annotated[Path, typer.Argument(metavar="MAPS.H5", help="Conductance map.", show_default=False)]
MapRecipeOption = Annotated[
    Path | None,
    typer.Option(
        "--recipe", help="Recipe with data and hardware; the map's own if left out.", show_default=False
    ),
]
NetworkOption = Annotated[
    str | None,
    typer.Option(
        "--network",
        help="Network, as package.module:factory or FILE.onnx; needed unless it is one of hwloop's own.",
        show_default=False,
    ),
]

_OWN_NETWORKS = "hwloop.networks:"


class NetworkNotNamedError(ValueError):
    """A map of a network that only the user may name, because its code would run."""


def recipe_of(conductance_map: ConductanceMap, maps: Path, given: Path | None) -> Recipe:
    """Return the recipe that is given, or else the one that a map remembers, which may name no file to open.

    Raises:
        RecipeError: if there is no usable one.
    """
    from device_models.card import CardError, parse_card
    from hwloop.datasets import SHIPPED
    from hwloop.recipe import Recipe, RecipeError, load_recipe

    if given is not None:
        return load_recipe(given)
    try:
        recipe = parse_card(Recipe, conductance_map.attributes.get("recipe", {}), f"{maps}: its recipe")
    except CardError as error:
        raise RecipeError(f"{error}; give one with --recipe") from error
    if recipe.data.name not in SHIPPED:
        raise RecipeError(f"{maps}: was made with images from files; name them in a recipe with --recipe")
    if ":" in recipe.task.loss + recipe.task.metric:
        raise RecipeError(f"{maps}: its recipe names functions; name them in a recipe with --recipe")
    if recipe.hardware.adc.kind == "measured":
        raise RecipeError(f"{maps}: was read with an ADC from a file; name it in a recipe with --recipe")
    return recipe


def network_of(conductance_map: ConductanceMap, maps: Path, given: str | None) -> str:
    """Return the network that is given, or else the map's if it is hwloop's own: no file says what code runs.

    Raises:
        NetworkNotNamedError: if the user must name it.
    """
    if given is None and not conductance_map.network.startswith(_OWN_NETWORKS):
        raise NetworkNotNamedError(
            f"{maps}: is of network {conductance_map.network!r}; if you trust that code, "
            f"add --network {conductance_map.network}"
        )
    return conductance_map.network if given is None else given

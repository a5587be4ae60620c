"""How each figure of a summary was obtained: the sentences of ``how.toml`` with the facts of a run."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from hwloop.line.stations import OBSERVED_IMAGES
from hwloop.mapping import ConductanceMap, largest_code
from hwloop.recipe import HardwareConfig, Recipe
from hwloop.report.arrays import arrays_of_a_tile, converters, inputs, wires


def _own(choice: HardwareConfig) -> str:
    """Return which layers have hardware of their own."""
    return f" (hardware of their own: {', '.join(choice.layer)})" if choice.layer else ""


def how_obtained(recipe: Recipe, conductance_map: ConductanceMap, found: Mapping[str, Any]) -> dict[str, str]:
    """Return a text for every figure of :data:`hwloop.report.summary.FIGURES`.

    Args:
        recipe: every choice of the run.
        conductance_map: the map after retraining.
        found: what each station found.
    """
    card, choice, prune = conductance_map.card, recipe.hardware, recipe.prune
    rows, cols = conductance_map.array_shape
    images, score = found["train"]["test_images"], found["train"]["score"]
    loaded, trained = (
        f"weights of {recipe.network.trained}, as they are",
        f"{recipe.train.epochs} epochs of training",
    )
    retrained = f"{prune.retrain_epochs} epochs of masked retraining"
    pruned = f"after {prune.rounds} rounds of ADMM, projection, and {retrained}"
    lossless = (
        "Fewest bits with which no conversion loses anything at target conductances: "
        f"ceil(log2(l · (2^v - 1) · levels + 1)) with {card.levels} levels, v = {choice.bits_per_cycle} "
        "input bits per cycle, and l the most cells that conduct in a column of the tile and are read "
        "at once (TinyADC, DATE 2021, exact integer form)"
    )
    given = choice.adc_bits or choice.adc_lsb
    facts = {
        "adc": "Given by the recipe (hardware.adc_bits, hardware.adc_lsb)" if given else lossless,
        "adc_kind": choice.adc.kind,
        "adcs": converters(choice),
        "arrays": arrays_of_a_tile(conductance_map, choice),
        "card": card.name,
        "cols": cols,
        "cycles": choice.cycles,
        "driver": f"{choice.driver:g}",
        "g_max": f"{card.g_max.value:g}",
        "images": images,
        "inputs": inputs(choice) + _own(choice),
        "instances": recipe.evaluate.instances,
        "largest_code": largest_code(choice.encoding, card.levels, choice.slices),
        "levels": card.levels,
        "logit_images": found["map"]["images"],
        "observed": min(images, OBSERVED_IMAGES),
        "origin": loaded if recipe.network.trained else trained,
        "pruning": pruned if prune.keep else "the recipe prunes nothing",
        "quantize_epochs": recipe.quantize.epochs,
        "read_voltage": f"{card.read_voltage.value:g}",
        "retrain_epochs": recipe.retrain.epochs,
        "rows": rows,
        "score": score,
        "sense": f"{choice.sense:g}",
        "wires": wires(choice),
    }
    sentences = tomllib.loads((resources.files("hwloop.line") / "how.toml").read_text("utf-8"))
    return {figure: sentence.format_map(facts) for figure, sentence in sentences.items()}

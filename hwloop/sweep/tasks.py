"""The tasks of a sweep. Each reads the folder of the sweep and returns what it found; any worker can do it.

Weights on codes are the only thing that a task leaves in the folder: all others are figures.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numba
import torch
from torch import nn

from device_models.files import write_atomically
from hwloop.adc import CALIBRATION_IMAGES, Ranges
from hwloop.cost import chip_facts, estimate, load_cost_card, vectors_per_image
from hwloop.evaluation import evaluate_instances
from hwloop.hardware import FastHardware
from hwloop.line import Run, RunFolder, load_inputs
from hwloop.line.stations import map_from_codes, put_on_codes
from hwloop.mapping import ConductanceMap, resolution
from hwloop.progress import Silence
from hwloop.recipe import Readout, Recipe
from hwloop.sweep.axes import Design, SweepError
from hwloop.verify import verify

Figures = dict[str, Any]


def hold(design: Design, out: Path) -> str:
    """Put the pruned weights of a sweep on the codes of a design's way of holding them; return its name."""
    _one_thread()
    folder = _weights(out, design)
    if not (folder / "result.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        found = put_on_codes(_run(out, design.recipe), folder)
        write_atomically(folder / "result.json", json.dumps(found).encode())
    return design.way


def price(design: Design, out: Path, _held: str) -> tuple[Readout, Figures]:
    """Return how the arrays of a design are read, and what they cost; all of its instances share both."""
    _one_thread()
    run = _run(out, design.recipe)
    inputs, choice = run.inputs, design.recipe.hardware
    net, conductance_map, held = _mapped(run, design, out)
    readout: Readout = choice
    if isinstance(choice.adc_bits, int) and choice.adc_lsb == {}:
        images = inputs.dataset.train_x[:CALIBRATION_IMAGES]
        ranges = Ranges(net, conductance_map, inputs.wires, choice, seed=design.recipe.seed, images=images)
        readout = ranges.readout(choice, choice.adc_bits)
    vectors = vectors_per_image(net, inputs.test[0][:1])
    chip = estimate(chip_facts(conductance_map, vectors, readout), load_cost_card(), readout)
    card = conductance_map.card
    return readout, {
        "accuracy_ideal": held["accuracy"],
        "adc_bits": {
            name: resolution(layer, card.levels, readout, idle=card.idle_steps).widest
            for name, layer in conductance_map.layers.items()
        },
        "tiles": conductance_map.tiles,
        "arrays": conductance_map.arrays(readout),
        "area_mm2": chip.area_mm2,
        "power_w": chip.power_w,
        "energy_per_image_j": chip.energy_j,
        "latency_s": chip.latency_s,
        "images_per_s": chip.images_per_s,
    }


def evaluate(design: Design, out: Path, instance: int, priced: tuple[Readout, Figures]) -> list[Figures]:
    """Return the row of one device instance of a design: its accuracy, and what the design costs."""
    _one_thread()
    started = time.monotonic()
    readout, figures = priced
    run = _run(out, design.recipe)
    net, conductance_map, _ = _mapped(run, design, out)
    (accuracy,) = evaluate_instances(
        net,
        conductance_map,
        lambda number: FastHardware(run.inputs.wires, readout, seed=design.recipe.seed, instance=number),
        *run.inputs.device_test,
        instances=[instance],
        batch=design.recipe.evaluate.batch,
        goal=run.inputs.dataset.goal,
    )
    bits = {f"adc_bits {layer}": value for layer, value in figures["adc_bits"].items()}
    return [
        figures
        | bits
        | design.settings
        | {"accuracy": accuracy, "seconds": round(time.monotonic() - started, 3)}
    ]


def solve(design: Design, out: Path, instance: int, priced: tuple[Readout, Figures]) -> list[Figures]:
    """Return a row for each array of the sampled tiles of one device instance, as ngspice finds it.

    Raises:
        SweepError: if there is no ngspice.
    """
    _one_thread()
    recipe, (readout, _) = design.recipe, priced
    run = _run(out, recipe)
    _, conductance_map, _ = _mapped(run, design, out)
    hardware = FastHardware(run.inputs.wires, readout, seed=recipe.seed, instance=instance)
    report = verify(
        hardware.program(conductance_map),
        run.inputs.wires,
        readout,
        tiles=recipe.spice.tiles,
        inputs=recipe.spice.inputs,
        columns=0,
        seed=recipe.seed,
        workers=1,
    )
    if report.status == "not run":
        raise SweepError(report.reason)
    return [
        {
            "layer": array.layer,
            "tile": array.tile,
            "polarity": array.polarity,
            "slice": array.slice,
            "cells": array.cells,
            "rel_error": array.error,
            "rel_error_of_largest": array.error_of_largest,
            "seconds": array.seconds,
            "error": array.failure,
        }
        for array in report.arrays
    ]


def _run(out: Path, recipe: Recipe) -> Run:
    """Return the run that trained and pruned for a sweep, as a design continues it."""
    return Run(RunFolder(out / "base", recipe), load_inputs(recipe), Silence())


def _mapped(run: Run, design: Design, out: Path) -> tuple[nn.Module, ConductanceMap, Figures]:
    """Return network, map and figures of the weights that a design holds."""
    folder = _weights(out, design)
    path = folder / "result.json"
    try:
        held: Figures = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise SweepError(f"{path}: damaged ({error}); delete it and sweep again") from error
    return *map_from_codes(run, folder, held), held


def _weights(out: Path, design: Design) -> Path:
    return out / "weights" / design.way


def _one_thread() -> None:
    """Workers are as many as the cores; and sums on several threads would differ in their last digits."""
    torch.set_num_threads(1)
    numba.set_num_threads(1)

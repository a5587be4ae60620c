"""Many designs of the hardware for one network: each is evaluated and priced, and the best are told apart.

Training and pruning do not depend on what is swept and are done once, for the recipe as it is. Weights are
put on levels once for each way in which cells hold them. Every design is a task of its own that reads and
writes the folder of the sweep:

OUT/sweep.json             the recipe and the axes that everything in the folder belongs to
OUT/base/                  the run whose pruned network all designs share
OUT/weights/NAME/          weights on the levels of one way of holding them
OUT/designs/NAME.json      figures of one design, or the error that it ended in
"""

from __future__ import annotations

import hashlib
import json
import statistics
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from device_models.files import write_atomically
from hwloop.adc import CALIBRATION_IMAGES, Ranges
from hwloop.cost import chip_facts, estimate, load_cost_card
from hwloop.evaluation import evaluate_instances
from hwloop.hardware import FastHardware
from hwloop.line import Run, RunFolder, load_inputs, walk
from hwloop.line.stations import map_from_codes, put_on_codes
from hwloop.mapping import resolution
from hwloop.progress import Progress, Silence
from hwloop.recipe import HardwareChoice, Recipe

FORMAT = "hwloop-sweep-1"
HOLDING = ("card", "cell_levels", "encoding", "slices")
"""Choices of hardware that decide which weights its cells can hold."""


class SweepError(ValueError):
    """A sweep that cannot be done; the message names the axis or the folder, and the fix."""


@dataclass(frozen=True)
class Axis:
    """Fields of the recipe's hardware that take the same value, and the values they take."""

    fields: tuple[str, ...]
    values: tuple[Any, ...]

    @classmethod
    def parse(cls, text: str) -> Axis:
        """Read ``rows=16,32``, or ``rows+cols=16,32`` where both take each value.

        Raises:
            SweepError: if it is not written so, or the hardware has no such field.
        """
        names, equals, values = text.partition("=")
        fields = tuple(name.strip().removeprefix("hardware.") for name in names.split("+"))
        if not equals or not values:
            raise SweepError(f"--set {text}: write FIELD=VALUE,VALUE,... or FIELD+FIELD=VALUE,VALUE,...")
        for field in fields:
            if field not in HardwareChoice.model_fields:
                known = ", ".join(HardwareChoice.model_fields)
                raise SweepError(f"--set {text}: hardware has no field {field!r}; it has {known}")
        return cls(fields, tuple(_value(value.strip()) for value in values.split(",")))


def _value(text: str) -> Any:
    """Return what TOML makes of a value, or the text itself; ``none`` stands for no value."""
    if text == "none":
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


@dataclass(frozen=True)
class Design:
    """One design: the settings that make it, and the recipe with them in place."""

    settings: dict[str, Any]
    recipe: Recipe

    @property
    def name(self) -> str:
        """Short name that no other settings have."""
        return _name(self.settings)


def designs(recipe: Recipe, axes: Sequence[Axis]) -> list[Design]:
    """Return every combination of the axes' values.

    Raises:
        SweepError: if a field is on two axes, or a combination is no possible hardware.
    """
    fields = [field for axis in axes for field in axis.fields]
    if twice := {field for field in fields if fields.count(field) > 1}:
        raise SweepError(f"--set: {min(twice)} is on two axes")
    found = []
    for values in product(*(axis.values for axis in axes)):
        settings = {field: value for axis, value in zip(axes, values, strict=True) for field in axis.fields}
        try:
            hardware = HardwareChoice.model_validate({**recipe.hardware.model_dump(), **settings})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            told = ", ".join(f"{field}={value}" for field, value in settings.items())
            raise SweepError(f"--set {told}: {where}: {first['msg']}") from error
        found.append(Design(settings, recipe.model_copy(update={"hardware": hardware})))
    return found


def sweep(
    recipe: Recipe, axes: Sequence[Axis], out: Path, executor: Executor, progress: Progress
) -> list[dict[str, Any]]:
    """Evaluate and price every design; what an earlier call in the same folder has done is not done again.

    Args:
        recipe: network, data, training, pruning, and the hardware where no axis says otherwise.
        axes: what is varied.
        out: folder of the sweep; every worker must see it under the same name.
        executor: runs the tasks: processes of this machine, or those of a cluster.
        progress: shows how far it is.

    Returns:
        For each design, in the order of the axes: ``settings``, and either its figures or ``error``.

    Raises:
        SweepError: if the folder belongs to another sweep.
        ValueError: if the recipe cannot be run.
    """
    chosen = designs(recipe, axes)
    _bind(out, recipe, axes)
    base = RunFolder.create(out / "base", recipe)
    walk(Run(base, load_inputs(recipe), progress), "prune")
    progress.begin("weights")
    ways = {_way(design.recipe): design.recipe for design in chosen}
    tasks = [
        (way, out, part) for way, part in ways.items() if not (_weights(out, way) / "result.json").exists()
    ]
    for done, _ in enumerate(_finished(executor, hold, tasks), 1):
        progress.update(done / len(tasks), f"{done} of {len(tasks)}")
    progress.end(f"{len(ways)} ways of holding them")
    progress.begin("designs")
    left = [design for design in chosen if not _result(out, design).exists()]
    for done, _ in enumerate(_finished(executor, evaluate_design, [(design, out) for design in left]), 1):
        progress.update(done / len(left), f"{done} of {len(left)}")
    results = [_read(_result(out, design)) for design in chosen]
    failed = sum("error" in result for result in results)
    progress.end(f"{len(results)} evaluated" + (f", {failed} failed" if failed else ""))
    mark_best(results)
    return results


def _finished(
    executor: Executor, task: Callable[..., None], arguments: list[tuple[Any, ...]]
) -> Iterator[None]:
    """Run tasks and yield as each is done; an error of any ends the sweep, which can go on later."""
    futures = [executor.submit(task, *given) for given in arguments]
    for future in as_completed(futures):
        yield future.result()


def hold(way: str, out: Path, recipe: Recipe) -> None:
    """Put the pruned weights of a sweep on the codes of one way of holding them."""
    torch.set_num_threads(1)
    folder = _weights(out, way)
    folder.mkdir(parents=True, exist_ok=True)
    found = put_on_codes(_run(out, recipe), folder)
    write_atomically(folder / "result.json", json.dumps(found).encode())


def evaluate_design(design: Design, out: Path) -> None:
    """Evaluate and price one design, and write its figures; a design that is impossible writes its error."""
    torch.set_num_threads(1)
    started = time.monotonic()
    try:
        found = _evaluate(design, out)
    except ValueError as error:
        found = {"error": " ".join(str(error).split())}
    figures = {"settings": design.settings, **found, "seconds": round(time.monotonic() - started, 3)}
    path = _result(out, design)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, (json.dumps(figures, indent=1) + "\n").encode())


def _evaluate(design: Design, out: Path) -> dict[str, Any]:
    recipe, choice = design.recipe, design.recipe.hardware
    run, weights = _run(out, recipe), _weights(out, _way(recipe))
    inputs, held = run.inputs, _read(weights / "result.json")
    net, conductance_map = map_from_codes(run, weights, held)
    if isinstance(choice.adc_bits, int) and choice.adc_lsb == {}:
        images = inputs.dataset.train_x[:CALIBRATION_IMAGES]
        ranges = Ranges(net, conductance_map, inputs.wires, choice, seed=recipe.seed, images=images)
        readout = ranges.readout(choice, choice.adc_bits)
    else:
        readout = choice
    accuracies = evaluate_instances(
        net,
        conductance_map,
        lambda instance: FastHardware(inputs.wires, readout, seed=recipe.seed, instance=instance),
        *inputs.test,
        instances=range(recipe.evaluate.instances),
        batch=recipe.evaluate.batch,
    )
    chip = estimate(chip_facts(conductance_map, inputs.vectors, readout), load_cost_card(), readout)
    card = conductance_map.card
    return {
        "accuracy": accuracies,
        "accuracy_ideal": held["accuracy"],
        "adc_bits": {
            name: resolution(layer, card.levels, readout, idle=card.idle_steps).widest
            for name, layer in conductance_map.layers.items()
        },
        "tiles": conductance_map.tiles,
        "arrays": conductance_map.arrays,
        "area_mm2": chip.area_mm2,
        "power_w": chip.power_w,
        "energy_per_image_j": chip.energy_j,
        "latency_s": chip.latency_s,
        "images_per_s": chip.images_per_s,
    }


def mark_best(results: list[dict[str, Any]]) -> None:
    """Add ``best`` to each result: no other is as good in accuracy, area and energy, and better in one."""

    def merits(result: Mapping[str, Any]) -> tuple[float, ...]:
        return statistics.fmean(result["accuracy"]), -result["area_mm2"], -result["energy_per_image_j"]

    reached = [merits(result) for result in results if "error" not in result]
    for result in results:
        result["best"] = "error" not in result and not any(
            other != merits(result) and all(a >= b for a, b in zip(other, merits(result), strict=True))
            for other in reached
        )


def _bind(out: Path, recipe: Recipe, axes: Sequence[Axis]) -> None:
    """Make the folder of a sweep, or go on in it if it belongs to this one."""
    identity = {
        "format": FORMAT,
        "recipe": recipe.model_dump(mode="json"),
        "axes": [{"fields": list(axis.fields), "values": list(axis.values)} for axis in axes],
    }
    path = out / "sweep.json"
    if path.exists():
        if _read(path) != identity:
            raise SweepError(f"{out}: holds another sweep; use another folder")
    elif out.is_dir() and any(out.iterdir()):
        raise SweepError(f"{out}: not empty, and not the folder of a sweep; use another folder")
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(identity, indent=1) + "\n").encode())


def _run(out: Path, recipe: Recipe) -> Run:
    """Return the run that trained and pruned for a sweep, as a design continues it."""
    return Run(RunFolder(out / "base", recipe), load_inputs(recipe), Silence())


def _way(recipe: Recipe) -> str:
    """Name of a way of holding weights."""
    return _name({field: getattr(recipe.hardware, field) for field in HOLDING})


def _name(settings: Mapping[str, Any]) -> str:
    """Short name for settings that no others have."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _weights(out: Path, way: str) -> Path:
    return out / "weights" / way


def _result(out: Path, design: Design) -> Path:
    return out / "designs" / f"{design.name}.json"


def _read(path: Path) -> dict[str, Any]:
    """Return what a file of the sweep holds."""
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise SweepError(f"{path}: damaged ({error}); delete it and sweep again") from error
    return found

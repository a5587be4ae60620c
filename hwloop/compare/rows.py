"""Pruning methods side by side: the same networks, data, training effort, arrays and accounting for all.

A row is a recipe, made with several seeds. Recipes that train alike share their dense network. Each row and
seed walks the line from pruning to the evaluation on device instances; nothing is chosen by test images.

OUT/compare.json            the recipes and seeds that everything in the folder belongs to
OUT/dense/NAME/             runs that end after dense training
OUT/runs/ROW-SEED/          runs from pruning to evaluation
OUT/rows/ROW-SEED.json      figures, or the error that a row ended in
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from device_models.files import write_atomically
from device_models.folders import discard, is_vacant
from hwloop.cost import (
    ADCS,
    chip_facts,
    dense_facts,
    estimate,
    estimate_by_law,
    load_cost_card,
    saving,
)
from hwloop.line import Run, RunFolder, load_inputs, walk
from hwloop.mapping import read_map, resolution
from hwloop.progress import Progress, Silence
from hwloop.pruning import METHODS
from hwloop.recipe import Recipe

FORMAT = "hwloop-compare-1"


class CompareError(ValueError):
    """A comparison that cannot be done; the message names the row or the folder, and the fix."""


@dataclass(frozen=True)
class Row:
    """One row and seed: its label and the recipe with that seed."""

    label: str
    recipe: Recipe

    @property
    def name(self) -> str:
        """Name of its run and figures."""
        return f"{self.label}-{self.recipe.seed}"


def rows_of(recipes: Mapping[str, Recipe], seeds: Sequence[int]) -> list[Row]:
    """Return every recipe with every seed, on the arrays that its method is made for."""
    return [
        Row(label, fitted(recipe).model_copy(update={"seed": seed}))
        for label, recipe in recipes.items()
        for seed in seeds
    ]


def fitted(recipe: Recipe) -> Recipe:
    """Return a recipe on the cells that its method is made for.

    Ternary weights get cells of one level; fragments of one sign get arrays that hold both signs and are read
    a fragment at a time.
    """
    method, hardware = METHODS[recipe.prune.method], dict[str, Any]()
    if method.ternary:
        hardware = {"cell_levels": 1}
    if method.sparse_columns:
        hardware = {"cells_per_column": recipe.prune.per_column}
    if method.polarised:
        hardware = {"encoding": "polarised", "rows_at_once": recipe.prune.fragment}
    return recipe.model_copy(update={"hardware": recipe.hardware.model_copy(update=hardware)})


def compare(
    recipes: Mapping[str, Recipe],
    seeds: Sequence[int],
    out: Path,
    executor: Executor,
    progress: Progress,
    *,
    fresh: bool = False,
) -> list[dict[str, Any]]:
    """Prune, map and evaluate every row; what an earlier call in the same folder has done is not done again.

    Args:
        recipes: by label.
        seeds: each row is made with each.
        out: folder of the comparison.
        executor: runs the tasks.
        progress: shows how far it is.
        fresh: throw away what an earlier call left in the folder.

    Returns:
        For each row and seed ``label``, ``seed``, and either its figures or ``error``.

    Raises:
        CompareError: if the folder belongs to another comparison.
    """
    rows = rows_of(recipes, seeds)
    _bind(out, recipes, seeds, fresh)
    for station, task, names in (
        ("dense", train_dense, list({_dense_name(row.recipe): row for row in rows}.values())),
        ("rows", make_row, rows),
    ):
        progress.begin(station)
        left = [row for row in names if station == "dense" or not _figures(out, row).exists()]
        futures = [executor.submit(task, row, out) for row in left]
        for done, future in enumerate(as_completed(futures), 1):
            future.result()
            progress.update(done / len(left), f"{done} of {len(left)}")
        progress.end(f"{len(names)} done")
    return [_read(_figures(out, row)) for row in rows]


def train_dense(row: Row, out: Path) -> None:
    """Train the dense network of a row, or find it trained."""
    torch.set_num_threads(1)
    given = row.recipe
    recipe = Recipe(seed=given.seed, network=given.network, data=given.data, train=given.train)
    folder = RunFolder.create(out / "dense" / _dense_name(row.recipe), recipe)
    walk(Run(folder, load_inputs(recipe), Silence()), "train")


def make_row(row: Row, out: Path) -> None:
    """Prune, map and evaluate one row, and write its figures; a row that is impossible writes its error."""
    torch.set_num_threads(1)
    started = time.monotonic()
    try:
        found = _make(row, out)
    except ValueError as error:
        found = {"error": " ".join(str(error).split())}
    figures = {
        "label": row.label,
        "seed": row.recipe.seed,
        "method": row.recipe.prune.method,
        "target": row.recipe.prune.target,
        **found,
        "seconds": round(time.monotonic() - started, 1),
    }
    path = _figures(out, row)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, (json.dumps(figures, indent=1) + "\n").encode())


def _make(row: Row, out: Path) -> dict[str, Any]:
    dense = out / "dense" / _dense_name(row.recipe) / "stations" / "train"
    network = row.recipe.network.model_copy(update={"weights": str(dense / "weights.safetensors")})
    recipe = row.recipe.model_copy(update={"network": network})
    run = Run(RunFolder.create(out / "runs" / row.name, recipe), load_inputs(recipe), Silence())
    walk(run, "evaluate_before")
    found = {
        name: run.folder.result(name) for name in ("train", "prune", "quantize", "map", "evaluate_before")
    }
    # Dense training is part of a row's effort, although rows share it.
    epochs = recipe.train.epochs + len(found["prune"]["records"]) + len(found["quantize"]["records"])
    return {
        "accuracy": {
            "dense": found["train"]["accuracy"],
            "pruned": found["prune"]["accuracy"],
            "quantized": found["quantize"]["accuracy"],
            "hardware": found["evaluate_before"]["accuracy"],
        },
        "epochs": epochs,
        "reached": found["prune"]["reached"],
        **found["prune"]["sizes"],
        **_hardware(run, found["map"]["vectors"], found["prune"].get("ranks", {})),
    }


def _hardware(run: Run, vectors: Mapping[str, int], factored: Collection[str]) -> dict[str, Any]:
    """Return ADC bits and costs of the mapped network, and of the dense one on the same arrays."""
    readout, card = run.recipe.hardware, load_cost_card()
    mapped = read_map(run.path("map", "maps.h5"))
    facts = chip_facts(mapped, vectors, readout)
    dense = dense_facts(mapped, vectors, readout, factored)
    chips = estimate_by_law(facts, card, readout)
    chip = chips[card.default_adc_law]
    saved = saving(dense, facts, lambda one: estimate(one, card, readout).area_mm2)
    cells = sum(int(torch.count_nonzero(layer.codes)) for layer in mapped.layers.values())
    return {
        "adc_bits": {
            name: resolution(layer, mapped.card.levels, readout, idle=mapped.card.idle_steps).widest
            for name, layer in mapped.layers.items()
        },
        "arrays": mapped.arrays(readout),
        "mapped_tiles": mapped.tiles,
        "utilisation": cells / (mapped.arrays() * mapped.array_shape[0] * mapped.array_shape[1]),
        "index_bits": sum(tile.index_bits for layer in facts.layers.values() for tile in layer.tiles),
        "area_mm2": chip.area_mm2,
        "area_saving_mm2": saved.parts,
        "power_w": chip.power_w,
        "energy_per_image_j": chip.energy_j,
        "adc_energy_j": {law: cost.total.energy_j[ADCS] for law, cost in chips.items()},
    }


def _dense_name(recipe: Recipe) -> str:
    """Name of the dense training that a recipe begins with."""
    parts = [recipe.seed, *(getattr(recipe, part).model_dump() for part in ("network", "data", "train"))]
    text = json.dumps(parts, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{recipe.network.factory.partition(':')[2]}-{recipe.seed}-{digest}"


def _bind(out: Path, recipes: Mapping[str, Recipe], seeds: Sequence[int], fresh: bool) -> None:
    """Make the folder of a comparison, or go on in it: rows and seeds may be added, not changed."""
    path = out / "compare.json"
    new = {label: recipe.model_dump(mode="json") for label, recipe in recipes.items()}
    known: dict[str, Any] = {}
    if path.exists() and fresh:
        for name in ("dense", "runs", "rows"):
            discard(out / name)
    elif path.exists():
        known = _read(path)["recipes"]
        changed = [label for label, recipe in new.items() if known.get(label, recipe) != recipe]
        if changed:
            raise CompareError(
                f"{out}: row {changed[0]} was made with another recipe; use another folder, or --fresh"
            )
    elif not is_vacant(out):
        raise CompareError(f"{out}: not empty, and not the folder of a comparison; use another folder")
    out.mkdir(parents=True, exist_ok=True)
    identity = {"format": FORMAT, "recipes": known | new, "seeds": list(seeds)}
    write_atomically(path, (json.dumps(identity, indent=1) + "\n").encode())


def _figures(out: Path, row: Row) -> Path:
    return out / "rows" / f"{row.name}.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise CompareError(f"{path}: damaged ({error}); delete it and compare again") from error
    return found

"""Many designs of the hardware for one network: each is evaluated and priced, and the best are told apart.

Training and pruning do not depend on what is swept and are done once, for the recipe as it is. Weights are
put on levels once for each way in which cells hold them. Then every device instance of every design is a task
of its own, and so are its tiles in ngspice. Dask gives the tasks to workers and does those of a lost worker
again on another one.

OUT/sweep.json             the recipe and the axes that everything in the folder belongs to
OUT/base/                  the run whose pruned network all designs share
OUT/weights/NAME/          weights on the levels of one way of holding them
OUT/results.h5             the table: a row for each device instance of each design
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client, Future, as_completed

from device_models.files import write_atomically
from device_models.folders import alone_in, discard, is_vacant
from hwloop.line import Run, RunFolder, load_inputs, walk
from hwloop.networks import crossbar_layers
from hwloop.progress import Progress
from hwloop.recipe import Recipe
from hwloop.report.front import unbeaten
from hwloop.sweep.axes import Axis, Design, SweepError, designs
from hwloop.sweep.table import FIGURES, Table, row_types
from hwloop.sweep.tasks import evaluate, hold, price, solve

FORMAT = "hwloop-sweep-2"
KINDS = {"results": evaluate, "spice": solve}
"""What fills each data set of the table."""


def sweep(
    recipe: Recipe,
    axes: Sequence[Axis],
    out: Path,
    client: Client,
    progress: Progress,
    *,
    spice: bool = False,
    fresh: bool = False,
) -> list[dict[str, Any]]:
    """Evaluate and price every design; what an earlier call in the same folder has done is not done again.

    A task that fails is in the table with its input and its error, the others go on, and the next call tries
    it again.

    Args:
        recipe: network, data, training, pruning, and the hardware where no axis says otherwise.
        axes: what is varied.
        out: folder of the sweep; every worker must see it under the same name.
        client: of the Dask scheduler that the tasks go to; see :func:`connect`.
        progress: shows how far it is.
        spice: also solve sampled tiles of every instance in ngspice, as many as ``recipe.spice`` says.
        fresh: throw away what an earlier sweep left in the folder.

    Returns:
        For each design, in the order of the axes: ``settings``, and either its figures or ``error``.

    Raises:
        SweepError: if the folder belongs to another sweep, or the scheduler is lost.
        ValueError: if the recipe cannot be run.
    """
    chosen = designs(recipe, axes)
    inputs = load_inputs(recipe)
    identity = _identity(recipe, axes)
    _bind(out, identity, fresh)
    with alone_in(out):
        base = RunFolder.create(out / "base", recipe, fresh)
        run = Run(base, inputs, progress)
        walk(run, "prune")
        layers = list(crossbar_layers(run.structure()))
        table = Table(out / "results.h5", row_types(axes, layers), identity)
        progress.begin("designs")
        try:
            _fill(table, chosen, list(KINDS)[: 1 + spice], out, client, progress)
        finally:
            table.write()
        results = [_result(design, table, spice) for design in chosen]
        failed = sum("error" in result for result in results)
        progress.end(f"{len(results)} evaluated" + (f", {failed} failed" if failed else ""))
    mark_best(results)
    return results


def _fill(
    table: Table,
    chosen: Sequence[Design],
    kinds: Sequence[str],
    out: Path,
    client: Client,
    progress: Progress,
) -> None:
    """Do all tasks whose rows the table lacks, and put their rows in as they come."""
    before = {kind: table.done(kind) for kind in kinds}
    tasks: dict[Future, tuple[str, Design, int]] = {}
    held: dict[str, Future] = {}
    for design in chosen:
        instances = range(design.recipe.evaluate.instances)
        left = [
            (kind, instance)
            for kind in kinds
            for instance in instances
            if (design.number, instance) not in before[kind]
        ]
        if not left:
            continue
        if design.way not in held:
            held[design.way] = client.submit(hold, design, out, pure=False)
        priced = client.submit(price, design, out, held[design.way], pure=False)
        for kind, instance in left:
            future = client.submit(KINDS[kind], design, out, instance, priced, pure=False)
            tasks[future] = kind, design, instance
    for done, future in enumerate(as_completed(list(tasks)), 1):
        kind, design, instance = tasks.pop(future)
        if future.status == "finished":
            rows = future.result()
        elif future.status == "error":
            rows = [{**design.settings, "error": _reason(future.exception())}]
        else:
            raise SweepError(f"{out}: the scheduler is lost ({future.status}); the same command goes on")
        table.add(kind, (design.number, instance), rows)
        progress.update(done / (done + len(tasks)), f"{done} of {done + len(tasks)} instances")


def _reason(error: BaseException | None) -> str:
    """Return in one line why a task failed."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _result(design: Design, table: Table, spice: bool) -> dict[str, Any]:
    """Sum up the rows of a design."""
    numbers = range(design.recipe.evaluate.instances)
    rows = np.concatenate([table.rows("results", (design.number, number)) for number in numbers])
    arrays = np.concatenate([table.rows("spice", (design.number, number)) for number in numbers])
    failures = [*rows["error"], *(arrays["error"] if spice else ())]
    seconds = float(rows["seconds"].sum())
    if any(failures):
        error = next(failure for failure in failures if failure).decode(errors="replace")
        return {"settings": design.settings, "error": error}
    first, bits = rows[0], "adc_bits "
    found = {name: first[name].item() for name in ("tiles", "arrays", *FIGURES)}
    found["accuracy"] = rows["accuracy"].tolist()
    found["adc_bits"] = {
        name.removeprefix(bits): int(first[name]) for name in rows.dtype.names or () if name.startswith(bits)
    }
    if spice:
        found["spice"] = {"arrays": len(arrays), "max_rel_error": float(arrays["rel_error"].max(initial=0.0))}
    return {"settings": design.settings, **found, "seconds": seconds}


def mark_best(results: list[dict[str, Any]]) -> None:
    """Add ``best`` to each result: no other is as good in accuracy, area and energy, and better in one."""

    def merits(result: Mapping[str, Any]) -> tuple[float, ...]:
        return statistics.fmean(result["accuracy"]), -result["area_mm2"], -result["energy_per_image_j"]

    reached = [result for result in results if "error" not in result]
    for result in results:
        result["best"] = False
    for result, best in zip(reached, unbeaten([merits(result) for result in reached]), strict=True):
        result["best"] = best


def _identity(recipe: Recipe, axes: Sequence[Axis]) -> dict[str, Any]:
    return {
        "recipe": recipe.model_dump(mode="json"),
        "axes": [{"fields": list(axis.fields), "values": list(axis.values)} for axis in axes],
    }


def _bind(out: Path, identity: Mapping[str, Any], fresh: bool) -> None:
    """Make the folder of a sweep, or go on in it if it belongs to this one, or throw that one away."""
    path = out / "sweep.json"
    content = (json.dumps({"format": FORMAT, **identity}, indent=1) + "\n").encode()
    if path.exists():
        if fresh:
            with alone_in(out):
                discard(out / "weights")
                for name in ("results.h5", "sweep.svg", "report.html"):
                    (out / name).unlink(missing_ok=True)
        elif path.read_bytes() != content:
            raise SweepError(f"{out}: holds another sweep; use another folder, or --fresh to throw it away")
    elif not is_vacant(out):
        raise SweepError(f"{out}: not empty, and not the folder of a sweep; use another folder")
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)

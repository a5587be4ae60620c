"""The mitigation ladder: what each rung, from nothing to chip-in-the-loop, gives back of what arrays take.

OUT/ladder.json                    recipe, rungs and code that everything in the folder was made with
OUT/base/                          the run whose dense and pruned networks are put on arrays
OUT/NETWORK/maps.h5, readout.json  the network on arrays with nothing done about them, and how they are read
OUT/NETWORK/RUNG-SEED/             maps.h5 and result.json of a rung; checkpoints while it trains

Trained and calibrated on named device instances, evaluated on numbered ones; rungs that stay on one chip are
trained and evaluated on each of a few.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from device_models.crossbar import Wires
from device_models.files import write_atomically
from device_models.folders import alone_in, discard
from hwloop.adc import CALIBRATION_IMAGES, Ranges
from hwloop.datasets import Dataset
from hwloop.evaluation import evaluate_instances
from hwloop.hardware import FastHardware, Hardware, calibrate_inputs, network_from_map, on_hardware
from hwloop.hardware.columns import Columns, ColumnScaled
from hwloop.hardware.counted import Counted, Tally
from hwloop.line import Inputs, Run, RunFolder, load_inputs, walk
from hwloop.line.run_folder import code_digest
from hwloop.mapping import ConductanceMap, build_map, read_map, write_map
from hwloop.progress import Progress
from hwloop.pruning import own_masks
from hwloop.quantization import quantize
from hwloop.recipe import HardwareConfig, Readout, Recipe
from hwloop.training import accuracy, fit
from hwloop.training.strategies import ON_ONE_CHIP, STRATEGIES, Outcome, Task, run_strategy

FORMAT = "hwloop-ladder-1"
RUNGS = (
    "digital",
    "none",
    "clip",
    "copies",
    "scale",
    "batch-norm",
    "variation",
    "ir-drop",
    "chip-batch-norm",
    "chip",
)
"""The rungs that are climbed if nothing is said; ``hardware``, ``hybrid`` and ``remap`` can be asked for.

``digital`` is the control: the same training without arrays, evaluated without arrays. ``none`` puts weights
on arrays as they are, one copy of each; if the recipe clips them, ``clip`` does no more than that; if it has
copies of arrays, ``copies`` does both and no more. All rungs above begin there."""
NETWORKS = ("dense", "pruned")
UNTRAINED = ("digital", "none", "clip", "copies")
"""Rungs without a strategy."""
ONCE = ("none", "clip", "copies", "scale", "batch-norm")
"""Rungs that train nothing: one seed tells all."""


class LadderError(ValueError):
    """A ladder that cannot be climbed; the message names the rung or the folder, and the fix."""


@dataclass(frozen=True)
class OnArrays:
    """Weights on their codes, without training.

    Attributes:
        conductance_map: the codes.
        readout: how arrays are read.
    """

    conductance_map: ConductanceMap
    readout: Readout


@dataclass(frozen=True)
class Start:
    """A network to be put on arrays.

    Attributes:
        net: the network's structure.
        teacher: the dense digital network.
        plain: it on arrays, with nothing done about them.
        clipped: the same with clipped weights; None if the recipe does not clip them.
        wires: of every array.
        dataset: images; its test part is evaluated.
        digital: accuracy of the network before it was put on codes, with digital arithmetic.
    """

    net: nn.Module
    teacher: nn.Module
    plain: OnArrays
    clipped: OnArrays | None
    wires: Wires
    dataset: Dataset
    digital: float


def ladder(
    recipe: Recipe,
    out: Path,
    progress: Progress,
    *,
    rungs: Sequence[str] = RUNGS,
    networks: Sequence[str] | None = None,
    seeds: int = 1,
    chips: int = 3,
    fresh: bool = False,
) -> list[dict[str, Any]]:
    """Climb the ladder for the dense network of a recipe, and for the pruned one if the recipe prunes.

    What an earlier call in the same folder has done is not done again.

    Args:
        recipe: network, data, pruning, arrays, training and evaluation.
        out: folder of the ladder.
        progress: shows how far it is.
        rungs: which, from below.
        networks: of ``dense`` and ``pruned``; None = all that the recipe has.
        seeds: trainings of each rung that trains, with other images, order and devices.
        chips: device instances that rungs of one chip are trained and evaluated on.
        fresh: throw away what is in the folder.

    Returns:
        For each network, rung and seed its figures: ``network``, ``rung``, ``seed``, ``digital``,
            ``accuracy`` (one for each instance), ``arrays``, ``writes``, ``reads``, ``seconds``; or ``error``
            where the rung does not fit.

    Raises:
        LadderError: if a rung or network is unknown or the folder belongs to another ladder.
        ValueError: if the recipe cannot be run.
    """
    known = (*RUNGS, *(strategy for strategy in STRATEGIES if strategy not in RUNGS))
    if unknown := [rung for rung in rungs if rung not in known]:
        raise LadderError(f"no rung {unknown[0]!r}; there are {', '.join(known)}")
    offered = NETWORKS if recipe.prune.keep else NETWORKS[:1]
    if missing := [network for network in networks or () if network not in offered]:
        raise LadderError(f"no network {missing[0]!r}; the recipe has {' and '.join(offered)}")
    networks, inputs = networks or offered, load_inputs(recipe)
    _bind(out, {"recipe": recipe.model_dump(mode="json"), "code": code_digest()}, fresh)
    run = Run(RunFolder.create(out / "base", recipe, fresh), inputs, progress)
    walk(run, "prune" if "pruned" in networks else "train")
    results = []
    with alone_in(out):
        for network in networks:
            start = start_from(run, network, out / network)
            results += climb(
                start, recipe, out / network, progress, rungs=rungs, seeds=seeds, chips=chips, name=network
            )
    return results


def start_from(run: Run, network: str, folder: Path) -> Start:
    """Put the dense or the pruned network of a run on arrays.

    Weights go on their codes without training; ranges of ADCs of fewer bits are chosen from training images.

    Args:
        run: whose network is trained, and pruned if that is asked for.
        network: ``dense`` or ``pruned``.
        folder: where map and readout are kept, and found if they are there.
    """
    recipe, inputs = run.recipe, run.inputs
    teacher = run.network("train")
    dense = network == "dense"
    net = teacher if dense else run.network("prune")
    masks = own_masks(teacher) if dense else run.masks()
    factory = recipe.network.factory if dense else run.pruned_spec

    def on_arrays(clip: float | None, place: Path) -> OnArrays:
        if not (place / "readout.json").exists():
            place.mkdir(parents=True, exist_ok=True)
            _put_on_arrays(recipe, inputs, factory, net, masks, clip, place)
        readout = HardwareConfig.model_validate_json((place / "readout.json").read_text("utf-8"))
        return OnArrays(read_map(place / "maps.h5"), readout)

    clip = recipe.quantize.clip
    dataset = replace(inputs.dataset, test_x=inputs.test[0], test_y=inputs.test[1])
    return Start(
        net=net,
        teacher=teacher,
        plain=on_arrays(None, folder),
        clipped=None if clip is None else on_arrays(clip, folder / "clipped"),
        wires=inputs.wires,
        dataset=dataset,
        digital=accuracy(net, dataset.test_x, dataset.test_y, goal=dataset.goal),
    )


def _put_on_arrays(
    recipe: Recipe,
    inputs: Inputs,
    factory: str,
    net: nn.Module,
    masks: Mapping[str, torch.Tensor],
    clip: float | None,
    folder: Path,
) -> None:
    """Write map and readout of a network."""
    choice, images = recipe.hardware, inputs.dataset.train_x[:CALIBRATION_IMAGES]
    layers = quantize(net, masks, inputs.largest_codes(masks), recipe.quantize.scale, clip)
    built = build_map(
        factory,
        net,
        {name: (layer.codes, layer.scale) for name, layer in layers.items()},
        inputs.card,
        inputs.array_shape,
        calibrate_inputs(net, images),
        **choice.held,
        of_layer={name: choice.of(name).held for name in choice.layer},
    )
    readout = choice
    if choice.chooses_ranges:
        ranges = Ranges(net, built, inputs.wires, readout, seed=recipe.seed, images=images)
        readout = ranges.readout(readout, choice.adc_bits)
    write_map(built, folder / "maps.h5")
    write_atomically(folder / "readout.json", readout.model_dump_json().encode())


def climb(
    start: Start,
    recipe: Recipe,
    folder: Path,
    progress: Progress,
    *,
    rungs: Sequence[str] = RUNGS,
    seeds: int = 1,
    chips: int = 3,
    name: str = "network",
) -> list[dict[str, Any]]:
    """Climb the rungs with one network; arguments and result as in :func:`ladder`."""
    results = []
    for rung in rungs:
        for seed in range(1, 1 + (1 if rung in ONCE else seeds)):
            place = folder / f"{rung}-{seed}"
            place.mkdir(parents=True, exist_ok=True)
            progress.begin(f"{name} {rung} {seed}")
            found = _kept(place / "result.json")
            if found is None:
                found = _Rung(start, recipe, folder, rung, seed, chips, progress.update).climb(place)
                found = {"network": name, "rung": rung, "seed": seed, "digital": start.digital, **found}
                write_atomically(place / "result.json", (json.dumps(found, indent=1) + "\n").encode())
            results.append(found)
            progress.end(outcome(found))
    return results


def outcome(found: Mapping[str, Any]) -> str:
    """Return what a rung gave, in a few words."""
    if "error" in found:
        return str(found["error"])
    values = found["accuracy"]
    return f"{100 * sum(values) / len(values):.2f} % on {len(values)} devices"


@dataclass(frozen=True)
class _Rung:
    """One rung with one training seed."""

    start: Start
    recipe: Recipe
    folder: Path
    rung: str
    seed: int
    chips: int
    tell: Callable[[float, str], None]

    def climb(self, place: Path) -> dict[str, Any]:
        """Do what the rung says and evaluate it."""
        tally, started = Tally(), time.monotonic()
        if self.rung == "digital":
            return self._digital(place, started)
        if self.rung == "clip" and self.start.clipped is None:
            return {"error": "the recipe does not clip weights (quantize.clip)"}
        if self.rung == "copies" and self.recipe.hardware.most_copies == 1:
            return {"error": "the recipe has one copy of each array (hardware.copies)"}
        try:
            if self.rung in ON_ONE_CHIP:
                return self._on_chips(place)
            outcome = self._do(place, tally, "none")
        except ValueError as error:
            return {"error": " ".join(str(error).split())}
        seconds = time.monotonic() - started
        write_map(outcome.conductance_map, place / "maps.h5")
        count = self.recipe.evaluate.instances
        first = self.seed * count
        accuracies = evaluate_instances(
            self.start.net,
            outcome.conductance_map,
            lambda instance: _scaled(self._hardware(instance), outcome.columns),
            self.start.dataset.test_x,
            self.start.dataset.test_y,
            instances=range(first, first + count),
            batch=self.recipe.evaluate.batch,
            goal=self.start.dataset.goal,
            progress=lambda fraction, text: self.tell(0.5 + fraction / 2, text),
        )
        return self._found(accuracies, tally, seconds)

    def _digital(self, place: Path, started: float) -> dict[str, Any]:
        net, choice = copy.deepcopy(self.start.net), self.recipe.retrain
        task = self._task(place, Tally(), "none")
        kept = {name: value != 0 for name, value in net.named_parameters() if value.ndim > 1}

        def constrain() -> None:
            for name, value in net.named_parameters():
                if name in kept:
                    value.data.mul_(kept[name])

        fit(
            net,
            task.images,
            epochs=choice.epochs,
            batch=choice.batch,
            learning_rate=choice.learning_rate,
            seed=self.seed,
            station="digital control",
            shift=task.shift,
            loss_of=task.loss,
            after_step=constrain,
            checkpoint=task.file("digital"),
            progress=self.tell,
        )
        found = accuracy(
            net, self.start.dataset.test_x, self.start.dataset.test_y, goal=self.start.dataset.goal
        )
        return {**self._found([found], Tally(), time.monotonic() - started), "arrays": 0}

    def _on_chips(self, place: Path) -> dict[str, Any]:
        """Train and evaluate on each of a few chips, from what the best rung below left."""
        tally, below = Tally(), self._below()
        before, after, seconds = [], [], 0.0
        for chip in range(self.chips):
            name = f"chip {self.seed} {chip}"
            before += evaluate_instances(
                self.start.net,
                below,
                partial(_always, self._hardware(name)),
                self.start.dataset.test_x,
                self.start.dataset.test_y,
                instances=[0],
                batch=self.recipe.evaluate.batch,
                goal=self.start.dataset.goal,
            )
            started = time.monotonic()
            outcome = self._do(place / f"chip-{chip}", tally, name)
            seconds += time.monotonic() - started
            if outcome.hardware is None:
                raise LadderError(f"rung {self.rung} left no chip")
            read = on_hardware(
                network_from_map(self.start.net, outcome.conductance_map),
                _scaled(outcome.hardware, outcome.columns),
            )
            after.append(
                accuracy(
                    read,
                    self.start.dataset.test_x,
                    self.start.dataset.test_y,
                    self.recipe.evaluate.batch,
                    self.start.dataset.goal,
                )
            )
            self.tell((chip + 1) / self.chips, f"chip {chip + 1}: {before[-1]:.2%} to {after[-1]:.2%}")
        return {**self._found(after, tally, seconds), "before": before, "trained_on_evaluated": True}

    def _found(self, accuracies: list[float], tally: Tally, seconds: float) -> dict[str, Any]:
        arrays = self._begins.conductance_map.arrays(self._readout)
        cost = {"arrays": arrays, **asdict(tally), "seconds": round(seconds, 1)}
        return {"accuracy": accuracies, **cost}

    def _do(self, place: Path, tally: Tally, instance: int | str) -> Outcome:
        task = self._task(place, tally, instance)
        return Outcome(task.conductance_map) if self.rung in UNTRAINED else run_strategy(task)

    def _task(self, place: Path, tally: Tally, instance: int | str) -> Task:
        start, choice = self.start, self.recipe.retrain
        strategy = "hardware" if self.rung in UNTRAINED else self.rung
        return Task(
            net=start.net,
            conductance_map=self._below() if self.rung in ON_ONE_CHIP else self._begins.conductance_map,
            make_hardware=lambda name: Counted(self._hardware(name), self._readout, tally),
            wires=start.wires,
            readout=self._readout,
            dataset=start.dataset,
            choice=choice.model_copy(update={"strategy": strategy}),
            seed=self.seed,
            instance=instance,
            shift=0 if self.rung in ON_ONE_CHIP else self.recipe.data.shift,
            teacher=start.teacher if choice.distill else None,
            checkpoint=place,
            progress=lambda fraction, text: self.tell(fraction / 2, text),
        )

    def _below(self) -> ConductanceMap:
        """The map that the highest rung of software left, of the same seed."""
        for rung in ("ir-drop", "variation", "batch-norm"):
            for seed in (self.seed, 1):
                path = self.folder / f"{rung}-{seed}" / "maps.h5"
                if path.exists():
                    return read_map(path)
        return self._begins.conductance_map

    @property
    def _begins(self) -> OnArrays:
        """Where the rung begins."""
        return self.start.plain if self.rung == "none" else self.start.clipped or self.start.plain

    @property
    def _readout(self) -> Readout:
        """How arrays are read, and of how many copies."""
        copies = 1 if self.rung in ("none", "clip") else self.recipe.hardware.copies
        return self._begins.readout.model_copy(update={"copies": copies})

    def _hardware(self, instance: int | str) -> Hardware:
        return FastHardware(self.start.wires, self._readout, seed=self.recipe.seed, instance=instance)


def _scaled(hardware: Hardware, columns: Columns | None) -> Hardware:
    return hardware if columns is None else ColumnScaled(hardware, columns)


def _always(hardware: Hardware, _instance: int | str) -> Hardware:
    return hardware


def _kept(path: Path) -> dict[str, Any] | None:
    """Return what a rung found before, if it did."""
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise LadderError(f"{path}: damaged ({error}); delete it to climb the rung again") from error
    return found


def _bind(out: Path, identity: Mapping[str, Any], fresh: bool) -> None:
    """Make the folder of a ladder, or go on in it if it belongs to this one."""
    path = out / "ladder.json"
    wanted = {"format": FORMAT, **identity}
    if path.exists() and not fresh:
        if json.loads(path.read_text("utf-8")) != json.loads(json.dumps(wanted)):
            raise LadderError(f"{out}: holds another ladder; use another folder, or --fresh")
    elif not path.exists() and out.is_dir() and any(out.iterdir()):
        raise LadderError(f"{out}: not empty, and not the folder of a ladder; use another folder")
    out.mkdir(parents=True, exist_ok=True)
    if fresh:
        for network in NETWORKS:
            discard(out / network)
    write_atomically(path, (json.dumps(wanted, indent=1) + "\n").encode())

"""The stations of the line. Each reads what earlier ones left in the run's folder and returns what it found.

What a station found is JSON; weights, masks, codes and maps lie beside it in the station's folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from device_models.files import write_atomically
from hwloop.cost import vectors_per_image
from hwloop.evaluation import evaluate_instances
from hwloop.hardware import FastHardware, IdealHardware, calibrate_inputs, network_from_map, on_hardware
from hwloop.line.inputs import Inputs
from hwloop.line.run_folder import RunError, RunFolder
from hwloop.line.sizes import sizes
from hwloop.mapping import ConductanceMap, build_map, read_map, write_map
from hwloop.networks import build_network, keep_digital, load_weights, save_weights, with_ranks
from hwloop.observe import adc_counts, layer_errors
from hwloop.progress import Progress
from hwloop.pruning import Circuit, prune_to_target
from hwloop.quantization import quantize_and_tune
from hwloop.recipe import Recipe
from hwloop.training import EpochRecord, accuracy, fit
from hwloop.training.fit import one_cycle
from hwloop.training.strategies import Task, run_strategy
from hwloop.verify import verify

CALIBRATION_IMAGES = 2000
LOGIT_IMAGES = 1000
OBSERVED_IMAGES = 200

Result = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A run under way: its folder, what its recipe names, and who watches."""

    folder: RunFolder
    inputs: Inputs
    progress: Progress

    @property
    def recipe(self) -> Recipe:
        """Every choice of the run."""
        return self.inputs.recipe

    def path(self, station: str, file: str) -> Path:
        """Path of a file of a station."""
        return self.folder.station(station) / file

    def network(self, station: str) -> nn.Module:
        """The network as a finished station left it."""
        net = self.inputs.network() if station == "train" else self.structure()
        load_weights(net, self.path(station, "weights.safetensors"))
        return net

    @property
    def pruned_spec(self) -> str:
        """What builds the pruned network: the recipe's factory, with the ranks that layers lost."""
        return with_ranks(self.recipe.network.factory, self.folder.result("prune").get("ranks", {}))

    def structure(self) -> nn.Module:
        """The pruned network with initial weights, as stations after pruning fill it."""
        net = build_network(self.pruned_spec, self.recipe.seed)
        keep_digital(net, self.recipe.network.digital)
        return net.eval()

    def masks(self) -> dict[str, torch.Tensor]:
        """Which weights are kept, as pruning left it."""
        return _load_tensors(self.path("prune", "masks.safetensors"))

    def accuracy(self, net: nn.Module) -> float:
        """Accuracy on the test images."""
        return accuracy(net, *self.inputs.test, goal=self.inputs.dataset.goal)

    def hardware(self, instance: int | str) -> FastHardware:
        """Simulated arrays of one device instance, not programmed."""
        return FastHardware(self.inputs.wires, self.recipe.hardware, seed=self.recipe.seed, instance=instance)

    def publish(self, conductance_map: ConductanceMap, station: str) -> None:
        """Keep a map for later stations, and show it as the run's ``maps.h5``."""
        write_map(conductance_map, self.path(station, "maps.h5"))
        write_map(conductance_map, self.folder.path / "maps.h5")


def train(run: Run) -> Result:
    """Train the dense network; weights that the recipe names, or an ONNX file has, are taken as they are."""
    net, choice = run.inputs.network(), run.recipe.train
    records: list[EpochRecord] = []
    if not run.recipe.network.trained:
        records = fit(
            net,
            run.inputs.dataset,
            epochs=choice.epochs,
            batch=choice.batch,
            learning_rate=choice.learning_rate,
            weight_decay=choice.weight_decay,
            shift=run.recipe.data.shift,
            seed=run.recipe.seed,
            station="dense training",
            schedule=one_cycle,
            checkpoint=run.path("train", "checkpoint.safetensors"),
            progress=run.progress.update,
        )
    save_weights(net, run.path("train", "weights.safetensors"))
    x, y = run.inputs.test
    return {
        "accuracy": run.accuracy(net),
        "score": run.inputs.dataset.goal.words(y),
        "test_images": len(x),
        "records": _rows(records),
    }


def prune(run: Run) -> Result:
    """Drive the weights into the recipe's constraint sets, prune, and retrain what is left."""
    pruned, reached = prune_to_target(
        run.network("train"),
        run.inputs.dataset,
        run.recipe.prune,
        hardware=run.recipe.hardware,
        levels=run.inputs.card.levels,
        batch=run.recipe.train.batch,
        seed=run.recipe.seed,
        shift=run.recipe.data.shift,
        dense_epochs=run.recipe.train.epochs,
        circuit=Circuit(run.inputs.wires, run.inputs.card.g_max.value),
        checkpoint=run.folder.station("prune"),
        progress=run.progress.update,
    )
    save_weights(pruned.net, run.path("prune", "weights.safetensors"))
    _save_tensors(pruned.masks, run.path("prune", "masks.safetensors"), {"form": "gemm"})
    return {
        "accuracy": run.accuracy(pruned.net),
        "ranks": pruned.ranks,
        "keep": {name: keep.model_dump(exclude_none=True) for name, keep in pruned.keep.items()},
        "reached": reached,
        "sizes": sizes(run.inputs.network(), pruned.masks, run.recipe.hardware),
        "records": _rows(pruned.records),
    }


def quantize(run: Run) -> Result:
    """Put the kept weights on the codes that the cells can hold, and train on."""
    return put_on_codes(run, run.folder.station("quantize"))


def put_on_codes(run: Run, folder: Path) -> Result:
    """Do the work of :func:`quantize`, and leave weights and codes in any folder."""
    net, masks = run.network("prune"), run.masks()
    quantized = quantize_and_tune(
        net,
        run.inputs.dataset,
        masks,
        run.inputs.largest_codes(masks),
        run.recipe.quantize,
        batch=run.recipe.train.batch,
        seed=run.recipe.seed,
        shift=run.recipe.data.shift,
        keep_signs=run.recipe.hardware.encoding == "polarised",
        checkpoint=folder / "checkpoint.safetensors",
        progress=run.progress.update,
    )
    save_weights(net, folder / "weights.safetensors")
    _save_tensors(
        {name: layer.codes for name, layer in quantized.layers.items()}, folder / "codes.safetensors"
    )
    return {
        "accuracy": run.accuracy(net),
        "scales": {name: layer.scale for name, layer in quantized.layers.items()},
        "records": _rows(quantized.records),
    }


def map_from_codes(run: Run, folder: Path, found: Result) -> tuple[nn.Module, ConductanceMap]:
    """Return the network whose codes are in a folder, and its map on the recipe's arrays.

    Args:
        run: the run.
        folder: where :func:`put_on_codes` left weights and codes.
        found: what it found.
    """
    net, codes = run.structure(), _load_tensors(folder / "codes.safetensors")
    load_weights(net, folder / "weights.safetensors")
    return net, build_map(
        run.pruned_spec,
        net,
        {name: (codes[name], scale) for name, scale in found["scales"].items()},
        run.inputs.card,
        run.inputs.array_shape,
        calibrate_inputs(net, run.inputs.dataset.train_x[:CALIBRATION_IMAGES]),
        attributes(run.recipe),
        **run.recipe.hardware.held,
        of_layer={name: run.recipe.hardware.of(name).held for name in run.recipe.hardware.layer},
    )


def map_(run: Run) -> Result:
    """Cut the weight codes into tiles of cells, and check the map against the network that it came from."""
    found = run.folder.result("quantize")
    net, conductance_map = map_from_codes(run, run.folder.station("quantize"), found)
    run.publish(conductance_map, "map")
    # What is checked is the map as later stations read it.
    ideal = on_hardware(network_from_map(net, read_map(run.path("map", "maps.h5"))), _ideal(conductance_map))
    x, _ = run.inputs.test
    with torch.no_grad():
        difference = float((ideal(x[:LOGIT_IMAGES]) - net(x[:LOGIT_IMAGES])).abs().max())
    return {
        "accuracy": run.accuracy(ideal),
        "max_logit_difference": difference,
        "images": min(LOGIT_IMAGES, len(x)),
        "tiles": conductance_map.tiles,
        "vectors": vectors_per_image(net, run.inputs.test[0][:1]),
    }


def program(run: Run) -> Result:
    """Program the first device instance of those that are evaluated, for the check against SPICE."""
    conductance_map = read_map(run.path("map", "maps.h5"))
    run.publish(run.hardware(0).program(conductance_map), "program")
    return {"instance": 0, "arrays": conductance_map.arrays(run.recipe.hardware)}


def evaluate_before(run: Run) -> Result:
    """Evaluate the map on device instances, before the hardware was in the training loop."""
    conductance_map = read_map(run.path("map", "maps.h5"))
    return {"accuracy": _evaluate(run, "evaluate_before", conductance_map, first=0)}


def verify_(run: Run) -> Result:
    """Check sampled tiles against ngspice."""
    report = verify(
        read_map(run.path("program", "maps.h5")),
        run.inputs.wires,
        run.recipe.hardware,
        tiles=run.recipe.spice.tiles,
        inputs=run.recipe.spice.inputs,
        seed=run.recipe.seed,
        keep_failed=run.folder.station("verify"),
        checkpoint=run.folder.station("verify"),
        progress=run.progress.update,
    )
    return report.as_dict()


def retrain_(run: Run) -> Result:
    """Retrain as the recipe's strategy says."""
    choice = run.recipe.retrain
    outcome = run_strategy(
        Task(
            net=run.structure(),
            conductance_map=read_map(run.path("map", "maps.h5")),
            make_hardware=run.hardware,
            wires=run.inputs.wires,
            readout=run.recipe.hardware,
            dataset=run.inputs.dataset,
            choice=choice,
            seed=run.recipe.seed,
            shift=run.recipe.data.shift,
            teacher=run.network("train") if choice.distill else None,
            checkpoint=run.folder.station("retrain"),
            progress=run.progress.update,
        )
    )
    run.publish(outcome.conductance_map, "retrain")
    return {"strategy": choice.strategy, "records": _rows(outcome.records)}


def evaluate_after(run: Run) -> Result:
    """Evaluate the retrained map on device instances that nothing has seen, and look inside one of them."""
    conductance_map = read_map(run.path("retrain", "maps.h5"))
    first = run.recipe.evaluate.instances
    accuracies = _evaluate(run, "evaluate_after", conductance_map, first=first)
    hardware = run.hardware(first)
    run.publish(hardware.program(conductance_map), "evaluate_after")
    net, images = run.structure(), run.inputs.test[0][:OBSERVED_IMAGES]
    counts = adc_counts(net, conductance_map, hardware, images)
    return {
        "accuracy": accuracies,
        "layer_errors": layer_errors(net, conductance_map, hardware, images),
        "adc_counts": {name: codes.sum(0).tolist() for name, codes in counts.items()},
    }


def attributes(recipe: Recipe) -> dict[str, Any]:
    """Return what a map remembers of the run that it came from."""
    return {"recipe": recipe.model_dump(mode="json")}


def _evaluate(run: Run, station: str, conductance_map: ConductanceMap, first: int) -> list[float]:
    """Evaluate as many instances as the recipe says, from number ``first`` on; each one done is kept."""
    path, net, count = (
        run.path(station, "instances.json"),
        run.structure(),
        run.recipe.evaluate.instances,
    )
    done: list[float] = _kept(path)
    for number in range(len(done), count):
        done += evaluate_instances(
            net,
            conductance_map,
            run.hardware,
            *run.inputs.device_test,
            instances=[first + number],
            batch=run.recipe.evaluate.batch,
            goal=run.inputs.dataset.goal,
        )
        write_atomically(path, json.dumps(done).encode())
        run.progress.update(len(done) / count, f"device {len(done)} of {count}: {100 * done[-1]:.2f} %")
    return done


def _kept(path: Path) -> list[float]:
    """Accuracies of the instances that an interrupted evaluation has done."""
    try:
        return [float(value) for value in json.loads(path.read_text("utf-8"))]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise RunError(f"{path}: damaged ({error}); delete it to evaluate again") from error


def _ideal(conductance_map: ConductanceMap) -> IdealHardware:
    hardware = IdealHardware()
    hardware.program(conductance_map)
    return hardware


def _rows(records: list[EpochRecord]) -> list[dict[str, Any]]:
    return [asdict(record) for record in records]


def _save_tensors(
    tensors: Mapping[str, torch.Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    contiguous = {name: value.cpu().contiguous() for name, value in tensors.items()}
    write_atomically(path, safetensors.torch.save(contiguous, metadata))


def _load_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load_file(str(path))
    except FileNotFoundError:
        raise RunError(f"{path}: no such file; the station before has not run") from None
    except (OSError, safetensors.SafetensorError) as error:
        raise RunError(f"{path}: damaged ({error}); delete the station's folder to run it again") from error

"""Software-only strategies: a quick model of the arrays in the forward pass, of new devices in every step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from hwloop.hardware import network_from_map
from hwloop.mapping import ConductanceMap
from hwloop.training.codes import Codes
from hwloop.training.fit import fit
from hwloop.training.new_devices import NewDevices
from hwloop.training.strategies.task import Outcome, Task
from hwloop.training.surrogate import Arrays, SurrogateLayer, gains, make_arrays, surrogate_network

IMAGES = 100
"""Training images that show how much the sums of each layer shrink on arrays."""


def train_on_variation(task: Task) -> Outcome:
    """Variation-aware: new devices in every step, DAC and ADC in the path, wires as they were solved last."""
    return _train(task, "variation", exact=False)


def train_on_ir_drop(task: Task) -> Outcome:
    """IR-drop-aware: as variation-aware, with all wires solved in every step, and their gradient."""
    return _train(task, "ir-drop", exact=True)


def _train(task: Task, name: str, *, exact: bool) -> Outcome:
    arrays = make_arrays(task.conductance_map, task.wires, task.readout, task.seed, exact=exact)
    dataset, choice = task.images, task.choice
    start = _grown(
        task.conductance_map,
        gains(_on(task, task.conductance_map, arrays), dataset.train_x[:IMAGES], task.seed),
    )
    net = _on(task, start, arrays)
    arrayed = {m.name: m for m in net.modules() if isinstance(m, SurrogateLayer)}
    codes = Codes(start, arrayed)

    def solve_wires(_step: int) -> None:
        for layer in arrayed.values():
            layer.refresh()

    loop = NewDevices(net, math.ceil(len(dataset.train_x) / choice.batch), choice.refresh, solve_wires)
    records = fit(
        loop,
        dataset,
        epochs=choice.epochs,
        batch=choice.batch,
        learning_rate=choice.learning_rate,
        seed=task.seed,
        station=f"retraining {name}",
        shift=task.shift,
        loss_of=task.loss,
        after_step=codes.constrain,
        checkpoint=task.file(name),
        progress=task.progress,
    )
    return Outcome(codes.reached(net), records=records)


def _on(task: Task, conductance_map: ConductanceMap, arrays: Arrays) -> nn.Module:
    return surrogate_network(network_from_map(task.net, conductance_map), conductance_map, arrays)


def _grown(conductance_map: ConductanceMap, by: Mapping[str, float]) -> ConductanceMap:
    """Return the map whose codes count for more; the largest weights, at the highest level, cannot grow."""
    layers = {
        name: replace(layer, weight_per_siemens=layer.weight_per_siemens * by[name])
        for name, layer in conductance_map.layers.items()
    }
    return replace(conductance_map, layers=layers)

"""Software-only strategies: a quick model of the arrays in the forward pass, of new devices in every step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from hwloop.hardware import network_from_map
from hwloop.mapping import ConductanceMap
from hwloop.training.codes import Codes
from hwloop.training.fit import fit
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
    loop = _Loop(net, math.ceil(len(dataset.train_x) / choice.batch), choice.refresh)
    codes = Codes(start, loop.layers)
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
    return Outcome(codes.reached(loop.running), records=records)


def _on(task: Task, conductance_map: ConductanceMap, arrays: Arrays) -> nn.Module:
    return surrogate_network(network_from_map(task.net, conductance_map), conductance_map, arrays)


def _grown(conductance_map: ConductanceMap, by: Mapping[str, float]) -> ConductanceMap:
    """Return the map whose codes count for more; the largest weights, at the highest level, cannot grow."""
    layers = {
        name: replace(layer, weight_per_siemens=layer.weight_per_siemens * by[name])
        for name, layer in conductance_map.layers.items()
    }
    return replace(conductance_map, layers=layers)


class _Loop(nn.Module):
    """A network on modelled arrays whose wires are solved anew every few steps."""

    step: torch.Tensor

    def __init__(self, running: nn.Module, steps_per_epoch: int, refresh: int) -> None:
        super().__init__()
        self.running, self._steps_per_epoch, self._refresh = running, steps_per_epoch, refresh
        self.layers = {m.name: m for m in running.modules() if isinstance(m, SurrogateLayer)}
        # A buffer, so that a training that resumes solves where one that ran through did.
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the network, on new devices while it is trained."""
        if self.training:
            if int(self.step) % self._steps_per_epoch % self._refresh == 0:
                for layer in self.layers.values():
                    layer.refresh()
            self.step += 1
        result: torch.Tensor = self.running(x)
        return result

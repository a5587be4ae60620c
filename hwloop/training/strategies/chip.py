"""Strategies that stay on one chip and know it by its readout alone: layer by layer, and the last layers in
place.

Layers that are programmed are read once on the training images and their outputs recorded; what comes before
the last of them is frozen, so that the records stay true. What follows is fine-tuned on them (Yao et al.,
Nature 2020; Wan et al., Nature 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import nn

from hwloop.datasets import Dataset
from hwloop.hardware import HardwareLayer, network_from_map
from hwloop.mapping import ConductanceMap
from hwloop.networks import CrossbarLayer, bias_of
from hwloop.training.codes import Codes
from hwloop.training.fit import EpochRecord, Loss, fit
from hwloop.training.strategies.task import Outcome, Task
from hwloop.training.surrogate import SurrogateLayer, make_arrays, surrogate_network

BATCH = 250  # images that are read at a time for the records


def train_on_chip(task: Task) -> Outcome:
    """Chip-in-the-loop: program layers, record what they give, fine-tune what follows, and go on.

    Nothing that is programmed is rewritten. Layers that are not programmed yet run on the quick model of
    arrays.
    """
    chip = _Chip(task)
    names, size = list(task.conductance_map.layers), task.choice.layers_at_once
    records: list[EpochRecord] = []
    groups = [names[first : first + size] for first in range(0, len(names), size)]
    for number, group in enumerate(groups):
        chip.program(group)
        records += chip.fine_tune(f"chip {number}", _share(task, number, len(groups)))
    return Outcome(chip.reached(), records=records, hardware=chip.hardware)


def train_last_layers(task: Task) -> Outcome:
    """Hybrid: all layers are programmed, and the last ones retrained in place."""
    chip = _Chip(task)
    names, last = list(task.conductance_map.layers), task.choice.last_layers
    if last >= len(names):
        raise ValueError(
            f"retrain.last_layers is {last}, but the network has only {len(names)} crossbar layers"
        )
    chip.program(names[:-last])
    chip.read_in_place(names[-last:])
    records = chip.fine_tune("hybrid", _share(task, 0, 1))
    return Outcome(chip.reached(), records=records, hardware=chip.hardware)


class _Recorded(nn.Module):
    """A programmed layer: what it gave for the training images, by their numbers; read anew for others.

    Records are kept without the layer's bias, which is digital and may go on learning.
    """

    def __init__(self, reads: HardwareLayer) -> None:
        super().__init__()
        self.name, self.layer, self.reads = reads.name, reads.layer, reads
        self.outputs = torch.empty(0)
        self.numbers: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the record of the present images, or read them."""
        if self.numbers is None:
            with torch.no_grad():
                return self.reads(x)
        return self.outputs[self.numbers] + bias_of(self.layer)


class _Chip(nn.Module):
    """The network while its layers go onto one chip, one after the other."""

    step: torch.Tensor

    def __init__(self, task: Task) -> None:
        super().__init__()
        self._task, self._data = task, task.images
        self.hardware = task.make_hardware(task.instance)
        start = network_from_map(task.net, task.conductance_map)
        arrays = make_arrays(task.conductance_map, task.wires, task.readout, task.seed)
        self.running = surrogate_network(start, task.conductance_map, arrays)
        self._holders: dict[str, SurrogateLayer | _Recorded | HardwareLayer] = {
            m.name: m for m in self.running.modules() if isinstance(m, SurrogateLayer)
        }
        self._codes = Codes(task.conductance_map, self._holders)
        self._frozen: list[nn.Module] = []
        self._in_place: list[str] = []
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def program(self, names: Sequence[str]) -> None:
        """Program layers with the codes they have reached, freeze what lies before, and record outputs."""
        self.hardware.program(self.reached(), layers=names)
        for name in names:
            self._replace(name, _Recorded(HardwareLayer(name, self._layer(name), self.hardware)))
        self._freeze(self._before(names[-1]))
        self._record(names)

    def read_in_place(self, names: Sequence[str]) -> None:
        """Program layers that go on learning: they are read in each step and rewritten every few."""
        for name in names:
            self._replace(name, HardwareLayer(name, self._layer(name), self.hardware))
        self._in_place = list(names)
        self._rewrite()

    def fine_tune(self, station: str, progress: Callable[[float, str], None] | None) -> list[EpochRecord]:
        """Train what is not frozen on the records."""
        choice, data = self._task.choice, self._data
        for holder in self._holders.values():
            holder.layer.weight.requires_grad_(not isinstance(holder, _Recorded))
        if not any(p.requires_grad for p in self.parameters()):
            return []
        numbers = torch.arange(len(data.train_x), dtype=torch.float32)[:, None, None, None]
        nothing = data.validation_x[:0]
        by_number = replace(data, train_x=numbers, validation_x=nothing, validation_y=data.validation_y[:0])
        records = fit(
            self,
            by_number,
            epochs=choice.epochs,
            batch=choice.batch,
            learning_rate=choice.learning_rate,
            seed=self._task.seed,
            station=station,
            loss_of=_by_number(self._task.loss, data),
            after_step=self._codes.constrain,
            checkpoint=self._task.file(station),
            progress=progress,
        )
        for holder in self._holders.values():
            if isinstance(holder, _Recorded):
                holder.numbers = None
        if self._in_place:
            self._rewrite()
        return records

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the network on the images of these numbers."""
        numbers = x.flatten().long()
        for holder in self._holders.values():
            if isinstance(holder, _Recorded):
                holder.numbers = numbers
        if self.training:
            if int(self.step) % self._task.choice.refresh == 0:
                for holder in self._holders.values():
                    if isinstance(holder, SurrogateLayer):
                        holder.refresh()
                if self._in_place:
                    self._rewrite()
            self.step += 1
        result: torch.Tensor = self.running(self._data.train_x[numbers])
        return result

    def train(self, mode: bool = True) -> _Chip:
        """Frozen modules stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def reached(self) -> ConductanceMap:
        """Return the map as weights and digital parameters are now."""
        return self._codes.reached(self.running)

    def _rewrite(self) -> None:
        self.hardware.program(self.reached(), layers=self._in_place)

    def _layer(self, name: str) -> CrossbarLayer:
        return self._holders[name].layer

    def _replace(self, name: str, module: _Recorded | HardwareLayer) -> None:
        parent, _, child = name.rpartition(".")
        setattr(self.running.get_submodule(parent), child, module)
        self._holders[name] = module

    def _before(self, name: str) -> list[nn.Module]:
        """Modules that run before a layer, as a pass of one image shows them."""
        order: list[nn.Module] = []
        held = list(self._holders.values())
        inside = {id(part) for holder in held for part in holder.modules()} - {id(holder) for holder in held}
        watched = [
            module
            for module in self.running.modules()
            if id(module) not in inside and (module in held or not list(module.children()))
        ]
        handles = [m.register_forward_hook(lambda module, *_: order.append(module)) for m in watched]
        try:
            self.running.eval()
            with torch.no_grad():
                self.running(self._data.train_x[:1])
        finally:
            for handle in handles:
                handle.remove()
        return order[: order.index(self._holders[name])]

    def _freeze(self, modules: Sequence[nn.Module]) -> None:
        self._frozen = list(modules)
        for module in modules:
            module.eval()
            for parameter in module.parameters():
                parameter.requires_grad_(False)

    def _record(self, names: Sequence[str]) -> None:
        """Run the training images through, and keep what these layers give."""
        new = [self._holders[name] for name in names]
        old = [h for h in self._holders.values() if isinstance(h, _Recorded) and h not in new]
        found: dict[str, list[torch.Tensor]] = {name: [] for name in names}
        handles = [
            self._holders[name].register_forward_hook(lambda _, __, value, kept=kept: kept.append(value))
            for name, kept in found.items()
        ]
        try:
            self.running.eval()
            with torch.no_grad():
                for numbers in torch.arange(len(self._data.train_x)).split(BATCH):
                    for holder in old:
                        holder.numbers = numbers
                    self.running(self._data.train_x[numbers])
        finally:
            for handle in handles:
                handle.remove()
        for holder in old:
            holder.numbers = None
        for recorded in new:
            if isinstance(recorded, _Recorded):
                recorded.outputs = torch.cat(found[recorded.name]) - bias_of(recorded.layer).detach()


def _by_number(loss: Loss, data: Dataset) -> Loss:
    """Return a loss of images that are given by their numbers."""
    return lambda numbers, logits, labels: loss(data.train_x[numbers.flatten().long()], logits, labels)


def _share(task: Task, number: int, of: int) -> Callable[[float, str], None] | None:
    """Return what tells the progress of one part of several."""
    tell = task.progress
    if tell is None:
        return None
    return lambda fraction, text: tell((number + fraction) / of, f"part {number + 1} of {of}, {text}")

"""Calibration alone: no weight changes, digital logic learns what the arrays do to its sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from hwloop.hardware import Hardware, HardwareLayer, network_from_map, on_hardware
from hwloop.hardware.columns import Column
from hwloop.hardware.ideal import weight_matrix
from hwloop.hardware.wrapped import WrappedHardware
from hwloop.mapping import ConductanceMap
from hwloop.networks import batch_norms
from hwloop.training.strategies.task import Outcome, Task

IMAGES, BATCH = 500, 100
"""Training images that each instance is calibrated with at most, and those of one pass."""


def calibrate_columns(task: Task) -> Outcome:
    """Fit scale and offset of every column so that sums are nearest to those of exact arithmetic.

    Least squares over images and instances, layer by layer in the order of the network, on the inputs that
    reach a layer when all before it are calibrated already.
    """
    fits = {name: _Fit(weight_matrix(layer, task.conductance_map.card).to(torch.float32))
            for name, layer in task.conductance_map.layers.items()}  # fmt: skip
    for hardware in _instances(task):
        for part in _images(task):
            with torch.no_grad():
                net = network_from_map(task.net, task.conductance_map)
                on_hardware(net, _Fitted(hardware, fits))(part)
    columns = {name: fit.column() for name, fit in fits.items()}
    return Outcome(task.conductance_map, columns)


def calibrate_batch_norm(task: Task) -> Outcome:
    """Take the statistics of every batch norm anew from what the arrays give, on average over instances.

    Raises:
        ValueError: if the network has no batch norm.
    """
    return Outcome(_with_statistics(task, _instances(task)))


def calibrate_batch_norm_on_chip(task: Task) -> Outcome:
    """Program the chip, and take the statistics of every batch norm from what it gives.

    Source: adaptive batch normalisation statistics update (AdaBS) of Joshi et al., Nature Communications
    11:2473 (2020). No label is used.

    Raises:
        ValueError: if the network has no batch norm.
    """
    chip = task.make_hardware(task.instance)
    chip.program(task.conductance_map)
    return Outcome(_with_statistics(task, [chip]), hardware=chip)


def _with_statistics(task: Task, instances: Sequence[Hardware]) -> ConductanceMap:
    """Return the map with statistics of batch norms that programmed hardware gives."""
    net = network_from_map(task.net, task.conductance_map)
    if not batch_norms(net):
        raise ValueError("the network has no batch norm to calibrate")
    running = on_hardware(net, instances[0])
    norms = batch_norms(running)
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # mean over all passes
    for hardware in instances:
        for module in running.modules():
            if isinstance(module, HardwareLayer):
                module.hardware = hardware
        running.eval()
        for norm in norms:
            norm.train()
        with torch.no_grad():
            for part in _images(task):
                running(part)
    digital = dict(task.conductance_map.digital)
    state = running.state_dict()
    for name in digital:
        if name in state and name.rpartition(".")[2].startswith(("running_", "num_batches")):
            digital[name] = state[name].clone()
    return replace(task.conductance_map, digital=digital)


def _instances(task: Task) -> list[Hardware]:
    """Hardware to calibrate with, programmed; named instances, which evaluation never meets."""
    found = []
    for number in range(task.choice.calibration_instances):
        hardware = task.make_hardware(f"calibration {task.seed} {number}")
        hardware.program(task.conductance_map)
        found.append(hardware)
    return found


def _images(task: Task) -> tuple[torch.Tensor, ...]:
    return task.images.train_x[: min(IMAGES, task.choice.images or IMAGES)].split(BATCH)


class _Fit:
    """Sums of a least-squares fit of exact sums to those read, for every column."""

    def __init__(self, matrix: torch.Tensor) -> None:
        self._matrix = matrix
        self._sums = torch.zeros(5, matrix.shape[1], dtype=torch.float64)

    def add(self, inputs: torch.Tensor, found: torch.Tensor) -> None:
        """Take what was read for inputs."""
        exact = (inputs @ self._matrix).double()
        read = found.double()
        parts = (torch.ones_like(read), read, exact, read * read, read * exact)
        self._sums += torch.stack([part.sum(0) for part in parts])

    def column(self) -> Column:
        """Scale and offset of the fit; a column that always reads the same is left as it is."""
        count, read, exact, squares, products = self._sums
        spread = squares - read * read / count.clamp(min=1)
        slope = (products - read * exact / count.clamp(min=1)) / spread.clamp(min=1e-30)
        scale = torch.where(spread > 1e-12 * squares.clamp(min=1e-30), slope, torch.ones_like(slope))
        offset = (exact - scale * read) / count.clamp(min=1)
        return Column(scale.float(), offset.float())


class _Fitted(WrappedHardware):
    """Hardware that fits its columns as it is read, and gives what they are calibrated to by then."""

    def __init__(self, hardware: Hardware, fits: dict[str, _Fit]) -> None:
        super().__init__(hardware)
        self._fits = fits

    def read(self, layer: str, inputs: torch.Tensor) -> torch.Tensor:
        """See :class:`~hwloop.hardware.Hardware`."""
        found = super().read(layer, inputs)
        fit = self._fits[layer]
        fit.add(inputs, found)
        column = fit.column()
        return found * column.scale + column.offset

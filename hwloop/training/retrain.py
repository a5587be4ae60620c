"""Retraining with the hardware in the forward pass, so that a network learns to live with its arrays.

Every few steps the levels that the weights have reached are programmed into hardware of a new device
instance, and each step reads it: the loss is that of real arrays, with programming error, wires, noise and
converters. The gradient is that of the network itself (straight-through estimator). No device instance is met
twice, so what is learned serves any instance. Instances have names here and numbers in evaluation, so none of
them is evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from hwloop import recipe
from hwloop.datasets import Dataset
from hwloop.hardware import Hardware, HardwareLayer, network_from_map, on_hardware
from hwloop.mapping import ConductanceMap, LayerMap, encode, largest_code
from hwloop.networks import to_matrix
from hwloop.pruning.constraints import LevelSet
from hwloop.training.fit import EpochRecord, fit

STATION = "retraining"
STEPS_PER_INSTANCE = 4


def retrain(
    net: nn.Module,
    conductance_map: ConductanceMap,
    make_hardware: Callable[[int | str], Hardware],
    dataset: Dataset,
    choice: recipe.Retrain,
    *,
    seed: int,
    steps_per_instance: int = STEPS_PER_INSTANCE,
    checkpoint: Path | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> tuple[ConductanceMap, list[EpochRecord]]:
    """Retrain the weights of a map on the hardware that it will be programmed into.

    Masks, scales, encoding, tiles and ADCs stay as they are; weight codes change, and so do biases and other
    digital parameters. A kept weight stays off zero, at code 1 or above, but may change its sign, except in
    polarised fragments. Offset arrays choose anew which bit lines are flipped.

    Args:
        net: the network's structure; weights, biases and the like are the map's. Not changed.
        conductance_map: where to start from.
        make_hardware: gives hardware for an instance; it is programmed here.
        dataset: its training part is learned, its validation part is watched on the latest instance.
        choice: how long and how fast to learn.
        seed: seed of the run.
        steps_per_instance: steps after which new devices are programmed; an epoch begins with new ones.
        checkpoint: file to save to after each epoch and to resume from.
        progress: called with the fraction done and a few words.

    Returns:
        The map with its new codes and digital parameters, not programmed; and one record for each epoch.

    Raises:
        ValueError: if the map is of another network, or ``steps_per_instance`` is below 1.
        TrainingError: if the loss is no longer finite.
        CheckpointError: if the checkpoint is damaged or of another training.
    """
    if steps_per_instance < 1:
        raise ValueError(f"steps_per_instance must be at least 1, not {steps_per_instance}")
    steps_per_epoch = math.ceil(len(dataset.train_x) / choice.batch)
    loop = _Loop(net, conductance_map, make_hardware, steps_per_epoch, steps_per_instance)
    records = fit(
        loop,
        dataset,
        epochs=choice.epochs,
        batch=choice.batch,
        learning_rate=choice.learning_rate,
        seed=seed,
        station=STATION,
        after_step=loop.constrain,
        checkpoint=checkpoint,
        progress=progress,
    )
    return loop.reached(), records


class _Loop(nn.Module):
    """A network on hardware that is replaced as training goes on."""

    step: torch.Tensor

    def __init__(
        self,
        net: nn.Module,
        conductance_map: ConductanceMap,
        make_hardware: Callable[[int | str], Hardware],
        steps_per_epoch: int,
        steps_per_instance: int,
    ) -> None:
        super().__init__()
        self._map, self._make_hardware = conductance_map, make_hardware
        self._steps_per_epoch, self._steps_per_instance = steps_per_epoch, steps_per_instance
        self.running = on_hardware(network_from_map(net, conductance_map), make_hardware(STATION))
        self._layers = {m.name: m for m in self.running.modules() if isinstance(m, HardwareLayer)}
        self._kept, self._signs = {}, {}
        for name, module in self._layers.items():
            layer = conductance_map.layers[name]
            self._kept[name] = module.layer.weight.detach() != 0
            if layer.encoding == "polarised":
                self._signs[name] = module.layer.weight.detach().sign()
            low = -layer.input_scale if layer.input_signed else 0.0
            module.register_forward_pre_hook(_clamp_to(low, layer.input_scale))
        # A buffer, so that a training that resumes goes on with the next instance.
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the network on the present instance, or on a new one if its turn has come."""
        if self.training:
            if int(self.step) % self._steps_per_epoch % self._steps_per_instance == 0:
                self._program(f"{STATION} {int(self.step)}")
            self.step += 1
        result: torch.Tensor = self.running(x)
        return result

    def _program(self, instance: str) -> None:
        hardware = self._make_hardware(instance)
        hardware.program(self.reached())
        for module in self._layers.values():
            module.hardware = hardware

    def constrain(self) -> None:
        """Set pruned weights back to zero, and keep the others within the levels and off zero."""
        for name, module in self._layers.items():
            weight, kept = module.layer.weight.data, self._kept[name]
            scale = self._scale(self._map.layers[name])
            largest = scale * self._largest(self._map.layers[name])
            weight.clamp_(-largest, largest)
            weight.mul_(kept)
            if (signs := self._signs.get(name)) is None:
                weight.masked_fill_(kept & (weight == 0), scale)
            else:
                weight.copy_(torch.where(weight * signs > 0, weight, scale * signs))

    def reached(self) -> ConductanceMap:
        """Return the map as the weights are now."""
        layers = {}
        for name, module in self._layers.items():
            layer = self._map.layers[name]
            level_set = LevelSet(self._scale(layer), self._largest(layer))
            matrix = level_set.codes(to_matrix(module.layer).detach())
            layers[name] = _with_codes(layer, matrix, self._map.card.levels)
        state = self.running.state_dict()
        for name in self._layers:
            prefix = f"{name}.layer."
            for key in [key for key in state if key.startswith(prefix)]:
                state[f"{name}.{key.removeprefix(prefix)}"] = state.pop(key)
        digital = {name: state[name].detach().cpu().clone() for name in self._map.digital}
        return replace(self._map, layers=layers, digital=digital)

    def _scale(self, layer: LayerMap) -> float:
        """Weight of code 1."""
        return layer.weight_per_siemens * self._map.g_step

    def _largest(self, layer: LayerMap) -> int:
        """Largest weight code."""
        return largest_code(layer.encoding, self._map.card.levels, layer.slices)


def _with_codes(layer: LayerMap, matrix: torch.Tensor, levels: int) -> LayerMap:
    """Return a layer that holds other weight codes ``[matrix_rows, matrix_cols]`` in the same places."""
    rows, cols = layer.row_index.long().clamp(min=0), layer.col_index.long().clamp(min=0)
    blocks = matrix[rows[:, :, None], cols[:, None, :]] * layer.mask
    cells = encode(
        blocks, layer.row_index, layer.col_index, layer.encoding, levels, layer.slices, layer.fragment
    )
    return replace(layer, actual=None, **cells._asdict())


def _clamp_to(low: float, high: float) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], torch.Tensor]:
    """Return a hook that ends gradients where inputs saturate the DAC, whose reading it does not change."""
    return lambda _, inputs: inputs[0].clamp(low, high)

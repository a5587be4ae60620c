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
from pathlib import Path

import torch
from torch import nn

from hwloop import recipe
from hwloop.datasets import Dataset
from hwloop.hardware import Hardware, HardwareLayer, network_from_map, on_hardware
from hwloop.mapping import ConductanceMap
from hwloop.training.codes import Codes
from hwloop.training.fit import EpochRecord, Loss, fit
from hwloop.training.new_devices import NewDevices

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
    loss_of: Loss | None = None,
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
        loss_of: gives the loss of a batch; None = that of the dataset's goal.
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
    running = on_hardware(network_from_map(net, conductance_map), make_hardware(STATION))
    held = {m.name: m for m in running.modules() if isinstance(m, HardwareLayer)}
    for name, module in held.items():
        layer = conductance_map.layers[name]
        low = -layer.input_scale if layer.input_signed else 0.0
        module.register_forward_pre_hook(_clamp_to(low, layer.input_scale))
    codes = Codes(conductance_map, held)

    def program(step: int) -> None:
        hardware = make_hardware(f"{STATION} {step}")
        hardware.program(codes.reached(running))
        for module in held.values():
            module.hardware = hardware

    steps_per_epoch = math.ceil(len(dataset.train_x) / choice.batch)
    loop = NewDevices(running, steps_per_epoch, steps_per_instance, program)
    records = fit(
        loop,
        dataset,
        epochs=choice.epochs,
        batch=choice.batch,
        learning_rate=choice.learning_rate,
        seed=seed,
        station=STATION,
        loss_of=loss_of,
        after_step=codes.constrain,
        checkpoint=checkpoint,
        progress=progress,
    )
    return codes.reached(running), records


def _clamp_to(low: float, high: float) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], torch.Tensor]:
    """Return a hook that ends gradients where inputs saturate the DAC, whose reading it does not change."""
    return lambda _, inputs: inputs[0].clamp(low, high)

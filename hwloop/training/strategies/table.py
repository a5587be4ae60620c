"""The strategies by the names that recipes call them."""

from __future__ import annotations

from collections.abc import Callable

from device_models.parts import Parts
from hwloop.training.retrain import retrain
from hwloop.training.strategies.calibrate import (
    calibrate_batch_norm,
    calibrate_batch_norm_on_chip,
    calibrate_columns,
)
from hwloop.training.strategies.chip import train_last_layers, train_on_chip
from hwloop.training.strategies.model import train_on_ir_drop, train_on_variation
from hwloop.training.strategies.remap import remap
from hwloop.training.strategies.task import Outcome, Task


def train_on_hardware(task: Task) -> Outcome:
    """Hardware of new instances in the forward pass, programmed every few steps; see :mod:`..retrain`."""
    reached, records = retrain(
        task.net,
        task.conductance_map,
        task.make_hardware,
        task.images,
        task.choice,
        seed=task.seed,
        loss_of=task.loss,
        checkpoint=task.file("checkpoint"),
        progress=task.progress,
    )
    return Outcome(reached, records=records)


STRATEGIES: Parts[Callable[[Task], Outcome]] = Parts(
    "hwloop.strategies",
    "retraining strategy",
    __name__,
    lambda part: "" if callable(part) else f"is {type(part).__name__}, not a function of a Task",
)
"""Every strategy by its name in recipes."""

_OWN: dict[str, Callable[[Task], Outcome]] = {
    "hardware": train_on_hardware,
    "scale": calibrate_columns,
    "batch-norm": calibrate_batch_norm,
    "variation": train_on_variation,
    "ir-drop": train_on_ir_drop,
    "chip-batch-norm": calibrate_batch_norm_on_chip,
    "chip": train_on_chip,
    "hybrid": train_last_layers,
    "remap": remap,
}
for _name, _strategy in _OWN.items():
    STRATEGIES.add(_name)(_strategy)

ON_ONE_CHIP: tuple[str, ...] = ("chip-batch-norm", "chip", "hybrid", "remap")
"""Strategies whose result is for the chip of the task alone."""


def run_strategy(task: Task) -> Outcome:
    """Do what the task's choice says.

    Raises:
        ValueError: if the strategy does not fit the network or the map.
        TrainingError: if the loss is no longer finite.
        CheckpointError: if a checkpoint is damaged or of another training.
    """
    return STRATEGIES[task.choice.strategy](task)

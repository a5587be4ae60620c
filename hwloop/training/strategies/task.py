"""What every strategy is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from device_models import torch_stream
from device_models.crossbar import Wires
from hwloop import recipe
from hwloop.datasets import Dataset, Goal
from hwloop.hardware import Hardware
from hwloop.hardware.columns import Columns
from hwloop.mapping import ConductanceMap
from hwloop.training.fit import EpochRecord, Loss, plain_loss


@dataclass(frozen=True)
class Task:
    """A network that lies on arrays and loses accuracy there.

    Attributes:
        net: the network's structure; weights, biases and the like are the map's.
        conductance_map: where to start from.
        make_hardware: gives hardware for an instance, not programmed. Strategies know it by its readout
            alone.
        wires: what software believes of the wires; strategies that model arrays use it.
        readout: how arrays are read.
        dataset: its training part is learned, its validation part is watched; the test part is not used.
        choice: the recipe's section.
        seed: seed of the training.
        instance: the chip, for strategies that stay on one; evaluation of the others never meets it.
        shift: random shift of training images in pixels.
        teacher: digital network whose outputs distillation follows; None = labels alone.
        checkpoint: folder to save to after each epoch and to resume from.
        progress: called with the fraction done and a few words.
    """

    net: nn.Module
    conductance_map: ConductanceMap
    make_hardware: Callable[[int | str], Hardware]
    wires: Wires
    readout: recipe.Readout
    dataset: Dataset
    choice: recipe.Retrain
    seed: int
    instance: int | str = "chip"
    shift: int = 0
    teacher: nn.Module | None = None
    checkpoint: Path | None = None
    progress: Callable[[float, str], None] | None = None

    @property
    def images(self) -> Dataset:
        """The training images of the choice: all, or so many that the seed draws."""
        count = self.choice.images
        if count is None or count >= len(self.dataset.train_x):
            return self.dataset
        order = torch.randperm(len(self.dataset.train_x), generator=torch_stream(self.seed, "images"))[:count]
        return replace(self.dataset, train_x=self.dataset.train_x[order], train_y=self.dataset.train_y[order])

    @property
    def loss(self) -> Loss:
        """The loss of the choice."""
        if self.choice.distill == 0:
            return plain_loss(self.dataset.goal)
        if self.teacher is None:
            raise ValueError("retrain.distill needs a teacher, and there is none")
        return distilled(self.teacher, self.choice.distill, self.choice.temperature, self.dataset.goal)

    def file(self, name: str) -> Path | None:
        """Path of a checkpoint, if there are to be any."""
        return None if self.checkpoint is None else self.checkpoint / f"{name}.safetensors"


@dataclass(frozen=True)
class Outcome:
    """What a strategy made.

    Attributes:
        conductance_map: weight codes and digital parameters.
        columns: what digital logic multiplies with and adds to the sum of every column; None = nothing.
        records: one for each epoch.
        hardware: the chip that the strategy stayed on, programmed; None if the result is for any chip.
    """

    conductance_map: ConductanceMap
    columns: Columns | None = None
    records: list[EpochRecord] = field(default_factory=list)
    hardware: Hardware | None = None


def distilled(teacher: nn.Module, share: float, temperature: float, goal: Goal | None = None) -> Loss:
    """Return a loss of which a share follows the outputs of a teacher (Hinton et al., 2015, eq. 2 to 4).

    Args:
        teacher: digital network; evaluated, not trained.
        share: of the Kullback-Leibler divergence from its softened outputs; the rest is the labels'.
        temperature: that logits are divided by; the divergence is multiplied with its square.
        goal: whose loss the rest is; None = what follows from the labels. Where targets are no classes,
            outputs follow the teacher's by their squared difference.
    """
    teacher.eval()
    labels_of = plain_loss(goal or Goal())

    def loss(images: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            taught = teacher(images)
        if labels.is_floating_point():
            follow = F.mse_loss(logits, taught)
        else:
            found, wanted = (
                F.log_softmax(outputs.reshape(-1, outputs.shape[-1]) / temperature, dim=1)
                for outputs in (logits, taught)
            )
            follow = F.kl_div(found, wanted, reduction="batchmean", log_target=True) * temperature**2
        return share * follow + (1 - share) * labels_of(images, logits, labels)

    return loss

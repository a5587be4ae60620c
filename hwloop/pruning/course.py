"""The trainings of one pruning, one after the other, with what they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from hwloop.datasets import Dataset
from hwloop.networks import crossbar_layers, from_matrix, to_matrix
from hwloop.pruning.constraints import ConstraintSet
from hwloop.pruning.masks import full_masks, without_unused_paths
from hwloop.training.fit import EpochRecord, Schedule, constant, fit

Matrices = dict[str, torch.Tensor]
Sets = Mapping[str, ConstraintSet]


class Course:
    """A network that is trained in several stretches.

    Args:
        net: the network; changed in place.
        dataset: its training part is learned, its validation part is watched.
        epochs: of all stretches together, for the fraction that ``progress`` is told.
        batch: images of one step.
        seed: seed of the run.
        shift: random shift of training images in pixels.
        checkpoint: folder for checkpoints, one for each stretch.
        progress: called with the fraction done and a few words.

    Attributes:
        records: one for each epoch so far.
    """

    def __init__(
        self,
        net: nn.Module,
        dataset: Dataset,
        *,
        epochs: int,
        batch: int,
        seed: int,
        shift: int = 0,
        checkpoint: Path | None = None,
        progress: Callable[[float, str], None] | None = None,
    ) -> None:
        self.net, self.dataset, self.seed = net, dataset, seed
        self.records: list[EpochRecord] = []
        self._epochs, self._batch, self._shift = epochs, batch, shift
        self._checkpoint, self._progress = checkpoint, progress

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.dataset.train_x.shape[1:])

    @property
    def matrices(self) -> Matrices:
        """The weights of each crossbar layer in GEMM form, as they are now."""
        return {name: to_matrix(layer).detach() for name, layer in crossbar_layers(self.net).items()}

    def replace(self, matrices: Mapping[str, torch.Tensor]) -> None:
        """Give layers other weights, in GEMM form."""
        layers = crossbar_layers(self.net)
        with torch.no_grad():
            for name, matrix in matrices.items():
                layers[name].weight.copy_(from_matrix(layers[name], matrix))

    def train(
        self,
        station: str,
        epochs: int,
        learning_rate: float,
        *,
        schedule: Schedule = constant,
        regulariser: Callable[[], torch.Tensor] | None = None,
        after_step: Callable[[], None] | None = None,
    ) -> None:
        """Train for some epochs, as :func:`hwloop.training.fit.fit` does."""
        done = len(self.records)

        def told(fraction: float, text: str) -> None:
            if self._progress is not None:
                self._progress((done + fraction * epochs) / max(1, self._epochs), f"{station}, {text}")

        file = f"{station.replace(' ', '-')}.safetensors"
        self.records += fit(
            self.net,
            self.dataset,
            epochs=epochs,
            batch=self._batch,
            learning_rate=learning_rate,
            seed=self.seed,
            shift=self._shift,
            station=station,
            schedule=schedule,
            regulariser=regulariser,
            after_step=after_step,
            checkpoint=None if self._checkpoint is None else self._checkpoint / file,
            progress=told,
        )


def project(
    net: nn.Module,
    matrices: Mapping[str, torch.Tensor],
    sets: Sets,
    image_shape: tuple[int, ...],
) -> Matrices:
    """Project each matrix onto its set, in network order, without rows that earlier layers no longer feed."""
    masks = full_masks(net)
    projected: Matrices = {}
    for name in (name for name in masks if name in sets):
        usable = without_unused_paths(net, masks, image_shape)[name]
        projected[name] = sets[name].project(matrices[name] * usable)
        masks[name] = masks[name] & (projected[name] != 0)
    return projected

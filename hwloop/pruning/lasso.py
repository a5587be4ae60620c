"""Group lasso: every group's norm costs something, until groups that are worth less are gone.

After each step the proximal map of ``strength * rms * sqrt(size) * ||W_g||`` shrinks the groups: ``W_g``
times ``max(0, 1 - learning_rate * strength * rms * sqrt(size) * weight / ||W_g||)``, with the root mean
square of the layer's weights at the start of the round, so that one strength serves layers of all scales.
Unlike the gradient of the norm (Group Scissor, DAC 2017, equation 6) the map reaches exactly zero, and
adaptive steps do not undo it.

* plain: every group has weight 1.
* clipped: groups above a part of their layer's mean norm have weight 0, so that important groups keep their
  size (weight penalty clipping, AAAI 2020).
* reweighted: a group's weight is one over its squared norm at the start of the round, in units of the
  layer's mean squared norm (block-based pruning).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch

from hwloop.networks import crossbar_layers, from_matrix, to_matrix
from hwloop.pruning.course import Course
from hwloop.pruning.groups import Groups, Partition
from hwloop.recipe import Prune

Kind = Literal["lasso", "clipped", "reweighted"]
_TINY = 1e-12


def group_lasso(
    course: Course, groups: Mapping[str, Sequence[Groups]], choice: Prune, kind: Kind, rounds: int
) -> None:
    """Train with group lasso; groups of a layer that overlap are shrunk one kind after the other.

    Args:
        course: the network and its training.
        groups: for each layer the kinds of groups that it is cut into; their budgets are not looked at.
        choice: strength, clip, learning rate, and epochs of a round.
        kind: what the penalty is.
        rounds: after each, grids and weights of groups are made anew.
    """
    for round_ in range(1, rounds + 1):
        matrices = course.matrices
        shrinking = {
            name: [_weighted(cut, matrices[name], choice, kind) for cut in cuts]
            for name, cuts in groups.items()
        }

        def shrink(shrinking: dict[str, list[_Shrink]] = shrinking) -> None:
            layers = crossbar_layers(course.net)
            with torch.no_grad():
                for name, kinds in shrinking.items():
                    matrix = to_matrix(layers[name])
                    for one in kinds:
                        matrix = one(matrix)
                    layers[name].weight.copy_(from_matrix(layers[name], matrix))

        course.train(
            f"{kind} round {round_}", choice.epochs_per_round, choice.learning_rate, after_step=shrink
        )


class _Shrink:
    """One application of the proximal map to the groups of a partition."""

    def __init__(self, partition: Partition, thresholds: torch.Tensor, clip: float | None) -> None:
        self.partition, self.thresholds, self.clip = partition, thresholds, clip

    def __call__(self, matrix: torch.Tensor) -> torch.Tensor:
        """Return the matrix with its groups shrunk."""
        norms = self.partition.energy(matrix).sqrt()
        factors = (1 - self.thresholds / norms.clamp(min=_TINY)).clamp(min=0)
        if self.clip is not None:
            factors = torch.where(norms < self.clip * _mean(norms), factors, 1.0)
        return matrix * factors[self.partition.groups]


def _weighted(cut: Groups, matrix: torch.Tensor, choice: Prune, kind: Kind) -> _Shrink:
    """Return the proximal map of one step for the groups of a matrix as they are now."""
    # Group Scissor counts the wires of blocks where they are; elsewhere what is left is packed anew.
    partition = cut.split(*matrix.shape) if kind == "lasso" else cut.partition(matrix)
    rms = _mean(matrix.square()).sqrt()
    thresholds = choice.learning_rate * choice.strength * rms * partition.sizes().to(matrix).sqrt()
    if kind == "reweighted":
        energy = partition.energy(matrix)
        thresholds = thresholds * _mean(energy) / energy.clamp(min=_TINY)
    return _Shrink(partition, thresholds, choice.clip if kind == "clipped" else None)


def _mean(values: torch.Tensor) -> torch.Tensor:
    """Return the mean of the values that are not zero, and zero if there are none."""
    return values.sum() / torch.count_nonzero(values).clamp(min=1)

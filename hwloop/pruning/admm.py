"""ADMM: drives the weights of a network into constraint sets while it learns.

Minimise the loss f(W) such that each layer's matrix W lies in its set S. With a copy Z in S, scaled dual
variables U and a penalty rho (papers of the ADMM family; updates as in Zhang et al., ECCV 2018):

    W-step:  minimise  f(W) + rho/2 ||W − Z + U||²   by training
    Z-step:  Z = projection of W + U onto S
    U-step:  U = U + W − Z
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from hwloop.networks import crossbar_layers, from_matrix
from hwloop.pruning.course import Course, Sets, project
from hwloop.recipe import Prune


def admm(course: Course, sets_of_round: Callable[[int], Sets], choice: Prune) -> None:
    """Run ADMM rounds; afterwards the weights lie near the sets of the last round.

    Args:
        course: the network and its training.
        sets_of_round: the sets of each round, counted from 1; round 0 stands for the start.
        choice: rounds, penalty and learning rate.
    """
    layers = crossbar_layers(course.net)
    sets = sets_of_round(0)
    weights = course.matrices
    dual = {name: torch.zeros_like(weights[name]) for name in sets}
    copy = project(course.net, weights, sets, course.image_shape)
    rho = choice.rho
    for round_ in range(1, choice.rounds + 1):
        anchors = {name: from_matrix(layers[name], copy[name] - dual[name]) for name in sets}

        def penalty(rho: float = rho, anchors: dict[str, torch.Tensor] = anchors) -> torch.Tensor:
            distances = [(layers[name].weight - anchor).square().sum() for name, anchor in anchors.items()]
            return 0.5 * rho * torch.stack(distances).sum()

        course.train(
            f"admm round {round_}", choice.epochs_per_round, choice.learning_rate, regulariser=penalty
        )
        weights, sets = course.matrices, sets_of_round(round_)
        moved = {name: weights[name] + dual[name] for name in sets}
        copy = project(course.net, moved, sets, course.image_shape)
        # U is the dual variable over rho, so it shrinks as rho grows (Boyd et al. 2011, section 3.4.1).
        dual = {name: (moved[name] - copy[name]) / choice.rho_growth for name in sets}
        rho *= choice.rho_growth

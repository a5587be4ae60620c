"""ADMM: drives the weights of a network into constraint sets while it learns, then prunes and retrains.

Minimise the loss f(W) such that each layer's matrix W lies in its set S. With a copy Z in S, scaled dual
variables U and a penalty rho (papers of the ADMM family; updates as in Zhang et al., ECCV 2018):

    W-step:  minimise f(W) + rho/2 ||W − Z + U||²   by training
    Z-step:  Z = projection of W + U onto S
    U-step:  U = U + W − Z

After the last round W is projected onto S itself (masked mapping), and what is left learns again while
pruned weights stay zero (masked retraining).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from hwloop.datasets import Dataset
from hwloop.networks import crossbar_layers, from_matrix, to_matrix
from hwloop.pruning.constraints import Blocks, ConstraintSet, Filters, Intersection, Rows
from hwloop.pruning.masks import Masks, apply_masks, full_masks, without_unused_paths
from hwloop.recipe import Keep, Prune
from hwloop.training.fit import EpochRecord, constant, fit, one_cycle

Matrices = dict[str, torch.Tensor]


class PruningError(ValueError):
    """A pruning that cannot be done; the message names the layer and the fix."""


@dataclass(frozen=True)
class Pruned:
    """What pruning gives: the network itself carries the weights.

    Attributes:
        masks: bool ``[rows, cols]`` in GEMM form for each crossbar layer, True = kept.
        records: one for each epoch of the ADMM rounds and of masked retraining.
    """

    masks: Masks
    records: list[EpochRecord]


def constraint_set(keep: Keep, array_shape: tuple[int, int]) -> ConstraintSet:
    """Return the set of matrices that ``keep`` describes, coarsest constraint first."""
    sets: list[ConstraintSet] = []
    if keep.filters is not None:
        sets.append(Filters(keep.filters))
    if keep.rows is not None:
        sets.append(Rows(keep.rows))
    if keep.blocks is not None:
        sets.append(Blocks(keep.blocks, *array_shape))
    return Intersection(tuple(sets))


def admm_prune(
    net: nn.Module,
    dataset: Dataset,
    prune: Prune,
    *,
    batch: int,
    seed: int,
    shift: int = 0,
    array_shape: tuple[int, int] = (64, 64),
    checkpoint: Path | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> Pruned:
    """Prune ``net`` in place: ADMM rounds, masked mapping, masked retraining.

    Args:
        net: a trained network.
        dataset: its training part is learned, its validation part is watched.
        prune: what each layer keeps, and how long and how fast to learn.
        batch: images of one step.
        seed: seed of the run.
        shift: random shift of training images in pixels.
        array_shape: word lines and bit lines of one array, the size of a block.
        checkpoint: folder for checkpoints; a second call with the same arguments goes on where the first was
            cut off, and gives the same weights.
        progress: called with the fraction done and a few words.

    Raises:
        PruningError: if ``prune.keep`` names a layer that ``net`` does not have, or nothing would be left.
    """
    layers = crossbar_layers(net)
    unknown = sorted(prune.keep.keys() - layers)
    if unknown:
        raise PruningError(f"prune.keep.{unknown[0]}: no such layer; the network has {', '.join(layers)}")
    if not prune.keep:
        return Pruned(full_masks(net), [])
    sets = {name: constraint_set(keep, array_shape) for name, keep in prune.keep.items()}
    image_shape = tuple(dataset.train_x.shape[1:])
    admm_epochs = prune.rounds * prune.epochs_per_round
    all_epochs = admm_epochs + prune.retrain_epochs
    records: list[EpochRecord] = []

    def part(station: str, epochs: int) -> Callable[[float, str], None] | None:
        if progress is None:
            return None
        done = len(records)
        return lambda fraction, text: progress((done + fraction * epochs) / all_epochs, f"{station}, {text}")

    dual = {name: torch.zeros_like(to_matrix(layers[name])) for name in sets}
    copy = _project(net, {name: to_matrix(layers[name]).detach() for name in sets}, sets, image_shape)
    rho = prune.rho
    for round_ in range(1, prune.rounds + 1):
        station = f"admm round {round_}"
        anchors = {name: from_matrix(layers[name], copy[name] - dual[name]) for name in sets}
        records += fit(
            net,
            dataset,
            epochs=prune.epochs_per_round,
            batch=batch,
            learning_rate=prune.learning_rate,
            seed=seed,
            shift=shift,
            station=station,
            schedule=constant,
            regulariser=lambda rho=rho, anchors=anchors: (  # type: ignore[misc]
                0.5
                * rho
                * sum((layers[name].weight - anchor).square().sum() for name, anchor in anchors.items())
            ),
            checkpoint=None if checkpoint is None else checkpoint / f"admm-{round_}.safetensors",
            progress=part(station, prune.epochs_per_round),
        )
        weights = {name: to_matrix(layers[name]).detach() for name in sets}
        copy = _project(net, {name: weights[name] + dual[name] for name in sets}, sets, image_shape)
        # U is the dual variable over rho, so it shrinks as rho grows (Boyd et al. 2011, section 3.4.1).
        dual = {name: (dual[name] + weights[name] - copy[name]) / prune.rho_growth for name in sets}
        rho *= prune.rho_growth

    weights = {name: to_matrix(layers[name]).detach() for name in sets}
    kept = _project(net, weights, sets, image_shape)
    masks = full_masks(net)
    masks |= {name: masks[name] & (matrix != 0) for name, matrix in kept.items()}
    masks = without_unused_paths(net, masks, image_shape)
    for name, mask in masks.items():
        if not mask.any():
            raise PruningError(
                f"{name}: no weight is left; let prune.keep keep more of it or of its neighbours"
            )
    apply_masks(net, masks)
    station = "masked retraining"
    records += fit(
        net,
        dataset,
        epochs=prune.retrain_epochs,
        batch=batch,
        learning_rate=prune.retrain_learning_rate,
        seed=seed,
        shift=shift,
        station=station,
        schedule=one_cycle,
        after_step=lambda: apply_masks(net, masks),
        checkpoint=None if checkpoint is None else checkpoint / "retrain.safetensors",
        progress=part(station, prune.retrain_epochs),
    )
    return Pruned(masks, records)


def _project(
    net: nn.Module,
    matrices: Mapping[str, torch.Tensor],
    sets: Mapping[str, ConstraintSet],
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

"""Pruning a network by any method: into its sets, masks, clean-up, and masked retraining."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from device_models.random import stream_key, torch_stream
from hwloop.cost import scissor_block
from hwloop.datasets import Dataset
from hwloop.networks import batch_norms, crossbar_layers, from_matrix, to_matrix
from hwloop.pruning.admm import admm
from hwloop.pruning.circuit import Circuit, IrDrop
from hwloop.pruning.clear import clear_dead
from hwloop.pruning.constraints import Intersection
from hwloop.pruning.course import Course, Sets, project
from hwloop.pruning.gates import gated
from hwloop.pruning.groups import Connections, Groups
from hwloop.pruning.lasso import group_lasso
from hwloop.pruning.masks import Masks, apply_masks, full_masks, keep_signs, own_masks, without_unused_paths
from hwloop.pruning.methods import METHODS, Method, Shape, constraint_set, counts, shapes
from hwloop.pruning.purify import GroupKind, purify
from hwloop.pruning.ranks import Factored
from hwloop.pruning.reorder import reorder
from hwloop.recipe import Keep, Prune
from hwloop.training.fit import EpochRecord, one_cycle

HARD_STEPS = 50
"""Training steps between two projections of iterative hard thresholding."""


class PruningError(ValueError):
    """A pruning that cannot be done; the message names the layer and the fix."""


@dataclass(frozen=True)
class Pruned:
    """What pruning gives.

    Attributes:
        net: the pruned network; layers that lost rank are two layers of it.
        ranks: rank of each layer that became two.
        masks: bool ``[rows, cols]`` in GEMM form for each crossbar layer, True = kept.
        keep: what each layer was asked to keep, in counts.
        records: one for each epoch.
    """

    net: nn.Module
    ranks: dict[str, int]
    masks: Masks
    keep: dict[str, Keep]
    records: list[EpochRecord]


def prune(
    net: nn.Module,
    dataset: Dataset,
    choice: Prune,
    *,
    batch: int,
    seed: int,
    shift: int = 0,
    array_shape: tuple[int, int] = (64, 64),
    dense_epochs: int = 0,
    circuit: Circuit | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> Pruned:
    """Prune a trained network.

    Every method takes as many epochs: those of its rounds and those of masked retraining. A method that needs
    none for its rounds retrains longer; a network from scratch is given those of dense training too.

    Args:
        net: a trained network; not changed.
        dataset: its training part is learned, its validation part is watched.
        choice: method, what each layer keeps, how long and how fast to learn; not its target.
        batch: images of one step.
        seed: seed of the run.
        shift: random shift of training images in pixels.
        array_shape: word lines and bit lines of one array.
        dense_epochs: that ``net`` was trained for.
        circuit: wires and cells of the arrays; needed where ``choice.ir_drop`` is above 0.
        checkpoint: folder for checkpoints; a second call with the same arguments goes on where the first was
            cut off, and gives the same weights.
        progress: called with the fraction done and a few words.

    Raises:
        PruningError: if ``choice.keep`` names a layer that ``net`` does not have, or nothing would be left.
    """
    method, net = METHODS[choice.method], copy.deepcopy(net)
    keep = checked_keep(net, choice, array_shape)
    clipping = choice.method == "group-scissor" and choice.rank_error is not None
    if not (keep or clipping):
        return Pruned(net, {}, own_masks(net), {}, [])
    rounds = choice.rounds * choice.epochs_per_round
    if method.optimiser == "scratch":
        rounds += dense_epochs
    course = Course(
        net,
        dataset,
        epochs=rounds + choice.retrain_epochs,
        batch=batch,
        seed=seed,
        shift=shift,
        checkpoint=checkpoint,
        progress=progress,
    )
    every = shapes(net, array_shape)
    if method.reorders:
        course.net, _ = reorder(net, full_masks(net), course.image_shape)
        net = course.net
    ranks = _scissor(course, every, keep, choice) if choice.method == "group-scissor" else {}
    sets = {name: constraint_set(kept, every[name], method.ternary) for name, kept in keep.items()}
    sets = {name: one for name, one in sets.items() if one.sets}
    # A network that begins anew has no zeros of its own; others keep theirs.
    own = full_masks(net) if method.optimiser == "scratch" else own_masks(net)
    _drive(course, sets, keep, every, method, choice)
    kept = project(net, course.matrices, sets, course.image_shape)
    masks = own
    lasso = {name: course.matrices[name] for name in masks} if method.optimiser == "lasso" else {}
    masks |= {name: masks[name] & (matrix != 0) for name, matrix in (lasso | kept).items()}
    masks = _without_dead_paths(course, masks)
    budget = method.purify if choice.purify is None else choice.purify
    if budget is not None:
        kinds: tuple[GroupKind, ...] = ("channels", "tile_rows", "tile_columns")
        # Where structures went whole the others are full; what matters least goes, as the budget allows.
        masks = purify(
            net, masks, kinds, dataset, max_loss=budget, min_emptiness=0.0, array_shape=array_shape
        )
    for name, mask in masks.items():
        if not mask.any():
            raise PruningError(
                f"{name}: no weight is left; let prune.keep keep more of it or of its neighbours"
            )
    penalty = None
    if choice.ir_drop and circuit is not None:
        penalty = IrDrop(net, masks, *circuit, array_shape, choice.ir_drop)
    _retrain(course, masks, method, choice, rounds, penalty)
    return Pruned(net, ranks, masks, keep, course.records)


def _without_dead_paths(course: Course, masks: Masks) -> Masks:
    """Drop what no input reaches and no output needs; filters without weights end at their batch norm too."""
    apply_masks(course.net, masks)
    if batch_norms(course.net):
        # Moved shifts are exact but at padded borders; masked retraining follows.
        return clear_dead(course.net, masks, course.image_shape, exact=False)
    return without_unused_paths(course.net, masks, course.image_shape)


def checked_keep(net: nn.Module, choice: Prune, array_shape: tuple[int, int]) -> dict[str, Keep]:
    """Return what each layer keeps, in counts.

    Raises:
        PruningError: if a layer is not there, or a rank is asked of a method that does not factor.
    """
    every, method = shapes(net, array_shape), METHODS[choice.method]
    keep = {}
    for name, asked in choice.keep.items():
        if name not in every:
            raise PruningError(f"prune.keep.{name}: no such layer; the network has {', '.join(every)}")
        keep[name] = counts(asked, method, every[name], choice)
        if keep[name].rank is not None and choice.method != "group-scissor":
            raise PruningError(
                f"prune.keep.{name}.rank: only group-scissor factors layers, not {choice.method}"
            )
        if (keep[name].rank or 0) > min(every[name].rows, every[name].cols):
            raise PruningError(
                f"prune.keep.{name}.rank: a matrix of {every[name].rows}x{every[name].cols} has no rank "
                f"{keep[name].rank}"
            )
    return keep


def _drive(
    course: Course,
    sets: dict[str, Intersection],
    keep: Mapping[str, Keep],
    every: Mapping[str, Shape],
    method: Method,
    choice: Prune,
) -> None:
    """Bring the weights near their sets, or into them."""
    match method.optimiser:
        case "admm":
            stages = _stages(sets, keep, every, choice) if method.progressive else lambda _: sets
            admm(course, stages, choice)
        case "clipped" | "reweighted":
            groups = {name: _groups(one) for name, one in sets.items()}
            group_lasso(course, groups, choice, method.optimiser, choice.rounds)
        case "gates":
            grains = {name: _groups(one)[0] for name, one in sets.items()}
            images = course.dataset.train_x
            course.replace(gated(course.net, grains, images, choice.projection, course.seed))
        case "hard":
            _hard(course, sets, choice)
        case "once":
            # The largest of sums of roots' squares are those of largest 1-norm; single weights stay the same.
            roots = {name: matrix.abs().sqrt() for name, matrix in course.matrices.items() if name in sets}
            kept = project(course.net, roots, sets, course.image_shape)
            course.replace({name: course.matrices[name] * (matrix != 0) for name, matrix in kept.items()})
        case "random" | "scratch":
            _by_chance(course, sets, anew=method.optimiser == "scratch")


def _stages(
    sets: Sets, keep: Mapping[str, Keep], every: Mapping[str, Shape], choice: Prune
) -> Callable[[int], Sets]:
    """Return sets that keep fewer weights round by round, by equal factors (ADMM-NN)."""

    def of_round(number: int) -> Sets:
        left = 1 - max(number, 1) / choice.rounds
        found = {}
        for name in sets:
            total = every[name].rows * every[name].cols
            weights = keep[name].weights or total
            stage = keep[name].model_copy(update={"weights": round(weights * (total / weights) ** left)})
            found[name] = constraint_set(stage, every[name])
        return found

    return of_round


def _groups(constraint: Intersection) -> list[Groups]:
    """Return the kinds of groups in a set."""
    return [one for one in constraint.sets if isinstance(one, Groups)]


def _hard(course: Course, sets: Sets, choice: Prune) -> None:
    """Iterative hard thresholding: project every few steps; what was dropped can grow again."""
    layers, steps = crossbar_layers(course.net), 0

    def after_step() -> None:
        nonlocal steps
        steps += 1
        if steps % HARD_STEPS == 0:
            with torch.no_grad():
                for name, one in sets.items():
                    matrix = one.project(to_matrix(layers[name]))
                    layers[name].weight.copy_(from_matrix(layers[name], matrix))

    for number in range(1, choice.rounds + 1):
        steps = 0
        course.train(
            f"hard thresholding round {number}",
            choice.epochs_per_round,
            choice.learning_rate,
            after_step=after_step,
        )


def _by_chance(course: Course, sets: Sets, anew: bool) -> None:
    """Choose what stays at random; with new weights, if the network is to start from scratch."""
    if anew:
        with torch.random.fork_rng():
            torch.manual_seed(stream_key(course.seed, "from scratch") % 2**63)
            for module in course.net.modules():
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()  # type: ignore[operator]
    weights = course.matrices
    drawn = {
        name: torch.rand(weights[name].shape, generator=torch_stream(course.seed, "random masks", name))
        for name in sets
    }
    kept = project(course.net, drawn, sets, course.image_shape)
    course.replace({name: weights[name] * (matrix != 0) for name, matrix in kept.items()})


def _scissor(
    course: Course, every: Mapping[str, Shape], keep: Mapping[str, Keep], choice: Prune
) -> dict[str, int]:
    """Clip ranks, then delete groups of connections in factors larger than an array; return the ranks."""
    given = {name: kept.rank for name, kept in keep.items() if kept.rank is not None}
    free = [name for name, shape in every.items() if name not in given and not shape.last]
    factored = Factored(course.net, given)
    clip_rounds = choice.rounds // 2
    if choice.rank_error is not None:
        clipped = Factored(course.net, {name: min(every[name].rows, every[name].cols) for name in free})
        clipped.clip(choice.rank_error, choice.rank_by)
    for number in range(1, clip_rounds + 1):
        course.train(f"rank clipping round {number}", choice.epochs_per_round, choice.learning_rate)
        if choice.rank_error is not None:
            clipped.clip(choice.rank_error, choice.rank_by)
    ranks = factored.ranks | (clipped.ranks if choice.rank_error is not None else {})
    _delete_connections(course, next(iter(every.values())).array, choice, choice.rounds - clip_rounds)
    return ranks


def _delete_connections(course: Course, array: tuple[int, int], choice: Prune, rounds: int) -> None:
    """Take wires from matrices larger than an array: as many as asked for by ADMM, others by group lasso."""
    matrices = course.matrices
    blocks = {name: scissor_block(matrix.shape, array) for name, matrix in matrices.items()}
    large = {name: block for name, block in blocks.items() if block != tuple(matrices[name].shape)}
    unknown = sorted(choice.connections.keys() - large.keys())
    if unknown:
        raise PruningError(
            f"prune.connections.{unknown[0]}: no matrix larger than an array; there are {', '.join(large)}"
        )
    if not choice.connections:
        kinds = {
            name: [Connections(0, *block, "rows"), Connections(0, *block, "cols")]
            for name, block in large.items()
        }
        group_lasso(course, kinds, choice, "lasso", rounds)
        return
    sets = {}
    for name, wires in choice.connections.items():
        (height, width), (rows, cols) = large[name], matrices[name].shape
        row_pieces, col_pieces = rows * (cols // width), cols * (rows // height)
        sets[name] = Intersection(
            (
                Connections(math.ceil(wires.cols * col_pieces), *large[name], "cols"),
                Connections(math.ceil(wires.rows * row_pieces), *large[name], "rows"),
            )
        )
    admm(course, lambda _: sets, choice.model_copy(update={"rounds": rounds}))
    course.replace(project(course.net, course.matrices, sets, course.image_shape))


def _retrain(
    course: Course, masks: Masks, method: Method, choice: Prune, rounds: int, penalty: IrDrop | None
) -> None:
    """Train what is left while pruned weights stay zero, and weights of polarised arrays keep their sign."""
    apply_masks(course.net, masks)
    held = [layer.weight for layer in crossbar_layers(course.net).values()] if method.polarised else []
    signs = [weight.detach().sign() for weight in held]

    def after_step() -> None:
        apply_masks(course.net, masks)
        keep_signs(held, signs)

    course.train(
        "masked retraining",
        choice.retrain_epochs + (rounds if not course.records else 0),
        choice.retrain_learning_rate,
        schedule=one_cycle,
        regulariser=penalty,
        after_step=after_step,
    )

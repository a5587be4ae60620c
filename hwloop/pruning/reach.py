"""Pruning to a target: the search for shares, then the pruning itself, once or until accuracy is met."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from hwloop.datasets import Dataset
from hwloop.pruning.prune import Pruned, PruningError, prune
from hwloop.pruning.targets import SMALLEST, Shares, Target, TargetError, at_level, most_per_column, search
from hwloop.recipe import HardwareConfig, Keep, Prune
from hwloop.training.fit import accuracy

BOUNDED = {"tinyadc": "per_column", "forms": "fragment"}
"""Methods that bound ADC bits, and the option that does."""
SIZE_OF_SEARCH = 8.0
"""Fewer weights by this factor, at which shares of layers are compared when the target is an accuracy."""
ATTEMPTS = 3
"""Prunings at most for a size: what they leave of paths that nothing uses is not known before."""
CLOSE = 0.85
"""A pruning that leaves this part of what a size allows is near enough."""


def check_target(choice: Prune, hardware: HardwareConfig, levels: int, dataset: Dataset) -> Target | None:
    """Return the target of a choice, if it has one.

    Raises:
        TargetError: if it is none, its method does not bound ADC bits, or there are no validation images.
    """
    if choice.target is None:
        return None
    target = Target.parse(choice.target)
    if target.what == "adc_bits":
        _bounded(choice, target, hardware, levels)
    elif not len(dataset.validation_x):
        raise TargetError("a target needs validation images: set data.validation")
    return target


def prune_to_target(
    net: nn.Module,
    dataset: Dataset,
    choice: Prune,
    *,
    hardware: HardwareConfig,
    levels: int,
    seed: int,
    checkpoint: Path | None = None,
    progress: Callable[[float, str], None] | None = None,
    **training: Any,
) -> tuple[Pruned, dict[str, float]]:
    """Prune a trained network to the target of ``choice``, or as it says if there is none.

    Args:
        net: a trained network; not changed.
        dataset: as for :func:`hwloop.pruning.prune`; its validation part also decides which layers give.
        choice: method, target, and how long and how fast to learn.
        hardware: arrays that tiles and ADC bits are counted on.
        levels: conducting levels of a cell.
        seed: seed of the run.
        checkpoint: folder for checkpoints.
        progress: called with the fraction done and a few words.
        training: ``batch``, ``shift``, ``dense_epochs`` and ``circuit`` of :func:`hwloop.pruning.prune`.

    Returns:
        The pruned network, and what was reached: ``tiles`` or ``weights`` fewer by that factor, or for an
        accuracy target the ``validation_loss_points``.

    Raises:
        TargetError: if the method cannot meet the target; the message says what it can.
        PruningError: as :func:`hwloop.pruning.prune`.
    """
    array, image = (hardware.rows, hardware.cols), tuple(dataset.train_x.shape[1:])

    def pruned(keep: Mapping[str, Keep], folder: str | None = None) -> Pruned:
        where = checkpoint if checkpoint is None or folder is None else checkpoint / folder
        asked = choice.model_copy(update={"keep": dict(keep)})
        return prune(
            net,
            dataset,
            asked,
            seed=seed,
            array_shape=array,
            checkpoint=where,
            progress=progress,
            **training,
        )

    target = check_target(choice, hardware, levels, dataset)
    if target is None:
        return pruned(choice.keep), {}
    if target.what == "adc_bits":
        bounded = _bounded(choice, target, hardware, levels)
        shares = Shares(net, bounded, array, "weights", image)
        return pruned(shares.keep(dict.fromkeys(shares.free, 0))), {}
    what = "tiles" if target.what == "tiles" else "weights"
    factor = SIZE_OF_SEARCH if target.what == "accuracy" else target.value
    most = Shares(net, choice, array, what, image).dense / factor
    told = None if progress is None else lambda _, text: progress(0.0, f"search, {text}")
    shares, offsets = search(net, dataset, choice, array, most, what, seed=seed, progress=told)
    if target.what != "accuracy":
        return _to_size(most, shares, offsets, pruned)
    return _to_accuracy(net, dataset, target, shares, offsets, pruned)


def _to_size(
    most: float,
    shares: Shares,
    offsets: Mapping[str, int],
    pruned: Callable[[Mapping[str, Keep], str], Pruned],
) -> tuple[Pruned, dict[str, float]]:
    """Prune, and again with what was missed taken into account; the largest that is small enough is taken.

    If none is, the smallest is taken: what was reached tells how small it is.
    """
    found: list[tuple[int, Pruned]] = []
    allowed, tried = most, set()
    for attempt in range(ATTEMPTS):
        steps = shares.meeting(offsets, allowed)
        if steps is None or tuple(steps.values()) in tried:
            break
        tried.add(tuple(steps.values()))
        try:
            one = pruned(shares.keep(steps), f"attempt-{attempt + 1}")
        except PruningError:
            if not found:
                raise
            break
        size = shares.size_of(one.masks)
        found.append((size, one))
        if CLOSE * most <= size <= most:
            break
        allowed *= most * (1 + CLOSE) / 2 / size
    if not found:
        raise TargetError(f"{most:.3g} {shares.what} cannot be met; allow more prune.trials")
    small_enough = [size for size, _ in found if size <= most]
    best = max(small_enough) if small_enough else min(size for size, _ in found)
    return next(one for size, one in found if size == best), {shares.what: shares.dense / best}


def _to_accuracy(
    net: nn.Module,
    dataset: Dataset,
    target: Target,
    shares: Shares,
    offsets: Mapping[str, int],
    pruned: Callable[[Mapping[str, Keep], str], Pruned],
) -> tuple[Pruned, dict[str, float]]:
    """Bisect over how far all shares go down; the strongest pruning within the loss is taken."""
    dense = accuracy(net, dataset.validation_x, dataset.validation_y, goal=dataset.goal)
    mildest, strongest = 0, SMALLEST
    best: tuple[Pruned, dict[str, float]] | None = None
    smallest_loss = float("inf")
    while strongest - mildest > 1:
        level = (mildest + strongest) // 2
        try:
            found = pruned(shares.keep(at_level(offsets, level)), f"level-{level}")
        except PruningError:
            strongest = level
            continue
        lost = 100 * (
            accuracy(found.net, dataset.validation_x, dataset.validation_y, goal=dataset.goal) - dense
        )
        smallest_loss = min(smallest_loss, -lost)
        if lost >= target.value:
            mildest, best = level, (found, {"validation_loss_points": -lost})
        else:
            strongest = level
    if best is None:
        raise TargetError(
            f"accuracy={target.value} was not reached: the mildest pruning tried lost {smallest_loss:.2f} "
            "points on validation images; give more retrain_epochs or a larger loss"
        )
    return best


def _bounded(choice: Prune, target: Target, hardware: HardwareConfig, levels: int) -> Prune:
    """Return the choice with as many weights on a bit line as ADCs of the target's bits hold."""
    option = BOUNDED.get(choice.method)
    if option is None:
        raise TargetError(f"{choice.method} does not bound ADC bits; methods that do: {', '.join(BOUNDED)}")
    most = most_per_column(
        int(target.value), levels, hardware.bits_per_conversion, hardware.rows, choice.on_off
    )
    if most < (2 if option == "fragment" else 1):
        raise TargetError(
            f"adc_bits={int(target.value)}: not enough for weights of {levels} levels; use fewer levels or "
            "more bits"
        )
    return choice.model_copy(update={option: most})

"""Purification: what pruning left nearly empty goes as well, as far as accuracy allows.

Pruning by ratios keeps groups that hold hardly anything. Network purification deletes the input channels of
layers of which most kernels are empty and the rest matters little, and then the paths that nothing uses any
more (Tiny-but-Accurate 2020, algorithm 1; its exact formulas are not public, so emptiness and importance are
what the text says of them). Here it also deletes lines of arrays: rows and columns of tiles.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from hwloop.datasets import Dataset, DatasetError
from hwloop.networks import crossbar_layers, to_matrix
from hwloop.pruning.clear import clear_dead
from hwloop.pruning.graph import trace
from hwloop.pruning.masks import Masks, apply_masks, full_masks
from hwloop.training.fit import accuracy

GroupKind = Literal["channels", "tile_rows", "tile_columns"]
"""What is deleted whole: input channels of a layer, or word lines or bit lines of a tile."""


@dataclass(frozen=True)
class Groups:
    """The groups of one layer's weights that can be deleted.

    Attributes:
        labels: which group each entry of the matrix is in, int64 ``[rows, cols]``, -1 for none.
        emptiness: of each group, from 0 to 1: the share of kernels (for channels: pairs of the channel and a
            filter that is left) or of cells (for lines: between lines that are left) without any weight.
        importance: of each group, the share of the squares of the layer's weights that it holds.
        weights: of each group, how many weights it holds.
    """

    labels: torch.Tensor
    emptiness: torch.Tensor
    importance: torch.Tensor
    weights: torch.Tensor


def groups_of(
    kind: GroupKind,
    matrix: torch.Tensor,
    exists: torch.Tensor,
    channel: torch.Tensor,
    array_shape: tuple[int, int],
) -> Groups:
    """Divide the weights of a layer into groups.

    Args:
        kind: what a group is. Tiles lie over the matrix without its empty lines, as mapping lays them; a tile
            column of ``array_shape[0]`` rows is a segment of a matrix column.
        matrix: the layer's weights, ``[rows, cols]``, 0 where pruned.
        exists: bool, where the layer has weights at all; of a grouped convolution, its blocks.
        channel: input channel of each row, int64 ``[rows]``.
        array_shape: word lines and bit lines of a tile.
    """
    mask = matrix != 0
    rows, cols = mask.any(1), mask.any(0)
    row, col = rows.cumsum(0) - 1, cols.cumsum(0) - 1
    # Cells whose presence makes a group full: one for each kernel, or one for each weight.
    cell = torch.arange(matrix.numel()).reshape(matrix.shape)
    if kind == "channels":
        labels = channel[:, None].expand_as(matrix)
        cell = channel[:, None] * matrix.shape[1] + torch.arange(matrix.shape[1])
        place = exists & cols
    elif kind == "tile_rows":
        across = -(-int(cols.sum()) // array_shape[1])
        labels, place = row[:, None] * across + col // array_shape[1], exists & rows[:, None] & cols
    else:
        labels = (row // array_shape[0])[:, None] * int(cols.sum()) + col
        place = exists & rows[:, None] & cols
    labels = torch.where(place, labels, -1)
    groups = int(labels.max()) + 1 if place.any() else 0

    def counted(where: torch.Tensor) -> torch.Tensor:
        """Return how many different cells of each group are chosen."""
        chosen, first = cell[where].unique(return_inverse=True)
        owner = torch.zeros(len(chosen), dtype=torch.int64).scatter_(0, first, labels[where])
        return owner.bincount(minlength=groups)

    energy = torch.zeros(groups, dtype=torch.float64)
    energy.index_add_(0, labels[place], matrix[place].double().square())
    return Groups(
        labels=labels,
        emptiness=1 - counted(mask) / counted(place).clamp(min=1),
        importance=energy / energy.sum().clamp(min=torch.finfo(torch.float64).tiny),
        weights=labels[mask].bincount(minlength=groups),
    )


def purify(
    net: nn.Module,
    masks: Mapping[str, torch.Tensor],
    groups: Sequence[GroupKind],
    dataset: Dataset,
    *,
    max_loss: float,
    min_emptiness: float = 0.5,
    array_shape: tuple[int, int] = (64, 64),
    rounds: int = 3,
    exact: bool = True,
    progress: Callable[[float, str], None] | None = None,
) -> Masks:
    """Delete groups of weights, least important first, and the paths that then are unused, within a budget.

    For each kind of group, in the order given, and in each round, a bisection finds how many can go. Nothing
    is trained. Paths that are dead already go first, whatever the budget.

    Args:
        net: the network, changed in place: deleted weights become zero, and the shifts that batch norms give
            to dead filters move on (:func:`hwloop.pruning.clear_dead`).
        masks: bool ``[rows, cols]`` for each crossbar layer, True = kept.
        groups: kinds of groups to delete.
        dataset: its validation part measures the loss; no other part is used.
        max_loss: accuracy that may be lost, as a fraction of the validation images.
        min_emptiness: groups that are fuller stay.
        array_shape: word lines and bit lines of a tile.
        rounds: how often groups of a kind are listed anew after others went.
        exact: as for :func:`hwloop.pruning.clear_dead`; what False changes is inside the budget.
        progress: called with the fraction done and a few words.

    Returns:
        The masks of what is left.

    Raises:
        DatasetError: if there are no validation images.
        NetworkError: if the network cannot be traced.
    """
    if not len(dataset.validation_x):
        raise DatasetError(f"{dataset.name}: purification chooses by validation images; hold some back")
    state = _State(net, masks, dataset)
    least = state.accuracy - max_loss
    state = state.without(masks, exact=True)
    for place, kind in enumerate(groups):
        for round_ in range(rounds):
            if progress is not None:
                words = f"{kind}, round {round_ + 1}, {state.left} weights left"
                progress((place + round_ / rounds) / len(groups), words)
            better = _round(state, kind, least, min_emptiness, array_shape, exact)
            if better is None:
                break
            state = better
    net.load_state_dict(state.net.state_dict())
    return state.masks


class _State:
    """A network under purification, with its masks and its accuracy on the validation images."""

    def __init__(self, net: nn.Module, masks: Mapping[str, torch.Tensor], dataset: Dataset) -> None:
        self.net, self.dataset = copy.deepcopy(net), dataset
        self.masks = {name: mask.cpu() for name, mask in masks.items()}
        apply_masks(self.net, self.masks)
        self.accuracy = accuracy(self.net, dataset.validation_x, dataset.validation_y)

    @property
    def image_shape(self) -> tuple[int, ...]:
        return tuple(self.dataset.validation_x.shape[1:])

    @property
    def left(self) -> int:
        """How many weights are left."""
        return sum(int(mask.sum()) for mask in self.masks.values())

    def without(self, masks: Mapping[str, torch.Tensor], exact: bool) -> _State:
        """Return the state with fewer weights, and without paths that are unused then."""
        net = copy.deepcopy(self.net)
        return _State(net, clear_dead(net, masks, self.image_shape, exact=exact), self.dataset)


def _round(
    state: _State,
    kind: GroupKind,
    least: float,
    min_emptiness: float,
    array_shape: tuple[int, int],
    exact: bool,
) -> _State | None:
    """Delete as many groups as can go, least important first; None if none can."""
    graph, exists = trace(state.net, state.image_shape), full_masks(state.net)
    found: dict[str, Groups] = {}
    for name, layer in crossbar_layers(state.net).items():
        feeds = torch.stack(list(graph.feeds[name].values()), 1)
        channel = feeds.unique(dim=0, return_inverse=True)[1]
        matrix = to_matrix(layer).detach().cpu() * state.masks[name]
        found[name] = groups_of(kind, matrix, exists[name].cpu(), channel, array_shape)
    chosen = {
        name: ((g.weights > 0) & (g.emptiness >= min_emptiness)).nonzero()[:, 0] for name, g in found.items()
    }
    owners = [(name, int(label)) for name, labels in chosen.items() for label in labels]
    importance = torch.cat([found[name].importance[labels] for name, labels in chosen.items()])
    order = importance.argsort(stable=True).tolist()

    def attempt(count: int) -> _State | None:
        gone = {name: torch.zeros(len(g.weights) + 1, dtype=torch.bool) for name, g in found.items()}
        for index in order[:count]:
            name, label = owners[index]
            gone[name][label] = True  # the last entry is that of label -1
        fewer = {name: mask & ~gone[name][found[name].labels] for name, mask in state.masks.items()}
        tried = state.without(fewer, exact)
        whole = all(mask.any() for mask in tried.masks.values())
        return tried if whole and tried.accuracy >= least else None

    return _bisect(attempt, len(order))


def _bisect(attempt: Callable[[int], _State | None], most: int) -> _State | None:
    """Return the result of the largest count, from 1 to ``most``, that bisection finds to succeed."""
    if most == 0:
        return None
    best = attempt(most)
    low, high = (most, most) if best is not None else (0, most - 1)
    while low < high:
        count = (low + high + 1) // 2
        tried = attempt(count)
        if tried is None:
            high = count - 1
        else:
            best, low = tried, count
    return best

"""Feature maps in the order of their importance, so that those that matter little share word-line groups.

A word line belongs to an input feature map of a layer, and arrays hold word lines in groups. Pruning that
drops parts of columns, one for each group, spends fewer arrays where unimportant maps lie together (crossbar-
aware pruning, Liang et al. 2018). The order of a layer's inputs is that of the outputs of the layers before,
so it costs nothing; where channels are added, all that meet share one order.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import nn

from hwloop.networks import crossbar_layers, to_matrix
from hwloop.pruning.compact import select
from hwloop.pruning.graph import Graph, trace
from hwloop.pruning.masks import Masks


def reorder(
    net: nn.Module,
    masks: Mapping[str, torch.Tensor],
    image_shape: tuple[int, ...],
    importance: Mapping[str, torch.Tensor] | None = None,
) -> tuple[nn.Module, Masks]:
    """Return the network and its masks with the channels of every layer in order, most important first.

    The importance of a feature map to a layer is the sum over the layer's outputs of the 2-norm of what it
    holds for them, as a share of all maps; where a map feeds several layers their shares are added. Images
    and outputs keep their order, and so do channels that :class:`hwloop.pruning.Graph` calls fixed.

    Args:
        net: the network; not changed. What comes back computes the same, to rounding.
        masks: bool ``[rows, cols]`` for each crossbar layer, True = kept.
        image_shape: channels, height and width of an image.
        importance: for each layer ``[rows, cols]`` what to take norms of; None = the kept weights.

    Raises:
        NetworkError: if the network cannot be traced.
    """
    ordered = copy.deepcopy(net)
    graph = trace(ordered, image_shape)
    layers = crossbar_layers(ordered)
    if importance is None:
        importance = {name: to_matrix(layer).detach().cpu() * masks[name] for name, layer in layers.items()}
    columns: dict[str, torch.Tensor] = {}
    for group in graph.ties:
        width = layers[group[0]].weight.shape[0]
        order = torch.arange(width)
        if group[0] not in graph.fixed:
            order = _scores(graph, group, width, importance).sort(descending=True, stable=True).indices
        columns |= dict.fromkeys(group, order)
    lines = select(ordered, graph, columns)
    return ordered, {name: masks[name][rows][:, cols] for name, (rows, cols) in lines.items()}


def _scores(
    graph: Graph, group: tuple[str, ...], width: int, importance: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """Return the importance of each channel of a group to all layers that it feeds."""
    total = torch.zeros(width, dtype=torch.float64)
    for name, feeds in graph.feeds.items():
        producers = [feeds[producer] for producer in group if producer in feeds]
        if not producers:
            continue
        channel = torch.stack(producers).amax(0)
        rows = (channel >= 0).nonzero()[:, 0]
        squares = torch.zeros(width, importance[name].shape[1], dtype=torch.float64)
        squares.index_add_(0, channel[rows], importance[name].double()[rows].square())
        norms = squares.sqrt().sum(1)
        total += norms / norms.sum().clamp(min=torch.finfo(torch.float64).tiny)
    return total

"""Compaction: a plain torch network without the channels that pruning left useless."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import nn

from hwloop.networks import CrossbarLayer, crossbar_layers, to_matrix
from hwloop.pruning.graph import IMAGE, Graph, Node, trace
from hwloop.pruning.liveness import Channels, by_row, constants, needed
from hwloop.pruning.masks import apply_masks

Lines = dict[str, tuple[torch.Tensor, torch.Tensor]]


def compact(net: nn.Module, masks: Mapping[str, torch.Tensor], image_shape: tuple[int, ...]) -> nn.Module:
    """Return a smaller network that computes what ``net`` does with ``masks``, to rounding, when evaluated.

    A channel goes if the output does not depend on it, or if it is constant and the constant can move into
    the biases of the layers that it feeds. Channels that are added go where all of them can. A layer keeps
    one channel at least, and the zeros of what stays remain.

    Args:
        net: the network; not changed.
        masks: bool ``[rows, cols]`` for each crossbar layer, True = kept.
        image_shape: channels, height and width of an image.

    Raises:
        NetworkError: if the network cannot be traced.
    """
    small = copy.deepcopy(net).eval()
    apply_masks(small, masks)
    graph = trace(small, image_shape)
    values = constants(small, graph)
    kept = _kept_columns(small, graph, needed(small, graph, values))
    for name, node in graph.layers.items():
        source = graph.nodes[node].inputs[0]
        _fold(crossbar_layers(small)[name], values[source], _dropped(graph.nodes[source], kept))
    select(small, graph, {name: keep.nonzero()[:, 0] for name, keep in kept.items()})
    return small.train(net.training)


def select(net: nn.Module, graph: Graph, columns: Mapping[str, torch.Tensor]) -> Lines:
    """Give the columns of each layer in another order, or only some of them, and all that they feed likewise.

    Args:
        net: the network, changed in place.
        graph: its graph, of before.
        columns: for each crossbar layer, the indices of the columns to give; layers that are tied must have
            the same ones, and fixed ones all of theirs in order.

    Returns:
        For each layer, the rows and the columns of its matrix that it has now.
    """
    layers = crossbar_layers(net)
    channels: dict[str, torch.Tensor] = {}
    lines: Lines = {}
    for name, node in graph.nodes.items():
        before = [channels[source] for source in node.inputs]
        channels[name] = _selected(graph, node, before, columns)
        if node.kind == "layer":
            layer = layers[node.module]
            index = torch.arange(graph.nodes[node.inputs[0]].channels).reshape(-1, 1)
            positions = layer.weight[0, 0].numel() if isinstance(layer, nn.Conv2d) else 1
            rows = (index[before[0]] * positions + torch.arange(positions)).flatten()
            lines[node.module] = (rows, channels[name])
            _select_layer(layer, before[0], channels[name])
        elif node.kind == "norm":
            _select_norm(net.get_submodule(node.module), before[0])
    return lines


def _kept_columns(net: nn.Module, graph: Graph, need: Channels) -> dict[str, torch.Tensor]:
    """Return which columns stay, bool for each layer: those of which any tied one is needed anywhere."""
    kept: dict[str, torch.Tensor] = {}
    for group in graph.ties:
        width = crossbar_layers(net)[group[0]].weight.shape[0]
        keep = torch.full((width,), group[0] in graph.fixed)
        for name, node in graph.nodes.items():
            for channel in (node.origin[layer] for layer in group if layer in node.origin):
                keep[channel[need[name] & (channel >= 0)]] = True
        if not keep.any():
            keep[0] = True
        kept |= dict.fromkeys(group, keep)
    return kept


def _dropped(node: Node, kept: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return which channels of a node go."""
    gone = torch.zeros(node.channels, dtype=torch.bool)
    for layer, channel in node.origin.items():
        if layer != IMAGE:
            gone |= (channel >= 0) & ~kept[layer][channel]
    return gone


def _fold(layer: CrossbarLayer, value: torch.Tensor, gone: torch.Tensor) -> None:
    """Add to the biases of a layer what constant channels give that go."""
    constant = by_row(layer, torch.where(gone & ~value.isnan(), value, 0.0))
    shift = (constant @ to_matrix(layer).detach().double().cpu()).to(layer.weight)
    if shift.any():
        layer.bias = nn.Parameter(shift if layer.bias is None else layer.bias.detach() + shift)


def _selected(
    graph: Graph, node: Node, before: list[torch.Tensor], columns: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """Return which of a node's channels of before it gives now, and in which order."""
    if node.kind == "image":
        return torch.arange(node.channels)
    if node.kind == "layer":
        return columns[node.module]
    if node.kind == "flatten":
        area = graph.nodes[node.inputs[0]].area
        return (before[0][:, None] * area + torch.arange(area)).flatten()
    if node.kind == "cat":
        widths = [graph.nodes[source].channels for source in node.inputs]
        return torch.cat([index + sum(widths[:place]) for place, index in enumerate(before)])
    return before[0]


def _select_layer(layer: CrossbarLayer, rows: torch.Tensor, columns: torch.Tensor) -> None:
    if getattr(layer, "groups", 1) > 1:
        return  # fixed: all channels, in order
    device = layer.weight.device
    rows, columns = rows.to(device), columns.to(device)
    layer.weight = nn.Parameter(layer.weight.detach()[columns][:, rows].contiguous())
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias.detach()[columns])
    if isinstance(layer, nn.Linear):
        layer.in_features, layer.out_features = len(rows), len(columns)
    else:
        layer.in_channels, layer.out_channels = len(rows), len(columns)


def _select_norm(norm: nn.Module, index: torch.Tensor) -> None:
    for name, value in [*norm.named_parameters(recurse=False), *norm.named_buffers(recurse=False)]:
        if value.ndim == 1:
            chosen = value.detach()[index.to(value.device)]
            setattr(norm, name, nn.Parameter(chosen) if isinstance(value, nn.Parameter) else chosen)
    norm.num_features = len(index)  # type: ignore[assignment]

"""Clearing of dead filters: what batch norm makes of them moves on, so that what they feed becomes unused.

A filter without weights is no constant zero behind a batch norm, but that norm's shift. The shift, bent by
what follows, moves into the biases (or the batch norms) of the layers that it feeds, and the norm then gives
zero for that channel (Tiny-but-Accurate 2020 removes such paths; the shift has to go somewhere first).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from hwloop.networks import crossbar_layers, to_matrix
from hwloop.pruning.graph import Graph, trace
from hwloop.pruning.liveness import Channels, by_row, constants, foldable
from hwloop.pruning.masks import Masks, apply_masks, without_unused_paths


def clear_dead(
    net: nn.Module,
    masks: Mapping[str, torch.Tensor],
    image_shape: tuple[int, ...],
    *,
    exact: bool = True,
) -> Masks:
    """Make dead filters give zero, and drop paths that then are unused, until no more can be done.

    Channels that are added are cleared where all of them are dead.

    Args:
        net: the network, changed in place: pruned weights become zero, and shifts move.
        masks: bool ``[rows, cols]`` for each crossbar layer, True = kept.
        image_shape: channels, height and width of an image.
        exact: leave a filter alone where that would change what the network computes when it is evaluated:
            where its shift reaches a padded convolution, whose border does not see it, or a column that has
            no batch norm and no bias that stays. False = clear it and accept the change.

    Returns:
        The masks without unused paths; like :func:`hwloop.pruning.without_unused_paths`, but through norms.

    Raises:
        NetworkError: if the network cannot be traced.
    """
    graph = trace(net, image_shape)
    apply_masks(net, masks)
    kept = dict(masks)
    while True:
        current = kept
        for group in graph.ties:
            if group[0] not in graph.fixed and all(name in graph.norms for name in group):
                dead = torch.stack([~current[name].any(0).cpu() for name in group]).all(0)
                if dead.any():
                    current = _clear(net, graph, current, group, dead, exact)
        fewer = without_unused_paths(net, current, image_shape)
        if all(torch.equal(fewer[name], mask) for name, mask in kept.items()):
            return kept
        _keep_biases(net, graph, kept, fewer)
        kept = fewer
        apply_masks(net, kept)


def _keep_biases(net: nn.Module, graph: Graph, before: Masks, after: Masks) -> None:
    """Let batch norms take over the biases of columns that lose their last weight, and their bias with it."""
    layers = crossbar_layers(net)
    for name, norm in graph.norms.items():
        bias, mean = layers[name].bias, getattr(net.get_submodule(norm), "running_mean", None)
        if bias is not None and mean is not None:
            lost = before[name].any(0) & ~after[name].any(0)
            mean -= bias.detach() * lost.to(bias.device)


def _clear(
    net: nn.Module, graph: Graph, masks: Masks, group: tuple[str, ...], dead: torch.Tensor, exact: bool
) -> Masks:
    """Clear the dead channels of a group of layers; return the masks without the rows that they feed."""
    norms = [net.get_submodule(graph.norms[name]) for name in group]
    parameters = [parameter for norm in norms for parameter in norm.parameters()]
    if len(parameters) < 2 * len(group):
        return masks  # a norm without parameters cannot be cleared channel by channel
    saved = [parameter.detach().clone() for parameter in parameters]
    before = constants(net, graph)
    _put(parameters, [torch.zeros_like(value) for value in saved], dead)
    after = constants(net, graph)
    fed = _fed(graph, group, dead)
    if exact:
        stay = torch.zeros_like(dead)
        for name, channel in fed.items():
            faults = _cannot_take(net, graph, masks, name, before, after, channel >= 0)
            stay[channel[faults & (channel >= 0)]] = True
        _put(parameters, saved, stay)
        after = constants(net, graph)
        fed = _fed(graph, group, dead & ~stay)
    masks = dict(masks)
    for name, channel in fed.items():
        _move(net, graph, name, before, after, channel >= 0)
        silent = (channel >= 0) & (after[graph.nodes[graph.layers[name]].inputs[0]] == 0)
        masks[name] = (
            masks[name] & ~by_row(crossbar_layers(net)[name], silent).to(masks[name].device)[:, None]
        )
    return masks


def _put(parameters: list[nn.Parameter], values: list[torch.Tensor], where: torch.Tensor) -> None:
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter[where.to(parameter.device)] = value[where.to(parameter.device)]


def _fed(graph: Graph, group: tuple[str, ...], which: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return for each layer that chosen channels feed which one each of its input channels is, else -1."""
    fed: dict[str, torch.Tensor] = {}
    for name, node in graph.layers.items():
        source = graph.nodes[graph.nodes[node].inputs[0]]
        producers = [source.origin[layer] for layer in group if layer in source.origin]
        if producers:
            channel = torch.stack(producers).amax(0)
            channel = torch.where((channel >= 0) & which[channel], channel, -1)
            if (channel >= 0).any():
                fed[name] = channel
    return fed


def _shift(
    net: nn.Module, graph: Graph, name: str, before: Channels, after: Channels, which: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return by how much chosen inputs of a layer fall, nan where not all alike; and its matrix."""
    layer, source = crossbar_layers(net)[name], graph.nodes[graph.layers[name]].inputs[0]
    fall = torch.where(which, before[source] - after[source], 0.0)
    return fall, to_matrix(layer).detach().double().cpu()


def _cannot_take(
    net: nn.Module,
    graph: Graph,
    masks: Masks,
    name: str,
    before: Channels,
    after: Channels,
    which: torch.Tensor,
) -> torch.Tensor:
    """Return which of the chosen input channels a layer cannot do without, bool ``[channels]``."""
    layer = crossbar_layers(net)[name]
    fall, matrix = _shift(net, graph, name, before, after, which)
    moves = (by_row(layer, fall.nan_to_num(nan=1.0))[:, None] * matrix) != 0
    norm = graph.norms.get(name)
    if norm is None or getattr(net.get_submodule(norm), "running_mean", None) is None:
        # The bias of a column goes with its last weight.
        rests = (masks[name].cpu() & ~by_row(layer, which)[:, None]).any(0)
        unable = torch.ones_like(rests) if layer.bias is None else ~rests
    else:
        unable = torch.zeros(matrix.shape[1], dtype=torch.bool)
    unable_rows = (moves & unable).any(1).reshape(len(which), -1).any(1)
    return which & (unable_rows | ((fall != 0) & ~foldable(layer, fall)))


def _move(
    net: nn.Module, graph: Graph, name: str, before: Channels, after: Channels, which: torch.Tensor
) -> None:
    """Add to the bias of a layer, or take from the mean of its batch norm, what its inputs lost."""
    layer = crossbar_layers(net)[name]
    fall, matrix = _shift(net, graph, name, before, after, which)
    lost = (by_row(layer, fall.nan_to_num(nan=0.0)) @ matrix).to(layer.weight)
    norm = net.get_submodule(graph.norms[name]) if name in graph.norms else None
    mean = getattr(norm, "running_mean", None)
    with torch.no_grad():
        if mean is not None:
            mean -= lost
        elif layer.bias is not None:
            layer.bias += lost

"""Which channels of a pruned network are constant, and which matter to its output."""

from __future__ import annotations

import torch
from torch import nn

from hwloop.networks import crossbar_layers, to_matrix
from hwloop.pruning.graph import Graph, Node

Channels = dict[str, torch.Tensor]


def constants(net: nn.Module, graph: Graph) -> Channels:
    """Return what each channel holds that is the same for all images and places.

    A filter without weights gives its bias; batch norm shifts that, an activation bends it, and where all
    inputs of a filter are such constants its own output is one as well. A constant that is not zero ends at a
    padded convolution, since the padding is zero.

    Args:
        net: the network, with weights of zero where they are pruned.
        graph: its graph.

    Returns:
        float64 ``[channels]`` for each node, nan where the channel is not constant.
    """
    values: Channels = {}
    with torch.no_grad():
        for name, node in graph.nodes.items():
            values[name] = _value(net, node, graph, [values[source] for source in node.inputs])
    return values


def needed(net: nn.Module, graph: Graph, values: Channels) -> Channels:
    """Return which channels the output depends on, bool ``[channels]`` for each node.

    A layer does not need a channel on which none of its needed columns has a weight, nor a constant that can
    go into its biases.

    Args:
        net: the network, with weights of zero where they are pruned.
        graph: its graph.
        values: its constants.
    """
    layers = crossbar_layers(net)
    need = {name: torch.zeros(node.channels, dtype=torch.bool) for name, node in graph.nodes.items()}
    need[graph.output][:] = True
    for name, node in reversed(graph.nodes.items()):
        wanted = need[name] & values[name].isnan()
        if node.kind == "layer":
            (source,) = node.inputs
            rows = (to_matrix(layers[node.module]).detach().cpu() != 0)[:, wanted].any(1)
            channels = rows.reshape(graph.nodes[source].channels, -1).any(1)
            need[source] |= channels & ~foldable(layers[node.module], values[source])
        elif node.kind == "flatten":
            (source,) = node.inputs
            need[source] |= wanted.reshape(graph.nodes[source].channels, -1).any(1)
        elif node.kind == "fixed":
            need[node.inputs[0]] |= need[name].any()
        elif node.kind == "cat":
            parts = wanted.split([graph.nodes[source].channels for source in node.inputs])
            for source, part in zip(node.inputs, parts, strict=True):
                need[source] |= part
        else:
            for source in node.inputs:
                need[source] |= wanted
    return need


def foldable(layer: nn.Module, value: torch.Tensor) -> torch.Tensor:
    """Return for which input channels a layer gives the same if their constant moves into its biases."""
    padded = isinstance(layer, nn.Conv2d) and any(layer._reversed_padding_repeated_twice)
    return (value == 0) if padded else ~value.isnan()


def by_row(layer: nn.Module, channels: torch.Tensor) -> torch.Tensor:
    """Return for each row of a layer's matrix what ``channels`` holds for its input channel."""
    return (
        channels.repeat_interleave(layer.weight[0, 0].numel()) if isinstance(layer, nn.Conv2d) else channels
    )


def _value(net: nn.Module, node: Node, graph: Graph, inputs: list[torch.Tensor]) -> torch.Tensor:
    """Return the constants of one node from those of its inputs."""
    if node.kind in ("image", "fixed"):
        return torch.full((node.channels,), torch.nan, dtype=torch.float64)
    value = inputs[0]
    if node.kind == "layer":
        return _through_layer(net.get_submodule(node.module), value)
    if node.kind == "norm":
        return _through_norm(net.get_submodule(node.module), value)
    if node.kind == "each":
        apply = net.get_submodule(node.module) if node.module else node.apply
        assert apply is not None  # noqa: S101 - a function of this kind has one
        return torch.where(value.isnan(), value, apply(value.clone()))
    if node.kind == "padded":
        return torch.where(value == 0, value, torch.nan)
    if node.kind == "flatten":
        return value.repeat_interleave(graph.nodes[node.inputs[0]].area)
    if node.kind == "add":
        return inputs[0] + inputs[1]
    if node.kind == "cat":
        return torch.cat(inputs)
    return value


def _through_layer(layer: nn.Module, value: torch.Tensor) -> torch.Tensor:
    matrix = to_matrix(layer).detach().cpu()  # type: ignore[arg-type]
    known = by_row(layer, foldable(layer, value))
    # Most rows vary, and most of what is constant is zero: only a few are worth a product.
    varying = matrix[~known].any(0) if known.any() else matrix.any(0)
    some = known & (by_row(layer, value) != 0)
    result = by_row(layer, value)[some] @ matrix[some].double()
    if layer.bias is not None:
        result = result + layer.bias.detach().double().cpu()  # type: ignore[operator]
    return torch.where(varying, torch.nan, result)


def _through_norm(norm: nn.Module, value: torch.Tensor) -> torch.Tensor:
    """Return what a batch norm makes of constants; where it multiplies by zero, of anything."""
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)  # noqa: S101 - the graph says so
    one, zero = torch.ones_like(value), torch.zeros_like(value)
    gain = one if norm.weight is None else norm.weight.detach().double().cpu()
    shift = zero if norm.bias is None else norm.bias.detach().double().cpu()
    if norm.running_mean is None or norm.running_var is None:
        # The mean of the batch is then the constant itself.
        scaled = torch.where(value.isnan(), value, zero)
    else:
        deviation = (norm.running_var.double().cpu() + norm.eps).sqrt()
        scaled = (value - norm.running_mean.double().cpu()) / deviation
    return torch.where(gain == 0, shift, scaled * gain + shift)

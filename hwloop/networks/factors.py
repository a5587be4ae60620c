"""Low rank: a layer as the product of two thin ones, each of which goes onto its own crossbars.

With W the layer's matrix of N rows and M columns, ``W ≈ U V`` has U of N × K and V of K × M. As a network
that is a layer ``u`` with K outputs and no bias, then a layer ``v``, of a convolution a 1×1 convolution: K
outputs per position are what V multiplies (Group Scissor, DAC 2017, section 3.1).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .layers import CrossbarLayer, NetworkError, crossbar_layers, from_matrix, to_matrix


def factor_layers(net: nn.Module, ranks: Mapping[str, int]) -> None:
    """Replace layers of ``net`` by two each, named ``u`` and ``v``, whose product is the best of its rank.

    By the theorem of Eckart and Young that is the singular value decomposition without its least singular
    values; their square roots go to both factors, so that both have weights of one magnitude.

    Args:
        net: the network, changed in place; it must not itself be one of the layers.
        ranks: rank K of each layer to replace, by name.

    Raises:
        NetworkError: if a layer is not there, has groups, or cannot have such a rank; ``net`` is then as it
            was.
    """
    layers = crossbar_layers(net)
    for name, rank in ranks.items():
        if name not in layers:
            raise NetworkError(f"{name}={rank}: no such layer; the network has {', '.join(layers)}")
        if name == "":
            raise NetworkError("a network that is one layer cannot be factored; put it into nn.Sequential")
        if getattr(layers[name], "groups", 1) > 1:
            raise NetworkError(f"{name}={rank}: a grouped convolution cannot be factored")
        rows, cols = to_matrix(layers[name]).shape
        if not 1 <= rank <= min(rows, cols):
            raise NetworkError(f"{name}={rank}: a matrix of {rows}x{cols} has ranks 1 to {min(rows, cols)}")
    for name, rank in ranks.items():
        parent, _, child = name.rpartition(".")
        setattr(net.get_submodule(parent), child, _factored(layers[name], rank))


def _factored(layer: CrossbarLayer, rank: int) -> nn.Sequential:
    """Return two layers in place of one, on the same device and in the same precision."""
    matrix = to_matrix(layer).detach()
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    roots = values[:rank].sqrt()
    like: dict[str, Any] = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    bias = layer.bias
    u: CrossbarLayer
    v: CrossbarLayer
    if isinstance(layer, nn.Linear):
        u = nn.Linear(layer.in_features, rank, bias=False, **like)
        v = nn.Linear(rank, layer.out_features, bias=bias is not None, **like)
    else:
        u = nn.Conv2d(
            layer.in_channels,
            rank,
            layer.kernel_size,  # type: ignore[arg-type]
            layer.stride,  # type: ignore[arg-type]
            layer.padding,  # type: ignore[arg-type]
            layer.dilation,  # type: ignore[arg-type]
            bias=False,
            **like,
        )
        v = nn.Conv2d(rank, layer.out_channels, 1, bias=bias is not None, **like)
    with torch.no_grad():
        u.weight.copy_(from_matrix(u, left[:, :rank] * roots))
        v.weight.copy_(from_matrix(v, roots[:, None] * right[:rank]))
        if v.bias is not None and bias is not None:
            v.bias.copy_(bias)
    return nn.Sequential(OrderedDict(u=u, v=v))

"""Masks: which weights are kept, and which of those can reach an output at all."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from device_models import torch_stream
from hwloop.networks import DIGITAL_LAYERS, crossbar_layers, from_matrix, to_matrix

Masks = dict[str, torch.Tensor]

PROBE_IMAGES = 8
NEXT_TO_ZERO = 1e-8


def full_masks(net: nn.Module) -> Masks:
    """Return the masks of a network that nobody pruned: True wherever a layer's matrix has a weight."""
    return {
        name: to_matrix(layer, torch.ones_like(layer.weight)).bool()
        for name, layer in crossbar_layers(net).items()
    }


def own_masks(net: nn.Module) -> Masks:
    """Return the masks that a network's own zeros are: True wherever a weight is not zero."""
    return {name: to_matrix(layer).detach() != 0 for name, layer in crossbar_layers(net).items()}


def apply_masks(net: nn.Module, masks: Mapping[str, torch.Tensor]) -> None:
    """Set pruned weights to zero, and with them the bias of every column that has no weight left.

    Args:
        net: the network, changed in place.
        masks: bool ``[rows, cols]`` in GEMM form for each crossbar layer, True = kept.
    """
    with torch.no_grad():
        for name, layer in crossbar_layers(net).items():
            mask = masks[name].to(layer.weight.device)
            layer.weight.mul_(from_matrix(layer, mask).to(layer.weight.dtype))
            if layer.bias is not None:
                layer.bias.mul_(mask.any(0))


def keep_signs(weights: Iterable[torch.Tensor], signs: Iterable[torch.Tensor]) -> None:
    """Hold weights on their side of zero; one that would cross it stays next to it.

    Args:
        weights: changed in place.
        signs: -1, 0 or 1 for each, as :func:`torch.sign` gives them.
    """
    with torch.no_grad():
        for weight, sign in zip(weights, signs, strict=True):
            weight.copy_(sign * (sign * weight).clamp(min=NEXT_TO_ZERO))


def without_unused_paths(
    net: nn.Module, masks: Mapping[str, torch.Tensor], image_shape: tuple[int, ...]
) -> Masks:
    """Drop rows whose inputs are always zero and columns that no output depends on (Tiny-but-Accurate, 2020).

    A filter without weights and bias gives zeros, so the rows that it feeds in the next layers do nothing;
    and a filter whose rows are all dropped does nothing either. Instead of following the graph, a copy of
    the network with positive random weights in place of the kept ones is run forwards and backwards on
    positive random images. All sums are then positive, so no ReLU is shut and nothing cancels: a row or
    column whose weights all get a gradient of exactly zero is on no path. This holds for any wiring, and it
    leaves alone what is not exactly zero, such as a channel that batch norm shifts.

    Args:
        net: the network; not changed.
        masks: bool ``[rows, cols]`` for each crossbar layer.
        image_shape: shape of one input.
    """
    probe = copy.deepcopy(net).double().eval()
    layers = crossbar_layers(probe)
    device = next(probe.parameters()).device
    generator = torch_stream(0, "unused paths")

    def positive(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64).to(device)

    with torch.no_grad():
        for module in probe.modules():
            _make_positive(module)
    current = {name: mask.clone() for name, mask in masks.items()}
    while True:
        with torch.no_grad():
            for name, layer in layers.items():
                layer.weight.copy_(
                    positive(*layer.weight.shape) * 2 / current[name].sum(0).max().clamp(min=1)
                )
                if layer.bias is not None:
                    layer.bias.copy_(positive(len(layer.bias)))
        apply_masks(probe, current)
        probe.zero_grad()
        outputs = probe(positive(PROBE_IMAGES, *image_shape))
        (outputs * positive(*outputs.shape)).sum().backward()
        pruned = {}
        for name, layer in layers.items():
            gradient = torch.zeros_like(layer.weight) if layer.weight.grad is None else layer.weight.grad
            reached = (to_matrix(layer, gradient) != 0).to(current[name].device)
            pruned[name] = current[name] & reached.any(1, keepdim=True) & reached.any(0, keepdim=True)
        if all(torch.equal(pruned[name], current[name]) for name in pruned):
            return pruned
        current = pruned


def _make_positive(module: nn.Module) -> None:
    """Turn what a normalisation multiplies and adds positive, so that a ReLU after it stays open.

    In a batch norm what was zero stays zero. Other norms mix the channels or positions, so that none of their
    outputs is always zero.
    """
    if not isinstance(module, DIGITAL_LAYERS) or isinstance(module, nn.PReLU):
        return
    batch_norm = isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    weight, bias, mean = (getattr(module, name, None) for name in ("weight", "bias", "running_mean"))
    if weight is not None:
        weight.abs_()
    if bias is not None:
        bias.abs_().add_(0 if batch_norm else 10)
    if batch_norm and mean is not None:
        mean.abs_().neg_()

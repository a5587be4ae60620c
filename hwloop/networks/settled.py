"""Networks as torch's utilities leave them: masks become permanent, weights made anew are refused."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils import parametrize, prune

from .layers import NetworkError, is_kept_digital

_HELD = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d)


def copied(net: nn.Module) -> nn.Module:
    """Return a deep copy of ``net``, also where hooks leave tensors in it that have a gradient."""
    made = {
        id(value): value.detach().clone()
        for module in net.modules()
        for value in vars(module).values()
        if isinstance(value, torch.Tensor) and not value.is_leaf
    }
    return copy.deepcopy(net, made)


def settle(net: nn.Module) -> nn.Module:
    """Make masks of ``torch.nn.utils.prune`` permanent, in place; return the network.

    Raises:
        NetworkError: naming the layer, if something makes its weight anew in every pass (``weight_norm``,
            ``spectral_norm``, another parametrization): what cells hold would not be what it computes.
    """
    for name, module in net.named_modules():
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, prune.BasePruningMethod):
                prune.remove(module, hook._tensor_name)
        if not isinstance(module, _HELD) or is_kept_digital(module):
            continue
        for tensor in ("weight", "bias"):
            if parametrize.is_parametrized(module, tensor):
                kind = type(module.parametrizations[tensor][0]).__name__.lstrip("_")  # type: ignore[index]
                fix = f"torch.nn.utils.parametrize.remove_parametrizations(layer, {tensor!r})"
            elif tensor not in module._parameters:
                kinds = [type(hook).__name__ for hook in module._forward_pre_hooks.values()]
                kind = kinds[0] if kinds else "something"
                fix = _REMOVALS.get(kind, "make it a parameter")
            else:
                continue
            raise NetworkError(
                f"layer {name or type(module).__name__}: {kind} makes its {tensor} anew in every pass, so no "
                f"cell could hold it; call {fix} first"
            )
    return net


_REMOVALS = {
    "WeightNorm": "torch.nn.utils.remove_weight_norm(layer)",
    "SpectralNorm": "torch.nn.utils.remove_spectral_norm(layer)",
}

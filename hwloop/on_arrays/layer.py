"""One layer of a network on arrays: its product is read from hardware, or from the quick model of arrays."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hwloop.hardware import Hardware, HardwareLayer
from hwloop.mapping import LayerMap
from hwloop.networks import CrossbarLayer, no_shortcut

_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


class ArrayLayer(nn.Module):
    """A layer of a network on arrays; it keeps the parameters of the layer whose place it takes.

    What else is asked of it, such as ``weight`` or ``in_features``, is the layer's. Under autocast, arrays
    work
    as without: what goes in becomes float32, and what comes out has the type of what went in.

    Args:
        name: the layer's name in the map.
        layer: the layer.
        mapped: its tiles.

    Attributes:
        hardware: what reads the layer; None before anything is programmed.
    """

    def __init__(self, name: str, layer: CrossbarLayer, mapped: LayerMap) -> None:
        super().__init__()
        self.name, self.layer = name, layer
        self.hardware: Hardware | None = None
        self._low = -mapped.input_scale if mapped.input_signed else 0.0
        self._high = mapped.input_scale
        self._quick: list[nn.Module] = []
        for kind in _HOOKS:  # they see what the network's layer sees, and once
            vars(self)[kind], vars(layer)[kind] = vars(layer)[kind], vars(self)[kind]
        self.register_forward_pre_hook(no_shortcut)

    @property
    def quick(self) -> nn.Module | None:
        """The quick model of the layer's arrays, where training uses it; None = the hardware trains too."""
        return self._quick[0] if self._quick else None

    def use_quick(self, model: nn.Module) -> None:
        """Train by a quick model of the layer's arrays."""
        self._quick = [model]  # in a list: its parameters are the layer's, and not there a second time

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - torch's name
        """Return the layer's output, of the shape and type that the layer itself would give."""
        with torch.autocast(input.device.type, enabled=False):
            if self.training and self.quick is not None:
                return self._train(self.quick, input.to(torch.float32)).to(input.dtype)
            if self.hardware is None:
                raise RuntimeError("nothing is programmed: program(chip) draws a chip and writes it")
            x = input.to(self.layer.weight.dtype)
            if (
                self.training
            ):  # gradients end where inputs saturate the DAC, whose reading that does not change
                x = x.clamp(self._low, self._high)
            return HardwareLayer(self.name, self.layer, self.hardware)(x).to(input.dtype)

    def _train(self, quick: nn.Module, x: torch.Tensor) -> torch.Tensor:
        one = isinstance(self.layer, nn.Conv2d) and x.ndim == 3
        found: torch.Tensor = quick(x[None] if one else x)
        return found[0] if one else found

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "layer":
                raise
            return getattr(self.layer, name)

    def extra_repr(self) -> str:
        """The layer's name in the map."""
        return self.name


def as_network(net: nn.Module) -> nn.Module:
    """Put the layers back in the place of their :class:`ArrayLayer`, in place; return the network."""
    for parent in list(net.modules()):
        for child, module in list(parent._modules.items()):
            if isinstance(module, ArrayLayer):
                parent._modules[child] = module.layer
    return net

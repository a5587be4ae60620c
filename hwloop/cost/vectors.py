"""How often one image reads each layer."""

from __future__ import annotations

import torch
from torch import nn

from hwloop.networks import crossbar_layers


def vectors_per_image(net: nn.Module, image: torch.Tensor) -> dict[str, int]:
    """Return how many input vectors each crossbar layer of ``net`` sees for one image.

    Args:
        net: the network.
        image: one image, ``[1, channels, height, width]``.
    """
    vectors: dict[str, int] = {}

    def count(name: str, layer: nn.Module, out: torch.Tensor) -> None:
        outputs = layer.out_channels if isinstance(layer, nn.Conv2d) else out.shape[-1]
        vectors[name] = vectors.get(name, 0) + out.numel() // int(outputs)

    handles = [
        layer.register_forward_hook(lambda module, _, out, name=name: count(name, module, out))
        for name, layer in crossbar_layers(net).items()
    ]
    training = net.training
    try:
        with torch.no_grad():
            net.eval()(image)
    finally:
        net.train(training)
        for handle in handles:
            handle.remove()
    return vectors

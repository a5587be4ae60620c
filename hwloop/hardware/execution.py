"""Running networks on hardware: crossbar layers are read, everything else stays as it is."""

from __future__ import annotations

import copy
import glob
from collections.abc import Iterable

import torch
from torch import nn

from hwloop.hardware.ideal import weight_matrix
from hwloop.hardware.protocol import Hardware
from hwloop.mapping import ConductanceMap
from hwloop.networks import (
    Batch,
    CrossbarLayer,
    batches,
    crossbar_layers,
    feed,
    from_matrix,
    keep_digital,
    no_shortcut,
    put_in_place,
    weight_names,
    windows,
)

_WINDOWS = 1 << 21  # inputs of a convolution that are laid out at a time: 8 MiB


class HardwareLayer(nn.Module):
    """A linear or convolutional layer whose product is read from hardware; its bias is added digitally.

    The value is the hardware's. The gradient is that of the layer, as if it had computed the value itself
    (straight-through estimator).

    Args:
        name: the layer's name in the conductance map.
        layer: the layer.
        hardware: what to read; a map must be programmed by the time of the first input.
    """

    def __init__(self, name: str, layer: CrossbarLayer, hardware: Hardware) -> None:
        super().__init__()
        self.name, self.layer, self.hardware = name, layer, hardware
        self.register_forward_pre_hook(no_shortcut)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output, of the shape that the layer itself would give."""
        with torch.no_grad():
            value = self._convolve(self.layer, x) if isinstance(self.layer, nn.Conv2d) else self._multiply(x)
        if not torch.is_grad_enabled():
            return value
        model = self.layer(x)
        return value + (model - model.detach())

    def _multiply(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.hardware.read(self.name, x.reshape(-1, x.shape[-1]))
        return self._add_bias(rows).reshape(*x.shape[:-1], -1)

    def _convolve(self, layer: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        patches = windows(layer, x if x.ndim == 4 else x[None])
        batch, height, width = patches.shape[:3]
        images = max(1, _WINDOWS // max(1, patches[:1].numel()))
        rows = torch.cat(
            [
                self.hardware.read(self.name, part.reshape(len(part) * height * width, -1))
                for part in patches.split(images)
            ]
        )
        value = self._add_bias(rows).reshape(batch, height, width, -1).permute(0, 3, 1, 2)
        return value if x.ndim == 4 else value[0]

    def _add_bias(self, rows: torch.Tensor) -> torch.Tensor:
        return rows if self.layer.bias is None else rows + self.layer.bias


class _InParts(nn.Module):
    """A network that takes a batch in parts, one after the other."""

    def __init__(self, net: nn.Module, images: int) -> None:
        super().__init__()
        self.net, self.images = net, images

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the network's output for the whole batch."""
        return torch.cat([self.net(part) for part in x.split(self.images)])


def on_hardware(net: nn.Module, hardware: Hardware, images_at_once: int | None = None) -> nn.Module:
    """Return a copy of ``net`` in which every crossbar layer is a :class:`HardwareLayer`.

    Vectors reach each layer image by image, for a convolution position by position, so hardware that counts
    them reads the same in batches of any size, as long as a layer runs once for each batch.

    Args:
        net: a network; its biases and digital layers are used, its weights only for gradients.
        hardware: programmed hardware.
        images_at_once: images that go through together, whatever the batch; it bounds the memory that
            activations take. None = the whole batch.
    """
    copied = copy.deepcopy(net)
    for name, layer in crossbar_layers(copied).items():
        put_in_place(copied, layer, HardwareLayer(name, layer, hardware))
    return copied if images_at_once is None else _InParts(copied, images_at_once)


def network_from_map(net: nn.Module, conductance_map: ConductanceMap) -> nn.Module:
    """Return a copy of ``net`` with the quantized weights and the digital parameters of a map.

    Layers that the map has no arrays for, but digital weights, stay digital in the copy.

    Raises:
        ValueError: if the map is of another network; the message names the layer or parameter.
    """
    copied = copy.deepcopy(net)
    kept = [
        name
        for name in crossbar_layers(copied).keys() - conductance_map.layers.keys()
        if f"{name}.weight" in conductance_map.digital
    ]
    keep_digital(copied, map(glob.escape, kept))
    layers = crossbar_layers(copied)
    state = copied.state_dict()
    digital = state.keys() - weight_names(copied)
    different = (layers.keys() ^ conductance_map.layers) | (digital ^ conductance_map.digital.keys())
    if different:
        raise ValueError(f"the conductance map is of another network: {min(different)} is not in both")
    for name, layer in layers.items():
        mapped = conductance_map.layers[name]
        _check_shape(name, mapped.weight_shape, layer.weight.shape)
        matrix = weight_matrix(mapped, conductance_map.card).to(layer.weight)
        layer.weight.data.copy_(from_matrix(layer, matrix))
    for name, value in conductance_map.digital.items():
        _check_shape(name, value.shape, state[name].shape)
        state[name].copy_(value)
    return copied


def calibrate_inputs(net: nn.Module, x: Batch | Iterable[Batch]) -> dict[str, tuple[float, bool]]:
    """Choose the input range of every crossbar layer from images.

    The scale is the largest magnitude that reaches the layer, so no input of these images saturates the DAC.
    A lower scale, at a high quantile, would make steps finer; but finer steps are cheap (one more cycle
    halves them), while a clipped large activation is an error that no later digit repairs.

    Args:
        net: network that computes the activations, with the weights that will be mapped.
        x: training images, ``[n, ...]``, or other batches (:func:`hwloop.networks.batches`).

    Returns:
        For each layer the activation that the DAC's full-scale code stands for, and whether any activation
        was negative.

    Raises:
        ValueError: if a layer is not reached, or sees values that are not finite.
    """
    layers = crossbar_layers(net)
    largest = {name: torch.tensor(-1.0) for name in layers}
    negative = dict.fromkeys(layers, False)

    def look(name: str, inputs: tuple[torch.Tensor, ...]) -> None:
        if inputs[0].numel():
            low, high = torch.aminmax(inputs[0].detach().float().cpu())
            largest[name] = torch.maximum(largest[name], torch.maximum(-low, high))
            negative[name] |= bool(low < 0)

    handles = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: look(name, inputs))
        for name, layer in layers.items()
    ]
    training = net.training
    try:
        net.eval()
        with torch.no_grad():
            for batch in batches(net, x):
                feed(net, batch)
    finally:
        net.train(training)
        for handle in handles:
            handle.remove()
    scales: dict[str, tuple[float, bool]] = {}
    for name in layers:
        most = float(largest[name])
        if most == -1:
            raise ValueError(f"layer {name}: no input reaches it, so its input range is not known")
        if not most < float("inf"):
            raise ValueError(f"layer {name}: activations are not finite")
        scales[name] = (most or 1.0, negative[name])
    return scales


def _check_shape(name: str, in_map: tuple[int, ...], in_network: tuple[int, ...]) -> None:
    if tuple(in_map) != tuple(in_network):
        raise ValueError(
            f"the conductance map is of another network: {name} is {list(in_map)} in the map "
            f"and {list(in_network)} in the network"
        )

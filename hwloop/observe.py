"""What happens inside while a network runs on hardware: errors of each layer, and codes of the ADCs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from hwloop.hardware import FastHardware, Hardware, network_from_map, on_hardware
from hwloop.hardware.ideal import weight_matrix
from hwloop.hardware.wrapped import WrappedHardware
from hwloop.mapping import ConductanceMap
from hwloop.networks import Batch, feed


class Tap(WrappedHardware):
    """Hardware whose reads are overheard.

    Args:
        hardware: what is read.
        listen: called with layer, inputs and outputs of each read.
    """

    def __init__(self, hardware: Hardware, listen: Callable[[str, torch.Tensor, torch.Tensor], None]) -> None:
        super().__init__(hardware)
        self._listen = listen

    def read(self, layer: str, inputs: torch.Tensor) -> torch.Tensor:
        """See :class:`~hwloop.hardware.Hardware`."""
        outputs = self._hardware.read(layer, inputs)
        self._listen(layer, inputs, outputs)
        return outputs


def layer_errors(
    net: nn.Module, conductance_map: ConductanceMap, hardware: Hardware, x: Batch
) -> dict[str, float]:
    """Return for each layer the RMS error of what ``hardware`` reads, relative to the RMS of exact products.

    Every layer gets the inputs that reach it on that hardware, so errors of earlier layers are not its own.

    Args:
        net: the network's structure; weights, biases and the like are the map's.
        conductance_map: the map that is programmed.
        hardware: programmed hardware.
        x: images.
    """
    matrices = {
        name: weight_matrix(layer, conductance_map.card) for name, layer in conductance_map.layers.items()
    }
    squares = {name: [0.0, 0.0] for name in conductance_map.layers}

    def compare(layer: str, inputs: torch.Tensor, outputs: torch.Tensor) -> None:
        exact = inputs.double() @ matrices[layer]
        squares[layer][0] += float((outputs.double() - exact).square().sum())
        squares[layer][1] += float(exact.square().sum())

    _run(net, conductance_map, Tap(hardware, compare), x)
    # Sums of floats may differ in their last digits from run to run; six digits do not.
    return {
        name: float(f"{(error / size) ** 0.5:.6g}") if size else 0.0
        for name, (error, size) in squares.items()
    }


def adc_counts(
    net: nn.Module, conductance_map: ConductanceMap, hardware: FastHardware, x: Batch
) -> dict[str, torch.Tensor]:
    """Return for each layer how often its ADCs give each code while the network runs, without noise.

    Arguments as :func:`layer_errors`; counts as :meth:`~hwloop.hardware.FastHardware.count_codes`.
    """
    counts: dict[str, torch.Tensor] = {}

    def count(layer: str, inputs: torch.Tensor, _outputs: torch.Tensor) -> None:
        seen = hardware.count_codes(layer, inputs)
        counts[layer] = counts[layer] + seen if layer in counts else seen

    _run(net, conductance_map, Tap(hardware, count), x)
    return {name: counts[name] for name in conductance_map.layers}


def _run(net: nn.Module, conductance_map: ConductanceMap, hardware: Hardware, x: Batch) -> None:
    with torch.no_grad():
        feed(on_hardware(network_from_map(net, conductance_map), hardware).eval(), x)

"""What of a network lies on arrays, and what does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from hwloop.mapping import ConductanceMap, resolution
from hwloop.networks import is_kept_digital
from hwloop.on_arrays.layer import ArrayLayer
from hwloop.recipe import HardwareConfig


@dataclass(frozen=True)
class LayerSummary:
    """One layer, or one module whose parameters are digital.

    Attributes:
        name: in the network; empty for the network itself.
        kind: class of the module.
        on_arrays: whether arrays compute it.
        why: why it is digital; empty if it is not.
        rows, cols: of its matrix, inputs and outputs; 0 if it is digital.
        weights: kept weights, or digital parameters.
        arrays: physical arrays, copies included.
        adc_bits: resolution of its widest ADC.
    """

    name: str
    kind: str
    on_arrays: bool
    why: str = ""
    rows: int = 0
    cols: int = 0
    weights: int = 0
    arrays: int = 0
    adc_bits: int = 0


@dataclass(frozen=True)
class NetworkSummary:
    """What of a network lies where; prints as a table.

    Attributes:
        layers: in the order of the network.
        card: name of the device card.
        array_shape: word lines and bit lines of an array.
        not_simulated: what the card says that reading does not simulate.
        not_trained: what reading simulates and the quick model of training does not.
    """

    layers: list[LayerSummary]
    card: str
    array_shape: tuple[int, int]
    not_simulated: list[str]
    not_trained: list[str]

    def __str__(self) -> str:
        on = [layer for layer in self.layers if layer.on_arrays]
        rows: list[Sequence[str]] = [("layer", "kind", "matrix", "weights", "arrays", "ADC bits", "")]
        for layer in self.layers:
            name = layer.name or "(network)"
            if layer.on_arrays:
                size = f"{layer.rows}x{layer.cols}"
                figures = (size, str(layer.weights), str(layer.arrays), str(layer.adc_bits), "on arrays")
            else:
                figures = ("", str(layer.weights), "", "", f"digital: {layer.why}")
            rows.append((name, layer.kind, *figures))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        lines.append(
            f"{sum(layer.arrays for layer in on)} arrays of {self.array_shape[0]}x{self.array_shape[1]} "
            f"cells of card {self.card} hold {sum(layer.weights for layer in on)} weights of {len(on)} layers"
        )
        lines.append("not simulated of the card: " + (", ".join(self.not_simulated) or "nothing"))
        if self.not_trained:
            lines.append("not in the quick model of train(): " + ", ".join(self.not_trained))
        return "\n".join(lines)


def summarize(
    net: nn.Module,
    conductance_map: ConductanceMap,
    hardware: HardwareConfig,
    not_simulated: list[str],
    not_trained: list[str],
) -> NetworkSummary:
    """Return what of ``net``, whose array layers are :class:`ArrayLayer`, lies where."""
    card, found = conductance_map.card, []
    inside = {id(m.layer) for m in net.modules() if isinstance(m, ArrayLayer)}
    for name, module in net.named_modules():
        if id(module) in inside:
            continue
        if isinstance(module, ArrayLayer):
            layer = conductance_map.layers[module.name]
            rows, cols = layer.matrix_shape
            found.append(
                LayerSummary(
                    name,
                    type(module.layer).__name__,
                    True,
                    rows=rows,
                    cols=cols,
                    weights=int(layer.mask.sum()),
                    arrays=layer.codes.shape[:3].numel() * hardware.copies_of(module.name),
                    adc_bits=resolution(layer, card.levels, hardware, idle=card.idle_steps).widest,
                )
            )
        elif own := sum(parameter.numel() for parameter in module.parameters(recurse=False)):
            why = "asked for" if is_kept_digital(module) else "of no kind that arrays compute"
            found.append(LayerSummary(name, type(module).__name__, False, why, weights=own))
    return NetworkSummary(found, card.name, conductance_map.array_shape, not_simulated, not_trained)

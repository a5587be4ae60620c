"""Wires between arrays, by the rule of Group Scissor (DAC 2017)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .facts import ChipFacts


@dataclass(frozen=True)
class LayerRouting:
    """Wires of a layer into word lines and out of bit lines, as built and with no weight pruned."""

    wires: int
    dense_wires: int

    @property
    def wire_fraction(self) -> float:
        """Wires that remain."""
        return self.wires / self.dense_wires

    @property
    def area_fraction(self) -> float:
        """Routing area that remains: area = alpha * wires^2 (Eq. 8), because a wire's mean length grows as
        their number does. Alpha is not published, so that only the ratio is known.
        """
        return self.wire_fraction**2


def routing(chip: ChipFacts, dense: ChipFacts) -> dict[str, LayerRouting]:
    """Return the routing of each layer of a chip against its dense counterpart.

    Raises:
        ValueError: if the chips do not have the same layers.
    """
    if list(chip.layers) != list(dense.layers):
        raise ValueError(f"the layers differ: {', '.join(chip.layers)} and {', '.join(dense.layers)}")
    return {name: LayerRouting(layer.wires, dense.layers[name].wires) for name, layer in chip.layers.items()}


def mean_area_fraction(layers: Iterable[LayerRouting]) -> float:
    """Return the figure that Group Scissor reports: the plain mean over layers of the area fraction."""
    fractions = [layer.area_fraction for layer in layers]
    return sum(fractions) / len(fractions)

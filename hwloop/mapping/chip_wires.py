"""Wires of a chip whose layers are on arrays of different wires."""

from __future__ import annotations

from collections.abc import Mapping

from device_models.crossbar import Wires


class ChipWires(Wires):
    """Wires of a chip on which arrays of some layers have wires of their own.

    Attributes:
        layers: these, by layer.
    """

    layers: Mapping[str, Wires]


def wires_of(wires: Wires, layer: str) -> Wires:
    """Return the wires of the arrays of one layer of a chip."""
    return wires.layers.get(layer, wires) if isinstance(wires, ChipWires) else wires

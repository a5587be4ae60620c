"""What a strategy asks of hardware: cells written and vectors read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch

from hwloop.hardware.protocol import Hardware
from hwloop.hardware.wrapped import WrappedHardware
from hwloop.mapping import ConductanceMap


@dataclass
class Tally:
    """Cells written and input vectors read, of all hardware that shares it."""

    writes: int = 0
    reads: int = 0


class Counted(WrappedHardware):
    """Hardware whose writes and reads are counted.

    Args:
        hardware: what is programmed and read.
        tally: what is added to: every cell of the arrays that are programmed, every vector that a layer
            reads; both for each copy.
    """

    def __init__(self, hardware: Hardware, tally: Tally) -> None:
        super().__init__(hardware)
        self._tally, self._copies = tally, int(hardware.identity.get("copies", 1))

    def program(
        self, conductance_map: ConductanceMap, layers: Collection[str] | None = None
    ) -> ConductanceMap:
        """See :class:`~hwloop.hardware.Hardware`."""
        programmed = super().program(conductance_map, layers)
        for name in conductance_map.layers if layers is None else layers:
            target = conductance_map.target(name)
            self._tally.writes += int((target > 0).sum()) * self._copies
        return programmed

    def read(self, layer: str, inputs: torch.Tensor) -> torch.Tensor:
        """See :class:`~hwloop.hardware.Hardware`."""
        self._tally.reads += len(inputs) * self._copies
        return super().read(layer, inputs)

"""What a strategy asks of hardware: cells written and vectors read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch

from hwloop.hardware.protocol import Hardware
from hwloop.hardware.wrapped import WrappedHardware
from hwloop.mapping import ConductanceMap
from hwloop.recipe import Readout


@dataclass
class Tally:
    """Cells written and input vectors read, of all hardware that shares it."""

    writes: int = 0
    reads: int = 0


class Counted(WrappedHardware):
    """Hardware whose writes and reads are counted.

    Args:
        hardware: what is programmed and read.
        readout: how it is read, which says how many copies each layer has.
        tally: what is added to: every cell of the arrays that are programmed, every vector that a layer
            reads; both for each copy.
    """

    def __init__(self, hardware: Hardware, readout: Readout, tally: Tally) -> None:
        super().__init__(hardware)
        self._readout, self._tally = readout, tally

    def program(
        self, conductance_map: ConductanceMap, layers: Collection[str] | None = None
    ) -> ConductanceMap:
        """See :class:`~hwloop.hardware.Hardware`."""
        programmed = super().program(conductance_map, layers)
        for name in conductance_map.layers if layers is None else layers:
            target = conductance_map.target(name)
            self._tally.writes += int((target > 0).sum()) * self._readout.copies_of(name)
        return programmed

    def read(self, layer: str, inputs: torch.Tensor) -> torch.Tensor:
        """See :class:`~hwloop.hardware.Hardware`."""
        self._tally.reads += len(inputs) * self._readout.copies_of(layer)
        return super().read(layer, inputs)

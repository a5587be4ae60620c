"""Scale and offset of every matrix column, in the digital logic behind the ADCs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch

from hwloop.hardware.protocol import Capabilities, Hardware
from hwloop.mapping import ConductanceMap


@dataclass(frozen=True)
class Column:
    """Factor and summand of the columns of one layer, float32 ``[matrix_cols]`` each; in weight units."""

    scale: torch.Tensor
    offset: torch.Tensor


Columns = Mapping[str, Column]


class ColumnScaled:
    """Hardware whose sums are scaled and shifted column by column.

    Args:
        hardware: what is programmed and read.
        columns: for each layer that is scaled.
    """

    def __init__(self, hardware: Hardware, columns: Columns) -> None:
        self._hardware, self._columns = hardware, columns

    @property
    def identity(self) -> dict[str, str | int | float | bool]:
        """See :class:`~hwloop.hardware.Hardware`."""
        return {**self._hardware.identity, "columns_scaled": True}

    @property
    def capabilities(self) -> Capabilities:
        """See :class:`~hwloop.hardware.Hardware`."""
        return self._hardware.capabilities

    def program(
        self, conductance_map: ConductanceMap, layers: Collection[str] | None = None
    ) -> ConductanceMap:
        """See :class:`~hwloop.hardware.Hardware`."""
        return self._hardware.program(conductance_map, layers)

    def read(self, layer: str, inputs: torch.Tensor) -> torch.Tensor:
        """Read, scale and shift; see :class:`~hwloop.hardware.Hardware`."""
        found = self._hardware.read(layer, inputs)
        column = self._columns.get(layer)
        return found if column is None else found * column.scale + column.offset

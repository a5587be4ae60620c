"""Scale and offset of every matrix column, in the digital logic behind the ADCs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from hwloop.hardware.protocol import Hardware
from hwloop.hardware.wrapped import WrappedHardware


@dataclass(frozen=True)
class Column:
    """Factor and summand of the columns of one layer, float32 ``[matrix_cols]`` each; in weight units."""

    scale: torch.Tensor
    offset: torch.Tensor


Columns = Mapping[str, Column]


class ColumnScaled(WrappedHardware):
    """Hardware whose sums are scaled and shifted column by column.

    Args:
        hardware: what is programmed and read.
        columns: for each layer that is scaled.
    """

    def __init__(self, hardware: Hardware, columns: Columns) -> None:
        super().__init__(hardware)
        self._columns = columns

    @property
    def identity(self) -> dict[str, str | int | float | bool]:
        """See :class:`~hwloop.hardware.Hardware`."""
        return {**super().identity, "columns_scaled": True}

    def read(self, layer: str, inputs: torch.Tensor) -> torch.Tensor:
        """Read, scale and shift; see :class:`~hwloop.hardware.Hardware`."""
        found = super().read(layer, inputs)
        column = self._columns.get(layer)
        return found if column is None else found * column.scale + column.offset

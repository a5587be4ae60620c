"""Hardware around hardware."""

from __future__ import annotations

from collections.abc import Collection

import torch

from hwloop.hardware.protocol import Capabilities, Hardware
from hwloop.mapping import ConductanceMap


class WrappedHardware:
    """Hardware that does what another one does; subclasses do something more, or something else.

    Args:
        hardware: what is programmed and read.
    """

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware

    @property
    def identity(self) -> dict[str, str | int | float | bool]:
        """That of the hardware inside."""
        return self._hardware.identity

    @property
    def capabilities(self) -> Capabilities:
        """Those of the hardware inside."""
        return self._hardware.capabilities

    def program(
        self, conductance_map: ConductanceMap, layers: Collection[str] | None = None
    ) -> ConductanceMap:
        """See :class:`~hwloop.hardware.Hardware`."""
        return self._hardware.program(conductance_map, layers)

    def read(self, layer: str, inputs: torch.Tensor) -> torch.Tensor:
        """See :class:`~hwloop.hardware.Hardware`."""
        return self._hardware.read(layer, inputs)

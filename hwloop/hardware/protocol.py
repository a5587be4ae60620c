"""The one face that every hardware shows: program a conductance map, then read layers."""

from __future__ import annotations

from typing import Protocol

import torch

from hwloop.mapping import ConductanceMap


class Hardware(Protocol):
    """Something that holds a conductance map and multiplies with it.

    Retraining, evaluation and reports know hardware only by this protocol; whether the product comes
    from ideal arithmetic, the circuit solver or ngspice does not concern them.
    """

    @property
    def identity(self) -> dict[str, str | int | float | bool]:
        """What was read: back end, card, device instance, and whether it is simulated."""
        ...

    def program(self, conductance_map: ConductanceMap) -> ConductanceMap:
        """Program all layers and return the map with ``actual`` filled in; the targets stay as they were."""
        ...

    def read(self, layer: str, inputs: torch.Tensor) -> torch.Tensor:
        """Multiply ``inputs`` with the matrix of a programmed layer.

        Args:
            layer: name of the layer.
            inputs: activations, float32 ``[batch, matrix_rows]``.

        Returns:
            float32 ``[batch, matrix_cols]`` in weight units, without bias.

        Raises:
            RuntimeError: if no map is programmed.
            KeyError: if the map has no such layer.
        """
        ...

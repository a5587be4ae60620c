"""The one face that every hardware shows: program a conductance map, then read layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from hwloop.mapping import ConductanceMap


@dataclass(frozen=True)
class Capabilities:
    """What a hardware can hold and tell; None = as much as a map asks for, or not known.

    Attributes:
        array_shape: word lines and bit lines of its arrays.
        arrays: how many of them it has.
        levels: conducting levels that its cells can be told apart in.
        adc_bits: resolution of its widest converter.
        vectors_per_second: input vectors that one array is read with in a second.
    """

    array_shape: tuple[int, int] | None = None
    arrays: int | None = None
    levels: int | None = None
    adc_bits: int | None = None
    vectors_per_second: float | None = None


class Hardware(Protocol):
    """Something that holds a conductance map and multiplies with it.

    Retraining, evaluation and reports know hardware only by this protocol; whether the product comes
    from ideal arithmetic, the circuit solver, ngspice or an instrument does not concern them.
    """

    @property
    def identity(self) -> dict[str, str | int | float | bool]:
        """What was read: back end, card, device instance, and whether it is simulated."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it can hold and tell."""
        ...

    def program(
        self, conductance_map: ConductanceMap, layers: Collection[str] | None = None
    ) -> ConductanceMap:
        """Program layers and return the map with their ``actual`` filled in; targets stay as they were.

        Args:
            conductance_map: what to program.
            layers: names of the layers to program; all others keep what they hold, are read as before, and
                are returned as they are in ``conductance_map``. None = all; what was held is forgotten.

        Raises:
            ValueError: if the map has no such layer, or the hardware cannot hold the map.
        """
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


@runtime_checkable
class Resumable(Hardware, Protocol):
    """Hardware that can go on with what it held when an earlier run was cut short."""

    def take_up(
        self, conductance_map: ConductanceMap, writes: Mapping[str, int], vectors: Mapping[str, int]
    ) -> None:
        """Go on as if this run had done what an earlier one did.

        Args:
            conductance_map: the layers that are held, as they were programmed.
            writes: how often each layer was programmed.
            vectors: of each layer that is held, how many it was read with since.

        Raises:
            ValueError: if the hardware cannot hold the map.
        """
        ...

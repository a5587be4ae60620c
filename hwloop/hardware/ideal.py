"""Ideal hardware: the product with the target conductances in plain arithmetic."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import torch

from device_models.card import DeviceCard
from hwloop.hardware.checks import check_inputs, layers_to_program, programmed_layer
from hwloop.hardware.protocol import Capabilities
from hwloop.mapping import ConductanceMap, LayerMap, assemble, decode


class IdealHardware:
    """Cells exactly on target, no wires, no noise, converters without limits.

    Reading gives the product with the quantized weights to float rounding; the mapping is to blame for any
    difference.
    """

    def __init__(self) -> None:
        self._matrices: dict[str, torch.Tensor] = {}

    @property
    def identity(self) -> dict[str, str | int | float | bool]:
        """What is read."""
        return {"backend": "ideal", "simulated": True}

    @property
    def capabilities(self) -> Capabilities:
        """Whatever a map asks for."""
        return Capabilities()

    def program(
        self, conductance_map: ConductanceMap, layers: Collection[str] | None = None
    ) -> ConductanceMap:
        """Take the targets as programmed; see :class:`~hwloop.hardware.Hardware`."""
        chosen = layers_to_program(conductance_map, layers)
        matrices = {
            name: weight_matrix(layer, conductance_map.card).to(torch.float32)
            for name, layer in chosen.items()
        }
        self._matrices = matrices if layers is None else self._matrices | matrices
        programmed = {
            name: replace(layer, actual=conductance_map.target(name).to(torch.float32))
            for name, layer in chosen.items()
        }
        return replace(conductance_map, layers=conductance_map.layers | programmed)

    def take_up(
        self,
        conductance_map: ConductanceMap,
        writes: Mapping[str, int],  # noqa: ARG002 ideal cells do not age
        vectors: Mapping[str, int],
    ) -> None:
        """Hold what an earlier run programmed; see :class:`~hwloop.hardware.Resumable`."""
        self._matrices = {}
        self.program(conductance_map, vectors)

    def read(self, layer: str, inputs: torch.Tensor) -> torch.Tensor:
        """Multiply; see :class:`~hwloop.hardware.Hardware`."""
        matrix = programmed_layer(self._matrices, layer)
        check_inputs(layer, inputs, matrix.shape[0])
        return inputs @ matrix


def weight_matrix(layer: LayerMap, card: DeviceCard) -> torch.Tensor:
    """Return the quantized weights of a layer in GEMM form, float64 ``[matrix_rows, matrix_cols]``.

    Args:
        layer: the layer, in any encoding.
        card: the card of its map.
    """
    blocks = decode(layer, card.levels)
    codes = assemble(blocks, layer.row_index, layer.col_index, layer.matrix_shape)
    return codes.to(torch.float64) * (card.g_step * layer.weight_per_siemens)

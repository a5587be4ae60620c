"""Arrays whose cells were measured: what a laboratory read back, in place of programming."""

from __future__ import annotations

import numpy as np
import torch

from device_models.crossbar import effective_conductance
from hwloop.hardware.checks import check_one_copy
from hwloop.hardware.fast import FastHardware
from hwloop.mapping import ConductanceMap, wires_of


class MeasuredHardware(FastHardware):
    """Simulated arrays as :class:`~hwloop.hardware.FastHardware`, with the conductances that a map holds.

    Nothing is drawn for the cells: ``actual`` of the map is taken as it is, as ``hwloop maps
    import-readback`` filled it in. Wires, converters and read noise are simulated around them.
    """

    @property
    def identity(self) -> dict[str, str | int | float | bool]:
        """What is read."""
        return {**super().identity, "backend": "measured"}

    def _program_tiles(self, name: str, conductance_map: ConductanceMap) -> tuple[torch.Tensor, np.ndarray]:
        """Return the map's conductances (S), and as seen through the wires (level steps).

        Raises:
            ValueError: if the map has none for the layer, or copies are asked for.
        """
        check_one_copy(self._readout, f"layer {name}: a map holds the conductances of one copy")
        actual = conductance_map.layers[name].actual
        if actual is None:
            raise ValueError(
                f"layer {name}: the map holds no measured conductances; measure them and use "
                "hwloop maps import-readback"
            )
        solved = effective_conductance(actual.to(torch.float64), wires_of(self._wires, name))
        return actual, solved.numpy() / conductance_map.g_step

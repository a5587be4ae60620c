"""Transimpedance amplifier and sample-and-hold: from the current of a bit line to a voltage that stays.

bit line ──●──Rfeedback──● output ──S── hold ──×(-1)── to the ADC
           └─▷ (gain, gain_bandwidth)    │
                                       Chold
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .pyspice import Circuit
from .sequencer import to_volts

_HOLD_FARAD = 1e-12


@dataclass(frozen=True)
class Amplifier:
    """An operational amplifier with one pole, as a transimpedance amplifier.

    Attributes:
        gain: of the open loop at DC; infinity is not a circuit.
        gain_bandwidth: in hertz.

    Raises:
        ValueError: if a figure is not positive and finite.
    """

    gain: float = 1e5
    gain_bandwidth: float = 1e9

    def __post_init__(self) -> None:
        if not (0 < self.gain < math.inf and 0 < self.gain_bandwidth < math.inf):
            raise ValueError(
                f"an amplifier needs a positive, finite gain ({self.gain}) and bandwidth "
                f"({self.gain_bandwidth} Hz)"
            )

    def input_resistance(self, feedback: float) -> float:
        """What a bit line sees at DC instead of virtual ground, in ohm: ``feedback / (1 + gain)``."""
        return feedback / (1 + self.gain)

    def transimpedance(self, feedback: float) -> float:
        """Volts for an ampere at DC, in ohm: ``feedback * gain / (1 + gain)``."""
        return feedback * self.gain / (1 + self.gain)

    def add(self, circuit: Circuit, name: str, input_: str, feedback: float) -> str:
        """Add the amplifier at node ``input_``; return its output node, which falls as current flows in.

        Args:
            circuit: where.
            name: begins the names of its nodes and elements.
            input_: node of the bit line.
            feedback: resistance in ohm.
        """
        pole, output = f"{name}_pole", f"{name}_output"
        circuit.R(f"feedback_{name}", input_, output, feedback)
        circuit.VCCS(f"opamp_{name}", pole, circuit.gnd, input_, circuit.gnd, transconductance=1.0)
        circuit.R(f"pole_{name}", pole, circuit.gnd, self.gain)
        circuit.C(f"pole_{name}", pole, circuit.gnd, 1 / (2 * math.pi * self.gain_bandwidth))
        circuit.VCVS(f"opamp_{name}", output, circuit.gnd, pole, circuit.gnd, voltage_gain=1.0)
        return output


def add_sample_and_hold(circuit: Circuit, name: str, source: str, period: float) -> str:
    """Add a sample-and-hold that follows ``source`` in phase ``sample``; return its inverted output node.

    Args:
        circuit: where.
        name: begins the names of its nodes and elements.
        source: node that is sampled.
        period: clock period in seconds; the switch settles many times faster.
    """
    hold, held, gate = f"{name}_hold", f"{name}_held", f"{name}_sample"
    to_volts(circuit, f"sample_{name}", ["ph_sample"], [gate])
    circuit.model(f"sample_{name}", "SW", vt=0.6, vh=0, ron=period / 50 / _HOLD_FARAD, roff=1e15)
    circuit.S(f"hold_{name}", source, hold, gate, circuit.gnd, model=f"sample_{name}")
    circuit.C(f"hold_{name}", hold, circuit.gnd, _HOLD_FARAD)
    circuit.VCVS(f"hold_{name}", held, circuit.gnd, hold, circuit.gnd, voltage_gain=-1.0)
    return held

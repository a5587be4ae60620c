"""SAR ADC as a circuit: switched capacitors that sample and subtract, a comparator, and the register.

    source, ref or 0 ── drive_k ──R── bottom_k ──C_k──┬── top ──S── 0
           ▲                                          │
           └────────── register ◀── comparator ◀──────┘

While it acquires, all bottom plates lie at the source and the top plate at ground. The top plate opens first;
then bit after bit, from the most significant, connects its bottom plate to the reference, and keeps it there
if the comparator says that the sample is not less (McCreary and Gray, IEEE J. Solid-State Circuits 10, 1975).
The register needs no logic beside its flip-flops: a bit that is tried clocks the bit before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .pyspice import Circuit
from .sequencer import ReadCycle, flip_flop, staircase, to_volts

MAX_BITS = 10
_TIME_CONSTANTS = 64  # of a switch with its capacitor, in a clock period


@dataclass(frozen=True, eq=False)
class SarCircuit:
    """One SAR ADC; the figures are those of ``device_models.converters.CapacitorArray``.

    Attributes:
        capacitors: ``[bits + 1]`` in unit capacitors, most significant first, then the terminating unit.
        offset: offset of the comparator, in LSB.
        full_scale: reference in volt; ``2^bits`` LSB.
        unit_capacitor: in farad.
    """

    capacitors: NDArray[np.float64]
    offset: float = 0.0
    full_scale: float = 1.0
    unit_capacitor: float = 1e-15

    @classmethod
    def of(cls, capacitors: ArrayLike, offset: float = 0.0, full_scale: float = 1.0) -> SarCircuit:
        """Return the ADC with these capacitors and this offset; arguments as the attributes.

        Raises:
            ValueError: if they make no ADC of 1 to 10 bits.
        """
        units = np.asarray(capacitors, dtype=np.float64)
        if units.ndim != 1 or not 2 <= len(units) <= MAX_BITS + 1:
            raise ValueError(f"capacitors need shape [bits + 1], bits 1 to {MAX_BITS}, not {[*units.shape]}")
        if not (np.isfinite(units).all() and (units > 0).all()):
            raise ValueError("capacitors must be finite and positive (in unit capacitors)")
        if not (np.isfinite(offset) and 0 < full_scale < np.inf):
            raise ValueError(f"offset ({offset} LSB) must be finite, full_scale ({full_scale} V) positive")
        return cls(units, float(offset), float(full_scale))

    @property
    def bits(self) -> int:
        """Resolution."""
        return len(self.capacitors) - 1

    @property
    def lsb(self) -> float:
        """Volts of one LSB."""
        return self.full_scale / 2**self.bits

    @property
    def phases(self) -> tuple[str, ...]:
        """Phases of a conversion: the code is there in the last."""
        return ("acquire", *(f"bit_{k}" for k in reversed(range(self.bits))), "done")

    def noise_shape(self, reads: int) -> tuple[int, ...]:
        """Shape of noise at the comparator: a value for each decision, ``[bits, reads]``."""
        return (self.bits, reads)

    def add(
        self, circuit: Circuit, cycle: ReadCycle, name: str, source: str, noise: NDArray[np.float64] | None
    ) -> str:
        """Add the ADC.

        Args:
            circuit: where; the phases of ``cycle`` are there.
            cycle: phases.
            name: begins the names of all nodes and elements.
            source: node that is sampled.
            noise: at the comparator in LSB, of ``noise_shape``; None is none.

        Returns:
            The code, as an expression of node voltages. The reference is the element ``Vref_<name>``.
        """
        self._add_capacitors(circuit, cycle, name, source)
        threshold = repr((0.5 - self.offset) * self.lsb)
        if noise is not None:
            threshold += f"+{self.lsb!r}*{self._noise(cycle, noise)}"
        # A strobed comparator. Without a strobe its input would jump while the simulation tries steps and
        # takes them back, and ngspice's bridge then loses events.
        decided = f"({threshold}-v({name}_top) > 0 ? 1 : -1)"
        choice = f"v(strobe)*{decided}-(1-v(strobe))"
        circuit.B(f"compare_{name}", f"{name}_over", circuit.gnd, v=choice)
        wait = cycle.timing.edge / 3
        circuit.model(
            f"comparator_{name}", "adc_bridge", in_low=0, in_high=0, rise_delay=wait, fall_delay=wait
        )
        circuit.A(f"compare_{name}", f"[{name}_over]", f"[{name}_keep]", model=f"comparator_{name}")
        circuit.A(f"done_{name}", "ph_done", f"{name}_done", model="late")
        for k in range(self.bits):
            clock = f"{name}_q_{k - 1}" if k else f"{name}_done"
            flip_flop(
                circuit, f"q_{name}_{k}", f"{name}_keep", clock, f"ph_bit_{k}", "ph_acquire", f"{name}_q_{k}"
            )
        return "+".join(f"{2**k}*v({name}_on_{k})" for k in range(self.bits))

    def _add_capacitors(self, circuit: Circuit, cycle: ReadCycle, name: str, source: str) -> None:
        """The capacitors and what drives them; all settle in the same time, as large as they are."""
        bits = range(self.bits)
        digital, analog = [f"{name}_q_{k}" for k in bits], [f"{name}_on_{k}" for k in bits]
        to_volts(circuit, f"drive_{name}", ["ph_acquire", *digital], [f"{name}_acquire", *analog])
        seconds = cycle.timing.period / _TIME_CONSTANTS
        farads = (self.capacitors * self.unit_capacitor).tolist()
        acquire, top, ref = (f"{name}_{node}" for node in ("acquire", "top", "ref"))
        circuit.V(f"ref_{name}", ref, circuit.gnd, self.full_scale)
        # The top plate opens before the bottom plates leave the source.
        circuit.model(f"top_{name}", "SW", vt=0.8, vh=0, ron=seconds / sum(farads), roff=1e15)
        circuit.S(f"top_{name}", top, circuit.gnd, acquire, circuit.gnd, model=f"top_{name}")
        drawn = []
        for place, farad in zip([*reversed(bits), "end"], farads, strict=True):
            drive, bottom, ohm = f"{name}_drive_{place}", f"{name}_bottom_{place}", seconds / farad
            level = "0"
            if place != "end":
                level = f"v({name}_on_{place}) > 0.5 ? v({ref}) : 0"
                drawn.append(f"(v({name}_on_{place}) > 0.5 ? (v({drive})-v({bottom}))/{ohm!r} : 0)")
            choice = f"v({acquire}) > 0.5 ? v({source}) : ({level})"
            circuit.B(f"drive_{name}_{place}", drive, circuit.gnd, v=choice)
            circuit.R(f"drive_{name}_{place}", drive, bottom, ohm)
            circuit.C(f"bit_{name}_{place}", top, bottom, farad)
        # A bit stays on for a moment into the next phase, when its drive is at the source already.
        circuit.B(f"ref_{name}", ref, circuit.gnd, i=f"v({acquire}) > 0.5 ? 0 : {'+'.join(drawn)}")

    def _noise(self, cycle: ReadCycle, noise: NDArray[np.float64]) -> str:
        """The noise of each decision, from a quarter period into its phase until after it was taken."""
        quarter = cycle.timing.period / 4
        times = [
            cycle.start(f"bit_{k}", read) + quarter
            for read in range(noise.shape[1])
            for k in reversed(range(self.bits))
        ]
        return staircase(times, noise.T.ravel().tolist(), cycle.timing.edge)

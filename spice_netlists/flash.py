"""Flash ADC as a circuit: a ladder of resistors, a comparator at each tap, and the count of them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .pyspice import Circuit
from .sar import MAX_BITS
from .sequencer import ReadCycle, staircase


@dataclass(frozen=True, eq=False)
class FlashCircuit:
    """One flash ADC.

    Attributes:
        offsets: of the comparators in LSB, ``[2^bits - 1]``.
        full_scale: reference in volt; ``2^bits`` LSB.
        ladder: resistance of the ladder in ohm.
    """

    offsets: NDArray[np.float64]
    full_scale: float = 1.0
    ladder: float = 10e3

    @classmethod
    def of(cls, thresholds: ArrayLike, full_scale: float = 1.0) -> FlashCircuit:
        """Return the ADC whose comparators trip at ``thresholds`` in LSB, ``[2^bits - 1]``, in any order.

        Raises:
            ValueError: if they make no ADC of 1 to 10 bits.
        """
        levels = np.asarray(thresholds, dtype=np.float64)
        if levels.ndim != 1 or len(levels) + 1 not in [1 << bits for bits in range(1, MAX_BITS + 1)]:
            raise ValueError(
                f"thresholds need shape [2^bits - 1], bits 1 to {MAX_BITS}, not {[*levels.shape]}"
            )
        if not (np.isfinite(levels).all() and 0 < full_scale < np.inf):
            raise ValueError(f"thresholds must be finite and full_scale ({full_scale} V) positive")
        return cls(levels - np.arange(len(levels)) - 0.5, float(full_scale))

    @property
    def bits(self) -> int:
        """Resolution."""
        return len(self.offsets).bit_length()

    @property
    def lsb(self) -> float:
        """Volts of one LSB."""
        return self.full_scale / 2**self.bits

    @property
    def phases(self) -> tuple[str, ...]:
        """Phases of a conversion: the code is there in the last."""
        return ("compare", "done")

    def noise_shape(self, reads: int) -> tuple[int, ...]:
        """Shape of noise at the input: a value for each read, ``[reads]``."""
        return (reads,)

    def add(
        self, circuit: Circuit, cycle: ReadCycle, name: str, source: str, noise: NDArray[np.float64] | None
    ) -> str:
        """Add the ADC; arguments and result as ``SarCircuit.add``."""
        ohm = self.ladder / 2**self.bits
        circuit.V(f"ref_{name}", f"{name}_ref", circuit.gnd, self.full_scale)
        taps = [f"{name}_tap_{k}" for k in range(len(self.offsets))]
        ends = [circuit.gnd, *taps, f"{name}_ref"]
        for k, (low, high) in enumerate(pairwise(ends)):
            # The first threshold lies half an LSB above ground, the last one and a half below the reference.
            share = 0.5 if k == 0 else 1.5 if k == len(taps) else 1.0
            circuit.R(f"ladder_{name}_{k}", low, high, share * ohm)
        seen = source
        if noise is not None:
            seen = f"{name}_seen"
            times = [cycle.start("compare", read) for read in range(len(noise))]
            draws = staircase(times, noise.tolist(), cycle.timing.edge)
            circuit.B(f"noise_{name}", seen, source, v=f"{self.lsb!r}*{draws}")
        for k, (tap, offset) in enumerate(zip(taps, self.offsets.tolist(), strict=True)):
            tripped = f"u(v({seen})-v({tap})-{offset * self.lsb!r})"
            circuit.B(f"compare_{name}_{k}", circuit.gnd, f"{name}_count", i=tripped)
        circuit.R(f"count_{name}", f"{name}_count", circuit.gnd, 1.0)
        return f"v({name}_count)"

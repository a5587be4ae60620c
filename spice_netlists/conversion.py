"""Reads through a converter circuit as transients: settle, sample, convert, code out.

Many inputs follow each other in one transient, and many transients share the worker processes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .amplifier import Amplifier, add_sample_and_hold
from .crossbar import safe_title
from .jobs import TIME_LIMIT, Job, run_jobs
from .ngspice import SpiceError
from .pyspice import Circuit
from .sequencer import ReadCycle, Timing, staircase

READS_PER_JOB = 200
ENERGY_FARAD = 1e-9
"""What a reference gives charges a capacitor of this size, with one ampere per watt."""


class AdcCircuit(Protocol):
    """An ADC that can be built into a circuit: ``SarCircuit`` or ``FlashCircuit``."""

    @property
    def bits(self) -> int:
        """Resolution."""

    @property
    def lsb(self) -> float:
        """Volts of one LSB."""

    @property
    def phases(self) -> tuple[str, ...]:
        """Phases of a conversion, each a clock period; the code is there in the last."""

    def noise_shape(self, reads: int) -> tuple[int, ...]:
        """Shape of the noise of ``reads`` conversions, reads last."""

    def add(
        self, circuit: Circuit, cycle: ReadCycle, name: str, source: str, noise: NDArray[np.float64] | None
    ) -> str:
        """Add the ADC at node ``source``; return its code as an expression of node voltages."""


@dataclass(frozen=True)
class BitLine:
    """What stands before the sample-and-hold when a current is read.

    Attributes:
        amplifier: the transimpedance amplifier.
        lsb_current: current of one LSB in ampere; the feedback turns it into one LSB of the ADC.
        resistance: of the array, seen from the sense end of the bit line, in ohm.
    """

    amplifier: Amplifier
    lsb_current: float
    resistance: float = 1e4

    def feedback(self, lsb: float) -> float:
        """Feedback resistance in ohm for an ADC with ``lsb`` volts to the LSB."""
        return lsb / self.lsb_current

    def gain(self, lsb: float) -> float:
        """LSB out for an LSB in, less than one: what the finite gain of the amplifier takes away at DC.

        A current source with the resistance of the array drives an input that is not quite ground.
        """
        feedback = self.feedback(lsb)
        loss = self.resistance / (self.resistance + self.amplifier.input_resistance(feedback))
        return loss * self.amplifier.transimpedance(feedback) / feedback

    def settling(self, lsb: float, bits: int, timing: Timing) -> Timing:
        """Return ``timing`` with as many clock periods as settle a step of full scale to 0.01 LSB.

        The feedback leaves the amplifier ``gain_bandwidth / (1 + feedback / resistance)`` of bandwidth.
        """
        constant = (1 + self.feedback(lsb) / self.resistance) / (2 * math.pi * self.amplifier.gain_bandwidth)
        return replace(timing, settle=1 + math.ceil(math.log(100 * 2**bits) * constant / timing.period))


@dataclass(frozen=True, eq=False)
class Converted:
    """What came out.

    Attributes:
        codes: int64 ``[reads]``.
        energy: that the reference gave for each conversion, in joule, ``[reads]``.
        seen: what stood at the input of the ADC when the code was read, in LSB, ``[reads]``; behind a
            sample-and-hold that is what was converted.
    """

    codes: NDArray[np.int64]
    energy: NDArray[np.float64]
    seen: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Conversions:
    """Inputs that follow each other through one ADC.

    Attributes:
        title: one line.
        adc: the converter.
        inputs: in LSB, ``[reads]``: voltages at the ADC, or currents of the bit line if there is one.
        timing: clock.
        noise: in LSB, of the shape that the ADC names; None is none.
        bit_line: amplifier and sample-and-hold before the ADC; None applies voltages to the ADC itself.
    """

    title: str
    adc: AdcCircuit
    inputs: NDArray[np.float64]
    timing: Timing
    noise: NDArray[np.float64] | None = None
    bit_line: BitLine | None = None

    vectors = ("code", "energy", "seen")

    @property
    def points(self) -> int:
        """One for each read, and one for a read before the first."""
        return len(self.inputs) + 1

    @property
    def times(self) -> NDArray[np.float64]:
        """When the codes are read, in seconds."""
        return self.cycle.code_times(self.points)

    @property
    def cycle(self) -> ReadCycle:
        """Phases of a read."""
        return read_cycle(self.timing, self.adc, held=self.bit_line is not None)

    def circuit(self) -> Circuit:
        """The PySpice circuit. The first input is read once more beforehand: capacitors begin empty."""
        circuit, cycle = Circuit(safe_title(self.title)), self.cycle
        cycle.add(circuit)
        inputs = [float(self.inputs[0]), *self.inputs.tolist()]
        steps = staircase([read * cycle.duration for read in range(len(inputs))], inputs, self.timing.edge)
        if self.bit_line is None:
            source = "input"
            circuit.B("input", source, circuit.gnd, v=f"{self.adc.lsb!r}*{steps}")
        else:
            line, front = "bit_line", self.bit_line
            circuit.B("line", circuit.gnd, line, i=f"{front.lsb_current!r}*{steps}")
            circuit.R("line", line, circuit.gnd, front.resistance)
            output = front.amplifier.add(circuit, "line", line, front.feedback(self.adc.lsb))
            source = add_sample_and_hold(circuit, "line", output, self.timing.period)
        noise = self.noise
        if noise is not None:
            noise = np.concatenate([noise[..., :1], noise], axis=-1)
        add_outputs(circuit, self.adc.add(circuit, cycle, "adc", source, noise), source, "adc")
        return circuit

    def netlist(self) -> str:
        """The circuit and its analysis."""
        return f"{self.circuit()}.save v(code) v(energy) v(seen)\n{self.cycle.analysis(self.points)}\n.end\n"

    def converted(self, values: NDArray[np.float64]) -> Converted:
        """What the result vectors ``[points, 3]`` of the circuit say.

        Raises:
            SpiceError: if a code was read while it changed.
        """
        return read_out(self.title, self.adc, values)


def add_outputs(circuit: Circuit, code: str, source: str, name: str) -> None:
    """Add nodes ``code``, ``energy`` (on ``ENERGY_FARAD``) and ``seen`` of ADC ``name`` at ``source``."""
    circuit.VCVS("seen", "seen", circuit.gnd, source, circuit.gnd, voltage_gain=1.0)
    circuit.B("code", "code", circuit.gnd, v=code)
    # Before time begins there is an operating point, in which a capacitor takes no current.
    circuit.B("energy", circuit.gnd, "energy", i=f"time > 0 ? -v({name}_ref)*i(vref_{name}) : 0")
    circuit.C("energy", "energy", circuit.gnd, ENERGY_FARAD)
    circuit.R("energy", "energy", circuit.gnd, 1e15)


def convert(
    adc: AdcCircuit,
    inputs: ArrayLike,
    *,
    noise: ArrayLike | None = None,
    bit_line: BitLine | None = None,
    timing: Timing | None = None,
    title: str = "conversions",
    workers: int = 2,
    time_limit: float = TIME_LIMIT,
    keep_failed: Path | None = None,
) -> Converted:
    """Convert inputs in ngspice.

    Args:
        adc: the converter.
        inputs: in LSB, ``[reads]``; voltages, or currents where there is a ``bit_line``.
        noise: in LSB, of ``adc.noise_shape(reads)``; the caller draws it.
        bit_line: amplifier and sample-and-hold before the ADC.
        timing: clock; 50 MHz if left out.
        title: names the circuits.
        workers: ngspice processes.
        time_limit: seconds that one transient of 200 reads may take.
        keep_failed: folder for netlists that ngspice could not solve.

    Raises:
        ValueError: if a shape does not fit or a number is not finite.
        SpiceError: if a transient failed, or a code was read while it changed.
    """
    given = np.asarray(inputs, dtype=np.float64)
    if given.ndim != 1 or not len(given) or not np.isfinite(given).all():
        raise ValueError(f"{title}: inputs need shape [reads] and finite values")
    draws = None if noise is None else np.asarray(noise, dtype=np.float64)
    if draws is not None and (draws.shape != adc.noise_shape(len(given)) or not np.isfinite(draws).all()):
        raise ValueError(
            f"{title}: noise needs shape {[*adc.noise_shape(len(given))]} and finite values, "
            f"not shape {[*draws.shape]}"
        )
    whole = Conversions(title, adc, given, timing or Timing(), draws, bit_line)
    merged = Converted(np.empty(len(given), np.int64), np.empty(len(given)), np.empty(len(given)))
    parts = {conversions.title: (conversions, part) for conversions, part in _parts(whole)}
    jobs = [Job(label, conversions) for label, (conversions, _) in parts.items()]
    for result in run_jobs(jobs, workers, time_limit, keep_failed):
        if result.values is None:
            raise SpiceError(f"{result.job.label}: {result.error}")
        conversions, part = parts[result.job.label]
        found = conversions.converted(result.values)
        merged.codes[part], merged.energy[part], merged.seen[part] = found.codes, found.energy, found.seen
    return merged


def read_cycle(timing: Timing, adc: AdcCircuit, held: bool) -> ReadCycle:
    """The phases of a read, with those of a sample-and-hold before the ADC if there is one."""
    before = (*(f"settle_{k}" for k in range(timing.settle - 1)), "sample") if held else ()
    return ReadCycle(timing, before + adc.phases)


def read_out(title: str, adc: AdcCircuit, values: NDArray[np.float64]) -> Converted:
    """What the nodes of ``add_outputs``, ``[1 + reads, 3]``, say of all reads but the first.

    Raises:
        SpiceError: if a code was read while it changed.
    """
    seen = values[1:, 0]
    codes = np.rint(seen)
    if np.abs(seen - codes).max() > 1e-3 or codes.min() < 0 or codes.max() >= 2**adc.bits:
        raise SpiceError(f"{title}: a code was read before it was ready; give the clock a longer period")
    energy = np.diff(values[:, 1]) * ENERGY_FARAD
    return Converted(codes.astype(np.int64), energy, values[1:, 2] / adc.lsb)


def _parts(whole: Conversions) -> Iterator[tuple[Conversions, slice]]:
    for first in range(0, len(whole.inputs), READS_PER_JOB):
        part = slice(first, first + READS_PER_JOB)
        noise = None if whole.noise is None else whole.noise[..., part]
        title = f"{whole.title} from {first}"
        yield replace(whole, title=title, inputs=whole.inputs[part], noise=noise), part

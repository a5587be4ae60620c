"""Clock, phases and flip-flops of the converters: digital parts of XSPICE, and their bridges to volts.

A read walks through the phases of a ring counter, one clock period each, and the ring begins anew with the
next read. An input is applied at the start of the first phase; the code is read in the middle of the last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .pyspice import Circuit


@dataclass(frozen=True)
class Timing:
    """Times of a read, in seconds.

    Attributes:
        period: clock period.
        edge: rise and fall of everything that switches, at most a tenth of the period.
        settle: clock periods from a new input to the end of the sample, where there is an amplifier.

    Raises:
        ValueError: if a figure is out of its range.
    """

    period: float = 20e-9
    edge: float = 1e-9
    settle: int = 3

    def __post_init__(self) -> None:
        if not 0 < 10 * self.edge <= self.period < 1:
            raise ValueError(
                f"a clock needs 0 < edge <= period / 10 and period < 1 s, not {self.edge} and {self.period} s"
            )
        if not 1 <= self.settle <= 1000:
            raise ValueError(f"settle must be 1 to 1000 clock periods, not {self.settle}")


@dataclass(frozen=True)
class ReadCycle:
    """The phases of a read by name, in order, and when they are.

    Attributes:
        timing: clock.
        phases: names; phase ``p`` is the digital node ``ph_p``, which is one while it lasts.
    """

    timing: Timing
    phases: tuple[str, ...]

    @property
    def duration(self) -> float:
        """Seconds from one input to the next."""
        return len(self.phases) * self.timing.period

    def start(self, phase: str, read: int) -> float:
        """When a phase of a read begins, in seconds."""
        return read * self.duration + self.phases.index(phase) * self.timing.period

    def code_times(self, reads: int) -> NDArray[np.float64]:
        """When the codes of ``reads`` reads are there, in seconds: in the middle of the last phase."""
        return np.arange(1.0, reads + 1) * self.duration - self.timing.period / 2

    def analysis(self, reads: int) -> str:
        """The transient of ``reads`` reads.

        A step may be wrong by 1e-18 C on any capacitor (``reltol`` of ``chgtol``), a thousandth of what one
        LSB puts on a unit capacitor of 1 fF; to follow each switch more closely takes twice the time.
        """
        step, stop = self.timing.period, reads * self.duration - self.timing.period / 4
        return f".tran {step!r} {stop!r} 0 {step!r}\n.options chgtol=1e-12"

    def add(self, circuit: Circuit) -> None:
        """Add clock, reset, ring counter and the models of the digital parts."""
        period, edge = self.timing.period, self.timing.edge
        wait = edge / 3
        pulse = (0, 1, period, edge, edge, period / 2 - edge, period)
        circuit.V("clock", "clock_volts", circuit.gnd, f"PULSE({' '.join(map(repr, pulse))})")
        # Comparators look when all has settled, until a flip-flop has taken what they say: it does so 2.17
        # edges after the clock began to rise, and 2.87 edges after it the next trial moves their inputs.
        strobe = (0, 1, period / 2 + 2 * edge, edge / 2, edge / 2, period / 2 - edge / 4, period)
        circuit.V("strobe", "strobe", circuit.gnd, f"PULSE({' '.join(map(repr, strobe))})")
        reset = (0, 1, period / 4, 1, period / 4 + edge, 0)
        circuit.V("reset", "reset_volts", circuit.gnd, f"PWL({' '.join(map(repr, reset))})")
        circuit.V("one", "one", circuit.gnd, 1.0)
        delays = {"rise_delay": wait, "fall_delay": wait}
        circuit.model("to_digital", "adc_bridge", in_low=0.5, in_high=0.5, **delays)
        circuit.model("to_volts", "dac_bridge", out_low=0, out_high=1, out_undef=0, t_rise=edge, t_fall=edge)
        circuit.model("flip_flop", "d_dff", clk_delay=wait, set_delay=wait, reset_delay=wait, **delays)
        circuit.model("late", "d_buffer", rise_delay=2 * wait, fall_delay=2 * wait)
        circuit.model("low", "d_pulldown", load=1e-15)
        circuit.A("never", "never", model="low")
        circuit.A("timing", "[clock_volts reset_volts]", "[clock reset]", model="to_digital")
        before = self.phases[-1]
        for phase in self.phases:
            preset, clear = ("reset", "never") if phase == self.phases[0] else ("never", "reset")
            flip_flop(circuit, f"phase_{phase}", f"ph_{before}", "clock", preset, clear, f"ph_{phase}")
            before = phase


def flip_flop(
    circuit: Circuit, name: str, data: str, clock: str, preset: str, clear: str, output: str
) -> None:
    """Add a D flip-flop between digital nodes; it takes ``data`` when ``clock`` rises."""
    circuit.A(name, data, clock, preset, clear, output, "null", model="flip_flop")


def to_volts(circuit: Circuit, name: str, digital: Sequence[str], analog: Sequence[str]) -> None:
    """Add a bridge from digital nodes to analog ones: 0 V for a zero and 1 V for a one."""
    circuit.A(name, f"[{' '.join(digital)}]", f"[{' '.join(analog)}]", model="to_volts")


def staircase(times: Iterable[float], values: Iterable[float], edge: float) -> str:
    """Return an expression of time that takes each value at its time, within ``edge`` seconds, and keeps it.

    An expression costs ngspice one search for each look at it, where a PWL source walks through all points.
    """
    points: list[str] = []
    last = 0.0
    for time, value in zip(times, values, strict=True):
        if not points:
            points.append(f"-1,{value!r}")
        elif value != last:
            points += [f"{time!r},{last!r}", f"{time + edge!r},{value!r}"]
        last = value
    return f"pwl(time,{','.join([*points, f'1e6,{last!r}'])})"

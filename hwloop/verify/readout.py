"""Amplifier and ADC behind an array, as a circuit and as a model of the same parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from device_models.converters import (
    AdcModel,
    SarAdc,
    Transfer,
    UniformAdc,
    draw_capacitors,
    uniform,
)
from spice_netlists import (
    AdcCircuit,
    Amplifier,
    BitLine,
    Conversions,
    FlashCircuit,
    Job,
    SarCircuit,
    Timing,
)

from .pool import Pool
from .stations import Read

AMPLIFIER = Amplifier(gain=1e5, gain_bandwidth=1e9)


@dataclass(frozen=True, eq=False)
class AdcUnderTest:
    """One ADC behind an amplifier, as a circuit and as a model.

    Attributes:
        adc: the circuit.
        transfer: the thresholds of the model, without noise.
        front: what stands before the ADC.
    """

    adc: AdcCircuit
    transfer: Transfer
    front: BitLine

    def conversions(self, title: str, currents: np.ndarray) -> Conversions:
        """Return the transient in which ``currents`` in ampere, ``[reads]``, are read one after the other."""
        timing = self.front.settling(self.adc.lsb, self.adc.bits, Timing())
        return Conversions(title, self.adc, currents / self.front.lsb_current, timing, None, self.front)

    def model(self, currents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what the model has before the ADC, in LSB, and its codes, for ``currents`` in ampere."""
        seen = currents / self.front.lsb_current * self.front.gain(self.adc.lsb)
        codes = self.transfer.convert(torch.from_numpy(seen)[:, None])[:, 0]
        return seen, codes.numpy()


def adc_under_test(
    model: AdcModel,
    bits: int,
    lsb_current: float,
    resistance: float,
    adc: int,
    seed: int,
    names: tuple[str | int, ...],
) -> AdcUnderTest:
    """Return ADC number ``adc`` of a bank as a circuit and as a model, both without noise.

    An ideal ADC is a SAR with perfect capacitors; a bank that is neither SAR nor ideal is a flash ADC with
    the thresholds of its curve.

    Args:
        model: what the bank is made of.
        bits: resolution, 1 to 10.
        lsb_current: current of one LSB in ampere.
        resistance: of the bit line in ohm, as in ``BitLine``.
        adc: number of the ADC.
        seed: seed of the bank.
        names: names of its stream.
    """
    front = BitLine(AMPLIFIER, lsb_current, resistance)
    if isinstance(model, UniformAdc):
        units = [*(2.0**k for k in reversed(range(bits))), 1.0]
        return AdcUnderTest(SarCircuit.of(units), uniform(bits, 1), front)
    thresholds = model.build(bits, adc + 1, seed, *names).thresholds[adc:]
    if isinstance(model, SarAdc):
        figures = {
            "unit_capacitor_mismatch": model.unit_capacitor_mismatch,
            "comparator_offset": model.comparator_offset,
        }
        drawn = draw_capacitors(bits, adc + 1, seed, *names, **figures)
        circuit = SarCircuit.of(drawn.capacitors[adc].numpy(), float(drawn.offset[adc]))
        return AdcUnderTest(circuit, Transfer(thresholds), front)
    return AdcUnderTest(FlashCircuit.of(thresholds[0].numpy()), Transfer(thresholds), front)


@dataclass(frozen=True, eq=False)
class Request:
    """Currents in ampere, ``[reads]``: ngspice's for an ADC as a circuit, the fast solver's for its model."""

    under_test: AdcUnderTest
    title: str
    currents: np.ndarray
    model_currents: np.ndarray


def read_all(requests: Sequence[Request], pool: Pool) -> tuple[list[Read], str]:
    """Run all requests; return what came out, and why the first that failed did, if one did."""
    circuits = {
        request.title: request.under_test.conversions(request.title, request.currents) for request in requests
    }
    by_title = {request.title: request for request in requests}
    jobs = [Job(title, circuit) for title, circuit in circuits.items()]
    reads, failures = {}, []
    for result in pool.run(jobs):
        title = result.job.label
        if result.values is None:
            failures.append(f"{title}: {result.error}")
            continue
        under_test = by_title[title].under_test
        found = circuits[title].converted(result.values)
        seen, codes = under_test.model(by_title[title].model_currents)
        margin = np.abs(seen[:, None] - under_test.transfer.thresholds.numpy()).min(axis=1)
        reads[title] = Read(found.seen, seen, found.codes, codes, margin)
    return [reads[title] for title in circuits if title in reads], "".join(failures[:1])

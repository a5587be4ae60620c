"""A bit line from its drivers to the code in one circuit, against the fast solver and models of the ADC."""

import numpy as np
import pytest
import torch

from device_models.converters import draw_capacitors, flash, sar
from device_models.crossbar import SeriesAccess, Sinh, Transistor, Wires, effective_conductance, solve_array
from spice_netlists import Amplifier, FlashCircuit, Job, SarCircuit, Timing, column_read, run_jobs

needs_ngspice = pytest.mark.ngspice
COLUMN, ROWS, LSB = 2, 8, 40e-6 * 0.2 / 15
AMPLIFIER, TIMING = Amplifier(gain=300.0, gain_bandwidth=5e9), Timing(settle=4)
FIGURES = {"unit_capacitor_mismatch": 0.03, "comparator_offset": 0.4}


def adcs():
    drawn = draw_capacitors(6, 1, 2, "adc", **FIGURES)
    parallel = flash(6, 1, 2, "adc", threshold_offset=0.3)
    yield SarCircuit.of(drawn.capacitors[0], drawn.offset[0].item()), sar(6, 1, 2, "adc", **FIGURES)
    yield FlashCircuit.of(parallel.thresholds[0]), parallel


def model_of(currents, adc, transfer):
    """Held voltage in LSB and code, for currents into the input resistance of the amplifier."""
    held = currents / LSB * AMPLIFIER.gain / (1 + AMPLIFIER.gain)
    return held, transfer.convert(torch.from_numpy(held)[:, None])[:, 0].numpy()


@needs_ngspice
def test_bit_planes_of_an_array_become_the_codes_of_the_fast_solver_and_the_model():
    """Bit-serial inputs, lines with capacitance, and an amplifier whose gain of 300 must be in both."""
    rng = np.random.default_rng(4)
    g = rng.integers(0, 16, (ROWS, 5)) * (40e-6 / 15)
    planes = 0.2 * rng.integers(0, 2, (12, ROWS))
    curved = SeriesAccess(
        Sinh(torch.from_numpy(g), 2.0), Transistor(torch.full((ROWS, 5), 3e-4, dtype=torch.float64), 0.6)
    )
    reads, expected = {}, {}
    for k, (adc, transfer) in enumerate(adcs()):
        sense = np.full(5, 100.0)
        sense[COLUMN] += AMPLIFIER.input_resistance(adc.lsb / LSB)
        seen_by_array = Wires(3.0, 4.0, 50.0, torch.from_numpy(sense))
        ohmic = planes @ effective_conductance(torch.from_numpy(g), seen_by_array).numpy()
        bent = solve_array(curved, seen_by_array, torch.from_numpy(planes)).currents.numpy()
        for name, cells, currents in (("ohmic", g, ohmic), ("curved", curved, bent)):
            label = f"{name} {k}"
            reads[label] = column_read(
                cells,
                Wires(3.0, 4.0, 50.0, 100.0),
                planes,
                COLUMN,
                adc,
                label,
                lsb_current=LSB,
                amplifier=AMPLIFIER,
                timing=TIMING,
                capacitance=(0.5e-15, 0.5e-15),
            )
            expected[label] = (*model_of(currents[:, COLUMN], adc, transfer), transfer)
    for result in run_jobs([Job(label, read) for label, read in reads.items()], workers=2):
        assert not result.error, result.error
        found = reads[result.job.label].converted(result.values)
        held, codes, transfer = expected[result.job.label]
        assert found.seen == pytest.approx(held, abs=0.01)
        clear = np.abs(held[:, None] - transfer.thresholds.numpy()).min(axis=1) > 0.02
        assert clear.sum() > 6
        assert np.array_equal(found.codes[clear], codes[clear]), result.job.label


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"column": 1}, "bit line from 0 to 0"),
        ({"cells": np.ones((2, 1, 1))}, "one instance"),
        ({"lsb_current": 0.0}, "lsb_current"),
        ({"capacitance": (0.0, -1.0)}, "capacitance"),
        ({"voltages": [[1.0, 1.0]]}, "voltages"),
    ],
)
def test_reads_that_cannot_be_are_refused(change, message):
    arguments = {
        "cells": [[1e-5]],
        "wires": Wires(1.0, 1.0),
        "voltages": [[0.2]],
        "column": 0,
        "adc": SarCircuit.of([1.0, 1.0]),
        "title": "read",
        "lsb_current": 1e-6,
    }
    with pytest.raises(ValueError, match=message):
        column_read(**(arguments | change))

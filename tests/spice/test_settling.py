"""Arrays in time: they settle to what the static solver says, as fast as their time constants allow."""

import numpy as np
import pytest
import torch

from device_models.crossbar import Wires, effective_conductance
from spice_netlists import Job, array_transient, run_jobs, settling_time

needs_ngspice = pytest.mark.ngspice
WIRES = Wires(word_line=20.0, bit_line=30.0, driver=500.0, sense=200.0)


def solve(*transients):
    results = {
        int(result.job.label): result
        for result in run_jobs([Job(str(k), each) for k, each in enumerate(transients)], workers=2)
    }
    assert not [result.error for result in results.values() if result.error]
    return [results[k].values for k in range(len(transients))]


@needs_ngspice
def test_one_cell_charges_with_its_time_constant():
    """A driver of R, a cell that hardly loads it, C at the word line: ``V (1 - exp(-t / RC))``."""
    g, ohm, farad = 1e-9, 1e4, 1e-12
    wires = Wires(word_line=1e-3, bit_line=1e-3, driver=ohm)
    transient = array_transient(
        [[g]],
        wires,
        [[0.2], [0.0]],
        "RC",
        capacitance=(farad, 0.0),
        cycle_time=100e-9,
        rise_time=1e-11,
        samples=20,
    )
    (currents,) = solve(transient)
    times = transient.times[:20]
    charging = 0.2 * (1 - np.exp(-times / (ohm * farad)))
    assert currents[:20, 0] == pytest.approx(g * charging, rel=2e-3, abs=g * 2e-4)
    assert currents[20:, 0] == pytest.approx(g * 0.2 * np.exp(-times / (ohm * farad)), abs=g * 4e-4)


@needs_ngspice
def test_every_cycle_settles_to_the_currents_of_the_static_solver():
    rng = np.random.default_rng(0)
    g = rng.uniform(1e-6, 4e-5, (6, 5)) * (rng.random((6, 5)) < 0.8)
    bits = 0.2 * rng.integers(0, 2, (4, 6))
    timing = {"cycle_time": 20e-9, "rise_time": 0.1e-9, "samples": 10}
    slow = array_transient(g, WIRES, bits, "slow", capacitance=(5e-15, 5e-15), **timing)
    without = array_transient(g, WIRES, bits, "no capacitance", capacitance=(0.0, 0.0), **timing)
    settled = bits @ effective_conductance(torch.from_numpy(g), WIRES).numpy()
    for currents in solve(slow, without):
        assert currents.reshape(4, 10, 5)[:, -1] == pytest.approx(settled, rel=1e-4, abs=1e-9)


@needs_ngspice
def test_more_capacitance_takes_proportionally_longer():
    g = np.full((8, 8), 2e-5)
    timing = {"cycle_time": 20e-9, "rise_time": 1e-11, "samples": 1000}
    transients = [
        array_transient(g, WIRES, np.full((1, 8), 0.2), "x", capacitance=(c, c), **timing)
        for c in (10e-15, 20e-15)
    ]
    once, twice = (
        settling_time(currents, transients[0].times, 1e-3 * currents[-1].max()).max()
        for currents in solve(*transients)
    )
    assert twice == pytest.approx(2 * once, rel=0.1)


def test_settling_time_is_the_last_moment_away():
    times = np.arange(1.0, 6.0)
    currents = np.array([[0.0, 1.0], [1.2, 1.0], [0.9, 1.0], [1.0, 1.0], [1.0, 1.0]])
    assert settling_time(currents, times, 0.05).tolist() == [4.0, 1.0]
    assert settling_time(currents, times, 0.15).tolist() == [3.0, 1.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cells": np.ones((2, 1, 1))}, "one instance"),
        ({"capacitance": (-1e-15, 0.0)}, "capacitance"),
        ({"rise_time": 1e-9}, "rise_time"),
        ({"samples": 0}, "samples"),
        ({"voltages": [[0.1, 0.2]]}, "voltages"),
    ],
)
def test_transients_that_cannot_be_are_refused(change, message):
    arguments = {
        "cells": [[1e-5]],
        "wires": WIRES,
        "voltages": [[0.2]],
        "title": "tile",
        "capacitance": (1e-15, 1e-15),
        "cycle_time": 1e-9,
        "rise_time": 1e-11,
    }
    with pytest.raises(ValueError, match=message):
        array_transient(**(arguments | change))

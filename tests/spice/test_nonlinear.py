"""Cells that are not resistors, and instances that ride on one sweep, against fast solvers and formulas."""

import math

import numpy as np
import pytest
import torch

from device_models.crossbar import (
    Ohmic,
    Polynomial,
    SeriesAccess,
    Sinh,
    Transistor,
    Wires,
    effective_conductance,
    solve_array,
)
from spice_netlists import Job, crossbar_read, run_jobs

needs_ngspice = pytest.mark.ngspice
WIRES = Wires(word_line=4.0, bit_line=9.0, driver=50.0, sense=30.0)


def solve(cases):
    """Column currents of many (cells, wires, voltages) on one pool of workers, in order."""
    jobs = [Job(str(k), crossbar_read(*case, title=str(k))) for k, case in enumerate(cases)]
    results = {result.job.label: result for result in run_jobs(jobs, workers=2)}
    assert not [result.error for result in results.values() if result.error]
    return [results[str(k)].values for k in range(len(jobs))]


def random(shape, low, high, seed, kept=0.8):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.uniform(low, high, shape) * (rng.random(shape) < kept))


def laws(shape):
    g = random(shape, 1e-6, 1e-4, 0)
    alpha = 1.0 + 2 * random(shape, 0, 1, 1, kept=1)
    transistor = Transistor(random(shape, 1e-4, 4e-4, 2, kept=0.9), 0.6, 0.05)
    return {
        "sinh": Sinh(g, alpha),
        "ohmic 1T1R": SeriesAccess(Ohmic(g), transistor),
        "sinh 1T1R": SeriesAccess(Sinh(g, alpha), transistor),
    }


@needs_ngspice
def test_curved_cells_agree_with_the_non_linear_solver():
    """Both polarities of voltage, and voltages that saturate the transistors."""
    shape = (9, 7)
    voltages = torch.from_numpy(np.random.default_rng(3).uniform(-1.0, 1.5, (4, 9)))
    cases = laws(shape)
    found = solve([(cells, WIRES, voltages) for cells in cases.values()])
    for (name, cells), currents in zip(cases.items(), found, strict=True):
        exact = solve_array(cells, WIRES, voltages, tolerance=1e-11).currents.numpy()
        assert np.abs(currents - exact).max() < 2e-6 * np.abs(exact).max(), name  # reltol is 1e-6


@needs_ngspice
def test_one_cell_is_its_formula():
    g, alpha, gain, volts = 2e-5, 1.7, 3e-4, 0.9
    off = Wires(0.0, 0.0)
    tensor = torch.full((1, 1), g, dtype=torch.float64)
    strong = SeriesAccess(Ohmic(tensor), Transistor(torch.full_like(tensor, gain), 0.3))
    curved, saturated, backward = solve(
        [
            (Sinh(tensor, alpha), off, [[volts]]),
            (SeriesAccess(Ohmic(100 * tensor), strong.access), off, [[volts]]),
            (strong, off, [[-volts]]),
        ]
    )
    assert curved[0, 0] == pytest.approx(g * math.sinh(alpha * volts) / alpha, rel=1e-10)
    assert saturated[0, 0] == pytest.approx(gain * 0.3**2 / 2, rel=1e-6)
    # Backwards the gate is further above its source: gain (0.3 + u / 2) u = g (volts - u).
    b = 0.3 * gain + g
    drop = (-b + math.sqrt(b * b + 2 * gain * g * volts)) / gain
    assert backward[0, 0] == pytest.approx(-g * (volts - drop), rel=1e-6)


@needs_ngspice
def test_instances_of_one_sweep_are_the_arrays_one_by_one():
    g = np.stack([random((8, 6), 1e-6, 4e-5, seed, kept=0.7).numpy() for seed in range(5)])
    one, several = np.full((1, 8), 0.2), np.random.default_rng(1).uniform(0, 0.2, (3, 8))
    for voltages, currents in zip((one, several), solve([(g, WIRES, one), (g, WIRES, several)]), strict=True):
        exact = voltages @ effective_conductance(torch.from_numpy(g), WIRES).numpy()
        assert currents.shape == (5 * len(voltages), 6)
        error = np.abs(currents - exact.reshape(currents.shape)).max()
        assert error < 1e-9 * np.abs(exact).max()


def test_absent_cells_are_absent_behind_transistors_too():
    g = torch.tensor([[1e-5, 0.0], [1e-5, 1e-5]], dtype=torch.float64)
    gain = torch.tensor([[1e-4, 1e-4], [0.0, 1e-4]], dtype=torch.float64)
    read = crossbar_read(SeriesAccess(Ohmic(g), Transistor(gain, 0.5)), WIRES, np.ones((1, 2)), "pruned")
    cells = [line for line in read.netlist().splitlines() if line.startswith("Xcell")]
    assert [line.split()[0] for line in cells] == ["Xcell_0_0", "Xcell_1_1"]


def test_laws_without_a_circuit_are_refused_by_name():
    g = torch.full((2, 2), 1e-5, dtype=torch.float64)
    with pytest.raises(TypeError, match="Polynomial have no circuit"):
        crossbar_read(Polynomial([g], 1.0), WIRES, np.ones((1, 2)), "tile")
    with pytest.raises(TypeError, match="behind Ohmic"):
        crossbar_read(SeriesAccess(Ohmic(g), Ohmic(g)), WIRES, np.ones((1, 2)), "tile")
    with pytest.raises(ValueError, match=r"shape \[rows, cols\]"):
        crossbar_read(Ohmic(g[None]), WIRES, np.ones((1, 2)), "tile")
    each = torch.tensor([[0.0, 0.1]], dtype=torch.float64)
    with pytest.raises(ValueError, match="same for all transistors"):
        crossbar_read(SeriesAccess(Ohmic(g), Transistor(g, 0.5, each)), WIRES, np.ones((1, 2)), "tile")

"""The fast solver and its gradient against ngspice, on arrays as large as the ones that are mapped."""

import os

import numpy as np
import pytest
import torch

from device_models.crossbar import Wires, effective_conductance
from spice_netlists import Job, crossbar_read, run_jobs

pytestmark = pytest.mark.ngspice

G_MAX, READ_VOLTAGE = 40e-6, 0.2


def worst_difference(tiles, seed):
    """Largest difference of a column current over random tiles, of full scale and of the largest current."""
    rng = np.random.default_rng(seed)
    cases = {}
    for k in range(tiles):
        word_line, bit_line, driver, sense = 10 ** rng.uniform(-1, np.log10(50), 4)  # 0.1 to 50 ohm
        wires = Wires(word_line, bit_line, driver, sense)
        g = rng.uniform(0, G_MAX, (64, 64)) * (rng.random((64, 64)) < rng.uniform(0.05, 1))
        v = READ_VOLTAGE * np.stack([np.ones(64), rng.integers(0, 2, 64)])
        cases[f"{k}"] = (torch.from_numpy(g), wires, torch.from_numpy(v))
    jobs = [Job(label, crossbar_read(*case, title=label)) for label, case in cases.items()]
    of_full_scale, of_largest = [], []
    for result in run_jobs(jobs, workers=2):
        assert not result.error
        g, wires, v = cases[result.job.label]
        worst = np.abs((v @ effective_conductance(g, wires)).numpy() - result.values).max()
        of_full_scale.append(worst / (READ_VOLTAGE * G_MAX * 64))
        of_largest.append(worst / np.abs(result.values).max())
    assert len(of_largest) == tiles
    return max(of_full_scale), max(of_largest)


def test_two_full_size_tiles_agree_far_within_the_budget():
    of_full_scale, of_largest = worst_difference(tiles=2, seed=0)
    assert of_full_scale < 1e-9
    assert of_largest < 1e-9


@pytest.mark.skipif("HWLOOP_SLOW_TESTS" not in os.environ, reason="takes minutes; set HWLOOP_SLOW_TESTS=1")
def test_twenty_full_size_tiles_agree_within_the_budget():
    of_full_scale, of_largest = worst_difference(tiles=20, seed=1)
    assert of_full_scale < 1e-6
    assert of_largest < 1e-6


def test_gradients_of_the_fast_solver_are_the_finite_differences_of_ngspice():
    rng = np.random.default_rng(4)
    rows, cols, step = 4, 3, 1e-3
    g = rng.uniform(5e-6, G_MAX, (rows, cols))
    figures = {"word_line": 200.0, "bit_line": 500.0, "driver": 300.0, "sense": 400.0}
    v, weights = rng.uniform(0, READ_VOLTAGE, (1, rows)), rng.standard_normal(cols)

    leaves = {
        name: torch.tensor(ohm, dtype=torch.float64, requires_grad=True) for name, ohm in figures.items()
    }
    leaves["g"] = torch.tensor(g, requires_grad=True)
    effective = effective_conductance(leaves["g"], Wires(*(leaves[name] for name in figures)))
    (torch.from_numpy(v) @ effective @ torch.from_numpy(weights)).sum().backward()
    expected = [leaves["g"].grad.numpy().ravel()[k] * g.ravel()[k] for k in range(g.size)]
    expected += [leaves[name].grad.item() * ohm for name, ohm in figures.items()]

    def perturbed(k, sign):
        """The array with parameter k up or down by one step."""
        cells, wires = g.copy(), dict(figures)
        if k < g.size:
            cells.ravel()[k] *= 1 + sign * step
        else:
            wires[list(figures)[k - g.size]] *= 1 + sign * step
        return crossbar_read(cells, Wires(**wires), v, "perturbed")

    jobs = [Job(f"{k} {sign:+d}", perturbed(k, sign)) for k in range(len(expected)) for sign in (1, -1)]
    loss = {result.job.label: float(result.values[0] @ weights) for result in run_jobs(jobs, workers=2)}
    found = [(loss[f"{k} +1"] - loss[f"{k} -1"]) / (2 * step) for k in range(len(expected))]
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-5 * max(map(abs, expected)))

"""Wire figures from readouts: recovery, honest intervals, and plain words where the data do not tell."""

import numpy as np
import pytest
import torch

from calibration import effective_conductance_slopes, fit_wires
from device_models.crossbar import Wires, effective_conductance
from tests.circuits import reference

TRUE = {"word_line": 6.0, "bit_line": 11.0, "driver": 250.0, "sense": 120.0}
NAMES = tuple(TRUE)


def array(rows=12, cols=10, seed=0, batch=8, arrays=()):
    """Conductances of 10 to 100 uS and read voltages."""
    random = np.random.default_rng(seed)
    g = torch.from_numpy(random.uniform(1e-5, 1e-4, (*arrays, rows, cols)))
    return g, torch.from_numpy(random.uniform(0.0, 0.2, (*arrays, batch, rows)))


def readout(g, voltages, noise=0.0, seed=1):
    exact = voltages @ effective_conductance(g, Wires(**TRUE))
    sigma = noise * exact.mean()
    return exact + sigma * torch.from_numpy(np.random.default_rng(seed).standard_normal(exact.shape)), sigma


def test_slopes_are_the_differences_of_the_effective_conductance():
    g, _ = array(7, 5, arrays=(2,))
    slopes = effective_conductance_slopes(g, Wires(**TRUE), NAMES)
    for name, slope in zip(NAMES, slopes, strict=True):
        h = 1e-3 * TRUE[name]
        up, down = (effective_conductance(g, Wires(**TRUE | {name: TRUE[name] + s * h})) for s in (1, -1))
        torch.testing.assert_close(
            slope, (up - down) / (2 * h), rtol=1e-4, atol=1e-6 * slope.abs().max().item()
        )


def test_exact_readouts_give_the_exact_figures():
    g, voltages = array()
    fit = fit_wires(g, voltages, readout(g, voltages)[0])
    for name in NAMES:
        assert getattr(fit.wires, name) == pytest.approx(TRUE[name], rel=1e-6)
        assert fit.standard_errors[name] < 1e-5 * TRUE[name]
    assert fit.identifiable


def test_readouts_of_an_independent_solver_give_the_figures():
    g, voltages = array(seed=3)
    effective = torch.from_numpy(reference.effective_conductance(g.numpy(), **TRUE))
    fit = fit_wires(g, voltages, voltages @ effective)
    for name in NAMES:
        assert getattr(fit.wires, name) == pytest.approx(TRUE[name], rel=1e-6)


@pytest.mark.parametrize("start", [0.01, 1.0, 300.0])
def test_start_does_not_matter(start):
    g, voltages = array()
    fit = fit_wires(g, voltages, readout(g, voltages)[0], initial=Wires(start, start, start, start))
    assert fit.wires.word_line == pytest.approx(TRUE["word_line"], rel=1e-5)
    assert fit.wires.sense == pytest.approx(TRUE["sense"], rel=1e-5)


@pytest.mark.parametrize("told", [True, False], ids=["sigma given", "sigma from residuals"])
def test_intervals_hold_the_truth_as_often_as_they_say(told):
    inside, seeds = 0, 60
    g, voltages = array(8, 8)
    for seed in range(seeds):
        currents, sigma = readout(g, voltages, noise=2e-3, seed=seed)
        fit = fit_wires(g, voltages, currents, initial=Wires(**TRUE), sigma=sigma if told else None)
        for name in NAMES:
            low, high = fit.interval(name, 0.9)
            inside += low <= TRUE[name] <= high
    # 216 of 240 expected; the four figures of one seed are correlated.
    assert 200 <= inside <= 232


def test_chi_square_tells_a_wrong_model():
    g, voltages = array()
    currents, sigma = readout(g, voltages, noise=1e-3)
    assert fit_wires(g, voltages, currents, sigma=sigma).chi_square == pytest.approx(1.0, abs=0.4)
    assert fit_wires(g * 1.2, voltages, currents, sigma=sigma).chi_square > 3
    assert np.isnan(fit_wires(g, voltages, currents).chi_square)


def test_residual_is_the_noise_in_ampere():
    g, voltages = array()
    currents, sigma = readout(g, voltages, noise=1e-3)
    assert fit_wires(g, voltages, currents).residual == pytest.approx(sigma.item(), rel=0.3)


def test_driver_and_word_line_of_a_single_column_cannot_be_told_apart():
    g, voltages = array(10, 1)
    currents, sigma = readout(g, voltages, noise=1e-4)
    fit = fit_wires(g, voltages, currents, sigma=sigma)
    assert not fit.identifiable
    assert ("word_line", "driver") in fit.unidentified
    assert np.isinf(fit.standard_errors["driver"])
    total = fit.wires.word_line + fit.wires.driver
    fixed = fit_wires(
        g,
        voltages,
        currents,
        sigma=sigma,
        fit=["bit_line", "driver", "sense"],
        initial=Wires(6.0, 1.0, 1.0, 1.0),
    )
    assert fixed.wires.word_line == 6.0
    assert fixed.wires.driver + 6.0 == pytest.approx(total, rel=1e-3)


def test_a_figure_without_effect_is_named():
    g, voltages = array()
    figures = TRUE | {"driver": 0.0}
    currents = voltages @ effective_conductance(g, Wires(**figures))
    sigma = 1e-3 * currents.mean()
    noisy = currents + sigma * torch.from_numpy(np.random.default_rng(0).standard_normal(currents.shape))
    fit = fit_wires(g, voltages, noisy, sigma=sigma, initial=Wires(5.0, 5.0, 1e-3, 5.0))
    assert ("driver",) in fit.unidentified
    low, high = fit.interval("driver")
    assert low < 1.0 < high or fit.wires.driver < 1.0


def test_several_arrays_narrow_the_interval():
    one = array()
    many = array(arrays=(4,))
    errors = []
    for g, voltages in (one, many):
        currents, sigma = readout(g, voltages, noise=1e-3)
        errors.append(fit_wires(g, voltages, currents, sigma=sigma).standard_errors["word_line"])
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"g": torch.ones(3, 2)}, "g must be a float64"),
        ({"voltages": torch.full((4, 3), float("nan")).double()}, "voltages holds values"),
        ({"voltages": torch.ones(4, 2).double()}, r"voltages has shape \[4, 2\].*\[batch, 3\]"),
        ({"currents": torch.ones(5, 2).double()}, r"currents has shape \[5, 2\]"),
        ({"fit": []}, "one or more of word_line"),
        ({"fit": ["drivers"]}, "one or more of word_line"),
        ({"initial": Wires(1.0, 1.0, 0.0, 1.0)}, "initial.driver"),
        ({"initial": Wires(torch.ones(3, 2), 1.0, 1.0, 1.0)}, "initial.word_line"),
        ({"sigma": 0.0}, "sigma must be finite and positive"),
        ({"sigma": torch.ones(7)}, r"sigma has shape \[7\]"),
    ],
)
def test_data_that_cannot_be_fitted_are_refused(change, message):
    data = {
        "g": torch.full((3, 2), 1e-5).double(),
        "voltages": torch.ones(4, 3).double(),
        "currents": torch.ones(4, 2).double(),
    }
    with pytest.raises(ValueError, match=message):
        fit_wires(**(data | change))

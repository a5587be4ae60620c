"""Wires and column converters from codes: both are found, and what looks alike is told."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from calibration import fit_readout
from device_models.crossbar import Wires, effective_conductance

TRUE = Wires(5.0, 8.0, 100.0, 50.0)
COLS = 8


def codes(noise: float, curved: bool, seed: int = 0) -> tuple[torch.Tensor, ...]:
    rng = np.random.default_rng(seed)
    g = torch.from_numpy(rng.uniform(1e-6, 1e-4, (4, 16, COLS)) * rng.choice([0.1, 1.0], (4, 1, COLS)))
    volts = torch.from_numpy(rng.uniform(0, 0.2, (4, 40, 16)))
    current = volts @ effective_conductance(g, TRUE)
    gain = torch.from_numpy(1e6 * rng.normal(1, 0.05, COLS))
    offset = torch.from_numpy(rng.normal(0, 2, COLS))
    bend = torch.from_numpy(1e9 * rng.normal(0, 1, COLS)) * curved
    clean = offset + gain * current + bend * current**2
    return g, volts, clean + noise * torch.from_numpy(rng.standard_normal(clean.shape)), gain, offset, bend


@pytest.mark.parametrize("curved", [False, True])
def test_exact_codes_give_wires_and_converters_exactly(curved: bool) -> None:
    g, volts, read, gain, offset, bend = codes(0.0, curved)
    fit = fit_readout(g, volts, read, initial=Wires(1.0, 1.0, 30.0, 30.0), curved=curved)
    assert fit.gain == pytest.approx(gain.numpy(), rel=1e-5)
    assert fit.offset == pytest.approx(offset.numpy(), abs=1e-5)
    assert fit.curvature == pytest.approx(bend.numpy(), abs=1e4)
    for name in ("word_line", "bit_line", "driver", "sense"):
        assert getattr(fit.wires.wires, name) == pytest.approx(getattr(TRUE, name), rel=1e-4)


def test_errors_are_those_of_repeated_readouts() -> None:
    inside, total = 0, 0
    for seed in range(12):
        g, volts, read, gain, offset, _ = codes(0.05, False, seed)
        fit = fit_readout(g, volts, read, initial=TRUE)
        inside += int((np.abs(fit.gain - gain.numpy()) < 1.96 * fit.gain_error).sum())
        inside += int((np.abs(fit.offset - offset.numpy()) < 1.96 * fit.offset_error).sum())
        total += 2 * COLS
        assert fit.residual == pytest.approx(0.05, rel=0.1)
    assert 0.88 < inside / total < 0.99


def test_a_sense_that_gains_can_replace_is_not_claimed_to_be_known() -> None:
    rng = np.random.default_rng(1)
    g = torch.from_numpy(np.tile(rng.uniform(1e-6, 2e-6, (1, 16, COLS)), (2, 1, 1)))
    volts = torch.from_numpy(rng.uniform(0, 0.2, (2, 20, 16)))
    current = volts @ effective_conductance(g, TRUE)
    read = 1e6 * current + 0.5 * torch.from_numpy(rng.standard_normal(current.shape))
    fit = fit_readout(g, volts, read, initial=TRUE)
    assert not fit.wires.identifiable


def test_shapes_and_counts_are_checked() -> None:
    g, volts, read, *_ = codes(0.0, False)
    with pytest.raises(ValueError, match=r"needs \[arrays, rows, cols\]"):
        fit_readout(g[0], volts[0], read[0], initial=TRUE)
    with pytest.raises(ValueError, match="codes cannot determine 20 figures"):
        fit_readout(g[:1], volts[:1, :2], read[:1, :2], initial=TRUE)

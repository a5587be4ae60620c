"""Sine fits: an ideal ADC has its bits, noise takes what it must, and the spectrum tells the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from device_models.converters import Transfer, sine_fit, uniform
from tests.converters.banks import BANKS, sine

SAMPLES, CYCLES = 16_384, 1021
few = settings(max_examples=15, deadline=None)


def middle(bits: int) -> float:
    return (2**bits - 1) / 2


@pytest.mark.parametrize("bits", [3, 4, 6, 8, 10, 12])
def test_ideal_adc_has_its_bits(bits: int) -> None:
    x = sine(middle(bits), 2 ** (bits - 1), CYCLES, SAMPLES)[:, None]
    assert sine_fit(uniform(bits, 1).convert(x), CYCLES / SAMPLES).enob(bits).item() == pytest.approx(
        bits, abs=0.05
    )


@pytest.mark.parametrize("sigma", [0.25, 0.5, 1.0, 2.0])
def test_noise_takes_the_bits_that_its_power_takes(sigma: float) -> None:
    bits, adcs = 8, 4
    noisy = Transfer(uniform(bits, adcs).thresholds, sigma)
    x = sine(middle(bits), 2 ** (bits - 1) - 6 * sigma, CYCLES, SAMPLES)[:, None].expand(-1, adcs)
    draws = torch.randn(SAMPLES, adcs, generator=torch.Generator().manual_seed(1))
    enob = sine_fit(noisy.convert(x, draws), CYCLES / SAMPLES).enob(bits)
    derived = bits - math.log2(math.sqrt(1 + 12 * sigma**2))
    assert enob.tolist() == pytest.approx([derived] * adcs, abs=0.04)


@few
@given(st.floats(0.01, 0.49), st.floats(1, 1e3), st.floats(-50, 50), st.floats(-3, 3))
def test_a_pure_sine_is_found(frequency: float, amplitude: float, offset: float, phase: float) -> None:
    time = torch.arange(500, dtype=torch.float64)
    codes = (offset + amplitude * torch.sin(2 * torch.pi * frequency * time + phase))[:, None]
    for fit in (sine_fit(codes, frequency), sine_fit(codes, frequency + 2e-4, fit_frequency=True)):
        assert fit.amplitude.item() == pytest.approx(amplitude)
        assert fit.offset.item() == pytest.approx(offset, abs=1e-6 * amplitude)
        assert fit.phase.item() == pytest.approx(phase, abs=1e-6)
        assert fit.frequency.item() == pytest.approx(frequency, abs=1e-9)
        assert fit.residual.item() < 1e-6 * amplitude


@pytest.mark.parametrize("kind", sorted(BANKS))
def test_fit_and_spectrum_tell_the_same_sinad(kind: str) -> None:
    transfer = BANKS[kind](7, 3, 8)
    codes = transfer.convert(sine(64, 55, CYCLES, SAMPLES)[:, None].expand(-1, 3))
    power = np.abs(np.fft.rfft(codes.numpy(), axis=0))[1:] ** 2
    power[-1] /= 2  # the bin at half the sampling rate is its own mirror image
    signal = power[CYCLES - 1]
    assert sine_fit(codes, CYCLES / SAMPLES).sinad.tolist() == pytest.approx(
        10 * np.log10(signal / (power.sum(0) - signal)), abs=1e-6
    )


def test_a_frequency_that_is_not_quite_known_is_fitted_for_each_adc() -> None:
    time = torch.arange(2000, dtype=torch.float64)
    true = torch.tensor([0.03141, 0.03149], dtype=torch.float64)
    codes = uniform(8, 2).convert(127.5 + 120 * torch.sin(2 * torch.pi * true * time[:, None] + 1))
    fitted, guessed = sine_fit(codes, 0.0314, fit_frequency=True), sine_fit(codes, 0.0314)
    assert fitted.frequency.tolist() == pytest.approx(true.tolist(), abs=1e-7)
    assert fitted.enob(8).tolist() == pytest.approx([8, 8], abs=0.1)
    assert (guessed.enob(8) < 6).all()


def test_errors_cost_bits() -> None:
    x = sine(127.5, 120, CYCLES, SAMPLES)[:, None].expand(-1, 3)
    for kind in ("sar", "flash", "ramp"):
        enob = sine_fit(BANKS[kind](8, 3, 8).convert(x), CYCLES / SAMPLES).enob(8)
        assert (enob < 7.99).all(), kind


def test_what_is_no_record_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \[samples, adcs\] with 5 samples"):
        sine_fit(torch.zeros(4, 1), 0.1)
    with pytest.raises(ValueError, match=r"between 0 and 1/2 cycle per sample, not 0\.5"):
        sine_fit(torch.zeros(40, 1), 0.5)
    noise = torch.randn(64, 20, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="found no frequency"):
        sine_fit(noise, 0.2, fit_frequency=True)

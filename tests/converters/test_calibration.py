"""Foreground calibration: gain and offset go, nonlinearity stays."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from device_models.converters import Transfer, foreground, linearity, uniform
from tests.converters.banks import BANKS, staircase

few = settings(max_examples=25, deadline=None)


@few
@given(st.integers(3, 10), st.floats(0.8, 1.25), st.floats(-5, 5), st.sampled_from([4, 16, 64]))
def test_a_line_is_taken_out_to_the_spacing_of_the_inputs(
    bits: int, width: float, offset: float, per_lsb: int
) -> None:
    transfer = Transfer(uniform(bits, 2).thresholds * width + offset)
    low, high = -8.0, 2.0**bits * 1.25 + 8
    after = linearity(foreground(transfer, staircase(low, high, int((high - low) * per_lsb))))
    assert ((after.gain - 1).abs() * 2**bits < 2 / per_lsb).all()
    assert (after.offset.abs() < 2 / per_lsb).all()


@few
@given(st.sampled_from(sorted(BANKS)), st.integers(3, 9), st.integers(0, 2**31))
def test_dnl_and_inl_remain_as_they_were(kind: str, bits: int, seed: int) -> None:
    transfer = BANKS[kind](bits, 3, seed)
    after = foreground(transfer, staircase(-10, 2.0**bits + 10, 20 * 2**bits))
    for fit in ("end-point", "best-fit"):
        old, new = linearity(transfer, fit), linearity(after, fit)
        assert torch.allclose(old.dnl, new.dnl, atol=1e-9)
        assert torch.allclose(old.inl, new.inl, atol=1e-9)
    assert (new.gain - 1).abs().max() < 1 / 2**bits * (1 + 8 * old.inl.abs().max())
    assert new.offset.abs().max() < 0.1 + 0.5 * old.inl.abs().max()


def test_two_inputs_find_the_line_to_about_one_lsb() -> None:
    transfer = Transfer(uniform(8, 1).thresholds * 1.1 + 4)
    after = foreground(transfer, torch.tensor([20.3, 260.1]))
    assert (after.thresholds - uniform(8, 1).thresholds).abs().max() < 1.2
    assert (transfer.thresholds - uniform(8, 1).thresholds).abs().max() > 25


def test_noise_averages_out_and_stays_in_the_bank() -> None:
    transfer = Transfer(uniform(8, 3).thresholds * 0.95 - 3, noise=0.7)
    inputs = staircase(-5, 250, 20_000)
    draws = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(2))
    after = foreground(transfer, inputs, draws)
    assert after.noise == 0.7
    assert (after.thresholds - uniform(8, 3).thresholds).abs().max() < 0.1


def test_codes_at_the_ends_do_not_bend_the_line() -> None:
    transfer = Transfer(uniform(6, 1).thresholds * 1.03 + 0.4)
    near, far = (foreground(transfer, staircase(-r, 64 + r, 64 * (64 + 2 * int(r)))) for r in (4.0, 300.0))
    assert torch.allclose(near.thresholds, far.thresholds, atol=0.05)


def test_inputs_that_tell_no_line_are_refused() -> None:
    transfer = uniform(4, 2)
    for inputs in ([3.0, 3.1], [-9.0, 40.0], [5.0]):
        with pytest.raises(ValueError, match="ADC 0 gives no two rising codes"):
            foreground(transfer, torch.tensor(inputs))
    with pytest.raises(ValueError, match=r"shape \[points\]"):
        foreground(transfer, torch.zeros(3, 2))

"""Standard figures: thresholds and histograms of a ramp or a sine tell the same DNL, INL, gain and offset."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from device_models.converters import Linearity, Ramp, Sine, Transfer, code_density, linearity, uniform
from tests.converters.banks import BANKS, sine, staircase

few = settings(max_examples=15, deadline=None)
fits = pytest.mark.parametrize("fit", ["end-point", "best-fit"])


def bank(*rows: list[float]) -> Transfer:
    return Transfer(torch.tensor(rows, dtype=torch.float64))


def assert_close(seen: Linearity, exact: Linearity, error: float) -> None:
    for figure in ("gain", "offset", "dnl", "inl"):
        difference = (getattr(seen, figure) - getattr(exact, figure)).abs().max()
        assert difference <= error, f"{figure} is {difference} off, {error} allowed"


def test_figures_of_a_curve_worked_by_hand() -> None:
    line = linearity(bank([0.5, 2.0, 2.5], [2.0, 4.0, 6.0]))
    assert line.gain.tolist() == [1.0, 0.5]
    assert line.offset.tolist() == [0.0, -0.5]
    assert line.dnl.tolist() == [[0.5, -0.5], [0.0, 0.0]]
    assert line.inl.tolist() == [[0.0, 0.5, 0.0], [0.0, 0.0, 0.0]]
    assert not line.missing.any()


@fits
def test_ideal_adc_has_no_errors(fit: str) -> None:
    line = linearity(uniform(9, 2), fit)
    assert torch.allclose(line.gain, torch.ones(2, dtype=torch.float64))
    for figure in (line.offset, line.dnl, line.inl):
        assert figure.abs().max() < 1e-10


@few
@given(st.sampled_from(["sar", "flash", "ramp"]), st.integers(2, 8), st.integers(0, 2**31))
def test_lines_are_the_end_points_and_the_least_squares(kind: str, bits: int, seed: int) -> None:
    transfer = BANKS[kind](bits, 2, seed)
    ends, best = linearity(transfer), linearity(transfer, "best-fit")
    assert ends.inl[:, [0, -1]].abs().max() < 1e-9
    assert torch.allclose(ends.inl[:, 1:], ends.dnl.cumsum(1), atol=1e-9)
    ideal = np.arange(1, 2**bits) - 0.5
    for adc in range(2):
        slope, shift = np.polyfit(transfer.thresholds[adc].numpy(), ideal, 1)
        assert best.gain[adc].item() == pytest.approx(slope)
        assert best.offset[adc].item() == pytest.approx(shift, abs=1e-9)
    assert (best.inl**2).sum() <= (ends.inl**2).sum() + 1e-9


@few
@given(
    st.sampled_from(["sar", "flash", "ramp"]), st.floats(0.5, 2), st.floats(-20, 20), st.integers(0, 2**31)
)
def test_dnl_and_inl_do_not_feel_gain_and_offset(kind: str, gain: float, offset: float, seed: int) -> None:
    transfer = BANKS[kind](6, 2, seed)
    line, moved = linearity(transfer), linearity(Transfer(transfer.thresholds * gain + offset))
    assert torch.allclose(line.dnl, moved.dnl, atol=1e-9)
    assert torch.allclose(line.inl, moved.inl, atol=1e-9)
    assert torch.allclose(moved.gain * gain, line.gain)


def test_missing_codes_are_named() -> None:
    assert linearity(bank([0.5, 1.5, 1.5, 3.0, 4.0, 5.5, 6.5])).missing[0].nonzero().tolist() == [[1]]


@few
@given(st.sampled_from(sorted(BANKS)), st.integers(2, 7), st.integers(0, 2**31))
def test_ramp_histogram_tells_what_the_thresholds_tell(kind: str, bits: int, seed: int) -> None:
    transfer = BANKS[kind](bits, 3, seed)
    low, high = -12.0, 2.0**bits + 12
    per_lsb = 400
    x = staircase(low, high, int((high - low) * per_lsb))
    for fit in ("end-point", "best-fit"):
        seen = code_density(transfer.convert(x[:, None].expand(-1, 3)), bits, Ramp(low, high), fit)
        assert_close(seen, linearity(transfer, fit), error=8 / per_lsb)


@few
@given(st.sampled_from(sorted(BANKS)), st.integers(3, 7), st.integers(0, 2**31))
def test_sine_histogram_tells_what_the_thresholds_tell(kind: str, bits: int, seed: int) -> None:
    transfer = BANKS[kind](bits, 2, seed)
    offset, amplitude, samples = 2.0 ** (bits - 1), 2.0 ** (bits - 1) + 8, 200_003
    codes = transfer.convert(sine(offset, amplitude, 997, samples)[:, None].expand(-1, 2))
    seen = code_density(codes, bits, Sine(offset, amplitude))
    # Between neighbouring phases the sine moves by at most pi * amplitude / samples per side.
    assert_close(seen, linearity(transfer), error=16 * np.pi * amplitude / samples)


def test_missing_codes_are_seen_in_the_histogram() -> None:
    transfer = bank([0.5, 1.5, 1.5, 3.0, 4.0, 5.5, 6.5])
    codes = transfer.convert(staircase(-1, 8, 9000)[:, None])
    assert code_density(codes, 3, Ramp(-1, 8)).missing[0].nonzero().tolist() == [[1]]


def test_ends_that_the_stimulus_does_not_reach_are_not_judged() -> None:
    """From 1.8 to 5.2 LSB codes 2 to 5 are seen: thresholds of 3 to 5, and the widths of 3 and 4."""
    codes = uniform(3, 1).convert(staircase(1.8, 5.2, 3400)[:, None])
    seen = code_density(codes, 3, Ramp(1.8, 5.2))
    assert seen.inl[0].isnan().tolist() == [True, True, False, False, False, True, True]
    assert seen.dnl[0].isnan().tolist() == [True, True, False, False, True, True]
    assert seen.gain.item() == pytest.approx(1, abs=0.002)
    assert seen.offset.item() == pytest.approx(0, abs=0.005)
    assert seen.inl.nan_to_num().abs().max() < 0.005


def test_clipping_at_the_ends_does_not_count() -> None:
    codes = uniform(4, 1).convert(staircase(-40, 90, 130_000)[:, None])
    assert_close(code_density(codes, 4, Ramp(-40, 90)), linearity(uniform(4, 1)), error=0.005)


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(ValueError, match="ADC 0 shows fewer than two thresholds"):
        linearity(uniform(1, 2))
    with pytest.raises(ValueError, match="ADC 1 coincide"):
        linearity(bank([0.5, 1.5, 2.5], [1.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match="fit must be"):
        linearity(uniform(2, 1), "median")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"ADC 1 shows fewer than two .* more range"):
        code_density(torch.tensor([[0, 1], [1, 1], [2, 1]]), 2, Ramp(0, 3))
    with pytest.raises(ValueError, match="codes of a 2-bit ADC are 0 to 3, not 0 to 4"):
        code_density(torch.tensor([[0], [4]]), 2, Ramp(0, 3))
    with pytest.raises(ValueError, match=r"shape \[samples, adcs\], not \[4\]"):
        code_density(torch.arange(4), 2, Ramp(0, 3))

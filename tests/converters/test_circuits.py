"""ADC circuits: two models of a SAR agree, and errors spread as their circuit theory says."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from device_models.converters import draw_capacitors, flash, linearity, ramp, sar, sar_convert, uniform
from tests.converters.banks import BANKS

few = settings(max_examples=25, deadline=None)


def normals(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@few
@given(st.integers(1, 9), st.floats(0, 0.1), st.floats(0, 3), st.integers(0, 2**31))
def test_sar_thresholds_are_the_decisions_bit_by_bit(
    bits: int, mismatch: float, offset: float, seed: int
) -> None:
    errors = {"unit_capacitor_mismatch": mismatch, "comparator_offset": offset}
    transfer = sar(bits, 3, seed, "t", **errors)
    array = draw_capacitors(bits, 3, seed, "t", **errors)
    everywhere = (
        torch.rand(500, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 1.4 - 0.2
    ) * 2**bits
    edges = transfer.thresholds.T
    for x in (everywhere, edges - 1e-9, edges + 1e-9):
        assert torch.equal(transfer.convert(x), sar_convert(x, array))


def test_sar_with_large_mismatch_misses_codes_in_both_models() -> None:
    errors = {"unit_capacitor_mismatch": 0.1}
    transfer, array = sar(8, 50, 3, "t", **errors), draw_capacitors(8, 50, 3, "t", **errors)
    fine = torch.arange(-2, 258, 1 / 64, dtype=torch.float64)[:, None].expand(-1, 50)
    decided = sar_convert(fine, array)
    assert torch.equal(decided, transfer.convert(fine))
    missing = linearity(transfer).missing
    assert missing.sum() > 20
    for adc, code in missing.nonzero().tolist():
        assert (decided[:, adc] != code + 1).all()


def test_ideal_sar_is_uniform() -> None:
    assert torch.equal(sar(10, 2, 0, "t").thresholds, uniform(10, 2).thresholds)


def test_sar_noise_acts_at_every_decision() -> None:
    """At a threshold a decision is open; far from all but one, the other decisions do not feel the noise."""
    array, noise, conversions = draw_capacitors(4, 1, 0, "t"), 0.1, 40_000
    x = torch.full((conversions, 1), 5.5 + 0.07, dtype=torch.float64)
    codes = sar_convert(x, array, noise, normals(4, conversions, 1))
    upper = 0.5 * (1 + math.erf(0.7 / math.sqrt(2)))
    assert set(codes.unique().tolist()) == {5, 6}
    assert (codes == 6).double().mean().item() == pytest.approx(upper, abs=4 * 0.5 / math.sqrt(conversions))
    quiet = sar(4, 1, 0, "t", noise=noise).convert(x, normals(conversions, 1, seed=1))
    assert (quiet == 6).double().mean().item() == pytest.approx(upper, abs=4 * 0.5 / math.sqrt(conversions))


@pytest.mark.parametrize("bits", [4, 6, 8, 10])
def test_sar_mismatch_spreads_mid_scale_as_derived(bits: int) -> None:
    """Binary-weighted array, sum of capacitors 2^b + E, errors e_k of variance 2^k s^2, first order in s.

    The step into mid-scale is ``2^b (C_msb - all lower) / sum``: its variance, with q = 2^-b, is
    ``s^2 [2^(b-1) (1-q)^2 + (2^(b-1)-1) (1+q)^2 + q^2] = s^2 (2^b - 1 - q)``. The threshold itself,
    ``2^b C_msb / sum``, has ``s^2 2^b / 4``. Against the line through the end points, whose scale leaves
    out C_0 and the terminating unit, they are ``s^2 (2^b - 1 - 3 / (2^b - 2))`` and ``s^2 (2^b / 4 + 1/2)``.
    """
    mismatch, adcs, levels = 0.01, 4000, 2**bits
    transfer = sar(bits, adcs, 5, "monte carlo", unit_capacitor_mismatch=mismatch)
    mid = levels // 2 - 1  # index of the threshold of code 2^(bits-1)
    width = transfer.thresholds[:, mid] - transfer.thresholds[:, mid - 1]
    line = linearity(transfer)
    spreads = {
        "width": (width - 1, levels - 1 - 1 / levels),
        "threshold": (transfer.thresholds[:, mid] - mid - 0.5, levels / 4),
        "dnl": (line.dnl[:, mid - 1], levels - 1 - 3 / (levels - 2)),
        "inl": (line.inl[:, mid], levels / 4 + 0.5),
    }
    for name, (values, variance) in spreads.items():
        derived = mismatch * math.sqrt(variance)
        # Four standard errors of a standard deviation, and a thousandth for what is of second order.
        assert values.std().item() == pytest.approx(derived, rel=4 / math.sqrt(2 * adcs) + 1e-3), name
        assert abs(values.mean().item()) < 4 * derived / math.sqrt(adcs), name
    worst = line.dnl.std(0).argmax().item()
    assert worst == mid - 1


def test_flash_thresholds_spread_by_their_offsets_and_stay_sorted() -> None:
    small = flash(6, 2000, 1, "f", threshold_offset=0.05).thresholds - uniform(6, 1).thresholds
    assert small.std().item() == pytest.approx(0.05, rel=4 / math.sqrt(2 * small.numel()))
    assert small.std(0).sub(0.05).abs().max().item() < 5 * 0.05 / math.sqrt(4000)
    widths = small.diff(dim=1)
    assert widths.std().item() == pytest.approx(0.05 * math.sqrt(2), rel=0.01)


def test_flash_encoder_counts_comparators_that_have_tripped() -> None:
    """Offsets that swap comparators leave the count what it was: the sum over unsorted comparators."""
    transfer = flash(5, 4, 2, "f", threshold_offset=2.0)
    from device_models.random import stream

    offsets = 2.0 * torch.from_numpy(stream(2, "f", "comparators").standard_normal((4, 31)))
    comparators = uniform(5, 4).thresholds + offsets
    assert (comparators.diff(dim=1) < 0).any()
    x = normals(300, 4) * 10 + 16
    assert torch.equal(transfer.convert(x), (comparators <= x[..., None]).sum(-1))


def test_ramp_curvature_is_its_inl_and_gain_and_offset_are_its_line() -> None:
    line = linearity(ramp(8, 3, 0, "r", gain_error=0.02, offset=1.5, curvature=0.8))
    assert line.inl.max().item() == pytest.approx(0.8 / 1.02, rel=1e-4)
    assert line.inl[:, 127].tolist() == pytest.approx([0.8 / 1.02] * 3)
    assert line.gain.tolist() == pytest.approx([1 / 1.02] * 3)
    assert line.offset.tolist() == pytest.approx([0.5 - (0.51 + 1.5) / 1.02] * 3)
    halves = line.inl + line.inl.flip(1)
    assert torch.allclose(halves, 2 * line.inl)


def test_ramp_steps_are_common_to_the_bank_and_comparators_are_not() -> None:
    thresholds = ramp(7, 200, 4, "r", step_mismatch=0.1, comparator_offset=0.3).thresholds
    assert torch.allclose(
        thresholds - thresholds[:, :1], (thresholds - thresholds[:, :1])[:1].expand(200, -1)
    )
    assert thresholds[:, 0].std().item() == pytest.approx(0.3, rel=4 / math.sqrt(400))
    widths = torch.stack(
        [ramp(7, 1, seed, "r", step_mismatch=0.1).thresholds[0].diff() for seed in range(40)]
    )
    assert widths.std().item() == pytest.approx(0.1, rel=4 / math.sqrt(2 * widths.numel()))


def test_ramp_that_turns_back_is_passed_where_it_is_highest() -> None:
    """A bow so strong that the ramp falls again: inputs above its peak are never passed but at the end."""
    turned = ramp(4, 1, 0, "r", curvature=12.0).thresholds[0]
    along = torch.linspace(0, 1, 15, dtype=torch.float64)
    level = torch.arange(15) + 0.5 + 48 * along * (1 - along)
    assert (level.diff() < 0).any()
    for code in range(1, 16):
        assert turned[code - 1] == level[:code].max()


@pytest.mark.parametrize("kind", sorted(BANKS))
def test_an_adc_is_the_same_whatever_the_number_beside_it(kind: str) -> None:
    large = BANKS[kind](6, 37, 11).thresholds
    for adcs in (1, 2, 36):
        assert torch.equal(BANKS[kind](6, adcs, 11).thresholds, large[:adcs])
        assert torch.equal(BANKS[kind](11, adcs, 11).thresholds, BANKS[kind](11, 37, 11).thresholds[:adcs])
    if kind != "uniform":
        assert not torch.equal(BANKS[kind](6, 37, 12).thresholds, large)


def test_circuits_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match=r"unit_capacitor_mismatch must be 0 to 0\.1, not 0\.2"):
        sar(4, 1, 0, unit_capacitor_mismatch=0.2)
    with pytest.raises(ValueError, match="comparator_offset must be 0 to"):
        sar(4, 1, 0, comparator_offset=-1)
    with pytest.raises(ValueError, match="threshold_offset must be 0 to 10000, not nan"):
        flash(4, 1, 0, threshold_offset=float("nan"))
    with pytest.raises(ValueError, match=r"step_mismatch must be 0 to 0\.3"):
        ramp(4, 1, 0, step_mismatch=0.4)
    with pytest.raises(ValueError, match="gain_error must be above -1"):
        ramp(4, 1, 0, gain_error=-1)
    with pytest.raises(ValueError, match="ADC bits must be 1 to 16, not 17"):
        uniform(17, 1)
    with pytest.raises(ValueError, match="at least 1 ADC, not 0"):
        sar(4, 0, 0)
    array = draw_capacitors(4, 2, 0)
    with pytest.raises(ValueError, match="axis of 2 ADCs"):
        sar_convert(torch.zeros(3), array)
    with pytest.raises(ValueError, match=r"draws of shape \[4, 5, 2\] go with noise"):
        sar_convert(torch.zeros(5, 2), array, 0.1)
    with pytest.raises(ValueError, match="noise must be 0 or more"):
        sar_convert(torch.zeros(5, 2), array, -0.1)

"""Transfer curves: a code counts the thresholds reached, whatever the shape; gradients pass straight."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from device_models.converters import Transfer, adc, adc_ste, lossless_bits, uniform
from tests.converters.banks import BANKS

few = settings(max_examples=25, deadline=None)


def bank(*rows: list[float], noise: float = 0.0) -> Transfer:
    return Transfer(torch.tensor(rows, dtype=torch.float64), noise)


@few
@given(st.integers(1, 200), st.integers(1, 15), st.integers(0, 2**31))
def test_uniform_adc_of_lossless_bits_keeps_every_whole_number(cells: int, levels: int, seed: int) -> None:
    bits = lossless_bits(cells, levels)
    sums = torch.randint(0, cells * levels + 1, (50, 3), generator=torch.Generator().manual_seed(seed))
    assert torch.equal(uniform(bits, 3).convert(sums.double()), sums)


@few
@given(st.integers(1, 10), st.integers(0, 2**31))
def test_uniform_thresholds_are_the_rounding_adc(bits: int, seed: int) -> None:
    x = torch.rand(400, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    x = (x * 1.5 - 0.25) * 2**bits
    ties = torch.arange(-1, 2**bits, dtype=torch.float64)[:, None].expand(-1, 2) + 0.5
    for inputs in (x, ties):
        assert torch.equal(uniform(bits, 2).convert(inputs), adc(inputs, 1.0, bits))


@few
@given(st.sampled_from(sorted(BANKS)), st.integers(1, 7), st.integers(1, 4), st.integers(0, 2**31))
def test_code_is_the_number_of_thresholds_reached(kind: str, bits: int, adcs: int, seed: int) -> None:
    transfer = BANKS[kind](bits, adcs, seed)
    x = torch.randn(3, 7, adcs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2**bits
    counted = (transfer.thresholds <= x[..., None]).sum(-1)
    codes = transfer.convert(x)
    assert codes.dtype == torch.int64
    assert torch.equal(codes, counted)
    assert torch.equal(transfer.convert(x[1, 2]), counted[1, 2])
    assert torch.equal(transfer.convert(x[:0]), counted[:0])


@few
@given(st.sampled_from(sorted(BANKS)), st.integers(1, 8), st.integers(0, 2**31))
def test_codes_never_fall_as_the_input_grows_and_reach_both_ends(kind: str, bits: int, seed: int) -> None:
    transfer = BANKS[kind](bits, 3, seed)
    reach = 2.0**bits + 50
    codes = transfer.convert(torch.linspace(-reach, reach, 5000)[:, None].expand(-1, 3))
    assert (codes.diff(dim=0) >= 0).all()
    assert codes[0].eq(0).all()
    assert codes[-1].eq(2**bits - 1).all()


def test_noise_is_added_to_the_input_of_each_conversion() -> None:
    noisy, clean = bank([0.5, 1.5, 2.5], noise=0.8), bank([0.5, 1.5, 2.5])
    x, draws = torch.full((1000, 1), 1.2), torch.randn(1000, 1, generator=torch.Generator().manual_seed(1))
    codes = noisy.convert(x, draws)
    assert torch.equal(codes, clean.convert(x.double() + 0.8 * draws.double()))
    assert len(codes.unique()) == 4


def test_draws_are_given_if_and_only_if_there_is_noise() -> None:
    with pytest.raises(ValueError, match=r"draws of shape \[2, 1\], not none"):
        bank([0.5], noise=0.1).convert(torch.zeros(2, 1))
    with pytest.raises(ValueError, match=r"not draws of shape \[1, 1\]"):
        bank([0.5], noise=0.1).convert(torch.zeros(2, 1), torch.zeros(1, 1))
    with pytest.raises(ValueError, match="without noise take no draws"):
        bank([0.5]).convert(torch.zeros(2, 1), torch.zeros(2, 1))


def test_gradient_passes_inside_the_range_and_stops_where_the_adc_saturates() -> None:
    x = torch.tensor([[-3.0], [-0.6], [-0.4], [0.0], [1.7], [7.4], [7.6], [30.0]], requires_grad=True)
    codes = adc_ste(x, uniform(3, 1))
    assert codes.dtype == x.dtype
    assert codes[:, 0].tolist() == [0, 0, 0, 0, 2, 7, 7, 7]
    (codes * torch.arange(1.0, 9)[:, None]).sum().backward()
    assert x.grad is not None
    assert x.grad[:, 0].tolist() == [0, 0, 3, 4, 5, 6, 0, 0]


def test_gradient_sees_the_noise_that_the_comparator_sees() -> None:
    x = torch.tensor([[0.0, 0.0]], requires_grad=True)
    adc_ste(x, bank([0.5], [0.5], noise=1.0), torch.tensor([[-5.0, 0.1]])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(
    ("rows", "noise", "message"),
    [
        ([[0.5, float("nan"), 2.5]], 0.0, "ADC 0 are not all finite"),
        ([[0.5, 1.5, 2.5], [0.5, 1.5, float("inf")]], 0.0, "ADC 1 are not all finite"),
        ([[0.5, 1.5, 2.5], [0.5, 2.5, 1.5]], 0.0, "ADC 1 fall after code 2; sort them"),
        ([[0.5, 1.5]], 0.0, r"shape \[adcs, 2\^bits - 1\], bits 1 to 16, not \[1, 2\]"),
        ([], 0.0, r"not \[0\]"),
        ([[0.5]], -1.0, "noise must be 0 or more LSB"),
        ([[0.5]], float("nan"), "noise must be 0 or more LSB"),
    ],
)
def test_curves_that_are_none_are_refused(rows: list[list[float]], noise: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bank(*rows, noise=noise)


def test_inputs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TypeError, match=r"must be float64, not torch\.float32"):
        Transfer(torch.zeros(1, 1))
    with pytest.raises(ValueError, match=r"axis of 2 ADCs, not have shape \[5, 3\]"):
        uniform(3, 2).convert(torch.zeros(5, 3))
    with pytest.raises(ValueError, match="axis of 1 ADCs"):
        uniform(3, 1).convert(torch.tensor(0.0))
    with pytest.raises(ValueError, match="not a number"):
        uniform(3, 1).convert(torch.tensor([float("nan")]))

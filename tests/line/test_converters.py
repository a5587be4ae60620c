"""Converters: what the DAC keeps, and how few bits of an ADC lose nothing."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from device_models.converters import adc, bit_planes, dac_codes, lossless_bits


@given(st.integers(1, 1024), st.integers(1, 127), st.integers(1, 8))
def test_bits_are_the_tinyadc_formula(cells: int, levels: int, dac_bits: int) -> None:
    exact = math.ceil(math.log2(cells * (2**dac_bits - 1) * levels + 1))
    assert lossless_bits(cells, levels, dac_bits) == exact


def test_bits_of_the_published_table() -> None:
    """TinyADC: 1-bit DAC, l = 128 to 1 takes 9 to 2 bits with 2-bit cells and 8 to 1 with 1-bit cells."""
    cells = [128, 64, 32, 16, 8, 4, 2, 1]
    assert [lossless_bits(n, 3) for n in cells] == [9, 8, 7, 6, 5, 4, 3, 2]
    assert [lossless_bits(n, 1) for n in cells] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert lossless_bits(0, 15) == 1


@given(
    st.lists(st.integers(0, 15), min_size=1, max_size=64).filter(any),
    st.lists(st.integers(0, 255), min_size=64, max_size=64),
)
def test_lossless_bits_give_the_integer_product(levels: list[int], inputs: list[int]) -> None:
    g, x = torch.tensor(levels), torch.tensor(inputs[: len(levels)])
    bits = lossless_bits(int((g > 0).sum()), 15)
    codes = [adc((plane * g).sum() * 0.5, lsb=0.5, bits=bits) for plane in bit_planes(x, 8)]
    assert sum(int(code) << bit for bit, code in enumerate(codes)) == int((x * g).sum())


@given(st.integers(1, 64), st.integers(1, 127))
def test_one_bit_fewer_breaks_some_input(cells: int, levels: int) -> None:
    bits = lossless_bits(cells, levels)
    if bits > 1:
        full = torch.tensor(float(cells * levels))
        assert adc(full, 1.0, bits) == cells * levels
        assert adc(full, 1.0, bits - 1) < cells * levels


def test_adc_rounds_to_the_nearest_and_saturates_at_both_ends() -> None:
    current = torch.tensor([-3.0, 0.0, 0.49, 0.51, 6.49, 7.0, 99.0])
    assert adc(current, 1.0, 3).tolist() == [0, 0, 0, 1, 6, 7, 7]
    assert adc(torch.tensor([2e-6, 2e-6]), 1e-6, torch.tensor([1, 4])).tolist() == [1, 2]


@pytest.mark.parametrize("bits", [1, 3, 8, 12, 16])
def test_dac_is_within_half_a_step_inside_its_range(bits: int) -> None:
    x = torch.linspace(0, 2.5, 1001, dtype=torch.float64)
    step = 2.5 / (2**bits - 1)
    assert ((dac_codes(x, 2.5, bits).double() * step - x).abs() <= step / 2 * (1 + 1e-9)).all()
    assert dac_codes(torch.tensor([-1.0, 7.0]), 2.5, bits).tolist() == [0, 2**bits - 1]


def test_bit_planes_add_up_to_the_codes() -> None:
    codes = torch.arange(256, dtype=torch.uint8)
    assert (
        sum(plane.int() << bit for bit, plane in enumerate(bit_planes(codes, 8))).tolist() == codes.tolist()
    )


def test_bad_figures_are_named() -> None:
    with pytest.raises(ValueError, match="input scale must be positive"):
        dac_codes(torch.zeros(1), 0.0, 8)
    with pytest.raises(ValueError, match="DAC bits must be 1 to 16, not 17"):
        dac_codes(torch.zeros(1), 1.0, 17)
    with pytest.raises(ValueError, match="active_cells"):
        lossless_bits(-1, 15)

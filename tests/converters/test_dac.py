"""Word-line drivers: digits add up to the code, and levels miss by what the drivers miss."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from device_models.converters import Dac, bit_planes, dac_codes, slices

few = settings(max_examples=25, deadline=None)


@few
@given(st.integers(1, 16), st.data())
def test_digits_add_up_to_the_codes(bits: int, data: st.DataObject) -> None:
    width = data.draw(st.integers(1, bits))
    codes = dac_codes(torch.rand(5, 7, generator=torch.Generator().manual_seed(bits)), 1.0, bits)
    digits = slices(codes, bits, width)
    assert digits.shape == (math.ceil(bits / width), 5, 7)
    assert int(digits.max()) < 2**width
    assert torch.equal(sum(d.int() << width * i for i, d in enumerate(digits)), codes.int())


def test_digits_of_one_bit_are_the_bit_planes() -> None:
    codes = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(slices(codes, 8, 1), bit_planes(codes, 8))


def test_ideal_drivers_give_the_digit() -> None:
    digits = torch.arange(8).reshape(2, 4)
    assert torch.equal(Dac.draw(3, 4, 0, "d").drive(digits), digits.double())


def test_levels_spread_by_their_mismatch_and_ground_is_exact() -> None:
    levels = Dac.draw(3, 5000, 1, "d", level_mismatch=0.02).levels
    assert levels[:, 0].eq(0).all()
    relative = levels[:, 1:] / torch.arange(1, 8) - 1
    assert relative.std(0).tolist() == pytest.approx([0.02] * 7, rel=4 / math.sqrt(10_000))
    assert relative.mean(0).abs().max() < 4 * 0.02 / math.sqrt(5000)
    assert torch.corrcoef(relative.T).fill_diagonal_(0).abs().max() < 4 / math.sqrt(5000)


def test_each_line_has_its_own_levels_whatever_the_number_beside_it() -> None:
    large = Dac.draw(2, 9, 1, "d", level_mismatch=0.1)
    assert torch.equal(Dac.draw(2, 4, 1, "d", level_mismatch=0.1).levels, large.levels[:4])
    driven = large.drive(torch.full((3, 9), 2))
    assert torch.equal(driven, large.levels[:, 2].expand(3, -1))


def test_drivers_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="a digit of a 8-bit code has 1 to 8 bits, not 0"):
        slices(torch.zeros(1, dtype=torch.uint8), 8, 0)
    with pytest.raises(ValueError, match="DAC bits must be 1 to 16, not 0"):
        Dac.draw(0, 4, 0)
    with pytest.raises(ValueError, match=r"level_mismatch must be 0 to 0\.3"):
        Dac.draw(1, 4, 0, level_mismatch=0.5)
    with pytest.raises(ValueError, match="axis of 4 lines"):
        Dac.draw(1, 4, 0).drive(torch.zeros(3))
    with pytest.raises(ValueError, match="digits must be 0 to 1; cut the codes"):
        Dac.draw(1, 4, 0).drive(torch.tensor([0, 1, 2, 0]))

"""Cost cards and the ADC laws in them."""

from __future__ import annotations

from typing import Any

import pytest

from device_models.card import CardError, parse_card
from hwloop.cost import CostCard, load_cost_card

CARD = load_cost_card()


def test_the_laws_agree_where_they_are_anchored() -> None:
    """2 mW at 1.2 GS/s for ISAAC's 8 bits; 3.1 mW for Newton's 9."""
    for law in ("sar", "exponential"):
        assert CARD.adc_law(law).conversion_energy(8) * 1.2e9 == pytest.approx(2e-3, rel=5e-3)
        assert CARD.adc_law(law).converter_area(8) == pytest.approx(1200e-6)
    assert CARD.adc_law("linear").conversion_energy(9) * 1.2e9 == pytest.approx(3.1e-3, rel=1e-3)
    assert CARD.adc_law("linear").converter_area(9) == pytest.approx(1500e-6)


@pytest.mark.parametrize(("law", "energy", "area"), [("exponential", 16.0, 16.0), ("linear", 1.8, 1.8)])
def test_four_bits_less_by_the_scaled_laws(law: str, energy: float, area: float) -> None:
    chosen = CARD.adc_law(law)
    assert chosen.conversion_energy(9) / chosen.conversion_energy(5) == pytest.approx(energy)
    assert chosen.converter_area(9) / chosen.converter_area(5) == pytest.approx(area)


def test_four_bits_less_by_the_table() -> None:
    sar = CARD.adc_law("sar")
    assert sar.conversion_energy(9) / sar.conversion_energy(5) == pytest.approx(1.97 / 0.99)
    assert sar.converter_area(9) / sar.converter_area(5) == pytest.approx(1828 / 477)


def test_converters_outside_the_table_are_continued_as_the_law_says_and_marked() -> None:
    sar = CARD.adc_law("sar")
    assert sar.conversion_energy(2) == sar.conversion_energy(4)
    assert sar.converter_area(12) == pytest.approx(4 * sar.converter_area(10))
    assert [bits for bits in range(1, 14) if sar.covers(bits)] == list(range(4, 11))
    assert [bits for bits in range(1, 14) if CARD.adc_law("linear").covers(bits)] == [9]


@pytest.mark.parametrize("law", list(CARD.adc))
def test_more_bits_never_cost_less(law: str) -> None:
    chosen = CARD.adc_law(law)
    for bits in range(1, 14):
        assert chosen.conversion_energy(bits) <= chosen.conversion_energy(bits + 1)
        assert chosen.converter_area(bits) <= chosen.converter_area(bits + 1)


def test_unknown_names_are_named() -> None:
    with pytest.raises(CardError, match="no cost card 'nope': shipped are isaac-32nm"):
        load_cost_card("nope")
    with pytest.raises(CardError, match="isaac-32nm: no ADC law 'nope': there are sar, exponential, linear"):
        CARD.adc_law("nope")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("parts", "bus", "power", "unit"), "J", "power must be in W"),
        (("parts", "bus", "power", "node_nm"), None, "node_nm"),
        (("parts", "bus", "count"), 0, "count"),
        (("array_read", "unit"), "Hz", "array_read must be in s"),
        (("default_adc_law",), "flash", "default_adc_law 'flash' is not one of sar, exponential, linear"),
        (("adc", "sar", "area", "value"), (1.0,), "must list the same resolutions"),
        (("adc", "sar", "energy", "unit"), "W", "energy must be in J"),
        (("adc", "linear", "known_bits"), 0, "known_bits"),
        (("version",), 1, "version"),
    ],
)
def test_a_damaged_card_is_refused_with_the_field(path: tuple[str, ...], value: Any, message: str) -> None:
    data = CARD.model_dump()
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    with pytest.raises(CardError, match=message):
        parse_card(CostCard, data, "damaged")


def test_converters_are_not_priced_twice() -> None:
    data = CARD.model_dump()
    data["parts"]["ADCs"] = data["parts"]["bus"]
    with pytest.raises(CardError, match=r"ADCs are priced under \[adc\]"):
        parse_card(CostCard, data, "double")

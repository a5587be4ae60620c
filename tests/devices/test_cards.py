"""Shipped cards: each gives its source's curve, in its source's units, and nothing outside its range."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from importlib import resources

import numpy as np
import pytest
import torch

from device_models import DeviceCard, card_names, load_card
from device_models.card import CardError, parse_card
from device_models.crossbar import Polynomial
from device_models.effects import PolynomialCurve, RangeError
from device_models.memristor import program

DAY = 86400.0


def neurram(x: np.ndarray) -> np.ndarray:
    return 0.348 + 16.03 * x - 43.853 * x**2 + 45.393 * x**3 - 16.815 * x**4


# card: conductances in uS, and the published standard deviation there in uS, written as it is published
SOURCES: dict[str, tuple[list[float], Callable[[np.ndarray], np.ndarray]]] = {
    "rram-neurram": ([2.0, 10.0, 20.0, 40.0], lambda g: neurram(g / 40)),
    "pcm-nandakumar": ([0.0, 5.0, 25.0], lambda g: 0.26348 + 1.965 * (g / 25) - 1.1731 * (g / 25) ** 2),
    "pcm-joshi": ([0.25, 10.0, 25.0], lambda g: -0.00178767 * g**2 + 0.07585724 * g + 0.28638599),
    "pcm-hermes": (
        [0.0, 5.0, 10.35],
        lambda g: (
            0.15781817
            + 2.32443916 * (g / 10.35)
            - 2.16310839 * (g / 10.35) ** 2
            + 0.68841818 * (g / 10.35) ** 3
        ),
    ),
    "cmo-hfox": ([9.0, 50.0, 90.0], lambda g: 0.00081107 + 0.00106879 * g),
    "rram-milo": ([50.0, 100.0, 225.0], lambda g: 4.782321 - 0.009107 * g),
    "sonos-40nm": ([0.0, 1.0, 8.0, 16.0], lambda g: 0.01 * 19.88665 * (1 - np.exp(-100 * g / 176.3115))),
}
WITHOUT_PROGRAMMING = {"rram-sky130", "taox-sandia", "enode-sandia"}


def matches(card: DeviceCard, g_us: list[float], sigma_us: Callable[[np.ndarray], np.ndarray]) -> bool:
    g = np.array(g_us)
    assert card.programming_error is not None
    return np.allclose(1e6 * card.programming_error.sigma(1e-6 * g), sigma_us(g), rtol=1e-6, atol=1e-9)


def test_every_shipped_card_is_held_against_its_source() -> None:
    chosen = {"ideal", "generic-10k", "generic-100k", "generic-forms"}  # figures of nobody's cells
    assert set(card_names()) == {*SOURCES, *WITHOUT_PROGRAMMING, *chosen}


@pytest.mark.parametrize("name", SOURCES)
def test_programming_error_is_the_published_curve(name: str) -> None:
    assert matches(load_card(name), *SOURCES[name])


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("slip", [1e-6, 1e-3, 1e3, 1e6])
@pytest.mark.parametrize("field", ["coefficients", "g_reference"])
def test_a_slip_in_the_units_does_not_pass(name: str, slip: float, field: str) -> None:
    data = load_card(name).model_dump()
    figure = data["programming_error"][field]
    value = figure["value"]
    figure["value"] = tuple(slip * v for v in value) if field == "coefficients" else slip * value
    try:
        slipped = DeviceCard.model_validate(data)
    except ValueError:
        return  # refused as a card already
    assert not matches(slipped, *SOURCES[name])


@pytest.mark.parametrize("name", SOURCES)
def test_programmed_cells_have_the_published_spread(name: str) -> None:
    card, side = load_card(name), 150
    level = card.levels * card.g_step * (1 if card.levels < 3 else 2 / 3)
    actual = program(torch.full((1, side, side), level, dtype=torch.float64), card, 1, 0, "fc")[0]
    published = 1e-6 * SOURCES[name][1](np.array(1e6 * level))
    assert float(actual.std()) == pytest.approx(float(published), rel=4 / np.sqrt(2) / side)


def test_neurram_spread_is_that_of_another_fit_to_the_same_data() -> None:
    # The cubic by Sandia (in uS) was fitted to the same figure by other people.
    g = np.linspace(4, 36, 20)
    other = 1.536e-4 * g**3 - 1.167e-2 * g**2 + 0.2374 * g + 1.053
    assert np.abs(1e6 * load_card("rram-neurram").programming_error.sigma(1e-6 * g) / other - 1).max() < 0.25


def test_neurram_spread_grows_over_two_days() -> None:
    error = load_card("rram-neurram").programming_error
    g = np.array([20e-6])
    sigma = [error.at(g, t)[1][0] for t in (1.0, 3600.0, DAY, 2 * DAY)]
    assert sigma == sorted(sigma)
    published = 0.782 + 20.274 / 2 - 43.507 / 4 + 37.062 / 8 - 11.934 / 16
    assert sigma[-1] == pytest.approx(1e-6 * published, rel=1e-9)
    with pytest.raises(RangeError, match="known from 1 to 172800 s"):
        error.at(g, 10 * DAY)


def test_pcm_drift_is_the_published_power_law() -> None:
    drift = load_card("pcm-nandakumar").drift
    g = np.array([0.5e-6, 5e-6, 25e-6])
    x = g / 25e-6
    mean, sigma = drift.exponents(g)
    assert mean == pytest.approx(np.clip(-0.0155 * np.log(x) + 0.0244, 0.049, 0.1))
    assert sigma == pytest.approx(np.clip(-0.0125 * np.log(x) - 0.0059, 0.008, 0.045))
    many = drift.after(np.full(200_000, 20e-6), 1000 * 20.0, np.random.default_rng(1))
    nu = -np.log(many / 20e-6) / np.log(1001)
    assert nu.mean() == pytest.approx(0.049, rel=0.005)
    assert nu.std() == pytest.approx(0.008, rel=0.02)


def test_pcm_flicker_noise_is_the_published_one() -> None:
    noise = load_card("pcm-nandakumar").flicker_noise
    g, t = np.array([1e-9, 2e-6, 25e-6]), 3600.0
    q = np.minimum(0.0088 / (g / 25e-6) ** 0.65, 0.2)
    published = g * q * np.sqrt(np.log((t + 250e-9) / (2 * 250e-9)))
    assert np.sqrt(noise.variance(g, t)) == pytest.approx(published, rel=1e-9)


def test_cmo_relaxes_with_the_logarithm_of_time() -> None:
    mean, sigma = load_card("cmo-hfox").relaxation.change(3600.0)
    assert 1e6 * mean == pytest.approx(-0.08900206 * np.log(3600))
    assert 1e6 * sigma == pytest.approx(0.04201137 * np.log(3600) + 0.41183342)


def test_sonos_mean_and_spread_are_the_published_ones_after_a_day() -> None:
    nano = np.array([100.0, 600.0, 1500.0])  # currents in nA, as published
    day1 = [1.72684e-01, 5.72552e-02, -6.85715e-04, 3.50271e-06, -9.37682e-09, 1.40575e-11, -1.19803e-14]
    day1 += [5.41293e-18, -8.85448e-22, -1.66869e-25, 5.95180e-29]
    shift = np.polynomial.polynomial.polyval(nano, day1)
    spread = 25.59102 * (1 - np.exp(-(nano + shift) / 186.85544))
    mean, sigma = load_card("sonos-40nm").programming_error.at(nano * 1e-9 / 0.1, DAY)
    assert 0.1e9 * mean == pytest.approx(shift, rel=1e-5)
    assert 0.1e9 * sigma == pytest.approx(spread, rel=1e-5)


def test_milo_curves_are_the_published_cubics() -> None:
    curve = load_card("rram-milo").iv
    assert isinstance(curve, PolynomialCurve)
    for g in (62.5e-6, 76.2e-6, 110e-6):
        L = np.log10(g)
        n2 = 1.388e-4 * L**3 + 1.541e-3 * L**2 + 5.711e-3 * L + 7.063e-3
        n3 = 8.8710e-5 * L**2 + 6.7919e-4 * L + 1.2968e-3
        current = curve.current(np.array(g), np.array([0.1, 0.5]))
        assert current == pytest.approx([0.1 * g + 0.01 * n2 + 0.001 * n3, 0.5 * g + 0.25 * n2 + 0.125 * n3])
    with pytest.raises(RangeError, match=r"up to 0\.5 V"):
        curve.current(np.array(8e-5), np.array([0.6]))
    cells = curve.cells(torch.full((2, 2), 100e-6, dtype=torch.float64))
    assert isinstance(cells, Polynomial)
    solved = cells.current(torch.tensor(0.3, dtype=torch.float64))
    assert solved.numpy() == pytest.approx(np.full((2, 2), curve.current(np.array(1e-4), np.array(0.3))))


def test_a_card_that_does_not_say_where_cells_land_is_not_programmed() -> None:
    with pytest.raises(ValueError, match="rram-sky130: neither programming_error nor write_verify"):
        program(torch.full((1, 2, 2), 120e-6), load_card("rram-sky130"), 1, 0, "fc")


def card_data(name: str = "rram-neurram") -> dict:
    text = (resources.files("device_models") / "cards" / f"{name}.toml").read_text("utf-8")
    return tomllib.loads(text)


def test_levels_outside_the_measured_range_are_refused_unless_the_card_says_so() -> None:
    data = card_data("rram-milo") | {"level_count": {"value": 15, "unit": "1", "source": "test"}}
    with pytest.raises(CardError, match=r"my card: card: programming_error: conductances of 1\.5e-05"):
        parse_card(DeviceCard, data, "my card")
    data["programming_error"]["extrapolate"] = True
    error = parse_card(DeviceCard, data, "my card").programming_error
    assert error.sigma(15e-6) == error.sigma(50e-6)


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("g_max", "unit"), "V", "g_max: must be given in 'S', not 'V'"),
        (("programming_error", "g_reference", "unit"), "1", "must be given in 'S'"),
        (("programming_error", "coefficients", "unit"), "uS", "Input should be 'S'"),
        (("programming_error", "sigmas"), 1, "no such key; known are"),
        (("programming_error", "elapse"), 1, "did you mean 'elapsed'"),
        (("version",), 1, "version 1|needs version = 2|card: "),
        (("g_max", "standard_error"), -1.0, "greater than or equal to 0"),
        (("programming_error", "coefficients", "covariance"), [[1.0]], "covariance must be 5 by 5"),
    ],
)
def test_a_wrong_field_is_named(where: tuple[str, ...], value: object, message: str) -> None:
    data = card_data()
    section = data
    for part in where[:-1]:
        section = section[part]
    section[where[-1]] = value
    if where == ("version",):
        data["stuck"] = card_data("rram-sky130")["stuck"]
    with pytest.raises(CardError, match=message):
        parse_card(DeviceCard, data, "my card")


def test_two_sections_never_do_the_same_thing_twice() -> None:
    data = card_data("pcm-nandakumar")
    data["relaxation"] = card_data("cmo-hfox")["relaxation"]
    with pytest.raises(CardError, match="drift and relaxation both"):
        parse_card(DeviceCard, data, "my card")
    figure = {"unit": "S", "source": "test"}
    data = card_data("pcm-nandakumar")
    data["write_verify"] = {
        "tolerance": {"value": 1e-6, **figure},
        "pulse_sigma": {"value": 2e-6, **figure},
        "max_pulses": {"value": 10, "unit": "1", "source": "test"},
    }
    with pytest.raises(CardError, match="programming_error and write_verify both"):
        parse_card(DeviceCard, data, "my card")


def test_a_card_survives_json() -> None:
    for name in card_names():
        card = load_card(name)
        assert DeviceCard.model_validate_json(card.model_dump_json()) == card

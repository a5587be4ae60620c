"""Cards made from measured tables give the published sanity numbers, and the tables where these are there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from calibration.importers import read_change_tables
from device_models import load_card, stream
from device_models.effects import PulseTable

FOLDER = Path(os.environ.get("HWLOOP_DEVICE_DATA", "missing")) / "cross-sim-data" / "lookup_tables"


def table(name: str) -> PulseTable:
    pulse = load_card(name).pulse
    assert isinstance(pulse, PulseTable)
    return pulse


def test_a_set_pulse_on_taox_is_large_below_and_small_above() -> None:
    # Medians over the 41 devices of the source: 128 uS at 36.7 uS (45 to 128 uS by device), 8.6 uS at 110 uS.
    half = np.array([0.5])
    assert 1e6 * table("taox-sandia").change(np.array([36.7e-6]), True, half)[0] == pytest.approx(100, abs=35)
    assert 1e6 * table("taox-sandia").change(np.array([110e-6]), True, half)[0] == pytest.approx(8.6, abs=4)


@pytest.mark.parametrize("name", ["taox-sandia", "enode-sandia"])
def test_drawn_pulses_have_the_cards_quantiles(name: str) -> None:
    effect = table(name)
    g = np.full(100_000, float(np.mean(effect.valid.value)))
    for up in (True, False):
        landed = effect.pulse(g, up, stream(1, "tests", name, int(up))) - g
        for p in (0.15, 0.5, 0.85):
            wanted = effect.change(g[:1], up, np.array([p]))[0]
            assert (landed < wanted).mean() == pytest.approx(p, abs=0.01)


@pytest.mark.skipif(
    not FOLDER.exists(), reason="no measured tables here; name their folder in HWLOOP_DEVICE_DATA"
)
def test_enode_card_holds_the_distribution_that_was_measured() -> None:
    source = read_change_tables(
        FOLDER / "ENODe" / "dG_increasing.txt", FOLDER / "ENODe" / "dG_decreasing.txt"
    )
    effect, change = table("enode-sandia"), source["after"] - source["before"]
    for up in (True, False):
        rows = (source["up"] == up) & (source["before"] > 3.5e-4) & (source["before"] < 9e-4)
        for p in (0.05, 0.5, 0.95):
            below = change[rows] < effect.change(source["before"][rows], up, np.full(int(rows.sum()), p))
            assert below.mean() == pytest.approx(p, abs=0.05)

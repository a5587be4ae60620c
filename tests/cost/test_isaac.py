"""The shipped card against the totals that ISAAC prints (Shafiee et al., ISCA 2016, Table I)."""

from __future__ import annotations

import pytest

from hwloop.cost import ADCS, CostByPart, estimate, load_cost_card
from hwloop.cost.card import Level
from hwloop.recipe import Readout

from .chips import full_chip

CARD = load_cost_card()
ISAAC = Readout(dac_bits=16)


def isaac(imas: int) -> CostByPart:
    """A chip of ISAAC's IMAs: 8 arrays each, one 8-bit converter for each array, 16-bit inputs."""
    return estimate(full_chip(imas, arrays=8), CARD, ISAAC).total


@pytest.mark.parametrize(
    ("imas", "levels", "power_w", "area_mm2"),
    [
        (1, ("ima",), 289e-3 / 12, 0.157 / 12),
        (12, ("ima",), 289e-3, 0.157),
        (12, ("tile",), 40.9e-3, 0.215),
        (12, ("ima", "tile"), 330e-3, 0.372),
        (168 * 12, ("ima", "tile"), 55.4, 62.5),
        (168 * 12, ("ima", "tile", "chip"), 65.8, 85.4),
    ],
    ids=["IMA", "12 IMAs", "tile without IMAs", "tile", "168 tiles", "chip"],
)
def test_parts_add_up_to_the_published_totals(
    imas: int, levels: tuple[Level, ...], power_w: float, area_mm2: float
) -> None:
    cost = isaac(imas)
    parts = CARD.part_names(*levels)
    assert sum(cost.power_w[part] for part in parts) == pytest.approx(power_w, rel=0.02)
    assert sum(cost.area_mm2[part] for part in parts) == pytest.approx(area_mm2, rel=0.02)


def test_the_whole_chip_is_everything_that_is_estimated() -> None:
    chip = estimate(full_chip(168 * 12, arrays=8), CARD, ISAAC)
    assert chip.power_w == pytest.approx(65.8, rel=0.02)
    assert chip.area_mm2 == pytest.approx(85.4, rel=0.02)


def test_each_part_of_the_unit_costs_what_the_table_says() -> None:
    cost = isaac(1)
    power = {part: watts for part, watts in cost.power_w.items() if part in CARD.part_names("ima")}
    assert power == pytest.approx(
        {
            ADCS: 16e-3,
            "cells": 2.4e-3,
            "word-line DACs": 4e-3,
            "sample and hold": 10e-6,
            "shift and add": 0.2e-3,
            "input registers": 1.24e-3,
            "output registers": 0.23e-3,
            "index registers": 0.0,
        },
        rel=5e-3,
    )
    assert cost.area_mm2[ADCS] == pytest.approx(0.0096)
    assert cost.area_mm2["input registers"] == pytest.approx(0.0021)


def test_converters_take_about_half_of_the_power_of_the_tiles() -> None:
    """Published: 49 % of the chip."""
    cost = isaac(168 * 12)
    assert cost.power_w[ADCS] / sum(cost.power_w.values()) == pytest.approx(0.49, abs=0.01)


def test_a_vector_of_16_bits_takes_16_reads_of_about_100_ns() -> None:
    assert isaac(1).seconds == pytest.approx(16 * 128 / 1.2e9)


def test_every_figure_says_where_it_is_from_and_for_which_node() -> None:
    figures = [CARD.array_read, CARD.adc_rate]
    figures += [figure for part in CARD.parts.values() for figure in (part.power, part.area)]
    nodes = {figure.node_nm for figure in figures} | {law.energy.node_nm for law in CARD.adc.values()}
    assert nodes == {32}
    assert all("ISAAC" in figure.source for figure in figures)

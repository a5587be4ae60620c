"""The parts that a recipe's choice of hardware names."""

from __future__ import annotations

from device_models.card import DeviceCard, load_card
from device_models.crossbar import Wires
from device_models.wire_table import wire_resistance
from hwloop.mapping import largest_code
from hwloop.recipe import HardwareConfig, RecipeError


def card_of(choice: HardwareConfig) -> DeviceCard:
    """Return the device card of a choice of hardware, after checking that its cells hold weights.

    Raises:
        CardError: if there is no such card, or it cannot be read.
        RecipeError: if its cells do not have the levels or the slices that are asked for.
    """
    card = load_card(choice.card)
    if choice.cell_levels is not None:
        try:
            card = card.with_levels(choice.cell_levels)
        except ValueError as error:
            raise RecipeError(f"hardware.cell_levels: {error}") from error
    try:
        largest_code(choice.encoding, card.levels, choice.slices)
    except ValueError as error:
        raise RecipeError(f"hardware.slices: {error}") from error
    return card


def make_wires(choice: HardwareConfig) -> Wires:
    """Return the wire figures of arrays of a choice of hardware."""
    segments = wire_resistance(choice.node, choice.cell) if choice.wire is None else (choice.wire,) * 2
    return Wires(*segments, driver=choice.driver, sense=choice.sense)

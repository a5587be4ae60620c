"""The parts that a recipe's choice of hardware names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from device_models.card import DeviceCard, load_card
from device_models.crossbar import Wires
from device_models.wire_table import wire_resistance
from hwloop.mapping import ChipWires, largest_code
from hwloop.recipe import HardwareConfig, RecipeError

Chosen = TypeVar("Chosen", bound=Wires)
_LEFT_OUT = ("flicker_noise", "telegraph_noise", "iv", "pulse")
_WIRES = {"node", "cell", "wire", "driver", "sense"}


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
        for own in (choice, *(choice.of(name) for name in choice.layer)):
            largest_code(own.encoding, card.levels, own.slices)
    except ValueError as error:
        raise RecipeError(f"hardware.slices: {error}") from error
    return card


def not_simulated(card: DeviceCard) -> list[str]:
    """Return the sections of a card that simulated arrays leave out.

    They are noise with a memory, non-linear cells, and programming pulse by pulse.
    """
    return [name for name in _LEFT_OUT if getattr(card, name) is not None]


def largest_codes(choice: HardwareConfig, card: DeviceCard, layers: Iterable[str]) -> dict[str, int]:
    """Return the largest weight code that the cells of a weight hold, by layer."""
    own = {name: choice.of(name) for name in layers}
    return {name: largest_code(one.encoding, card.levels, one.slices) for name, one in own.items()}


def make_wires(choice: HardwareConfig) -> Wires:
    """Return the wire figures of a choice of hardware; see :func:`hwloop.mapping.wires_of` for a layer."""
    wires = _wires(Wires, choice)
    layers = {
        name: _wires(Wires, choice.of(name)) for name, own in choice.layer.items() if _WIRES & own.keys()
    }
    if not layers:
        return wires
    chip = _wires(ChipWires, choice)
    object.__setattr__(chip, "layers", layers)  # no figure of a wire, which its fields are
    return chip


def _wires(kind: type[Chosen], choice: HardwareConfig) -> Chosen:
    segments = wire_resistance(choice.node, choice.cell) if choice.wire is None else (choice.wire,) * 2
    return kind(*segments, driver=choice.driver, sense=choice.sense)

"""Cards of cells that nobody measured, for studies that vary one figure at a time."""

from __future__ import annotations

from typing import Any

from .card import DeviceCard, load_card

CHOICE = "choice of a study"


def generic_card(
    lrs: float, on_off: float = 10.0, *, variation: float = 0.0, stuck: float = 0.0, levels: int = 127
) -> DeviceCard:
    """Return the card of a generic cell: the shipped ``generic-10k`` with other figures.

    Args:
        lrs: resistance of the low-resistance state in ohm; the highest level.
        on_off: resistance of the high-resistance state (level 0, where idle cells are) over ``lrs``.
        variation: standard deviation of the log of a cell's conductance, from device to device.
        stuck: fraction of the cells that are stuck, half of them at LRS and half at HRS.
        levels: above level 0.

    Raises:
        ValueError: if a figure is out of the card's bounds.
    """
    high, low = 1 / lrs, 1 / lrs / on_off

    def figure(value: float, unit: str) -> dict[str, Any]:
        return {"value": value, "unit": unit, "source": CHOICE}

    data = load_card("generic-10k").model_dump()
    data |= {
        "name": f"generic-{lrs:.0f}ohm",
        "title": "Generic cell",
        "g_max": figure(high, "S"),
        "g_min": figure(low, "S"),
        "level_count": figure(levels, "1"),
        "stuck": {
            "off": figure(stuck / 2, "1"),
            "on": figure(stuck / 2, "1"),
            "g_off": figure(low, "S"),
            "g_on": figure(high, "S"),
        },
    }
    data["variation"]["between_devices"] = figure(variation, "1")
    data["programming_error"]["g_reference"] = figure(high, "S")
    return DeviceCard.model_validate(data)

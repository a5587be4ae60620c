"""Safe limits, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable

from device_models.card import DeviceCard
from hwloop.mapping import ConductanceMap

from .errors import LimitError

_POLARITIES = ("positive", "negative")
_ROUNDING = 1 + 1e-6


def check_limits(conductance_map: ConductanceMap, layers: Iterable[str]) -> None:
    """Raise unless every cell of layers may be read at the card's read voltage.

    Raises:
        LimitError: naming layer, tile, cell and limit.
    """
    card = conductance_map.card
    limits, volts = card.safe_limits, card.read_voltage.value
    most = limits.cell_current.value
    for name in layers:
        currents = conductance_map.target(name) * volts
        over = (currents > most * _ROUNDING).nonzero()
        if len(over):
            tile, polarity, slice_, row, col = over[0].tolist()
            encoding = conductance_map.layers[name].encoding
            sign = _POLARITIES[polarity] if encoding == "differential" else encoding
            raise LimitError(
                f"layer {name}, tile {tile}, {sign} slice {slice_}, word line {row}, bit line {col}: "
                f"{float(currents[tile, polarity, slice_, row, col]):.3g} A at {volts:g} V is above the "
                f"cell current limit of {most:g} A (card {card.name}); nothing was sent"
            )


def check_pulses(card: DeviceCard, volts: float) -> None:
    """Raise unless cells may be pulsed with ``volts`` of either sign.

    Raises:
        LimitError: naming the limit, or that the card states none.
    """
    limit = card.safe_limits.program_voltage
    if limit is None:
        raise LimitError(
            f"card {card.name} states no limits.program_voltage, so nothing is pulsed; add it to the card"
        )
    if abs(volts) > limit.value:
        raise LimitError(
            f"pulses of {volts:g} V are above the limit of {limit.value:g} V (card {card.name}); "
            "nothing was sent"
        )

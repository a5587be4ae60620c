"""The memristor cell: what programming leaves behind, and what each read adds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from .card import DeviceCard
from .effects import WhiteNoise
from .effects.base import Array
from .random import stream


def program(
    target: torch.Tensor,
    card: DeviceCard,
    seed: int,
    instance: int | str,
    layer: str,
    first_tile: int = 0,
    *,
    elapsed: float | None = None,
    temperature: float | None = None,
) -> torch.Tensor:
    """Program tiles once: draw the conductances that the cells end up with.

    First the figures of the card that are uncertain are drawn, once for the whole instance, then its devices.
    A formed cell (target above 0) goes through the effects of the card that disturb conductance, in this
    order: programming error or write-verify, variation, drift or relaxation until ``elapsed``, effects of
        other
    packages, stuck cells.
    It ends not below 0. A cell that is not formed conducts nothing. Every tile and every effect draws
    from a stream of its own, so the result does not depend on which tiles are programmed together, and
    an effect that is added to a card changes no draw of the others. A tile is an array of its own; all tiles
    of all layers of an instance are on one wafer.

    Args:
        target: target conductances in siemens, ``[tiles, ...]``.
        card: device card.
        seed: seed of the run.
        instance: which of the many possible devices; another instance is another chip.
        layer: name of the layer that the tiles belong to.
        first_tile: index in the layer of ``target[0]``.
        elapsed: seconds since programming; None is right after it.
        temperature: in kelvin, at which that time was spent; None is the card's.

    Returns:
        Conductances in siemens, of the shape and dtype of ``target``.

    Raises:
        ValueError: if a target is negative, not finite or above the card's ``g_max``, if the card does not
            say where a cell lands, or if it knows nothing about that time or temperature.
    """
    g_max = card.g_max.value
    # Targets of a map may be float32, whose full scale is off by rounding.
    if not bool(((target >= 0) & (target <= g_max * (1 + 1e-6))).all()):
        raise ValueError(f"layer {layer}: target conductances must lie between 0 and {g_max:g} S")
    drawn = card.drawn(seed, instance)
    time = _equivalent_time(drawn, elapsed, temperature)
    actual = torch.empty_like(target)
    for tile, wanted in enumerate(target):

        def draws(effect: str, index: int = first_tile + tile) -> np.random.Generator:
            if effect == "wafer":
                return stream(seed, effect, instance)
            return stream(seed, effect, instance, layer, index)

        g = wanted.to(torch.float64).numpy(force=True)
        actual[tile] = torch.from_numpy(program_cells(g, drawn, draws, time))
    return actual


def program_cells(
    g: Array, card: DeviceCard, draws: Callable[[str], np.random.Generator], elapsed: float | None = None
) -> Array:
    """Draw the conductances (S) that cells with targets ``g`` (S, any shape) end up with.

    Args:
        g: targets, 0 for absent cells.
        card: with its parameters drawn; see :meth:`DeviceCard.drawn`.
        draws: gives the random generator of an effect by its name; that of "wafer" is one for all cells of
            an instance.
        elapsed: seconds since programming at the card's temperature; None is right after it.

    Raises:
        ValueError: if the card does not say where a cell lands, or how it moves in ``elapsed``.
    """
    error = card.programming_error
    if error is not None:
        g = error.land(g, draws("program"), elapsed if error.later else None)
    elif card.write_verify is not None:
        g = card.write_verify.write(g, draws("program")).conductance
    else:
        raise ValueError(
            f"card {card.name}: neither programming_error nor write_verify says where a cell lands; "
            "calibrate one from measured levels"
        )
    if card.variation is not None:
        g = g * card.variation.factors(g.shape, draws("devices"), draws("cycles"), draws("wafer"))
    if elapsed is not None:
        if card.drift is not None:
            g = card.drift.after(g, elapsed, draws("drift"))
        elif card.relaxation is not None:
            g = card.relaxation.after(g, elapsed, draws("drift"))
        elif error is None or not error.later:
            raise ValueError(f"card {card.name}: nothing in it says how a cell moves in time")
    for name, effect in (card.effects or {}).items():
        g = effect.disturb(g, elapsed, draws(f"effect {name}"))
    if card.stuck is not None:
        g = card.stuck.hold(g, draws("stuck"))
    return g


def read_noise_variance(g: torch.Tensor, read_noise: float | WhiteNoise) -> torch.Tensor:
    """Return the variance in siemens squared of each conductance ``g`` from one read cycle to the next.

    White read noise is Gaussian, independent in every cell and cycle, with a standard deviation of
    ``read_noise`` times the conductance, or that of the card's ``white_noise``. The current of a column at
    voltages v has the variance ``sum_i v_i^2 * variance_i``.
    """
    if isinstance(read_noise, WhiteNoise):
        return torch.from_numpy(read_noise.sigma(g.to(torch.float64).numpy(force=True)) ** 2).to(g)
    return (read_noise * g) ** 2


def _equivalent_time(card: DeviceCard, elapsed: float | None, temperature: float | None) -> float | None:
    """Seconds at the card's temperature that do as much as ``elapsed`` at ``temperature``."""
    if elapsed is None or temperature is None or temperature == card.temperature.value:
        return elapsed
    if card.retention is None:
        raise ValueError(
            f"card {card.name}: it has no retention section, so it holds at its own temperature only"
        )
    return card.retention.equivalent_time(elapsed, temperature, card.temperature.value)

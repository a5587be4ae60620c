"""The memristor cell: what programming leaves behind, and what each read adds."""

from __future__ import annotations

import torch

from .card import DeviceCard
from .random import stream


def program(
    target: torch.Tensor, card: DeviceCard, seed: int, instance: int | str, layer: str, first_tile: int = 0
) -> torch.Tensor:
    """Program tiles once: draw the conductances that the cells end up with.

    A formed cell (target above 0) lands at its target plus a Gaussian error with the card's standard
    deviation for that target, and not below 0. A cell that is not formed conducts nothing. Every tile draws
    from a stream of its own, so the result does not depend on which tiles are programmed together.

    Args:
        target: target conductances in siemens, ``[tiles, ...]``.
        card: device card.
        seed: seed of the run.
        instance: which of the many possible devices; another instance is another chip.
        layer: name of the layer that the tiles belong to.
        first_tile: index in the layer of ``target[0]``.

    Returns:
        Conductances in siemens, of the shape and dtype of ``target``.

    Raises:
        ValueError: if a target is negative, not finite or above the card's ``g_max``.
    """
    g_max = card.g_max.value
    # Targets of a map may be float32, whose full scale is off by rounding.
    if not bool(((target >= 0) & (target <= g_max * (1 + 1e-6))).all()):
        raise ValueError(f"layer {layer}: target conductances must lie between 0 and {g_max:g} S")
    actual = torch.empty_like(target)
    for tile, wanted in enumerate(target):
        g = wanted.to(torch.float64).numpy(force=True)
        draws = stream(seed, "program", instance, layer, first_tile + tile).standard_normal(g.shape)
        landed = torch.from_numpy((g + card.programming_error.sigma(g) * draws) * (g > 0))
        actual[tile] = landed.clamp_(min=0.0)
    return actual


def read_noise_variance(g: torch.Tensor, read_noise: float) -> torch.Tensor:
    """Return the variance in siemens squared of each conductance ``g`` from one read cycle to the next.

    Read noise is Gaussian, independent in every cell and cycle, with a standard deviation of ``read_noise``
    times the conductance. The current of a column at voltages v has the variance
    ``sum_i v_i^2 * variance_i``.
    """
    return (read_noise * g) ** 2

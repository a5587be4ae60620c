"""Where programmed cells end up: drawn once from a device card, then looked up in every step."""

from __future__ import annotations

import numpy as np
import torch

from device_models import stream
from device_models.card import DeviceCard
from device_models.memristor import program_cells

DRAWS = 1024
_INSTANCES = 32  # among which the draws are shared, each with its own wafer and figures


def cell_table(card: DeviceCard, seed: int, elapsed: float | None = None) -> torch.Tensor:
    """Return draws of where cells of every level end up, in level steps, float32 ``[levels + 1, DRAWS]``.

    Each entry went through all effects of the card, as :func:`device_models.memristor.program` applies them.
    Cells drawn from it independently have the spread of an instance's cells one by one; what the cells of
    one array or wafer have in common they do not share.

    Args:
        card: the device card.
        seed: seed of the draws, which are those of no instance.
        elapsed: seconds from programming to reading at the card's temperature.

    Raises:
        ValueError: as :func:`device_models.memristor.program`.
    """
    each = DRAWS // _INSTANCES
    target = card.g_idle + np.arange(card.levels + 1) * card.g_step
    parts = []
    for number in range(_INSTANCES):
        g = np.broadcast_to(target, (each, 1, len(target))).copy()
        drawn = card.drawn(seed, f"cell table {number}")

        def draws(effect: str, number: int = number) -> np.random.Generator:
            return stream(seed, "cell table", number, effect)

        parts.append(program_cells(g, drawn, draws, elapsed)[:, 0])
    table = np.concatenate(parts).T / card.g_step
    return torch.from_numpy(np.ascontiguousarray(table, dtype=np.float32))


def look_up(table: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Return a fresh draw for each cell of ``levels`` (int32, any shape), in level steps.

    It uses torch's global generator, which training seeds anew in every epoch.
    """
    draws = table.shape[1]
    places = torch.empty(levels.shape, dtype=torch.int32).random_(draws).add_(levels, alpha=draws)
    return table.reshape(-1).index_select(0, places.reshape(-1)).reshape(levels.shape)

"""Device cards as TOML: one line for each figure, one table for each effect."""

from __future__ import annotations

from pathlib import Path

from device_models.card import DeviceCard
from device_models.files import write_atomically
from device_models.toml import to_toml


def write_card(card: DeviceCard, path: str | Path) -> None:
    """Write a card, atomically; :func:`device_models.load_card` reads it back the same.

    Raises:
        OSError: if the folder cannot be written; ``path`` is then as it was before.
    """
    write_atomically(path, card_text(card).encode())


def card_text(card: DeviceCard) -> str:
    """Return a card as a TOML document."""
    return to_toml(card.model_dump(mode="json", exclude_none=True))

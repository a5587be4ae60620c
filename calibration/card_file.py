"""Device cards as TOML: one line for each figure, one table for each effect."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from device_models.card import DeviceCard


def write_card(card: DeviceCard, path: str | Path) -> None:
    """Write a card, atomically; :func:`device_models.load_card` reads it back the same.

    Raises:
        OSError: if the folder cannot be written; ``path`` is then as it was before.
    """
    path = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(card_text(card))
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise


def card_text(card: DeviceCard) -> str:
    """Return a card as a TOML document."""
    return "\n".join(_table(card.model_dump(mode="json", exclude_none=True), "")) + "\n"


def _table(section: Mapping[str, Any], path: str) -> Iterator[str]:
    for name, value in section.items():
        if not _is_table(value) and not (isinstance(value, list) and value and _is_table(value[0])):
            yield f"{name} = {_inline(value)}"
    for name, value in section.items():
        below = f"{path}.{name}" if path else name
        if _is_table(value):
            yield f"\n[{below}]"
            yield from _table(value, below)
        elif isinstance(value, list) and value and _is_table(value[0]):
            for part in value:
                yield f"\n[[{below}]]"
                yield from _table(part, below)
    return


def _is_table(value: Any) -> bool:
    """Whether a value is a section; a figure (it has a unit and a source) is one line."""
    return isinstance(value, dict) and not ({"value", "unit", "source"} <= value.keys())


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_inline(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_inline(v) for v in value) + "]"
    # JSON's strings, numbers and booleans are TOML's.
    return json.dumps(value, ensure_ascii=False, allow_nan=False)

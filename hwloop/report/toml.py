"""A recipe as TOML, so that the report can say how to repeat the run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_BARE = re.compile(r"^[A-Za-z0-9_-]+$")


def to_toml(recipe: Mapping[str, Any]) -> str:
    """Return nested mappings of numbers and strings as a TOML document; empty ones and None are left out."""
    return "\n".join(_table(recipe, ())) + "\n"


def _table(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    values = {k: v for k, v in table.items() if not isinstance(v, Mapping) and v is not None}
    if values and path:
        yield f"\n[{'.'.join(_key(part) for part in path)}]"
    for name, value in values.items():
        # JSON's strings, numbers and booleans are TOML's.
        yield f"{_key(name)} = {json.dumps(value, ensure_ascii=False, allow_nan=False)}"
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _table(value, (*path, name))


def _key(name: str) -> str:
    return name if _BARE.match(name) else json.dumps(name)

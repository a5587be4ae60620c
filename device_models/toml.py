"""Cards and recipes as TOML text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_BARE = re.compile(r"^[A-Za-z0-9_-]+$")


def to_toml(document: Mapping[str, Any]) -> str:
    """Return nested mappings and lists of numbers and strings as a TOML document.

    Empty mappings and None are left out; a figure (it has a value, a unit and a source) is one line.
    """
    return "\n".join(_table(document, ())) + "\n"


def _table(table: Mapping[str, Any], path: tuple[str, ...], brackets: str = "[]") -> Iterator[str]:
    below = {name: value for name, value in table.items() if _is_table(value) or _are_tables(value)}
    values = {name: value for name, value in table.items() if name not in below and value is not None}
    opening, closing = brackets[: len(brackets) // 2], brackets[len(brackets) // 2 :]
    if (values and path) or brackets == "[[]]":
        yield f"\n{opening}{'.'.join(_key(part) for part in path)}{closing}"
    for name, value in values.items():
        yield f"{_key(name)} = {_inline(value)}"
    for name, value in below.items():
        if _is_table(value):
            yield from _table(value, (*path, name))
        else:
            for part in value:
                yield from _table(part, (*path, name), "[[]]")


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) and not {"value", "unit", "source"} <= value.keys()


def _are_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and _is_table(value[0])


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(name)} = {_inline(part)}" for name, part in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_inline(part) for part in value) + "]"
    # JSON's strings, numbers and booleans are TOML's.
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _key(name: str) -> str:
    return name if _BARE.match(name) else json.dumps(name)

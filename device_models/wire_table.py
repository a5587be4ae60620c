"""Wire resistance of one cell pitch by process node, from the shipped table ``cards/wires.toml``."""

from __future__ import annotations

import tomllib
from importlib import resources

from .card import CardError


def wire_resistance(node: str, cell: str) -> tuple[float, float]:
    """Return (word line, bit line) resistance of one cell pitch in ohm.

    Args:
        node: process node, such as ``45nm``.
        cell: ``1t1r`` (4F by 12F) or ``crosspoint`` (2F by 2F).

    Raises:
        CardError: if the table has no such node or cell.
    """
    nodes = _table()
    if node not in nodes:
        raise CardError(f"no wire node {node!r}: known are {', '.join(nodes)}")
    if cell not in nodes[node]:
        raise CardError(f"no cell {cell!r} at node {node}: known are {', '.join(nodes[node])}")
    return nodes[node][cell]["word_line"], nodes[node][cell]["bit_line"]


def wire_nodes() -> list[str]:
    """Names of the process nodes in the table."""
    return list(_table())


def _table() -> dict[str, dict[str, dict[str, float]]]:
    text = (resources.files("device_models") / "cards" / "wires.toml").read_text("utf-8")
    return tomllib.loads(text)["nodes"]

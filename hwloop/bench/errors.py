"""What goes wrong at a bench."""

from __future__ import annotations


class BenchError(ValueError):
    """An instrument that cannot be used or gave no usable answer; the message names it and what to do."""


class LimitError(ValueError):
    """A map or input that would exceed a safe limit of the card; nothing was sent."""

"""How the stations say how far they are; the command line shows it, tests and scripts need not listen."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Hears of stations that begin, advance and end, one at a time."""

    def begin(self, station: str) -> None:
        """A station starts."""
        ...

    def update(self, fraction: float, detail: str = "") -> None:
        """The running station is ``fraction`` (0 to 1) done; ``detail`` is a few words."""
        ...

    def end(self, result: str) -> None:
        """The running station is done; ``result`` is its outcome in a few words."""
        ...


class Silence:
    """Progress that nobody watches."""

    def begin(self, station: str) -> None:
        """Do nothing."""

    def update(self, fraction: float, detail: str = "") -> None:
        """Do nothing."""

    def end(self, result: str) -> None:
        """Do nothing."""

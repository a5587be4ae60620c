"""Circuits for the tests of the pool; workers import this module to receive them, so it imports little."""

import os
import time
from dataclasses import dataclass

DIVIDER = ".title divider\nVin in 0 1\nRa in mid 1000\nRb mid out 1000\nVout out 0 0\n.op\n.end\n"


@dataclass(frozen=True)
class Text:
    """A circuit given as text."""

    text: str = DIVIDER
    vectors: tuple[str, ...] = ("vout#branch",)
    points: int = 1
    times: None = None

    def netlist(self):
        return self.text


@dataclass(frozen=True)
class Sleeper(Text):
    """A circuit that never comes to an answer."""

    def netlist(self):
        time.sleep(600)


@dataclass(frozen=True)
class Dying(Text):
    """A circuit that takes its process down."""

    def netlist(self):
        os._exit(3)

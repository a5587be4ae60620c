"""What ``--backend`` names: simulators, an instrument, a record, or the conductances that a map holds."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hwloop.hardware import Hardware
    from hwloop.recipe import Recipe

SIMULATORS = ("ideal", "fast", "spice", "measured")
PLACES = {"bench": "HOST:PORT", "recorded": "FILE"}
"""Back ends that are somewhere, and what says where."""


@dataclass(frozen=True)
class Backend:
    """A back end and, of one that is somewhere, where.

    Attributes:
        kind: name of the back end.
        where: address or file; empty for simulators.
    """

    kind: str
    where: str = ""

    @property
    def one_chip(self) -> bool:
        """Whether the device instance is a given one, and none is drawn."""
        return self.kind in PLACES or self.kind == "measured"

    def __str__(self) -> str:
        return f"{self.kind}:{self.where}" if self.where else self.kind


def parse_backend(text: str) -> Backend:
    """Return what ``--backend`` says; raises BadParameter."""
    kind, _, where = str(text).partition(":")
    if (kind in SIMULATORS and not where) or (kind in PLACES and where):
        return Backend(kind, where)
    known = [*SIMULATORS, *(f"{name}:{place}" for name, place in PLACES.items())]
    raise typer.BadParameter(f"{text!r} is none of {', '.join(known)}")


BackendOption = Annotated[
    Backend,
    typer.Option(
        parser=parse_backend,
        metavar="|".join([*SIMULATORS, *(f"{name}:{place}" for name, place in PLACES.items())]),
        help="What reads the arrays.",
    ),
]
DriverOption = Annotated[
    str | None,
    typer.Option(help="Driver of the instrument: tile (if left out) or smu.", show_default=False),
]


def make_hardware(
    backend: Backend,
    choice: Recipe,
    seed: int,
    instance: int | str,
    progress: Callable[[float, str], None],
    driver: str | None = None,
) -> Hardware:
    """Return hardware of a back end.

    Args:
        backend: which.
        choice: recipe with wires and readout.
        seed: seed of the run.
        instance: device instance to draw; an instrument has its own.
        progress: called with the fraction of the arrays that are programmed, and a few words.
        driver: name of the instrument's driver; None = the one for whole tiles.

    Raises:
        ValueError: if it cannot be made.
    """
    from hwloop.hardware import FastHardware, IdealHardware, MeasuredHardware, RecordedHardware, SpiceHardware
    from hwloop.line import make_wires

    if backend.kind == "bench":
        from hwloop.bench import TileBoard, connect

        return connect(backend.where, choice.hardware, driver=driver or TileBoard.name, progress=progress)
    if backend.kind == "recorded":
        return RecordedHardware(backend.where)
    if backend.kind == "ideal":
        return IdealHardware()
    wires = make_wires(choice.hardware)
    if backend.kind in ("fast", "measured"):
        simulator = FastHardware if backend.kind == "fast" else MeasuredHardware
        return simulator(wires, choice.hardware, seed=seed, instance=instance)
    return SpiceHardware(
        wires,
        choice.hardware,
        seed=seed,
        instance=instance,
        workers=os.cpu_count() or 1,
        progress=progress,
    )

"""Maps larger than memory: programmed and solved tile by tile, from file to file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from device_models.crossbar import Wires, effective_conductance
from device_models.memristor import program
from device_models.random import stream
from hwloop.mapping import ConductanceMap, LayerMap, create_map, open_map, wires_of

INPUTS = 8
"""Random input vectors with which a solved tile is read."""

Watch = Callable[[float, str], None]


def program_stored(
    source: str | Path,
    target: str | Path,
    *,
    seed: int,
    instance: int | str = 0,
    elapsed: float | None = None,
    temperature: float | None = None,
    max_bytes: int,
    progress: Watch | None = None,
) -> None:
    """Program a map that need not fit into memory: what :class:`FastHardware` programs, from file to file.

    Args:
        source: the map.
        target: the programmed map, written atomically; it keeps no target conductances, which level code and
            step tell.
        seed: seed of the run.
        instance: which device instance to draw.
        elapsed: seconds from programming to reading; None = right after it.
        temperature: in kelvin, at which that time was spent; None = the device card's.
        max_bytes: memory that reading may take at a time.
        progress: called with the fraction done and the layer.

    Raises:
        MapFileError: if the source is damaged or the target cannot be written; there is no target then.
        ValueError: if the card does not say where a cell lands.
    """
    with open_map(source, max_bytes) as stored, create_map(target, stored.header, targets=False) as writer:
        done, total = 0, max(1, sum(layer.tiles for layer in stored.layers.values()))

        def programmed(name: str) -> Iterator[LayerMap]:
            nonlocal done
            first = 0
            for part in stored.parts(name):
                actual = program(
                    _target(stored.header, part),
                    stored.header.card,
                    seed,
                    instance,
                    name,
                    first_tile=first,
                    elapsed=elapsed,
                    temperature=temperature,
                )
                yield dataclasses.replace(part, actual=actual.to(torch.float32))
                first, done = first + part.tiles, done + part.tiles
                if progress is not None:
                    progress(done / total, name)

        for name, layer in stored.layers.items():
            writer.layer(programmed(name), layer.tiles)
        for name, value in stored.digital():
            writer.digital(name, value)


@dataclasses.dataclass(frozen=True)
class SolvedLayer:
    """What the exact solver found in a layer.

    Attributes:
        name: of the layer.
        tiles: of the layer.
        solved: tiles that were solved; every array of each.
        error: RMS difference of the bit-line currents from those of the target conductances without wires,
            relative to the RMS of these, over all solved arrays; 0 if no cell conducts.
    """

    name: str
    tiles: int
    solved: int
    error: float


def solve_stored(
    path: str | Path,
    wires: Wires,
    *,
    sample: int | None = None,
    seed: int,
    max_bytes: int,
    progress: Watch | None = None,
) -> list[SolvedLayer]:
    """Solve the arrays of a map with the exact circuit solver, and read them with random inputs.

    Args:
        path: the map; one that is not programmed is solved at its targets.
        wires: figures of the lines of every array.
        sample: tiles to solve, of all layers together and evenly spread over them; None = all.
        seed: of the inputs, which are 0 or the read voltage.
        max_bytes: memory that reading may take at a time.
        progress: called with the fraction done and the layer.

    Raises:
        MapFileError: if the map is damaged.
    """
    with open_map(path, max_bytes) as stored:
        total = max(1, sum(layer.tiles for layer in stored.layers.values()))
        stride = 1 if sample is None else max(1, math.ceil(total / max(1, sample)))
        found, before = [], 0
        for name, layer in stored.layers.items():
            errors, currents, solved, first = 0.0, 0.0, 0, before
            for part in stored.parts(name):
                chosen = [tile for tile in range(part.tiles) if (first + tile) % stride == 0]
                if chosen:
                    target = _target(stored.header, part)[chosen]
                    actual = target if part.actual is None else part.actual[chosen].to(torch.float64)
                    ideal, real = _currents(target, actual, wires_of(wires, name), seed, name, first - before)
                    errors += float(((real - ideal) ** 2).sum())
                    currents += float((ideal**2).sum())
                    solved += len(chosen)
                first += part.tiles
                if progress is not None:
                    progress(first / total, name)
            before += layer.tiles
            error = math.sqrt(errors / currents) if currents else 0.0
            found.append(SolvedLayer(name, layer.tiles, solved, error))
    return found


def _target(header: ConductanceMap, part: LayerMap) -> torch.Tensor:
    return dataclasses.replace(header, layers={part.name: part}).target(part.name)


def _currents(
    target: torch.Tensor, actual: torch.Tensor, wires: Wires, seed: int, name: str, first: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return bit-line currents at 1 V on random word lines: of targets without wires, and with both."""
    draws = stream(seed, "solve", name, first).integers(0, 2, (INPUTS, target.shape[-2]))
    inputs = torch.from_numpy(draws).to(torch.float64)
    return inputs @ target, inputs @ effective_conductance(actual, wires)

"""Hardware that is overheard, and hardware that is a record of what was heard."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from device_models.folders import alone_in, discard
from hwloop.mapping import ConductanceMap

from .checks import layers_to_program
from .protocol import Capabilities, Resumable
from .record_file import (
    Exchange,
    RecordError,
    gather,
    opening_record,
    program_request,
    read_part,
    read_request,
    write_exchange,
)
from .wrapped import WrappedHardware


class RecordingHardware(WrappedHardware):
    """Hardware whose every exchange is written down; use as a context manager.

    While the record is made, each exchange is a file in the folder ``PATH.record``, whole or not there. When
    the block ends well they become the one file ``path``. A run that was cut short leaves the folder, and the
    same run started again goes on: what was asked before is answered from the folder, and the hardware is
    taken up where it was left, without programming it again.

    Args:
        hardware: what is overheard.
        path: the record.

    Raises:
        RecordError: if ``path`` is there already.
        FolderInUseError: if another process makes this record.
    """

    def __init__(self, hardware: Resumable, path: str | Path) -> None:
        super().__init__(hardware)
        self._hardware: Resumable = hardware
        self._path = Path(path)
        self._folder = self._path.with_name(f"{self._path.name}.record")
        if self._path.exists():
            raise RecordError(f"{self._path}: is there already; replay it, or choose another file")
        self._stack = ExitStack()
        self._held = _Held()
        self._done = 0  # exchanges of this run
        self._there = 0  # exchanges of the runs before

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._stack.enter_context(alone_in(self._folder))
        while self._part(self._there).exists():
            self._there += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None and self._done < self._there:
            self._stack.close()
            raise RecordError(
                f"{self._folder}: holds {self._there} exchanges of an earlier run, and this one asked for "
                f"{self._done}; remove the folder, or run again what began it"
            )
        if kind is None and self._done:
            gather([self._part(number) for number in range(self._done)], self._path)
            discard(self._folder)
        elif not self._done and not self._there:
            discard(self._folder)
        self._stack.close()

    def program(
        self, conductance_map: ConductanceMap, layers: Collection[str] | None = None
    ) -> ConductanceMap:
        """Program and write it down; see :class:`~hwloop.hardware.Hardware`.

        Raises:
            RecordError: if an earlier run asked for something else here.
        """
        chosen = tuple(layers_to_program(conductance_map, layers))
        request = program_request(conductance_map, chosen)
        if (exchange := self._known("program", chosen, layers is None, request)) is None:
            programmed = self._hardware.program(conductance_map, layers)
            arrays = {name: _actual(programmed, name) for name in chosen}
            exchange = Exchange("program", chosen, layers is None, request, self.identity, arrays)
            self._keep(exchange)
        programmed = with_actual(conductance_map, exchange, self._path)
        self._held.programmed(programmed, exchange)
        return programmed

    def read(self, layer: str, inputs: torch.Tensor) -> torch.Tensor:
        """Read and write it down; see :class:`~hwloop.hardware.Hardware`.

        Raises:
            RecordError: if an earlier run asked for something else here.
        """
        request = read_request(layer, inputs)
        if (exchange := self._known("read", (layer,), False, request)) is None:
            outputs = self._hardware.read(layer, inputs)
            arrays = {
                "inputs": inputs.detach().to("cpu", torch.float32).numpy(),
                "outputs": outputs.numpy(force=True),
            }
            exchange = Exchange("read", (layer,), False, request, self.identity, arrays)
            self._keep(exchange)
        self._held.vectors[layer] += len(inputs)
        return torch.from_numpy(exchange.arrays["outputs"]).to(inputs.device)

    def _known(self, kind: str, layers: tuple[str, ...], everything: bool, request: str) -> Exchange | None:
        """Return the next exchange of an earlier run; None, with the hardware taken up, if there is none."""
        if self._done == self._there:
            if self._done and not self._held.live:
                self._take_up()
            self._held.live = True
            return None
        exchange = read_part(self._part(self._done))
        compare(exchange, kind, layers, everything, request, f"{self._folder}, exchange {self._done}")
        self._done += 1
        self._held.hardware = exchange.hardware
        return exchange

    def _take_up(self) -> None:
        if self._held.map is None:
            raise RecordError(f"{self._folder}: damaged: nothing was programmed; remove the folder")
        self._hardware.take_up(self._held.map, self._held.writes, self._held.vectors)
        now, then = self._hardware.identity, self._held.hardware
        for name in {**now, **then}:
            # Where an instrument is may change while it is away.
            if name != "address" and now.get(name) != then.get(name):
                raise RecordError(
                    f"{self._folder}: was begun with other hardware ({name} was {then.get(name)}, is "
                    f"{now.get(name)}); use that, or remove the folder"
                )

    def _keep(self, exchange: Exchange) -> None:
        write_exchange(self._part(self._done), exchange)
        self._done += 1
        self._there = self._done

    def _part(self, number: int) -> Path:
        return self._folder / f"{number:08d}.h5"


class RecordedHardware:
    """Hardware that answers from a record what it was asked when the record was made, in the same order.

    Args:
        path: the record.

    Raises:
        RecordError: if the file is no record, or an empty one.
        MapFileError: if it is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._stack = ExitStack()
        self._exchanges: Iterator[Exchange] = self._stack.enter_context(opening_record(self._path))
        self._number = 0
        self._hardware: dict[str, Any] = {}

    @property
    def identity(self) -> dict[str, str | int | float | bool]:
        """What was recorded; its back end is in ``recorded_backend``."""
        recorded = dict(self._hardware)
        return {**recorded, "backend": "recorded", "recorded_backend": recorded.get("backend", "")}

    @property
    def capabilities(self) -> Capabilities:
        """A record says nothing of them."""
        return Capabilities()

    def program(
        self, conductance_map: ConductanceMap, layers: Collection[str] | None = None
    ) -> ConductanceMap:
        """Return what programming gave then; see :class:`~hwloop.hardware.Hardware`.

        Raises:
            RecordError: if that was not asked next when the record was made.
        """
        chosen = tuple(layers_to_program(conductance_map, layers))
        exchange = self._next("program", chosen, layers is None, program_request(conductance_map, chosen))
        return with_actual(conductance_map, exchange, self._path)

    def read(self, layer: str, inputs: torch.Tensor) -> torch.Tensor:
        """Return what was read then; see :class:`~hwloop.hardware.Hardware`.

        Raises:
            RecordError: if that was not asked next when the record was made.
        """
        exchange = self._next("read", (layer,), False, read_request(layer, inputs))
        outputs = exchange.arrays["outputs"]
        if outputs.ndim != 2 or len(outputs) != len(inputs):
            raise RecordError(f"{self._path}: exchange {self._number - 1}: outputs of the wrong shape")
        return torch.from_numpy(outputs).to(inputs.device)

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def _next(self, kind: str, layers: tuple[str, ...], everything: bool, request: str) -> Exchange:
        exchange = next(self._exchanges, None)
        where = f"{self._path}, exchange {self._number}"
        if exchange is None:
            raise RecordError(f"{where}: the record ends here; it was made with fewer requests")
        compare(exchange, kind, layers, everything, request, where)
        self._number += 1
        self._hardware = exchange.hardware
        return exchange


class _Held:
    """What hardware holds after the exchanges so far.

    Attributes:
        map: its layers, as they were programmed.
        writes: how often each layer was programmed.
        vectors: of each layer that is held, how many it was read with since.
        hardware: identity of the hardware.
        live: whether the hardware itself is at this point.
    """

    def __init__(self) -> None:
        self.map: ConductanceMap | None = None
        self.writes: dict[str, int] = {}
        self.vectors: dict[str, int] = {}
        self.hardware: dict[str, Any] = {}
        self.live = False

    def programmed(self, conductance_map: ConductanceMap, exchange: Exchange) -> None:
        """Take note of layers that were programmed."""
        if exchange.all:
            self.vectors = {}
        for name in exchange.layers:
            self.writes[name] = self.writes.get(name, 0) + 1
            self.vectors[name] = 0
        kept = {} if self.map is None else self.map.layers
        layers = {
            name: layer if name in exchange.layers else kept.get(name, layer)
            for name, layer in conductance_map.layers.items()
        }
        self.map = replace(conductance_map, layers=layers)


def with_actual(conductance_map: ConductanceMap, exchange: Exchange, path: Path) -> ConductanceMap:
    """Return a map with the conductances that an exchange tells.

    Raises:
        RecordError: if they do not fit.
    """
    layers = dict(conductance_map.layers)
    for name in exchange.layers:
        actual = exchange.arrays[name]
        if actual.shape != tuple(layers[name].codes.shape):
            raise RecordError(f"{path}: layer {name}: conductances of the wrong shape")
        layers[name] = replace(layers[name], actual=torch.from_numpy(actual))
    return replace(conductance_map, layers=layers)


def compare(
    exchange: Exchange, kind: str, layers: tuple[str, ...], everything: bool, request: str, where: str
) -> None:
    """Raise RecordError unless an exchange is the one that is asked for."""
    asked = (kind, layers, everything, request)
    if (exchange.kind, exchange.layers, exchange.all, exchange.request) == asked:
        return
    was, now = (f"{name} {', '.join(of)}"[:120] for name, of in ((exchange.kind, exchange.layers), asked[:2]))
    differs = "with other values" if was == now else f"not {now}"
    raise RecordError(
        f"{where}: {was} was recorded, {differs}; replay what was recorded, with the same map and data"
    )


def _actual(programmed: ConductanceMap, name: str) -> np.ndarray:
    actual = programmed.layers[name].actual
    if actual is None:
        raise ValueError(f"layer {name}: the hardware does not say what it programmed")
    return actual.numpy(force=True)

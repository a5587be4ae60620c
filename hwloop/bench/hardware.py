"""Hardware at a bench: a conductance map laid out on the arrays of an instrument."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from device_models.card import DeviceCard
from device_models.converters import dac_codes
from hwloop.hardware import Capabilities
from hwloop.hardware.checks import check_inputs, check_one_copy, layers_to_program, programmed_layer
from hwloop.mapping import UNUSED_LINE, ConductanceMap, LayerMap, line_weights, resolution
from hwloop.recipe import Readout

from .drivers import Driver
from .errors import BenchError
from .limits import check_limits

_NEGATIVE = 1 << 40  # added to the numbers of vectors in the pass of negative inputs
_FRAGMENT = 1 << 41  # added for each fragment of word lines that is read on its own
_VECTORS = 4096  # whose codes are gathered at a time


@dataclass
class _Layer:
    """A layer that the instrument holds.

    Attributes:
        map: the layer as it was programmed.
        card: its device card.
        present: bool ``[tiles, polarity, slice]``, whether an array holds any cell.
        first_array: where its arrays begin; they follow in the order of tile, polarity, slice.
        vectors: how many it was read with since it was written.
    """

    map: LayerMap
    card: DeviceCard
    present: np.ndarray
    first_array: int
    vectors: int = 0


class BenchHardware:
    """Arrays behind an instrument, whatever it is; see :class:`~hwloop.hardware.Hardware`.

    Every tile, polarity and slice has an array of its own, in the order of the map. The instrument multiplies
    input codes with the conductances of one array; everything digital is done here: codes of the inputs,
    polarities and slices, sums over tiles, the weight of a siemens. Absent arrays, and inputs of unused word
    lines, are not sent.

    Args:
        driver: the instrument.
        readout: bits of an input, and least significant bits of the ADCs where they are given; all else is
            as the instrument does it.
        address: where the instrument is, for the record.
        progress: called with the fraction of the arrays that are programmed, and a few words.

    Raises:
        ValueError: if the readout asks for copies, or for hardware of single layers.
    """

    def __init__(
        self,
        driver: Driver,
        readout: Readout | None = None,
        *,
        address: str = "",
        progress: Callable[[float, str], None] | None = None,
    ) -> None:
        self._driver, self._readout = driver, readout or Readout()
        check_one_copy(self._readout, "an instrument programs one copy of each array")
        if self._readout.layer:
            raise BenchError(
                f"an instrument reads all layers alike, but hardware.layer.{next(iter(self._readout.layer))} "
                "has values of its own; leave these out"
            )
        self._address, self._progress = address, progress
        self._card = ""
        self._layers: dict[str, _Layer] = {}
        self._writes: dict[str, int] = {}

    @property
    def identity(self) -> dict[str, str | int | float | bool]:
        """What is read: the instrument as it calls itself, and the card it is taken for."""
        return {
            "backend": "bench",
            "simulated": self._driver.simulated,
            "card": self._card,
            "instrument": self._driver.identity,
            "driver": type(self._driver).__name__,
            "address": self._address,
            "dac_bits": self._readout.dac_bits,
        }

    @property
    def capabilities(self) -> Capabilities:
        """What the instrument has."""
        return self._driver.capabilities

    def program(
        self, conductance_map: ConductanceMap, layers: Collection[str] | None = None
    ) -> ConductanceMap:
        """Write layers, array by array; see :class:`~hwloop.hardware.Hardware`.

        Raises:
            LimitError: if a cell would exceed a safe limit of the card; nothing was sent then.
            BenchError: if the instrument does not have such arrays, or gives no usable answer.
        """
        chosen = layers_to_program(conductance_map, layers)
        places = self._places(conductance_map, layers)
        check_limits(conductance_map, chosen)
        self._driver.prepare(conductance_map.card)
        self._card = conductance_map.card.name
        if layers is None:
            self._layers = {}
        total = sum(layer.codes.shape[:3].numel() for layer in chosen.values())
        done, programmed = 0, {}
        for name, layer in chosen.items():
            self._layers.pop(name, None)
            number = self._writes.get(name, 0)
            actual = torch.zeros(layer.codes.shape, dtype=torch.float32)
            target = conductance_map.target(name).numpy()
            for offset, place in enumerate(np.ndindex(target.shape[:3])):
                if target[place].any():
                    actual[place] = self._write(places[name] + offset, target[place], number)
                done += 1
                self._report(done / total, f"{name}: {done} of {total} arrays written")
            self._writes[name] = number + 1
            programmed[name] = replace(layer, actual=actual)
            self._layers[name] = self._holding(conductance_map, programmed[name], places[name])
        return replace(conductance_map, layers=conductance_map.layers | programmed)

    def take_up(
        self, conductance_map: ConductanceMap, writes: Mapping[str, int], vectors: Mapping[str, int]
    ) -> None:
        """Go on with what the instrument still holds; see :class:`~hwloop.hardware.Resumable`.

        Raises:
            BenchError: as :meth:`program`.
        """
        places = self._places(conductance_map, None)
        self._driver.prepare(conductance_map.card)
        self._card, self._writes = conductance_map.card.name, dict(writes)
        self._layers = {}
        for name, count in vectors.items():
            self._layers[name] = self._holding(conductance_map, conductance_map.layers[name], places[name])
            self._layers[name].vectors = count

    def read(self, layer: str, inputs: torch.Tensor) -> torch.Tensor:
        """Read ``inputs``; see :class:`~hwloop.hardware.Hardware`.

        Inputs above the layer's input scale, and negative ones where it is unsigned, saturate the DAC.

        Raises:
            BenchError: if the instrument gives no usable answer.
        """
        held = programmed_layer(self._layers, layer)
        rows, cols = held.map.matrix_shape
        check_inputs(layer, inputs, rows)
        outputs = torch.empty(len(inputs), cols)
        full_scales = self._full_scales(held)
        weights, per_input = (values.numpy() for values in line_weights(held.map, held.card.levels))
        bits = self._readout.dac_bits
        unit = held.map.weight_per_siemens * held.map.input_scale / ((1 << bits) - 1)
        for part, result in zip(
            inputs.detach().to("cpu", torch.float32).split(_VECTORS), outputs.split(_VECTORS), strict=True
        ):
            total = np.zeros((len(part), cols))
            for sign in (1, -1) if held.map.input_signed else (1,):
                codes = dac_codes(sign * part, held.map.input_scale, bits).numpy().astype(np.uint16)
                # Passes count their vectors apart, so that each vector has a number of its own.
                first = held.vectors + (0 if sign > 0 else _NEGATIVE)
                total += sign * self._multiply(held, codes, full_scales, weights, per_input, first)
            result.copy_(torch.from_numpy(unit * total))
            held.vectors += len(part)
        return outputs.to(inputs.device)

    def close(self) -> None:
        """Let the instrument go."""
        self._driver.close()

    def _multiply(
        self,
        held: _Layer,
        codes: np.ndarray,
        full_scales: np.ndarray,
        weights: np.ndarray,
        per_input: np.ndarray,
        first: int,
    ) -> np.ndarray:
        """Return input codes ``[vectors, matrix_rows]`` times the matrix in siemens ``[.., matrix_cols]``."""
        layer = held.map
        row_index, col_index = layer.row_index.numpy(force=True), layer.col_index.numpy(force=True)
        # An unused word line has index -1, the column of zeros that is added here.
        padded = np.concatenate([codes, np.zeros((len(codes), 1), np.uint16)], axis=1)
        total = np.zeros((len(codes), layer.matrix_shape[1]))
        for offset, (tile, polarity, slice_) in enumerate(np.ndindex(layer.codes.shape[:3])):
            if not held.present[tile, polarity, slice_]:
                continue
            lines = np.flatnonzero(col_index[tile] != UNUSED_LINE)
            applied = padded[:, row_index[tile]]
            for fragment, signs in enumerate(weights[tile, polarity, slice_]):
                sums = self._driver.read(
                    held.first_array + offset,
                    self._fragment(applied, fragment, layer),
                    self._readout.dac_bits,
                    float(full_scales[tile]),
                    first + fragment * _FRAGMENT,
                )
                total[:, col_index[tile, lines]] += sums[:, lines] * signs[lines]
        if per_input.any():
            for tile, counts in enumerate(per_input):
                lines = np.flatnonzero(col_index[tile] != UNUSED_LINE)
                sent = padded[:, row_index[tile]].sum(axis=1, dtype=np.float64)
                total[:, col_index[tile, lines]] += sent[:, None] * counts[lines] * held.card.g_step
        return total

    def _fragment(self, applied: np.ndarray, fragment: int, layer: LayerMap) -> np.ndarray:
        """Return codes for the instrument's word lines, 0 outside of a fragment that is read alone."""
        rows = (self.capabilities.array_shape or applied.shape[1:])[0]
        if layer.encoding != "polarised":
            return _padded(applied, (len(applied), rows))
        own = slice(fragment * layer.fragment, (fragment + 1) * layer.fragment)
        codes = np.zeros((len(applied), rows), applied.dtype)
        codes[:, own] = applied[:, own]
        return codes

    def _holding(self, conductance_map: ConductanceMap, layer: LayerMap, first_array: int) -> _Layer:
        """Return a layer that the instrument holds and that was not read yet."""
        present = (conductance_map.target(layer.name) != 0).flatten(3).any(dim=3).numpy()
        return _Layer(layer, conductance_map.card, present, first_array)

    def _write(self, array: int, target: np.ndarray, number: int) -> torch.Tensor:
        rows, cols = target.shape
        shape = self.capabilities.array_shape or (rows, cols)
        measured = self._driver.program(array, _padded(target, shape), number)[:rows, :cols]
        return torch.from_numpy(np.where(target > 0, measured.clip(0.0), 0.0).astype(np.float32))

    def _full_scales(self, held: _Layer) -> np.ndarray:
        """Return what the converters of each tile should span, in siemens ``[tiles]``."""
        choice = Readout(
            dac_bits=self._readout.dac_bits,
            adc_bits=self.capabilities.adc_bits or {},
            adc_lsb=self._readout.adc_lsb,
            rows_at_once=held.map.fragment if held.map.encoding == "polarised" else None,
        )
        found = resolution(held.map, held.card.levels, choice, idle=held.card.idle_steps)
        bits = self.capabilities.adc_bits
        top = 2.0 ** (found.bits.numpy() if bits is None else np.full(held.map.tiles, bits)) - 1
        spans: np.ndarray = top * found.lsb * held.card.g_step
        return spans

    def _places(self, conductance_map: ConductanceMap, layers: Collection[str] | None) -> dict[str, int]:
        """Return where the arrays of each layer begin.

        Raises:
            BenchError: if the instrument does not have such arrays, or layers that stay would have to move.
        """
        has = self.capabilities
        rows, cols = conductance_map.array_shape
        if has.array_shape is not None and (rows > has.array_shape[0] or cols > has.array_shape[1]):
            raise BenchError(
                f"the map has arrays of {rows}x{cols}, the instrument {has.array_shape[0]}x"
                f"{has.array_shape[1]}; map the network onto arrays that fit"
            )
        if has.levels is not None and conductance_map.card.levels > has.levels:
            raise BenchError(
                f"the map has {conductance_map.card.levels} levels, the instrument {has.levels}; "
                "map with cell_levels that it can hold"
            )
        if has.arrays is not None and conductance_map.arrays() > has.arrays:
            raise BenchError(
                f"the map needs {conductance_map.arrays()} arrays, the instrument has {has.arrays}; "
                "prune more, or use an instrument with more arrays"
            )
        places, first = {}, 0
        for name, layer in conductance_map.layers.items():
            places[name] = first
            first += layer.codes.shape[:3].numel()
        for name, held in self._layers.items():
            if layers is not None and name not in layers and places.get(name) != held.first_array:
                raise BenchError(
                    f"layer {name} would have to move to other arrays, because layers before it have "
                    "another number of them now; program all layers together"
                )
        return places

    def _report(self, fraction: float, words: str) -> None:
        if self._progress is not None:
            self._progress(fraction, words)


def _padded(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return a matrix with zeros for the lines that the instrument has beyond those of the map."""
    spread = [(0, extent - size) for extent, size in zip(shape, values.shape, strict=True)]
    return np.pad(values, spread)

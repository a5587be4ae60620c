"""The fast simulator: every programmed tile is solved once, then all inputs are read through its solution."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from device_models.card import DeviceCard
from device_models.converters import Dac, UniformAdc, dac_codes, slices
from device_models.converters.bank import MAX_BITS
from device_models.crossbar import Wires, effective_conductance
from device_models.memristor import program, read_noise_variance
from device_models.random import stream_key
from hwloop.hardware.adcs import LayerAdcs, build_adcs
from hwloop.hardware.bit_serial import (
    Band,
    BitLines,
    Reading,
    count_codes,
    form_bands,
    is_exact,
    read_bands,
    standard_normals,
)
from hwloop.hardware.checks import check_inputs, layers_to_program, programmed_layer
from hwloop.hardware.protocol import Capabilities
from hwloop.mapping import ConductanceMap, LayerMap, assemble, line_weights, resolution, wires_of
from hwloop.recipe import Readout

_WITHOUT_ADCS = {
    "adc": UniformAdc(),
    "adc_bits": MAX_BITS,  # not {}, lossless ones, which can be more than there are
    "adc_lsb": {},
    "subtraction": "digital",
    "accumulation": "digital",
}
_TILES = 64  # tile positions that are solved at a time
_INPUTS = 1 << 22  # inputs that are read bit by bit at a time: enough to keep all threads busy
_FACTORS = 1 << 18  # inputs that are multiplied at a time: what fits in a core's cache
_SHIFTED_CODE_BITS = 30  # of the compiled loop's accumulator


@dataclass
class _Layer:
    """A programmed layer: its bands, or the matrix that gives the same result in one product."""

    map: LayerMap
    adcs: LayerAdcs
    reading: Reading
    weight_per_count: float  # weight times activation of one level step times one input code
    bands: list[Band]
    drivers: torch.Tensor | None  # [matrix_rows, digits]: steps that are applied for each digit, if not ideal
    per_input: torch.Tensor | None  # [matrix_rows, matrix_cols]: what digital logic adds for each input code
    matrix: torch.Tensor | None = None  # [matrix_rows, matrix_cols] in level steps
    variance: torch.Tensor | None = None  # of one read with all inputs at 1, in level steps squared
    vectors: int = 0  # read since programming


class FastHardware:
    """Simulated arrays: programming error, exact wires, read noise, DACs, and ADCs at the bit lines.

    A read of one input vector takes one cycle for each digit of its inputs. In each cycle the ADCs convert
    the currents of their bit lines; codes are shifted, subtracted between polarities and added over tiles
    digitally. Layers with signed inputs are read in two passes. What else there is to choose, and what the
    converters are, says :class:`~hwloop.recipe.Readout`.

    Where it is provably the same, bits are not read one by one (see :meth:`collapses`): with all effective
    conductances on whole levels, no noise and ideal converters that hold the sum of every column, each code
    is the exact integer current, and shifting and adding the codes is one product with the input codes.

    Where the readout asks for copies, every tile is on as many arrays of the same chip, with devices and
    converters of their own, and digital logic takes the mean of what they read (Joksas et al., Nature
    Communications 11:4273, 2020, average whole networks so). The first copy is what there is without others.

    Noise is new in every cycle. Each layer counts the vectors that it has read since it was programmed and
    draws by that number, so batches of any size give the same results, and reading again gives others.

    Args:
        wires: figures of the lines of every array.
        readout: how arrays are read; None = 8-bit inputs, one bit per cycle, lossless ideal converters.
        seed: seed of the run.
        instance: which device instance to draw; evaluation uses numbers, retraining uses names.
        adc: if False, currents are read as they are (converters of unlimited resolution), which tells what
            the ADCs cost. Currents are linear, so bits collapse to one product; read noise keeps its
            distribution.
    """

    def __init__(
        self,
        wires: Wires,
        readout: Readout | None = None,
        *,
        seed: int,
        instance: int | str = 0,
        adc: bool = True,
    ) -> None:
        self._wires, self._readout, self._seed = wires, readout or Readout(), seed
        self._instance, self._adc = instance, adc
        self._card = ""
        self._layers: dict[str, _Layer] = {}

    @property
    def identity(self) -> dict[str, str | int | float | bool]:
        """What is read: back end, card, instance, seed, converters and wires."""
        copies = self._readout.copies
        figures = {field.name: getattr(self._wires, field.name) for field in fields(self._wires)}
        return {
            "backend": "fast",
            "simulated": True,
            "card": self._card,
            "seed": self._seed,
            "instance": self._instance,
            "copies": copies if isinstance(copies, int) else json.dumps(copies),
            "dac_bits": self._readout.dac_bits,
            "adc": self._readout.adc.kind if self._adc else "none",
            **{f"{name}_ohm": _describe(figure) for name, figure in figures.items()},
        }

    @property
    def capabilities(self) -> Capabilities:
        """Arrays of any size, and the widest converters that its readout allows."""
        bits = self._readout.adc_bits
        return Capabilities(adc_bits=(bits if isinstance(bits, int) else MAX_BITS) if self._adc else None)

    def program(
        self, conductance_map: ConductanceMap, layers: Collection[str] | None = None
    ) -> ConductanceMap:
        """Draw the devices of this instance and solve every tile; see :class:`~hwloop.hardware.Hardware`.

        A layer that is programmed again is on the same devices, and its reads are counted anew. Of copies,
        the map that is returned has the conductances of the first.

        Raises:
            ValueError: naming the layer, if its converters cannot be built or their codes are too long to
                add up.
        """
        chosen = layers_to_program(conductance_map, layers)
        self._card = conductance_map.card.name
        if layers is None:
            self._layers = {}
        copied = {name: layer.copied(self._readout.copies_of(name)) for name, layer in chosen.items()}
        whole, programmed = replace(conductance_map, layers=copied), {}
        for name, layer in chosen.items():
            actual, levels = self._program_tiles(name, whole)
            self._layers[name] = self._lay_out(replace(copied[name], actual=actual), levels, whole)
            programmed[name] = replace(layer, actual=actual[: layer.tiles])
        return replace(conductance_map, layers=conductance_map.layers | programmed)

    def take_up(
        self,
        conductance_map: ConductanceMap,
        writes: Mapping[str, int],  # noqa: ARG002 a layer is on the same devices however often it is written
        vectors: Mapping[str, int],
    ) -> None:
        """Hold what an earlier run programmed, and count on; see :class:`~hwloop.hardware.Resumable`."""
        self._layers = {}
        self.program(conductance_map, vectors)
        for name, count in vectors.items():
            self._layers[name].vectors = count

    def read(self, layer: str, inputs: torch.Tensor) -> torch.Tensor:
        """Read ``inputs``; see :class:`~hwloop.hardware.Hardware`.

        Inputs above the layer's input scale, and negative ones where it is unsigned, saturate the DAC.
        """
        arrays = programmed_layer(self._layers, layer)
        rows, cols = arrays.map.matrix_shape
        check_inputs(layer, inputs, rows)
        outputs = torch.empty(len(inputs), cols)
        size = max(1, (_INPUTS if arrays.matrix is None else _FACTORS) // rows)
        for part, result in zip(
            inputs.detach().to("cpu", torch.float32).split(size), outputs.split(size), strict=True
        ):
            if arrays.matrix is None:
                total = torch.empty(len(part), cols, dtype=torch.float64)
                read_bands(arrays.bands, arrays.adcs, arrays.reading, part, arrays.vectors, total)
                total.mul_(arrays.adcs.lsb)
            else:
                total = self._read_at_once(arrays, arrays.matrix, part).to(torch.float64)
            if arrays.per_input is not None:
                for codes, negative in self._passes(arrays.map, part):
                    total.add_(codes.to(torch.float64) @ arrays.per_input, alpha=-1 if negative else 1)
            result.copy_(total.mul_(arrays.weight_per_count))
            arrays.vectors += len(part)
        return outputs.to(inputs.device)

    def collapses(self, layer: str) -> bool:
        """Return whether a layer is read through its ADCs in one product, with the very same result."""
        return self._adc and programmed_layer(self._layers, layer).matrix is not None

    def count_codes(self, layer: str, inputs: torch.Tensor) -> torch.Tensor:
        """Return how often the layer's ADCs give each code when ``inputs`` are read, without noise.

        Returns:
            int64 ``[conversions of a vector, codes]``, up to the largest code that an ADC of the layer has.
        """
        arrays = programmed_layer(self._layers, layer)
        check_inputs(layer, inputs, arrays.map.matrix_shape[0])
        cycles = 1 if arrays.reading.at_end else self._readout.of(layer).cycles
        counts = torch.zeros(cycles, int(arrays.adcs.top.max(initial=1)) + 1, dtype=torch.int64)
        for part in inputs.split(max(1, _FACTORS // arrays.map.matrix_shape[0])):
            for codes, _ in self._passes(arrays.map, part):
                for band in arrays.bands:
                    counts += count_codes(band, arrays.adcs, codes, arrays.reading)
        return counts

    def _program_tiles(self, name: str, conductance_map: ConductanceMap) -> tuple[torch.Tensor, np.ndarray]:
        """Return programmed conductances (S) and effective conductances (level steps) of a layer's cells."""
        target, wires = conductance_map.target(name), wires_of(self._wires, name)
        actual = torch.empty(target.shape, dtype=torch.float32)
        levels = np.empty(target.shape)
        for first in range(0, len(target), _TILES):
            part = slice(first, first + _TILES)
            actual[part] = program(
                target[part],
                conductance_map.card,
                self._seed,
                self._instance,
                name,
                first_tile=first,
                elapsed=self._readout.elapsed,
                temperature=self._readout.temperature,
            )
            solved = effective_conductance(actual[part].to(torch.float64), wires)
            levels[part] = solved.numpy() / conductance_map.g_step
        return actual, levels

    def _lay_out(self, layer: LayerMap, levels: np.ndarray, conductance_map: ConductanceMap) -> _Layer:
        """Draw converters, and choose how a layer is read."""
        readout, card = self._readout.of(layer.name), conductance_map.card
        if not self._adc:
            readout = readout.model_copy(update=_WITHOUT_ADCS)
        found = resolution(layer, card.levels, readout, idle=card.idle_steps)
        weights, per_input = line_weights(layer, card.levels)
        noise = _relative_noise(layer, card.drawn(self._seed, self._instance))
        lines = _bit_lines(levels, weights.numpy(), noise, subtracted=found.bipolar)
        adcs = build_adcs(layer, found, readout, lines.weights.shape[1], self._seed, self._instance)
        reading = Reading(
            scale=layer.input_scale,
            bits=readout.dac_bits,
            digit_bits=readout.bits_per_cycle,
            signed=layer.input_signed,
            at_end=readout.accumulation == "analog",
            key=stream_key(self._seed, "read", self._instance, layer.name) % 2**64,
        )
        longest = int(found.bits.max()) + readout.dac_bits if layer.tiles else 0
        if longest > _SHIFTED_CODE_BITS and not reading.at_end:
            raise ValueError(
                f"layer {layer.name}: DAC and ADC have {longest} bits together, at most "
                f"{_SHIFTED_CODE_BITS} can be added up; use smaller arrays or fewer DAC bits"
            )
        drivers = self._draw_drivers(layer)
        weight_per_level = layer.weight_per_siemens * conductance_map.g_step / readout.copies_of(layer.name)
        arrays = _Layer(
            map=layer,
            adcs=adcs,
            reading=reading,
            weight_per_count=weight_per_level * layer.input_scale / (2**readout.dac_bits - 1),
            bands=form_bands(layer, lines, adcs, drivers, readout.rows_at_once),
            drivers=drivers,
            per_input=_matrix(layer, per_input[:, None, None].numpy(), np.ones_like(lines.levels[:, :1]))
            if bool(per_input.any())
            else None,
        )
        exact = all(is_exact(band, adcs, reading) for band in arrays.bands)
        if self._adc and not (exact and drivers is None):
            return arrays
        matrix = _matrix(layer, lines.weights, np.rint(lines.levels) if self._adc else lines.levels)
        # Float32 holds whole numbers up to 2^24 exactly; without ADCs nothing hangs on the last digits.
        largest = float(matrix.abs().sum(0).max()) * 2**readout.dac_bits
        arrays.matrix = matrix.to(torch.float32 if not self._adc or largest < 2**24 else torch.float64)
        if lines.variances is not None:
            arrays.variance = _matrix(layer, lines.weights**2, lines.variances).to(torch.float32)
        return arrays

    def _draw_drivers(self, layer: LayerMap) -> torch.Tensor | None:
        """Return the steps that the driver of each matrix row applies for each digit; None if ideal."""
        readout = self._readout.of(layer.name)
        mismatch = readout.dac_level_mismatch
        if mismatch == 0:
            return None
        names = ("dac", self._instance, layer.name)
        bits, rows = readout.bits_per_cycle, layer.matrix_shape[0]
        return Dac.draw(bits, rows, self._seed, *names, level_mismatch=mismatch).levels.to(torch.float32)

    def _passes(self, layer: LayerMap, inputs: torch.Tensor) -> Iterator[tuple[torch.Tensor, bool]]:
        """Yield the DAC codes of positive inputs and, where there can be any, of negative ones."""
        bits = self._readout.of(layer.name).dac_bits
        yield dac_codes(inputs, layer.input_scale, bits), False
        if layer.input_signed:
            yield dac_codes(-inputs, layer.input_scale, bits), True

    def _read_at_once(self, arrays: _Layer, matrix: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Read all cycles and both passes as one product, in level steps times input codes."""
        signed = torch.zeros(inputs.shape, dtype=matrix.dtype)
        weights = torch.zeros(inputs.shape) if arrays.variance is not None else None
        width = arrays.reading.digit_bits
        for codes, negative in self._passes(arrays.map, inputs):
            if weights is None and arrays.drivers is None:
                signed.add_(codes, alpha=-1 if negative else 1)
                continue
            for place, digit in enumerate(slices(codes, arrays.reading.bits, width)):
                steps = digit if arrays.drivers is None else _applied(arrays.drivers, digit)
                shift = 1 << place * width
                signed.add_(steps, alpha=-shift if negative else shift)
                if weights is not None:
                    # A cycle that counts 2^b in the sum counts 4^b in its variance.
                    weights.add_(steps.to(torch.float32).square_(), alpha=shift**2)
        result = signed @ matrix
        if arrays.variance is not None and weights is not None:
            draws = standard_normals(len(inputs), result.shape[1], arrays.reading.key, arrays.vectors)
            result += (weights @ arrays.variance).sqrt() * draws
        return result


def _relative_noise(layer: LayerMap, card: DeviceCard) -> float | np.ndarray:
    """Return the spread of each programmed conductance from read to read, over the conductance."""
    if card.white_noise is None or layer.actual is None:
        return card.read_noise.value
    g = layer.actual.to(torch.float64)
    formed = g > 0
    relative = torch.zeros_like(g)
    relative[formed] = read_noise_variance(g[formed], card.white_noise).sqrt() / g[formed]
    return relative.numpy()


def _bit_lines(
    levels: np.ndarray, weights: np.ndarray, noise: float | np.ndarray, *, subtracted: bool
) -> BitLines:
    """Return the bit lines that have converters.

    Args:
        levels: effective conductances in level steps ``[tiles, polarity, slice, rows, cols]``.
        weights: of their codes ``[tiles, polarity, slice, fragments, cols]``.
        noise: spread of a conductance from read to read, relative; of all, or of each.
        subtracted: whether the currents of both polarities are subtracted before conversion.
    """
    variances = (noise * levels) ** 2 if np.any(noise) else None
    if subtracted:
        levels, weights = levels[:, :1] - levels[:, 1:], weights[:, :1]
        variances = None if variances is None else variances.sum(axis=1, keepdims=True)

    def by_array(values: np.ndarray) -> np.ndarray:
        return values.reshape(len(values), values.shape[1] * values.shape[2], *values.shape[3:])

    return BitLines(by_array(levels), None if variances is None else by_array(variances), by_array(weights))


def _matrix(layer: LayerMap, weights: np.ndarray, cells: np.ndarray) -> torch.Tensor:
    """Return the matrix that cells ``[tiles, arrays, rows, cols]`` make.

    Args:
        layer: where they belong.
        weights: of the cells of each bit line, ``[tiles, arrays, fragments, cols]``.
        cells: the cells.
    """
    tiles, arrays, rows, cols = cells.shape
    by_fragment = cells.reshape(tiles, arrays, weights.shape[2], rows // weights.shape[2], cols)
    blocks = torch.from_numpy(np.einsum("tafrc,tafc->tfrc", by_fragment, weights).reshape(tiles, rows, cols))
    return assemble(blocks, layer.row_index, layer.col_index, layer.matrix_shape)


def _applied(drivers: torch.Tensor, digits: torch.Tensor) -> torch.Tensor:
    """Return the steps that drivers ``[lines, levels]`` apply for digits ``[batch, lines]``."""
    return drivers.T.gather(0, digits.to(torch.int64))


def _describe(figure: float | torch.Tensor) -> float | str:
    """Return a wire figure, or that there is one for each segment."""
    if isinstance(figure, torch.Tensor):
        return figure.item() if figure.ndim == 0 else "per segment"
    return float(figure)

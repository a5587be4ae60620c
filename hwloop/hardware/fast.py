"""The fast simulator: every programmed tile is solved once, then all inputs are read through its solution."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from device_models.converters import MAX_DAC_BITS, dac_codes
from device_models.crossbar import Wires, effective_conductance
from device_models.memristor import program, read_noise_variance
from device_models.random import stream_key
from hwloop.hardware.bit_serial import Band, count_codes, form_bands, read_bands, standard_normals
from hwloop.hardware.checks import check_inputs, check_slices, programmed_layer
from hwloop.mapping import ConductanceMap, LayerMap, assemble

_TILES = 64  # tile positions that are solved at a time
_INPUTS = 1 << 22  # inputs that are read bit by bit at a time: enough to keep all threads busy
_FACTORS = 1 << 18  # inputs that are multiplied at a time: what fits in a core's cache
_SHIFTED_CODE_BITS = 30  # of the compiled loop's accumulator


@dataclass
class _Layer:
    """A programmed layer: its bands, or the matrix that gives the same result in one product."""

    map: LayerMap
    key: int
    weight_per_count: float  # weight times activation of one level step times one input code
    bands: list[Band]
    matrix: torch.Tensor | None = None  # [matrix_rows, matrix_cols] in level steps
    variance: torch.Tensor | None = None  # of one read with all inputs at 1, in level steps squared
    vectors: int = 0  # read since programming


class FastHardware:
    """Simulated arrays: programming error, exact wires, read noise, bit-serial DAC, an ADC for each bit line.

    A read of one input vector takes one cycle per input bit. In each cycle every ADC converts the current of
    its bit line; the least significant bit is one level step at the read voltage. Codes are shifted,
    subtracted between polarities and added over tiles digitally. Layers with signed inputs are read in two
    passes.

    Where it is provably the same, bits are not read one by one (see :meth:`collapses`): with all effective
    conductances on whole levels, no read noise and ADCs that hold the sum of every column, each code is the
    exact integer current, and shifting and adding the codes is one product with the input codes.

    Read noise is new in every cycle. Each layer counts the vectors that it has read since it was programmed
    and draws by that number, so batches of any size give the same results, and reading again gives others.

    Args:
        wires: figures of the lines of every array.
        dac_bits: resolution of the inputs.
        seed: seed of the run.
        instance: which device instance to draw; evaluation uses numbers, retraining uses names.
        adc: if False, currents are read as they are (converters of unlimited resolution), which tells what
            the ADCs cost. Currents are linear, so bits collapse to one product; read noise keeps its
            distribution.

    Raises:
        ValueError: if ``dac_bits`` is not 1 to 16.
    """

    def __init__(
        self, wires: Wires, *, dac_bits: int, seed: int, instance: int | str = 0, adc: bool = True
    ) -> None:
        if not 1 <= dac_bits <= MAX_DAC_BITS:
            raise ValueError(f"dac_bits must be 1 to {MAX_DAC_BITS}, not {dac_bits}")
        self._wires, self._dac_bits, self._seed = wires, dac_bits, seed
        self._instance, self._adc = instance, adc
        self._card = ""
        self._layers: dict[str, _Layer] = {}

    @property
    def identity(self) -> dict[str, str | int | float | bool]:
        """What is read: back end, card, instance, seed, converters and wires."""
        figures = {field.name: getattr(self._wires, field.name) for field in fields(self._wires)}
        return {
            "backend": "fast",
            "simulated": True,
            "card": self._card,
            "seed": self._seed,
            "instance": self._instance,
            "dac_bits": self._dac_bits,
            "adc": self._adc,
            **{f"{name}_ohm": _describe(figure) for name, figure in figures.items()},
        }

    def program(self, conductance_map: ConductanceMap) -> ConductanceMap:
        """Draw the devices of this instance and solve every tile; see :class:`~hwloop.hardware.Hardware`.

        Raises:
            ValueError: if a weight has several slices, or the codes of a layer are too long to add up.
        """
        check_slices(conductance_map)
        self._card, self._layers = conductance_map.card.name, {}
        programmed = {}
        for name, layer in conductance_map.layers.items():
            longest = max([0, *layer.adc_bits.tolist()]) + self._dac_bits
            if longest > _SHIFTED_CODE_BITS:
                raise ValueError(
                    f"layer {name}: DAC and ADC have {longest} bits together, at most "
                    f"{_SHIFTED_CODE_BITS} can be added up; use smaller arrays or fewer DAC bits"
                )
            actual, levels = self._program_tiles(name, conductance_map)
            programmed[name] = replace(layer, actual=actual)
            self._layers[name] = self._lay_out(programmed[name], levels, conductance_map)
        return replace(conductance_map, layers=programmed)

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
                read_bands(
                    arrays.bands,
                    part,
                    arrays.map.input_scale,
                    self._dac_bits,
                    signed=arrays.map.input_signed,
                    key=arrays.key,
                    first=arrays.vectors,
                    out=total,
                )
            else:
                total = self._read_at_once(arrays, arrays.matrix, part).to(torch.float64)
            result.copy_(total.mul_(arrays.weight_per_count))
            arrays.vectors += len(part)
        return outputs.to(inputs.device)

    def collapses(self, layer: str) -> bool:
        """Return whether a layer is read through its ADCs in one product, with the very same result."""
        return self._adc and programmed_layer(self._layers, layer).matrix is not None

    def count_codes(self, layer: str, inputs: torch.Tensor) -> torch.Tensor:
        """Return how often the layer's ADCs give each code when ``inputs`` are read, without read noise.

        Returns:
            int64 ``[codes]``, from code 0 to the largest that any ADC of the layer has.
        """
        arrays = programmed_layer(self._layers, layer)
        check_inputs(layer, inputs, arrays.map.matrix_shape[0])
        counts = torch.zeros(1 << max([0, *arrays.map.adc_bits.tolist()]), dtype=torch.int64)
        for part in inputs.split(max(1, _FACTORS // arrays.map.matrix_shape[0])):
            for codes, _ in self._passes(arrays.map, part):
                for band in arrays.bands:
                    counts += count_codes(band, codes, self._dac_bits, len(counts))
        return counts

    def _program_tiles(self, name: str, conductance_map: ConductanceMap) -> tuple[torch.Tensor, np.ndarray]:
        """Return programmed conductances (S) and effective conductances (level steps) of a layer's tiles."""
        target = conductance_map.target(name)
        actual = torch.empty(target.shape, dtype=torch.float32)
        levels = np.empty((target.shape[0], 2, *target.shape[3:]))
        for first in range(0, len(target), _TILES):
            part = slice(first, first + _TILES)
            actual[part] = program(
                target[part], conductance_map.card, self._seed, self._instance, name, first_tile=first
            )
            solved = effective_conductance(actual[part, :, 0].to(torch.float64), self._wires)
            levels[part] = solved.numpy() / conductance_map.g_step
        return actual, levels

    def _lay_out(self, layer: LayerMap, levels: np.ndarray, conductance_map: ConductanceMap) -> _Layer:
        """Choose how a layer is read."""
        noise = conductance_map.card.read_noise.value
        key = stream_key(self._seed, "read", self._instance, layer.name) % 2**64
        weight_per_level = layer.weight_per_siemens * conductance_map.g_step
        weight_per_count = weight_per_level * layer.input_scale / (2**self._dac_bits - 1)
        arrays = _Layer(layer, key, weight_per_count, form_bands(layer, levels, noise))
        if self._adc and not (noise == 0 and all(band.exact for band in arrays.bands)):
            return arrays
        if self._adc:
            levels = np.rint(levels)
        cells = torch.from_numpy(levels)[:, :, None]
        matrix = assemble(cells, layer.row_index, layer.col_index, layer.matrix_shape)
        # Float32 holds whole numbers up to 2^24 exactly.
        largest = float(matrix.abs().sum(0).max()) * 2**self._dac_bits
        arrays.matrix = matrix.to(torch.float32 if largest < 2**24 else torch.float64)
        if noise:
            variance = read_noise_variance(cells, noise)
            variance[:, 1] *= -1  # assemble subtracts the polarities; their variances add up
            arrays.variance = assemble(
                variance.to(torch.float32), layer.row_index, layer.col_index, layer.matrix_shape
            )
        return arrays

    def _passes(self, layer: LayerMap, inputs: torch.Tensor) -> Iterator[tuple[torch.Tensor, bool]]:
        """Yield the DAC codes of positive inputs and, where there can be any, of negative ones."""
        yield dac_codes(inputs, layer.input_scale, self._dac_bits), False
        if layer.input_signed:
            yield dac_codes(-inputs, layer.input_scale, self._dac_bits), True

    def _read_at_once(self, arrays: _Layer, matrix: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Read all bits and both passes as one product, in level steps times input codes."""
        signed = torch.zeros(inputs.shape, dtype=matrix.dtype)
        weights = torch.zeros(inputs.shape) if arrays.variance is not None else None
        for codes, negative in self._passes(arrays.map, inputs):
            signed.add_(codes, alpha=-1 if negative else 1)
            if weights is not None:
                # Bit b carries the weight 2^b, so the variance of its cycle carries 4^b.
                for bit in range(self._dac_bits):
                    weights.add_((codes >> bit) & 1, alpha=4**bit)
        result = signed @ matrix
        if arrays.variance is not None and weights is not None:
            draws = standard_normals(len(inputs), result.shape[1], arrays.key, arrays.vectors)
            result += (weights @ arrays.variance).sqrt() * draws
        return result


def _describe(figure: float | torch.Tensor) -> float | str:
    """Return a wire figure, or that there is one for each segment."""
    if isinstance(figure, torch.Tensor):
        return figure.item() if figure.ndim == 0 else "per segment"
    return float(figure)

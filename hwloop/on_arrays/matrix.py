"""A matrix on arrays, without a network: products with it and with its transpose, read from one chip."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from device_models.crossbar import Wires
from hwloop.hardware import FastHardware, Hardware, MeasuredHardware, card_of, make_wires
from hwloop.hardware.ideal import weight_matrix
from hwloop.mapping import ConductanceMap, LayerMap, build_map, largest_code, tile_adc_bits
from hwloop.quantization import quantize
from hwloop.recipe import HardwareConfig, Scale

_LAYER = "0"


class MatrixOnArrays:
    """A matrix whose products arrays compute: ``M @ x``, ``M.T @ y`` and ``y @ M``.

    Zeros of the matrix are cells that are not there. Every vector is scaled to the range of the DACs by its
    largest entry, and its product back, so that vectors of any size are read with all bits; negative entries
    take a second pass.

    ``M.T`` is read from the same cells: bit lines are driven where they are sensed otherwise, and word lines
    are sensed where they are driven. Since a network of resistors is reciprocal, the transpose of what ``M``
    reads is what comes out, but for converters and read noise.

    Args:
        w: the matrix ``[m, n]``, a tensor or an array.
        hardware: card, arrays, wires and converters; None = defaults.
        scale: how the scale of the levels is chosen: of least squared error, or the largest entry at the
            highest level.
        seed: seed of the devices.

    Raises:
        ValueError: if ``w`` is no matrix of finite numbers, or cells cannot hold it.
    """

    def __init__(
        self, w: Any, hardware: HardwareConfig | None = None, *, scale: Scale = "least-squares", seed: int = 1
    ) -> None:
        weight = torch.as_tensor(w).detach().to("cpu", torch.float32)
        if weight.ndim != 2 or 0 in weight.shape or not weight.isfinite().all():
            raise ValueError(f"w is {list(weight.shape)}; needed is a matrix [m, n] of finite numbers")
        self.hardware, self.seed = hardware or HardwareConfig(), seed
        choice, card = self.hardware, card_of(self.hardware)
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        linear.weight.data.copy_(weight)
        net = nn.Sequential(linear)
        found = quantize(
            net, {_LAYER: weight.T != 0}, largest_code(choice.encoding, card.levels, choice.slices), scale
        )[_LAYER]
        self._map = build_map(
            f"{type(self).__module__}:{type(self).__qualname__}",
            net,
            {_LAYER: (found.codes, found.scale)},
            card,
            (choice.rows, choice.cols),
            {_LAYER: (1.0, True)},
            **choice.held,
        )
        self._device: Hardware | None = None
        self._transposed: Hardware | None = None
        self._chip: int | str = 0

    @property
    def shape(self) -> tuple[int, int]:
        """Rows m and columns n."""
        cols, rows = self._map.layers[_LAYER].matrix_shape
        return rows, cols

    @property
    def map(self) -> ConductanceMap:
        """The conductance map, with what the chip holds if one is programmed."""
        return self._map

    @property
    def matrix(self) -> torch.Tensor:
        """The matrix as the levels of the cells hold it, without error, float32 ``[m, n]``."""
        return weight_matrix(self._map.layers[_LAYER], self._map.card).T.to(torch.float32)

    @property
    def T(self) -> TransposedOnArrays:  # noqa: N802 - as torch and numpy call it
        """The transpose, read from the same cells."""
        return TransposedOnArrays(self)

    def program(self, chip: int | str = 0) -> MatrixOnArrays:
        """Draw the devices of a chip and write the matrix into them; return the matrix itself."""
        self._device = FastHardware(make_wires(self.hardware), self.hardware, seed=self.seed, instance=chip)
        self._map = self._device.program(self._map)
        self._transposed, self._chip = None, chip
        return self

    def __matmul__(self, x: Any) -> Any:
        """Return the product with a vector ``[n]`` or with columns ``[n, k]``, of their kind."""
        return _product(self._programmed(), x, self.shape)

    def __rmatmul__(self, y: Any) -> Any:
        """Return the product of a vector ``[m]`` or of rows ``[k, m]`` with the matrix."""
        return _from_the_left(y, self.T)

    __array_ufunc__ = None  # numpy leaves y @ M to the method above

    def _programmed(self) -> Hardware:
        if self._device is None:
            raise RuntimeError("nothing is programmed: program(chip) draws a chip and writes it")
        return self._device

    def _backwards(self) -> Hardware:
        """Return the hardware that reads the chip's cells from the other side."""
        self._programmed()
        if self._transposed is None:
            wires = make_wires(self.hardware)
            swapped = Wires(wires.bit_line, wires.word_line, driver=wires.sense, sense=wires.driver)
            turned = replace(
                self._map,
                layers={_LAYER: _turned(self._map.layers[_LAYER], self._map.card.levels)},
                array_shape=self._map.array_shape[::-1],
            )
            self._transposed = MeasuredHardware(
                swapped, self.hardware, seed=self.seed, instance=f"{self._chip} transposed"
            )
            self._transposed.program(turned)
        return self._transposed


class TransposedOnArrays:
    """The transpose of a :class:`MatrixOnArrays`."""

    def __init__(self, of: MatrixOnArrays) -> None:
        self.T = of

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the transpose."""
        return self.T.shape[::-1]

    def program(self, chip: int | str = 0) -> TransposedOnArrays:
        """See :meth:`MatrixOnArrays.program`."""
        self.T.program(chip)
        return self

    def __matmul__(self, y: Any) -> Any:
        """Return the product with a vector ``[m]`` or with columns ``[m, k]``, of their kind."""
        return _product(self.T._backwards(), y, self.shape)

    def __rmatmul__(self, x: Any) -> Any:
        """Return the product of a vector or of rows with the transpose."""
        return _from_the_left(x, self.T)

    __array_ufunc__ = None


def _from_the_left(rows: Any, transposed: MatrixOnArrays | TransposedOnArrays) -> Any:
    """Return ``rows @ M``, given the transpose of M."""
    return transposed @ rows if rows.ndim == 1 else (transposed @ rows.T).T


def _product(hardware: Hardware, x: Any, shape: tuple[int, int]) -> Any:
    """Return what ``hardware`` reads for a vector or columns of vectors."""
    columns = torch.as_tensor(x)
    if columns.ndim not in (1, 2) or columns.shape[0] != shape[1]:
        raise ValueError(f"a matrix of {shape[0]}x{shape[1]} is multiplied with {list(columns.shape)}")
    vectors = columns.detach().to("cpu", torch.float32).reshape(shape[1], -1).T
    largest = vectors.abs().amax(1, keepdim=True)
    read = hardware.read(_LAYER, vectors / torch.where(largest > 0, largest, 1.0)) * largest
    result = (read.T if columns.ndim == 2 else read[0]).to(
        columns.dtype if columns.is_floating_point() else read.dtype
    )
    return result.numpy() if isinstance(x, np.ndarray) else result.to(columns.device)


def _turned(layer: LayerMap, levels: int) -> LayerMap:
    """Return the layer with bit lines as word lines, each driven at the end where it was sensed."""
    if layer.encoding != "differential" or layer.slices != 1 or layer.actual is None:
        raise ValueError(
            "the transpose is read from differential cells in one slice, not "
            f"{layer.encoding} in {layer.slices}"
        )
    codes, actual = (
        cells.transpose(-1, -2).flip(-1, -2).contiguous() for cells in (layer.codes, layer.actual)
    )
    return replace(
        layer,
        weight_shape=layer.weight_shape[::-1],
        codes=codes,
        actual=actual,
        row_index=layer.col_index.flip(-1).contiguous(),
        col_index=layer.row_index.flip(-1).contiguous(),
        adc_bits=tile_adc_bits(codes, levels),
    )

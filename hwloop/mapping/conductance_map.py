"""The conductance map: what every station after ``map`` reads, in memory.

One :class:`LayerMap` holds the tiles of one layer. Its matrix is the layer's weight in GEMM form,
``[matrix_rows, matrix_cols]`` with rows = inputs = word lines and columns = outputs = bit lines. With
differential encoding and one slice,

    matrix[row_index[t, i], col_index[t, j]] = weight_per_siemens * (g[t, 0, 0, i, j] - g[t, 1, 0, i, j])

for every used line; matrix entries that no tile holds are zero. A pruned weight has mask False, and level
code 0 in both polarities, which conducts nothing unless the card has a ``g_min``.
:mod:`hwloop.mapping.encoding` has the general case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from device_models.card import DeviceCard
from hwloop.recipe import Readout

POSITIVE, NEGATIVE = 0, 1
UNUSED_LINE = -1

Encoding = Literal["differential", "offset", "polarised"]
"""How signed weights become cells, none of which conducts less than nothing."""


_EXTRAS = {1: ((True, True, False), (False, False, True)), 2: ((False, False, False),)}


@dataclass(frozen=True)
class LayerMap:
    """The tiles of one layer.

    Attributes:
        name: dotted module name in the network.
        kind: ``linear`` or ``conv2d``.
        weight_shape: shape of the module's weight.
        groups: groups of the convolution (1 for a linear layer).
        codes: level codes, uint8 ``[tiles, polarity, slice, rows, cols]``; 0 = absent cell. Two polarities
            are differential encoding, one is offset or polarised. The least significant slice comes first.
        row_index: int32 ``[tiles, rows]``, matrix row of each word line, ``UNUSED_LINE`` where none.
        col_index: int32 ``[tiles, cols]``, matrix column of each bit line, ``UNUSED_LINE`` where none.
        weight_per_siemens: weight units per siemens in the least significant slice.
        input_scale: activation that the DAC's full-scale code stands for.
        input_signed: True if activations can be negative; they are then read in two passes.
        adc_bits: uint8 ``[tiles]``, ADC resolution of each tile in bits.
        actual: programmed conductances in siemens, float32, shape of ``codes``; None before programming.
        flipped: bool ``[tiles, slice, cols]``, True where a bit line holds ``levels - digit``; None unless
            encoding is offset.
        kept: bool ``[tiles, rows, cols]``, True where a weight is kept, that is, where its code is not 0;
            None unless encoding is offset: otherwise the cells that are there tell it.
        negative: bool ``[tiles, fragments, cols]``, True where the weights of a fragment are negative; None
            unless encoding is polarised. A fragment is a run of as many word lines of a bit line as the
            shape says; of those that are used only the last may have unused word lines.

    Raises:
        ValueError: if these three are not those of an encoding with as many polarities.
    """

    name: str
    kind: str
    weight_shape: tuple[int, ...]
    groups: int
    codes: torch.Tensor
    row_index: torch.Tensor
    col_index: torch.Tensor
    weight_per_siemens: float
    input_scale: float
    input_signed: bool
    adc_bits: torch.Tensor
    actual: torch.Tensor | None = None
    flipped: torch.Tensor | None = None
    kept: torch.Tensor | None = None
    negative: torch.Tensor | None = None

    def __post_init__(self) -> None:
        given = (self.flipped is not None, self.kept is not None, self.negative is not None)
        if given not in _EXTRAS.get(self.codes.shape[1], ()):
            raise ValueError(
                f"layer {self.name}: cells of one polarity have either flipped and kept (offset) or negative "
                f"(polarised), and cells of two have none of them"
            )

    @property
    def encoding(self) -> Encoding:
        """How weights become cells."""
        if self.codes.shape[1] == 2:
            return "differential"
        return "offset" if self.negative is None else "polarised"

    @property
    def fragment(self) -> int:
        """Word lines of a fragment, whose weights have one sign; 1 unless encoding is polarised."""
        return 1 if self.negative is None else self.codes.shape[3] // self.negative.shape[1]

    @property
    def slices(self) -> int:
        """Cells of one polarity that hold a weight."""
        return self.codes.shape[2]

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Rows and columns of the layer's matrix in GEMM form."""
        cols, *rest = self.weight_shape
        rows = self.groups
        for extent in rest:
            rows *= extent
        return rows, cols

    @property
    def tiles(self) -> int:
        """Number of occupied tile positions; every position is one array per polarity and slice."""
        return self.codes.shape[0]

    def copied(self, copies: int) -> LayerMap:
        """Return the layer with so many of each tile: first all tiles once, then all again."""
        if copies == 1:
            return self
        by_tile: dict[str, Any] = {
            name: torch.cat([value] * copies)
            for name, value in vars(self).items()
            if isinstance(value, torch.Tensor)
        }
        return replace(self, **by_tile)

    @property
    def mask(self) -> torch.Tensor:
        """Bool ``[tiles, rows, cols]``: True where a weight is kept."""
        if self.kept is not None:
            return self.kept
        return (self.codes != 0).any(dim=2).any(dim=1)


@dataclass(frozen=True)
class ConductanceMap:
    """All layers of one network on one device card.

    Attributes:
        network: factory of the network, ``package.module:factory``.
        card: the device card, whole: a map is understood, programmed and read without any other file.
        array_shape: word lines and bit lines of one array.
        layers: the layers in the order in which the network executes them.
        digital: parameters and buffers that stay digital (biases, batch norm), by state-dict name.
        attributes: further facts kept with the map, such as seed and recipe (JSON-compatible).
    """

    network: str
    card: DeviceCard
    array_shape: tuple[int, int]
    layers: dict[str, LayerMap]
    digital: dict[str, torch.Tensor]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def g_step(self) -> float:
        """Conductance between neighbouring levels, siemens; level ``k`` is ``k * g_step`` above level 0."""
        return self.card.g_step

    def target(self, layer: str, dtype: torch.dtype = torch.float64) -> torch.Tensor:
        """Target conductances of a layer in siemens, ``[tiles, polarity, slice, rows, cols]``."""
        codes, row_index = self.layers[layer].codes, self.layers[layer].row_index
        driven = (row_index != UNUSED_LINE)[:, None, None, :, None]
        return codes.to(dtype) * self.g_step + driven.to(dtype) * self.card.g_idle

    @property
    def tiles(self) -> int:
        """Tile positions over all layers."""
        return sum(layer.tiles for layer in self.layers.values())

    def arrays(self, readout: Readout | None = None) -> int:
        """Return the physical arrays of all layers: tile positions times polarities, slices and copies.

        Args:
            readout: how arrays are read, which says how many copies there are; None = one of each.
        """
        copies_of = (readout or Readout()).copies_of
        return sum(layer.codes.shape[:3].numel() * copies_of(name) for name, layer in self.layers.items())

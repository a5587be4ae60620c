"""What the cost of a chip depends on: its tiles, without their cells.

Facts come from a conductance map (:func:`chip_facts`), or from the shapes of layers that nobody has mapped
(:func:`layer_facts`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from device_models.converters import lossless_bits
from hwloop.mapping import UNUSED_LINE, ConductanceMap, LayerMap, resolution
from hwloop.mapping.tiles import tile_lines
from hwloop.recipe import Readout


@dataclass(frozen=True)
class TileFacts:
    """One tile position.

    Attributes:
        rows: used word lines.
        cols: used bit lines.
        adc_bits: resolution of its converters.
        index_bits: bits kept outside the arrays: which rows and columns of the matrix its lines are, none
            where they are runs, and the signs of polarised fragments.
    """

    rows: int
    cols: int
    adc_bits: int
    index_bits: int = 0

    def __post_init__(self) -> None:
        if min(self.rows, self.cols, self.adc_bits) < 1 or self.index_bits < 0:
            raise ValueError(f"a tile has at least one row, column and ADC bit, and no negative bits: {self}")


@dataclass(frozen=True)
class LayerFacts:
    """The tiles of one layer.

    Attributes:
        tiles: its tile positions.
        arrays_per_tile: arrays at each position, one for each polarity, slice and copy.
        vectors: input vectors that one image applies to the layer.
        input_signed: True if every vector is read in two passes.
    """

    tiles: tuple[TileFacts, ...]
    arrays_per_tile: int
    vectors: int
    input_signed: bool = False

    def __post_init__(self) -> None:
        if self.arrays_per_tile < 1 or self.vectors < 1:
            raise ValueError(
                f"arrays_per_tile and vectors are at least 1: {self.arrays_per_tile}, {self.vectors}"
            )

    @property
    def arrays(self) -> int:
        """Physical arrays of the layer."""
        return len(self.tiles) * self.arrays_per_tile

    @property
    def wires(self) -> int:
        """Wires into word lines and out of bit lines, counted once for all arrays of a position."""
        return sum(tile.rows + tile.cols for tile in self.tiles)


@dataclass(frozen=True)
class ChipFacts:
    """The layers of a chip in order of execution, on arrays of ``array_shape`` word lines and bit lines."""

    array_shape: tuple[int, int]
    layers: Mapping[str, LayerFacts]

    def __post_init__(self) -> None:
        rows, cols = self.array_shape
        for name, layer in self.layers.items():
            for number, tile in enumerate(layer.tiles):
                if tile.rows > rows or tile.cols > cols:
                    raise ValueError(
                        f"layer {name}, tile {number}: {tile.rows} x {tile.cols} lines do not fit into "
                        f"an array of {rows} x {cols}"
                    )


def chip_facts(
    conductance_map: ConductanceMap, vectors: Mapping[str, int], readout: Readout | None = None
) -> ChipFacts:
    """Return the facts of the chip that holds a map.

    Args:
        conductance_map: what the arrays hold.
        vectors: for each layer, input vectors of one image (:func:`vectors_per_image`).
        readout: how arrays are read, with the bits of their converters; None = lossless ones.

    Raises:
        ValueError: as :func:`hwloop.mapping.resolution`.
    """
    layers, card = {}, conductance_map.card
    for name, layer in conductance_map.layers.items():
        found = resolution(layer, card.levels, readout or Readout(), idle=card.idle_steps)
        bits_of_tiles = found.bits.tolist()
        lines = zip(_used(layer.row_index), _used(layer.col_index), strict=True)
        layers[name] = LayerFacts(
            tiles=tuple(
                TileFacts(
                    len(rows),
                    len(cols),
                    bits,
                    _index_bits(rows, cols, layer.matrix_shape) + _sign_bits(layer, len(rows), len(cols)),
                )
                for (rows, cols), bits in zip(lines, bits_of_tiles, strict=True)
            ),
            arrays_per_tile=layer.codes.shape[1:3].numel() * (readout or Readout()).copies_of(name),
            vectors=vectors[name],
            input_signed=layer.input_signed,
        )
    return ChipFacts(conductance_map.array_shape, layers)


def dense_facts(
    conductance_map: ConductanceMap,
    vectors: Mapping[str, int],
    readout: Readout | None = None,
    factored: Collection[str] = (),
) -> ChipFacts:
    """Return the facts of the chip that would hold the same layers, no weight pruned, with lossless ADCs.

    Weights are encoded as in the map, except polarised ones: pruning makes them so, and a layer of which no
    weight is pruned has both signs everywhere, and takes differential pairs.

    Args:
        conductance_map: of the pruned network.
        vectors: as for :func:`chip_facts`.
        readout: as for :func:`chip_facts`.
        factored: layers that pruning made two of a lower rank, ``u`` and ``v``: the dense chip has the whole
            layer in place of ``u`` and nothing in place of ``v``.
    """
    layers = conductance_map.layers

    def shape(name: str) -> tuple[int, int]:
        parent, _, factor = name.rpartition(".")
        if parent not in factored:
            return layers[name].matrix_shape
        whole = layers[f"{parent}.u"].matrix_shape[0], layers[f"{parent}.v"].matrix_shape[1]
        return whole if factor == "u" else (0, 0)

    return ChipFacts(
        conductance_map.array_shape,
        {
            name: layer_facts(
                shape(name),
                conductance_map.array_shape,
                levels=conductance_map.card.levels,
                vectors=vectors[name],
                groups=layer.groups,
                arrays_per_tile=polarities_unpruned(layer) * layer.slices,
                input_signed=layer.input_signed,
                readout=readout,
            )
            for name, layer in layers.items()
        },
    )


def layer_facts(
    matrix_shape: tuple[int, int],
    array_shape: tuple[int, int],
    *,
    levels: int,
    vectors: int,
    cells_per_column: int | None = None,
    groups: int = 1,
    arrays_per_tile: int = 2,
    input_signed: bool = False,
    readout: Readout | None = None,
) -> LayerFacts:
    """Return the facts of a layer that keeps all its lines, with lossless converters.

    Args:
        matrix_shape: rows and columns of the layer in GEMM form.
        array_shape: word lines and bit lines of one array.
        levels: conducting levels of a cell.
        vectors: input vectors of one image.
        cells_per_column: most conducting cells in a bit line (TinyADC's l); None = every cell can conduct.
        groups: groups of the convolution.
        arrays_per_tile: polarities times slices.
        input_signed: True if vectors are read in two passes.
        readout: how arrays are read; its ADC bits are not looked at. None = one input bit per cycle.

    Raises:
        ValueError: as :func:`hwloop.mapping.tile_count` and :func:`device_models.converters.lossless_bits`.
    """
    height = matrix_shape[0] // groups
    mask = torch.block_diag(*[torch.ones(height, matrix_shape[1] // groups)] * groups)
    readout = readout or Readout()
    most = min(given for given in (height, cells_per_column, readout.rows_at_once) if given is not None)
    sign = readout.subtraction == "analog"
    return LayerFacts(
        tiles=tuple(
            TileFacts(
                len(rows),
                len(cols),
                lossless_bits(min(len(rows), most), levels, readout.bits_per_conversion) + sign,
                _index_bits(rows, cols, matrix_shape),
            )
            for rows, cols in tile_lines(mask, array_shape, groups)
        ),
        arrays_per_tile=arrays_per_tile,
        vectors=vectors,
        input_signed=input_signed,
    )


def polarities_unpruned(layer: LayerMap) -> int:
    """Return the polarities that a layer would have if no weight were pruned (see :func:`dense_facts`)."""
    return 1 if layer.encoding == "offset" else 2


def _sign_bits(layer: LayerMap, rows: int, cols: int) -> int:
    """Return the signs of a tile of so many used lines: one for each fragment of a bit line."""
    return -(-rows // layer.fragment) * cols if layer.encoding == "polarised" else 0


def _used(index: torch.Tensor) -> list[np.ndarray]:
    """Return the matrix lines of each tile, unused array lines left out."""
    return [tile[tile != UNUSED_LINE].numpy(force=True) for tile in index]


def _index_bits(rows: np.ndarray, cols: np.ndarray, matrix_shape: tuple[int, int]) -> int:
    """Return the bits that name the lines of a tile: an address for each line, none where they are a run."""
    return sum(
        len(lines) * (extent - 1).bit_length()
        for lines, extent in zip((rows, cols), matrix_shape, strict=True)
        if (np.diff(lines) != 1).any()
    )

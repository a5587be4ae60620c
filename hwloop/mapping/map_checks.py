"""What must hold for a layer of a conductance map, in memory and in a file; one problem ends the check."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from .conductance_map import NEGATIVE, POSITIVE, UNUSED_LINE, Encoding, LayerMap
from .encoding import MAX_SLICES, largest_code, weights_of_lines
from .map_errors import MapProblemError

MAX_NETWORK = 1000
MAX_LINES = 2048
MAX_MATRIX_ENTRIES = 1 << 32
MAX_TILES = 1 << 31
MAX_ADC_BITS = 20


def check_header(network: str, array_shape: tuple[int, int]) -> None:
    """Raise MapProblemError unless the factory is printable text and arrays have a usable size."""
    if not (network.isprintable() and len(network) <= MAX_NETWORK):
        raise MapProblemError(f"network must be printable and at most {MAX_NETWORK} characters long")
    if not all(1 <= lines <= MAX_LINES for lines in array_shape):
        raise MapProblemError(
            f"arrays of {array_shape[0]}x{array_shape[1]}; 1 to {MAX_LINES} lines are possible"
        )


@dataclass(frozen=True)
class LayerFacts:
    """What a file states about a layer besides its arrays; names and meaning as in ``LayerMap``.

    ``fragments``, of a tile, are 0 unless encoding is polarised.
    """

    position: int
    kind: str
    weight_shape: tuple[int, ...]
    groups: int
    tiles: int
    polarities: int
    slices: int
    fragments: int
    weight_per_siemens: float
    input_scale: float
    input_signed: int

    @classmethod
    def of(cls, layer: LayerMap, position: int) -> LayerFacts:
        """Return the facts of a layer that is ``position``-th in the network."""
        return cls(
            position=position,
            kind=layer.kind,
            weight_shape=tuple(layer.weight_shape),
            groups=layer.groups,
            tiles=layer.tiles,
            polarities=layer.codes.shape[1],
            slices=layer.slices,
            fragments=0 if layer.negative is None else layer.negative.shape[1],
            weight_per_siemens=float(layer.weight_per_siemens),
            input_scale=float(layer.input_scale),
            input_signed=int(layer.input_signed),
        )

    @property
    def encoding(self) -> Encoding:
        """How weights become cells."""
        if self.polarities == 2:
            return "differential"
        return "polarised" if self.fragments else "offset"

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Rows and columns of the layer's matrix in GEMM form."""
        return self.groups * math.prod(self.weight_shape[1:]), self.weight_shape[0]

    def check(self) -> None:
        """Raise MapProblemError unless the facts fit together."""
        dimensions = {"linear": 2, "conv2d": 4}.get(self.kind)
        if dimensions is None:
            raise MapProblemError(f"kind {ascii(self.kind)[:40]} is neither linear nor conv2d")
        if len(self.weight_shape) != dimensions or min(self.weight_shape) < 1:
            raise MapProblemError(
                f"weight_shape {list(self.weight_shape)} is not that of a {self.kind} layer"
            )
        if (
            self.groups < 1
            or self.weight_shape[0] % self.groups
            or (self.kind == "linear" and self.groups > 1)
        ):
            raise MapProblemError(f"{self.groups} groups do not fit {self.weight_shape[0]} outputs")
        if math.prod(self.matrix_shape) > MAX_MATRIX_ENTRIES:
            raise MapProblemError(f"a matrix of {math.prod(self.matrix_shape)} entries is too large")
        if not 0 <= self.tiles <= MAX_TILES:
            raise MapProblemError(f"{self.tiles} tiles")
        if self.polarities not in (1, 2) or not 1 <= self.slices <= MAX_SLICES:
            raise MapProblemError(
                f"codes: {self.polarities} polarities and {self.slices} slices; there are 2 polarities "
                f"(differential) or 1 (offset, polarised), and 1 to {MAX_SLICES} slices"
            )
        for name in ("weight_per_siemens", "input_scale"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise MapProblemError(f"{name} is {value}, must be finite and not negative")
        if self.input_signed not in (0, 1):
            raise MapProblemError(f"input_signed is {self.input_signed}, must be 0 or 1")


class TileChecker:
    """Checks the tiles of one layer, one after the other.

    Args:
        facts: of the layer, checked.
        levels: conducting levels of a cell.
        row_index: int32 ``[tiles, rows]``.
        col_index: int32 ``[tiles, cols]``.
        adc_bits: uint8 ``[tiles]``.
        flipped: uint8 ``[tiles, slice, cols]``; None unless encoding is offset.
        negative: uint8 ``[tiles, fragments, cols]``; None unless encoding is polarised.
        first: number in the layer of the first of these tiles.
        seen: weights that tiles before them hold, bool ``[matrix rows, matrix cols]``; those of these tiles
            are added. None = there are none before.

    Raises:
        MapProblemError: if an index is out of range or twice in a tile, the ADC bits are out of range, a bit
            line is flipped or negative that is not used, fragments do not divide the word lines or leave some
            unused before other fragments, or the cells cannot hold any weight.
    """

    def __init__(
        self,
        facts: LayerFacts,
        levels: int,
        row_index: np.ndarray,
        col_index: np.ndarray,
        adc_bits: np.ndarray,
        flipped: np.ndarray | None = None,
        negative: np.ndarray | None = None,
        *,
        first: int = 0,
        seen: np.ndarray | None = None,
    ) -> None:
        rows, cols = facts.matrix_shape
        try:
            self._largest = largest_code(facts.encoding, levels, facts.slices)
        except ValueError as error:
            raise MapProblemError(f"codes: {error}") from error
        _check_index("row_index", row_index, rows, first)
        _check_index("col_index", col_index, cols, first)
        if np.any(bad := (adc_bits < 1) | (adc_bits > MAX_ADC_BITS)):
            tile = int(np.argmax(bad))
            raise MapProblemError(
                f"adc_bits: tile {first + tile}: {adc_bits[tile]} bits, must be 1 to {MAX_ADC_BITS}"
            )
        if flipped is not None:
            _check_flags("flipped", "slice", flipped, col_index, first)
        if negative is not None:
            _check_flags("negative", "fragment", negative, col_index, first)
            _check_fragments(facts.fragments, row_index, first)
        self._first = first
        self._levels, self._row_index, self._col_index = levels, row_index, col_index
        self._facts, self._flipped, self._negative = facts, flipped, negative
        self._group_rows, self._group_cols = rows // facts.groups, cols // facts.groups
        # Zeroed memory is taken only where it is written, so a matrix that few tiles touch costs little.
        self.seen = np.zeros((rows, cols), dtype=np.bool_) if seen is None else seen

    def check(self, tile: int, codes: np.ndarray, actual: np.ndarray | None) -> np.ndarray:
        """Check one tile; return its mask, bool ``[rows, cols]``, True where a weight is kept.

        Args:
            tile: its number.
            codes: level codes uint8 ``[polarity, slice, rows, cols]``.
            actual: programmed conductances of the same shape, or None.

        Raises:
            MapProblemError: naming tile and cell.
        """
        if codes.max() > self._levels:
            raise MapProblemError(
                f"codes: tile {tile}: level code {codes.max()}, but the card has {self._levels} levels"
            )
        there = (codes != 0).any(axis=1)
        if len(there) == 2 and np.any(both := there[POSITIVE] & there[NEGATIVE]):
            raise MapProblemError(f"codes: tile {tile}: both polarities conduct at {_first(both)}")
        row_index, col_index = self._row_index[tile - self._first], self._col_index[tile - self._first]
        used_rows, used_cols = row_index != UNUSED_LINE, col_index != UNUSED_LINE
        if np.any(unused := there.any(axis=0) & ~(used_rows[:, None] & used_cols)):
            raise MapProblemError(f"codes: tile {tile}: cell on an unused line at {_first(unused)}")
        weights, per_input = self._factors(tile)
        fragments, (rows, cols) = weights.shape[2], codes.shape[2:]
        by_fragment = codes.reshape(*codes.shape[:2], fragments, rows // fragments, cols)
        signed = (by_fragment * weights[:, :, :, None]).sum(axis=(0, 1), dtype=weights.dtype)
        signed = signed.reshape(rows, cols) + per_input * used_rows[:, None]
        if np.any(over := np.abs(signed) > self._largest):
            raise MapProblemError(
                f"codes: tile {tile}: weight code {signed[over][0]} at {_first(over)}, "
                f"must be at most {self._largest}"
            )
        mask: np.ndarray = signed != 0
        lines, bits = np.nonzero(mask)
        rows, cols = row_index[lines], col_index[bits]
        if np.any(crossing := rows // self._group_rows != cols // self._group_cols):
            at = int(np.argmax(crossing))
            raise MapProblemError(f"codes: tile {tile}: cell between groups at {_cell(lines[at], bits[at])}")
        if np.any(twice := self.seen[rows, cols]):
            at = int(np.argmax(twice))
            raise MapProblemError(
                f"codes: tile {tile}: {_cell(lines[at], bits[at])} holds a weight held before"
            )
        self.seen[rows, cols] = True
        if actual is not None and np.any(bad := ~(np.isfinite(actual) & (actual >= 0))):
            value = actual[bad][0]
            raise MapProblemError(
                f"actual: tile {tile}: conductance {value} S, must be finite and not negative"
            )
        return mask

    def _factors(self, tile: int) -> tuple[np.ndarray, np.ndarray]:
        """Return what the lines of a tile count, ``[polarity, slice, fragments, cols]`` and ``[cols]``.

        In the smallest integers that hold the sum of all slices twice, which no weight exceeds, however wrong
        its cells: products of larger ones would take most of the time of a check.
        """
        one = slice(tile - self._first, tile - self._first + 1)
        flipped, negative = (
            None if flags is None else torch.from_numpy(flags[one] != 0)
            for flags in (self._flipped, self._negative)
        )
        col_index = torch.from_numpy(self._col_index[one])
        weights, per_input = weights_of_lines(self._facts.slices, self._levels, col_index, flipped, negative)
        kind = np.min_scalar_type(-2 * (self._levels + 1) ** self._facts.slices)
        return weights[0].numpy().astype(kind), per_input[0].numpy().astype(kind)


def _check_flags(name: str, axis: str, flags: np.ndarray, col_index: np.ndarray, first: int) -> None:
    """Raise unless every value ``[tiles, axis, cols]`` is 0 or 1, and 0 on bit lines that are not used."""
    for bad, problem in (
        (flags > 1, "must be 0 or 1"),
        (flags.astype(bool) & (col_index == UNUSED_LINE)[:, None], "but the line is not used"),
    ):
        if np.any(bad):
            tile, part, line = np.argwhere(bad)[0]
            value = flags[tile, part, line]
            raise MapProblemError(
                f"{name}: tile {first + tile}: {axis} {part}, bit line {line} is {value}, {problem}"
            )


def _check_fragments(fragments: int, row_index: np.ndarray, first: int) -> None:
    """Raise unless word lines make so many equal fragments, which are read whole.

    Used word lines are read in groups of neighbours, so only the last fragment that a tile uses may have
    unused word lines.
    """
    if row_index.shape[1] % fragments:
        raise MapProblemError(f"negative: {fragments} fragments in {row_index.shape[1]} word lines")
    used = (row_index != UNUSED_LINE).reshape(len(row_index), fragments, row_index.shape[1] // fragments)
    partial = used.any(axis=2) & ~used.all(axis=2)
    # Fragments after each one that use any line: the sum from the end, less the fragment itself.
    after = np.cumsum(used.any(axis=2)[:, ::-1], axis=1)[:, ::-1] > 1
    if np.any(broken := partial & after):
        tile, fragment = np.argwhere(broken)[0]
        raise MapProblemError(
            f"row_index: tile {first + tile}: fragment {fragment} has word lines that are not used, which "
            f"only the last fragment of a tile may have"
        )


def _check_index(name: str, index: np.ndarray, extent: int, first: int) -> None:
    """Raise unless every line is unused or within the matrix, and no line comes twice in a tile."""
    bad = ((index < 0) & (index != UNUSED_LINE)) | (index >= extent)
    if np.any(bad):
        tile, line = np.argwhere(bad)[0]
        raise MapProblemError(f"{name}: tile {first + tile}: line {line} is {index[tile, line]}, of {extent}")
    ordered = np.sort(index, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != UNUSED_LINE)
    if np.any(twice):
        tile, line = np.argwhere(twice)[0]
        raise MapProblemError(f"{name}: tile {first + tile}: {ordered[tile, line]} comes twice")


def _first(where: np.ndarray) -> str:
    """Name the first true cell of ``[rows, cols]``."""
    return _cell(*np.argwhere(where)[0])


def _cell(word_line: int, bit_line: int) -> str:
    return f"word line {word_line}, bit line {bit_line}"


def check_mask(name: str, tile: int, mask: np.ndarray, kept: np.ndarray) -> None:
    """Raise unless a mask is set exactly where a weight is kept."""
    if not np.array_equal(mask, kept):
        raise MapProblemError(f"{name}: tile {tile}: is not 1 exactly where a weight code is not 0")

"""What the ADCs of a layer resolve, for a way of reading, and what they must resolve to lose nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch

from device_models.converters import lossless_bits
from device_models.converters.bank import MAX_BITS
from hwloop.recipe import Readout

from .conductance_map import UNUSED_LINE, LayerMap

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Resolution:
    """Resolution of the converters of a layer.

    Attributes:
        lsb: least significant bit, in level steps at the read voltage.
        bits: of the converters of each tile, int64 ``[tiles]``.
        bipolar: whether they convert differences, from ``-2^(bits - 1)`` LSB up.
    """

    lsb: float
    bits: torch.Tensor
    bipolar: bool

    @property
    def widest(self) -> int:
        """Bits of the layer's widest converter; 0 if it has no tiles."""
        return max([0, *self.bits.tolist()])

    @property
    def bottom(self) -> torch.Tensor:
        """Code that stands for no current, int64 ``[tiles]``."""
        return 2 ** (self.bits - 1) if self.bipolar else torch.zeros_like(self.bits)


def resolution(layer: LayerMap, levels: int, readout: Readout, *, idle: float = 0.0) -> Resolution:
    """Return what the ADCs of a layer resolve.

    Converters that the readout says nothing about are lossless: their least significant bit is one level step
    and they span all that a bit line can carry. One of fewer bits has larger steps, and those of a tile that
    carries less have no more bits than they need.

    Args:
        layer: the layer.
        levels: conducting levels of a cell.
        readout: how it is read.
        idle: what a cell of level 0 conducts, in level steps (:attr:`DeviceCard.idle_steps`).

    Raises:
        ValueError: naming the layer, if no converter can have so many bits, its arrays have one polarity and
            cannot be subtracted, or word lines of several fragments would be read at once.
    """
    readout = readout.of(layer.name)
    bipolar = readout.subtraction == "analog"
    if bipolar and layer.codes.shape[1] != 2:
        raise ValueError(
            f"layer {layer.name}: analog subtraction needs two polarities; read {layer.encoding} arrays "
            f"digitally"
        )
    if layer.encoding == "polarised" and layer.fragment % (readout.rows_at_once or layer.codes.shape[3]):
        raise ValueError(
            f"layer {layer.name}: each {layer.fragment} word lines have a sign of their own; rows_at_once "
            f"must divide that and is {readout.rows_at_once or 'all of an array'}"
        )
    bits, lsb = _of(readout.adc_bits, layer.name), _of(readout.adc_lsb, layer.name)
    plain = readout.bits_per_conversion == 1 and readout.rows_at_once is None and idle == 0
    if plain and bits is None and lsb in (None, 1.0):
        lsb, needed = 1.0, layer.adc_bits.to(torch.int64) + bipolar  # as the map has them
    else:
        spans = full_scale(layer, levels, readout, idle=0.0 if bipolar else idle)
        if lsb is None:
            top = None if bits is None else max(1, (1 << (bits - bipolar)) - 1)
            lsb = 1.0 if top is None else max([1.0, *(spans / top).tolist()])
        needed = _bit_length(torch.round(spans / lsb).to(torch.int64)) + bipolar
    found = Resolution(lsb, needed if bits is None else needed.clamp(max=bits), bipolar)
    if found.widest > MAX_BITS:
        raise ValueError(
            f"layer {layer.name}: its ADCs would need {found.widest} bits, at most {MAX_BITS} are "
            f"possible; give adc_bits, or read fewer rows or bits at once"
        )
    return found


def full_scale(layer: LayerMap, levels: int, readout: Readout, *, idle: float = 0.0) -> torch.Tensor:
    """Return the most level steps that one conversion of each tile can see, int64 ``[tiles]``.

    Source: TinyADC (DATE 2021): l cells that conduct in a bit line, each at its highest level. All cells on
    driven word lines add what they conduct at level 0, ``idle`` level steps each.
    """
    readout = readout.of(layer.name)
    digits = (1 << readout.bits_per_conversion) - 1
    most = largest_sums(layer, (layer.codes != 0).to(torch.int64), readout.rows_at_once)
    spans = most.amax((1, 2, 3)) * (levels * digits)
    if idle:
        driven = largest_sums(layer, torch.ones_like(layer.codes, dtype=torch.int64), readout.rows_at_once)
        spans += torch.ceil(driven.amax((1, 2, 3)) * (idle * digits)).to(torch.int64)
    return spans


def largest_sums(layer: LayerMap, cells: torch.Tensor, rows_at_once: int | None) -> torch.Tensor:
    """Return the largest sum of a figure of the cells that each bit line can give in one cycle.

    Args:
        layer: the layer.
        cells: the figure, not negative, ``[tiles, polarity, slice, rows, cols]``.
        rows_at_once: used word lines that are driven in one cycle, in groups of neighbours of which the worst
            decides; None = all.

    Returns:
        ``[tiles, polarity, slice, cols]``, in the dtype of ``cells``.
    """
    most = torch.zeros(cells.shape[:3] + cells.shape[4:], dtype=cells.dtype)
    for tile, block in enumerate(cells):
        used = (layer.row_index[tile] != UNUSED_LINE).nonzero()[:, 0]
        for group in used.split(rows_at_once or max(1, len(used))):
            torch.maximum(most[tile], block[:, :, group].sum(dim=2), out=most[tile])
    return most


def tile_adc_bits(codes: torch.Tensor, levels: int) -> torch.Tensor:
    """Return the lossless ADC resolution of each tile, for one input bit per cycle.

    The worst bit line of the tile's arrays decides: the one with most conducting cells.

    Args:
        codes: uint8 ``[tiles, polarity, slice, rows, cols]``.
        levels: conducting levels of a cell.

    Returns:
        uint8 ``[tiles]``.
    """
    most = (codes != 0).sum(dim=3).amax(dim=(1, 2, 3)).tolist()
    bits = {cells: lossless_bits(cells, levels) for cells in set(most)}
    return torch.tensor([bits[cells] for cells in most], dtype=torch.uint8)


def exact_adc_bits(layer: LayerMap, dac_slice: int = 1, rows_at_once: int | None = None) -> torch.Tensor:
    """Return the fewest ADC bits with which each bit line loses nothing, whatever the input.

    A converter must hold the largest sum that the levels of its bit line can give under inputs of
    ``2^dac_slice - 1``: ``ceil(log2(sum * (2^dac_slice - 1) + 1))``, at least 1.

    Args:
        layer: the layer.
        dac_slice: input bits that are applied in one cycle (1 = bit-serial).
        rows_at_once: used word lines that are driven in one cycle, in groups of neighbours of which the worst
            decides; None = all.

    Returns:
        int64 ``[tiles, polarity, slice, cols]``.

    Raises:
        ValueError: if ``dac_slice`` or ``rows_at_once`` is below 1.
    """
    if dac_slice < 1 or (rows_at_once is not None and rows_at_once < 1):
        raise ValueError(f"dac_slice and rows_at_once are at least 1, not {dac_slice} and {rows_at_once}")
    most = largest_sums(layer, layer.codes.to(torch.int64), rows_at_once)
    # The exponent of a whole number as a float is its length in binary.
    bits = torch.frexp((most * ((1 << dac_slice) - 1)).to(torch.float64)).exponent
    return bits.to(torch.int64).clamp(min=1)


def _of(choice: Number | dict[str, Number], layer: str) -> Number | None:
    return choice.get(layer) if isinstance(choice, dict) else choice


def _bit_length(codes: torch.Tensor) -> torch.Tensor:
    """Return the bits of each of ``codes``, at least 1."""
    return torch.tensor([max(1, code.bit_length()) for code in codes.tolist()], dtype=torch.int64)

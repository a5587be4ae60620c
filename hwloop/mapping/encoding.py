"""Weight encodings: how signed weight codes become cells, and how what cells say becomes the product again.

A weight code is a whole number from ``-W`` to ``W``; the weight is a scale times the code. A cell holds a
digit from 0 to ``levels``, so the slices of a weight hold a number in base ``levels + 1``, the least
significant slice first.

* **differential**: two arrays, one for each polarity. The magnitude of a code lies in the array of its sign;
  the other array has no cell there. A pruned weight has no cell at all.
* **offset**: one array, which holds ``code + W`` at every crossing of word lines and bit lines that a tile
  uses. A pruned weight is ``W``, like any other number; only digit 0 is an absent cell. Digital logic takes
  ``W`` times the sum of the inputs off. A bit line whose digits add up to more than half of the most that
  they can is *flipped*: it holds ``levels - digit``, and digital logic undoes that with the same sum of
  inputs, so that its ADC needs one bit less (ISAAC, ISCA 2016).

* **polarised**: one array, which holds magnitudes. All weights of a *fragment*, a run of word lines on one
  bit line, have one sign, which is kept outside the array. Only word lines of one fragment are read at once,
  so that digital logic can give each conversion its sign (FORMS, ISCA 2021). A pruned weight has no cell.

All of this is linear, bit line by bit line and fragment by fragment: :func:`line_weights` gives the factors.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from .conductance_map import UNUSED_LINE, Encoding, LayerMap

MAX_CODE = 127
"""Largest weight code: codes are int8."""
MAX_SLICES = 8
"""With so many, even cells of one level hold every code."""


class Cells(NamedTuple):
    """Encoded tiles, named as the fields of a layer map.

    Attributes:
        codes: level of each cell, uint8 ``[tiles, polarity, slice, rows, cols]``.
        flipped: bool ``[tiles, slice, cols]``; None unless encoding is offset.
        kept: bool ``[tiles, rows, cols]``; None unless encoding is offset.
        negative: bool ``[tiles, fragments, cols]``; None unless encoding is polarised.
    """

    codes: torch.Tensor
    flipped: torch.Tensor | None = None
    kept: torch.Tensor | None = None
    negative: torch.Tensor | None = None


def largest_code(encoding: Encoding, levels: int, slices: int) -> int:
    """Return W: weight codes are whole numbers from -W to W.

    Args:
        encoding: how signed weights become cells.
        levels: conducting levels of a cell.
        slices: cells of one polarity that hold a weight.

    Raises:
        ValueError: if there are not 1 to ``MAX_SLICES`` slices, or the cells hold no code but 0.
    """
    if not 1 <= slices <= MAX_SLICES:
        raise ValueError(f"a weight has 1 to {MAX_SLICES} slices, not {slices}")
    most = (levels + 1) ** slices - 1
    largest = min(MAX_CODE, most // 2 if encoding == "offset" else most)
    if largest < 1:
        raise ValueError(
            f"{encoding} encoding in {slices} slices of {levels} levels holds no weight but 0; "
            "use more slices or levels"
        )
    return largest


def encode(
    blocks: torch.Tensor,
    row_index: torch.Tensor,
    col_index: torch.Tensor,
    encoding: Encoding,
    levels: int,
    slices: int,
    fragment: int = 1,
) -> Cells:
    """Turn signed weight codes into cells.

    Args:
        blocks: int8 ``[tiles, rows, cols]``, 0 on unused lines, as from :func:`~hwloop.mapping.form_tiles`.
        row_index: int32 ``[tiles, rows]``.
        col_index: int32 ``[tiles, cols]``.
        encoding: how signed weights become cells.
        levels: conducting levels of a cell.
        slices: cells of one polarity that hold a weight.
        fragment: word lines of a fragment; matters for polarised encoding alone.

    Raises:
        ValueError: as :func:`largest_code`, if a code is larger than that, or if a fragment has both signs.
    """
    largest = largest_code(encoding, levels, slices)
    signed = blocks.to(torch.int16)
    if blocks.numel() and int(signed.abs().max()) > largest:
        raise ValueError(
            f"weight code {int(signed.abs().max())} is above {largest}, the most that {encoding} encoding "
            f"in slices of {levels} levels holds; slices: {slices}"
        )
    if encoding == "differential":
        magnitudes = torch.stack([signed.clamp(min=0), (-signed).clamp(min=0)], dim=1)
        return Cells(_digits(magnitudes, levels, slices).to(torch.uint8))
    if encoding == "polarised":
        negative = _signs(blocks, fragment)
        digits = _digits(signed.abs(), levels, slices)
        return Cells(digits[:, None].to(torch.uint8), negative=negative)
    rows_used, cols_used = row_index != UNUSED_LINE, col_index != UNUSED_LINE
    used = rows_used[:, :, None] & cols_used[:, None, :]
    digits = _digits((signed + largest) * used, levels, slices)
    half = levels * rows_used.sum(dim=1)[:, None, None]
    flipped = 2 * digits.sum(dim=2) > half
    codes = torch.where(flipped[:, :, None, :] & used[:, None], levels - digits, digits)
    return Cells(codes[:, None].to(torch.uint8), flipped, blocks != 0)


def line_weights(layer: LayerMap, levels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what digital logic multiplies the readings of a layer's bit lines with.

    With ``x`` the input codes on the word lines that a tile uses, and ``y`` the sum over the word lines of a
    fragment of level times input code on each of its bit lines,

        sum over polarity, slice and fragment of weights * y, plus per_input * sum(x)

    is the product of the signed weight codes with ``x``, exactly. Unless encoding is polarised all word lines
    of a tile are one fragment.

    Args:
        layer: the layer; of its cells only the shape counts.
        levels: conducting levels of a cell.

    Returns:
        ``weights``, int64 ``[tiles, polarity, slice, fragments, cols]``, and ``per_input``, int64
        ``[tiles, cols]``; both 0 on unused bit lines, ``per_input`` everywhere unless encoding is offset.
    """
    return weights_of_lines(layer.slices, levels, layer.col_index, layer.flipped, layer.negative)


def weights_of_lines(
    slices: int,
    levels: int,
    col_index: torch.Tensor,
    flipped: torch.Tensor | None,
    negative: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what :func:`line_weights` does, of a layer that is not in memory."""
    used = (col_index != UNUSED_LINE).to(torch.int64)
    places = torch.tensor([(levels + 1) ** place for place in range(slices)])
    if flipped is not None:
        signs = 1 - 2 * flipped.to(torch.int64)
        weights = (signs * places[:, None] * used[:, None])[:, None, :, None]
        complements = (flipped * places[:, None] * levels).sum(dim=1)
        return weights, (complements - largest_code("offset", levels, slices)) * used
    if negative is not None:
        signs = (1 - 2 * negative.to(torch.int64)) * used[:, None]
        return (signs[:, None] * places[:, None, None])[:, None], torch.zeros_like(used)
    signed = torch.stack([places, -places])
    return signed[None, :, :, None, None] * used[:, None, None, None], torch.zeros_like(used)


def decode(layer: LayerMap, levels: int, cells: torch.Tensor | None = None) -> torch.Tensor:
    """Return the signed weight codes that the cells of a layer stand for.

    Args:
        layer: the layer.
        levels: conducting levels of a cell.
        cells: conductances in level steps in place of the layer's level codes, floating point, of the shape
            of ``layer.codes``; a weight code is then no whole number.

    Returns:
        ``[tiles, rows, cols]``, 0 on unused lines: int8, or the dtype of ``cells``.
    """
    weights, per_input = line_weights(layer, levels)
    if cells is None:
        return _combine(layer, layer.codes.to(torch.int64), weights, per_input).to(torch.int8)
    return _combine(layer, cells, weights.to(cells), per_input.to(cells))


def _combine(
    layer: LayerMap, cells: torch.Tensor, weights: torch.Tensor, per_input: torch.Tensor
) -> torch.Tensor:
    """Read one word line after the other with input code 1."""
    rows, fragments = cells.shape[3], weights.shape[3]
    by_fragment = cells.unflatten(3, (fragments, rows // fragments)) * weights[:, :, :, :, None, :]
    read = by_fragment.sum(dim=(1, 2)).flatten(1, 2)
    return read + per_input[:, None, :] * (layer.row_index != UNUSED_LINE)[:, :, None]


def _signs(blocks: torch.Tensor, fragment: int) -> torch.Tensor:
    """Return which fragments of ``[tiles, rows, cols]`` are negative, bool ``[tiles, fragments, cols]``."""
    if fragment < 1 or blocks.shape[1] % fragment:
        raise ValueError(f"{blocks.shape[1]} word lines cannot be cut into fragments of {fragment}")
    fragments = blocks.unflatten(1, (blocks.shape[1] // fragment, fragment))
    positive, negative = (fragments > 0).any(dim=2), (fragments < 0).any(dim=2)
    if (positive & negative).any():
        tile, which, line = (positive & negative).nonzero()[0].tolist()
        raise ValueError(
            f"tile {tile}, bit line {line}, fragment {which} (word lines {which * fragment} to "
            f"{(which + 1) * fragment - 1}): its weights have both signs; polarised encoding needs one sign "
            f"for each fragment, so prune with a constraint on signs or use differential encoding"
        )
    return negative


def _digits(numbers: torch.Tensor, levels: int, slices: int) -> torch.Tensor:
    """Return the digits of ``numbers [tiles, ..., rows, cols]``, ``[tiles, ..., slice, rows, cols]``."""
    digits = []
    for _ in range(slices):
        digits.append(numbers % (levels + 1))
        numbers = numbers // (levels + 1)
    return torch.stack(digits, dim=-3)

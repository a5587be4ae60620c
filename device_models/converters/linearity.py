"""Gain, offset, DNL and INL of ADCs: from their thresholds, or from a histogram of their codes.

Terms follow IEEE Std 1241-2010 (Terminology and Test Methods for Analog-to-Digital Converters): code
transition levels, static gain and offset, differential and integral nonlinearity, ramp and sine histograms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from .transfer import Transfer

Fit = Literal["end-point", "best-fit"]


@dataclass(frozen=True, eq=False)
class Linearity:
    """Static errors of a bank of ADCs, with thresholds ``T[k]`` in LSB for the codes k = 1 to ``2^bits - 1``.

    ``gain * T[k] + offset = k - 1/2 + inl[k]``. What a histogram has not seen is not a number.

    Attributes:
        gain: codes per LSB of the input, ``[adcs]``; 1 is ideal.
        offset: shift of the curve after the gain is taken out, in LSB, ``[adcs]``; 0 is ideal.
        dnl: width of the codes 1 to ``2^bits - 2`` less one mean width, in LSB, ``[adcs, 2^bits - 2]``.
        inl: how much too late each code begins, in LSB, ``[adcs, 2^bits - 1]``.
    """

    gain: torch.Tensor
    offset: torch.Tensor
    dnl: torch.Tensor
    inl: torch.Tensor

    @property
    def missing(self) -> torch.Tensor:
        """Codes 1 to ``2^bits - 2`` of no width, which are never returned, bool ``[adcs, 2^bits - 2]``."""
        return self.dnl == -1


@dataclass(frozen=True)
class Ramp:
    """A stimulus that takes every input from ``low`` to ``high`` equally often, in LSB."""

    low: float
    high: float

    def level(self, share: torch.Tensor) -> torch.Tensor:
        """Return the input, in LSB, that a ``share`` (0 to 1) of the samples lies below."""
        return self.low + (self.high - self.low) * share


@dataclass(frozen=True)
class Sine:
    """A stimulus ``offset + amplitude * sin(phase)``, in LSB, that takes every phase equally often."""

    offset: float
    amplitude: float

    def level(self, share: torch.Tensor) -> torch.Tensor:
        """Return the input, in LSB, that a ``share`` (0 to 1) of the samples lies below."""
        return self.offset - self.amplitude * torch.cos(math.pi * share)


def linearity(transfer: Transfer, fit: Fit = "end-point") -> Linearity:
    """Return the static errors of a bank straight from its thresholds (IEEE Std 1241-2010).

    Args:
        transfer: the bank, of at least 2 bits.
        fit: the line of gain and offset: through the first and last threshold, or of least squares.

    Raises:
        ValueError: if an ADC has 1 bit, or its thresholds all coincide.
    """
    return _errors(transfer.thresholds, fit)


def code_density(codes: torch.Tensor, bits: int, stimulus: Ramp | Sine, fit: Fit = "end-point") -> Linearity:
    """Return the static errors of a bank from a histogram of its codes (IEEE Std 1241-2010).

    The threshold of code k is the input below which as many samples of the stimulus lie as there are codes
    below k. Thresholds outside the range of the stimulus are not seen, and the first and last code that are
    seen count as the open ends of the range, as codes 0 and ``2^bits - 1`` do.

    Args:
        codes: integer codes ``[samples, adcs]`` of the stimulus.
        bits: resolution of the ADCs.
        stimulus: what was applied.
        fit: as in ``linearity``, over the thresholds that are seen.

    Raises:
        ValueError: if a shape or code does not fit, or an ADC shows fewer than two thresholds.
    """
    if codes.ndim != 2 or codes.numel() == 0:
        raise ValueError(f"codes must have shape [samples, adcs], not {[*codes.shape]}")
    count = 1 << bits
    if not 0 <= int(codes.min()) <= int(codes.max()) < count:
        raise ValueError(
            f"codes of a {bits}-bit ADC are 0 to {count - 1}, not {codes.min()} to {codes.max()}"
        )
    samples, adcs = codes.shape
    bins = codes.to(torch.int64) + count * torch.arange(adcs, device=codes.device)
    histogram = torch.bincount(bins.reshape(-1), minlength=adcs * count).reshape(adcs, count)
    below = histogram.cumsum(1)[:, :-1]
    levels = stimulus.level(below.to(torch.float64) / samples)
    return _errors(levels.where((below > 0) & (below < samples), math.nan), fit)


def _errors(thresholds: torch.Tensor, fit: Fit) -> Linearity:
    """Fit a line to the thresholds that are numbers, ``[adcs, 2^bits - 1]``, and return what is left."""
    known = ~thresholds.isnan()
    few = known.sum(1) < 2
    if bool(few.any()):
        raise ValueError(
            f"ADC {int(few.nonzero()[0, 0])} shows fewer than two thresholds, and no line goes through one; "
            f"take a stimulus of more range, or an ADC of more bits"
        )
    ideal = torch.arange(thresholds.shape[1], dtype=torch.float64, device=thresholds.device) + 0.5
    ideal = ideal.expand_as(thresholds)
    if fit == "end-point":
        last = known.shape[1] - 1 - known.flip(1).to(torch.int64).argmax(1)
        ends = torch.stack([known.to(torch.int64).argmax(1), last], 1)
        y, x = ideal.gather(1, ends), thresholds.gather(1, ends)
    elif fit == "best-fit":
        y, x = ideal.where(known, math.nan), thresholds
    else:
        raise ValueError(f"fit must be 'end-point' or 'best-fit', not {fit!r}")
    y_mean, x_mean = y.nanmean(1, keepdim=True), x.nanmean(1, keepdim=True)
    spread = ((x - x_mean) ** 2).nansum(1)
    if bool((spread == 0).any()):
        raise ValueError(
            f"the thresholds of ADC {int((spread == 0).nonzero()[0, 0])} coincide; it has no gain"
        )
    gain = ((x - x_mean) * (y - y_mean)).nansum(1) / spread
    offset = y_mean[:, 0] - gain * x_mean[:, 0]
    dnl = thresholds.diff(dim=1) * gain[:, None] - 1
    return Linearity(gain, offset, dnl, thresholds * gain[:, None] + offset[:, None] - ideal)

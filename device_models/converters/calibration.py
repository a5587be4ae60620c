"""Foreground calibration: known inputs in, codes out, and the reference trimmed by what they say."""

from __future__ import annotations

from dataclasses import replace

import torch

from .transfer import Transfer


def foreground(transfer: Transfer, inputs: torch.Tensor, draws: torch.Tensor | None = None) -> Transfer:
    """Return the bank with the gain and offset of each ADC taken out, as measured with known inputs.

    Each ADC converts the inputs. A line of least squares through them against the codes they gave, where no
    code at an end of the range counts, tells gain and offset; trimming the reference and the comparator moves
    the thresholds by that line. This is a correction in the analog domain: no code is lost or doubled. What
    remains is DNL and INL, the noise, and an error of gain and offset of the order of the inputs' spacing;
    two inputs find the line to about one LSB, a staircase of inputs finer than an LSB much closer.

    Args:
        transfer: the bank, of at least 2 bits.
        inputs: known inputs in LSB, ``[points]``, the same for all ADCs.
        draws: standard normal draws ``[points, adcs]``; given if, and only if, the ADCs are noisy.

    Raises:
        ValueError: if a shape does not fit, or an ADC gives fewer than two codes within its range.
    """
    if inputs.ndim != 1:
        raise ValueError(f"inputs must have shape [points], not {[*inputs.shape]}")
    x = inputs.to(torch.float64)[:, None].expand(-1, transfer.adcs)
    codes = transfer.convert(x, draws).to(torch.float64)
    inside = ((codes > 0) & (codes < transfer.thresholds.shape[1])).to(torch.float64)
    count = inside.sum(0).clamp(min=1)
    code_mean, x_mean = (codes * inside).sum(0) / count, (x * inside).sum(0) / count
    spread = (inside * (codes - code_mean) ** 2).sum(0)
    # Inputs against codes, not codes against inputs: the mean input of a code is its centre, without bias.
    width = (inside * (codes - code_mean) * (x - x_mean)).sum(0) / spread
    useless = (spread == 0) | ~(width > 0)
    if bool(useless.any()):
        raise ValueError(
            f"ADC {int(useless.nonzero()[0, 0])} gives no two rising codes within its range; "
            f"spread the inputs over the range"
        )
    centred = (transfer.thresholds - x_mean[:, None]) / width[:, None]
    return replace(transfer, thresholds=centred + code_mean[:, None])

"""The word-line side: inputs become unsigned codes, codes become digits, and drivers turn digits into levels.

A driver of ``bits`` per cycle applies one digit of that width in each cycle, least significant digit first:
0 V or the read voltage with one bit, a multi-level voltage with more.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .bank import check_bank, normal_errors

MAX_DAC_BITS = 16
MAX_LEVEL_MISMATCH = 0.3


def dac_codes(x: torch.Tensor, scale: float, bits: int) -> torch.Tensor:
    """Return the unsigned codes of ``x``: the nearest step, 0 below zero, full scale above ``scale``.

    Args:
        x: inputs, float, any shape.
        scale: input that the full-scale code ``2^bits - 1`` stands for.
        bits: resolution of the DAC, 1 to 16.

    Returns:
        Codes of the shape of ``x``: uint8 up to 8 bits, int32 above.

    Raises:
        ValueError: if ``scale`` is not positive or ``bits`` is out of range.
    """
    if not 0 < scale < float("inf"):
        raise ValueError(f"input scale must be positive and finite, not {scale}")
    if not 1 <= bits <= MAX_DAC_BITS:
        raise ValueError(f"DAC bits must be 1 to {MAX_DAC_BITS}, not {bits}")
    top = (1 << bits) - 1
    codes = (x * (top / scale)).round_().clamp_(0, top)
    return codes.to(torch.uint8 if bits <= 8 else torch.int32)


def slices(codes: torch.Tensor, bits: int, width: int) -> torch.Tensor:
    """Return the digits of ``codes``, least significant first, ``[ceil(bits / width), *codes.shape]``.

    Args:
        codes: unsigned integers of at most ``bits`` bits, any shape.
        bits: bits of a code.
        width: bits of a digit; the last digit holds what remains.

    Raises:
        ValueError: if ``width`` is not between 1 and ``bits``.
    """
    if not 1 <= width <= bits:
        raise ValueError(f"a digit of a {bits}-bit code has 1 to {bits} bits, not {width}")
    mask = (1 << width) - 1
    return torch.stack([(codes >> low) & mask for low in range(0, bits, width)])


def bit_planes(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Return the bits of unsigned ``codes``, least significant first, ``[bits, *codes.shape]``."""
    return slices(codes, bits, 1)


@dataclass(frozen=True, eq=False)
class Dac:
    """A bank of word-line drivers: the level that each line really gets for each digit.

    Attributes:
        levels: float64 ``[lines, 2^bits]``, in steps: an ideal driver gives level ``d`` for digit ``d``,
            and ``2^bits - 1`` steps are the read voltage.
    """

    levels: torch.Tensor

    @classmethod
    def draw(cls, bits: int, lines: int, seed: int, *names: str | int, level_mismatch: float = 0.0) -> Dac:
        """Draw the drivers of ``lines`` word lines; line i is the same whatever the number of lines.

        Args:
            bits: bits that are applied in one cycle, 1 to 16.
            lines: number of word lines.
            seed: seed of the stream.
            names: names of the stream.
            level_mismatch: standard deviation of a level relative to itself, 0 to 0.3, independent from level
                to level and from line to line. Digit 0 connects the line to ground and has no error.

        Raises:
            ValueError: if an argument is out of its range.
        """
        check_bank("DAC", bits, lines)
        errors = normal_errors(
            "level_mismatch", level_mismatch, MAX_LEVEL_MISMATCH, (lines, 1 << bits), seed, *names, "levels"
        )
        return cls(torch.arange(1 << bits, dtype=torch.float64) * (1 + errors))

    def drive(self, digits: torch.Tensor) -> torch.Tensor:
        """Return the levels, in steps, float64 ``[..., lines]``, for integer ``digits`` ``[..., lines]``.

        Raises:
            ValueError: if the last axis is not the lines, or a digit has no level.
        """
        lines, count = self.levels.shape
        if digits.ndim == 0 or digits.shape[-1] != lines:
            raise ValueError(f"digits must end in an axis of {lines} lines, not have shape {[*digits.shape]}")
        digits = digits.to(torch.int64)
        if digits.numel() and not 0 <= int(digits.min()) <= int(digits.max()) < count:
            raise ValueError(f"digits must be 0 to {count - 1}; cut the codes with slices()")
        return self.levels[torch.arange(lines, device=digits.device), digits]

"""The static transfer curves of a bank of ADCs: one threshold per code, whatever the circuit inside."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from .bank import MAX_BITS


@dataclass(frozen=True, eq=False)
class Transfer:
    """Static transfer curves of a bank of ADCs.

    Each ADC that decides without memory is a row of thresholds: its code is the number of thresholds that the
    input has reached. A code whose two thresholds coincide is a missing code.

    Attributes:
        thresholds: float64 ``[adcs, 2^bits - 1]``, in LSB, not falling along the last axis; the ideal
            threshold of code k is ``k - 1/2``.
        noise: rms noise at the input, in LSB; one draw per conversion.

    Raises:
        TypeError: if the thresholds are not float64.
        ValueError: if the thresholds have another shape, are not finite or fall, or the noise is negative.
    """

    thresholds: torch.Tensor
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.thresholds.dtype != torch.float64:
            raise TypeError(f"thresholds must be float64, not {self.thresholds.dtype}")
        lengths = [(1 << bits) - 1 for bits in range(1, MAX_BITS + 1)]
        shape = [*self.thresholds.shape]
        if len(shape) != 2 or shape[0] < 1 or shape[1] not in lengths:
            raise ValueError(
                f"thresholds must have shape [adcs, 2^bits - 1], bits 1 to {MAX_BITS}, not {shape}"
            )
        if not bool(self.thresholds.isfinite().all()):
            bad = int((~self.thresholds.isfinite()).any(1).nonzero()[0, 0])
            raise ValueError(f"thresholds of ADC {bad} are not all finite; give each code a number, in LSB")
        falls = self.thresholds.diff(dim=1) < 0
        if bool(falls.any()):
            row, column = falls.nonzero()[0].tolist()
            raise ValueError(
                f"thresholds of ADC {row} fall after code {column + 1}; "
                f"sort them, or repeat one for a missing code"
            )
        if not 0 <= self.noise < float("inf"):
            raise ValueError(f"noise must be 0 or more LSB and finite, not {self.noise}")

    @property
    def adcs(self) -> int:
        """Number of ADCs in the bank."""
        return self.thresholds.shape[0]

    @property
    def bits(self) -> int:
        """Resolution in bits."""
        return self.thresholds.shape[1].bit_length()

    def to(self, device: torch.device | str) -> Transfer:
        """Return the same curves with the thresholds on ``device``."""
        return replace(self, thresholds=self.thresholds.to(device))

    def convert(self, x: torch.Tensor, draws: torch.Tensor | None = None) -> torch.Tensor:
        """Return the codes of ``x``: how many thresholds each input has reached, int64 of the shape of ``x``.

        Args:
            x: inputs in LSB, ``[..., adcs]``, on the device of the thresholds.
            draws: standard normal draws of the shape of ``x``, one per conversion; given if, and only if, the
                ADCs are noisy.

        Raises:
            ValueError: if a shape does not fit, an input is not a number, or draws are missing or not wanted.
        """
        values = self.noisy(x, draws)
        if values.ndim == 0 or values.shape[-1] != self.adcs:
            raise ValueError(f"inputs must end in an axis of {self.adcs} ADCs, not have shape {[*x.shape]}")
        if bool(values.isnan().any()):
            raise ValueError("an input of the ADCs is not a number; check the currents that are converted")
        by_adc = values.movedim(-1, 0)
        codes = torch.searchsorted(self.thresholds, by_adc.reshape(self.adcs, -1).contiguous(), right=True)
        return codes.reshape(by_adc.shape).movedim(0, -1)

    def noisy(self, x: torch.Tensor, draws: torch.Tensor | None) -> torch.Tensor:
        """Return what the comparators see, ``x + noise * draws``, as float64; raises as ``convert`` does."""
        if self.noise == 0:
            if draws is not None:
                raise ValueError("ADCs without noise take no draws")
            return x.to(torch.float64)
        if draws is None or draws.shape != x.shape:
            given = "none" if draws is None else f"draws of shape {[*draws.shape]}"
            raise ValueError(f"noisy ADCs need standard normal draws of shape {[*x.shape]}, not {given}")
        return x.to(torch.float64) + self.noise * draws.to(torch.float64)


class _StraightThrough(torch.autograd.Function):
    """Codes forward; backward the gradient of a straight line between the ends of the range."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        x: torch.Tensor,
        transfer: Transfer,
        draws: torch.Tensor | None,
    ) -> torch.Tensor:
        codes = transfer.convert(x, draws).to(x.dtype)
        seen = transfer.noisy(x, draws)
        inside = (seen >= transfer.thresholds[:, 0] - 1) & (seen <= transfer.thresholds[:, -1] + 1)
        ctx.save_for_backward(inside)
        return codes

    @staticmethod
    def backward(ctx: torch.autograd.Function, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        return grads[0] * inside, None, None


def adc_ste(x: torch.Tensor, transfer: Transfer, draws: torch.Tensor | None = None) -> torch.Tensor:
    """Return the codes of ``x`` in the dtype of ``x``, with a straight-through gradient.

    The gradient is 1 from one LSB below the first threshold to one LSB above the last, and 0 beyond,
    where the ADC saturates.

    Args:
        x: inputs in LSB, floating point, ``[..., adcs]``.
        transfer: the bank of ADCs.
        draws: as in ``Transfer.convert``.

    Raises:
        ValueError: as ``Transfer.convert``.
    """
    return _StraightThrough.apply(x, transfer, draws)

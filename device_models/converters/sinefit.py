"""Noise and distortion of ADCs from a sine: the sine-wave fits of IEEE Std 1241-2010."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

_ITERATIONS = 30


@dataclass(frozen=True, eq=False)
class SineFit:
    """The sine that comes closest to the codes of each ADC, and what it leaves.

    ``code[n] = offset + amplitude * sin(2 pi frequency n + phase) + residual[n]``.

    Attributes:
        amplitude: in LSB, ``[adcs]``.
        offset: in LSB, ``[adcs]``.
        phase: in radian, ``[adcs]``.
        frequency: in cycles per sample, ``[adcs]``.
        residual: rms noise and distortion, in LSB, ``[adcs]``.
    """

    amplitude: torch.Tensor
    offset: torch.Tensor
    phase: torch.Tensor
    frequency: torch.Tensor
    residual: torch.Tensor

    @property
    def sinad(self) -> torch.Tensor:
        """Rms of the sine over rms noise and distortion, in dB, ``[adcs]``."""
        return 20 * torch.log10(self.amplitude / math.sqrt(2) / self.residual)

    def enob(self, bits: int) -> torch.Tensor:
        """Return the effective number of bits of ADCs of ``bits`` bits, ``[adcs]``.

        The full scale over the range of an ideal quantizer with the same noise:
        ``bits - log2(residual * sqrt(12))`` (IEEE Std 1241-2010), whatever the amplitude of the sine.
        """
        return bits - torch.log2(self.residual * math.sqrt(12))


def sine_fit(codes: torch.Tensor, frequency: float, fit_frequency: bool = False) -> SineFit:
    """Fit a sine to codes by least squares: three parameters, or four with the frequency.

    The sine should stay within the range of the ADC: what is clipped counts as distortion.

    Args:
        codes: codes ``[samples, adcs]`` of a sine that was sampled at equal intervals.
        frequency: cycles per sample, between 0 and 1/2.
        fit_frequency: improve the frequency, too; it must then be known to about half a cycle per record.

    Raises:
        ValueError: if a shape or the frequency does not fit, or the fit of the frequency does not converge.
    """
    if codes.ndim != 2 or codes.shape[0] < 5:
        raise ValueError(
            f"codes must have shape [samples, adcs] with 5 samples or more, not {[*codes.shape]}"
        )
    if not 0 < frequency < 0.5:
        raise ValueError(f"frequency must lie between 0 and 1/2 cycle per sample, not {frequency}")
    samples, adcs = codes.shape
    y = codes.to(torch.float64).T[:, :, None]
    time = torch.arange(samples, dtype=torch.float64, device=codes.device)
    cycles = torch.full((adcs, 1), frequency, dtype=torch.float64, device=codes.device)
    basis = _basis(cycles, time)
    solution = torch.linalg.lstsq(basis, y).solution
    if fit_frequency:
        cycles, basis, solution = _with_frequency(y, time, cycles, basis, solution)
    residual = ((y - basis @ solution) ** 2).mean(1).sqrt()[:, 0]
    in_phase, quadrature, offset = solution[:, :, 0].unbind(1)
    phase = torch.atan2(quadrature, in_phase)
    return SineFit(torch.hypot(in_phase, quadrature), offset, phase, cycles[:, 0], residual)


def _basis(cycles: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    """Return sine, cosine and one at each sample, ``[adcs, samples, 3]``."""
    angle = 2 * math.pi * cycles * time
    return torch.stack([angle.sin(), angle.cos(), torch.ones_like(angle)], 2)


def _with_frequency(
    y: torch.Tensor, time: torch.Tensor, cycles: torch.Tensor, basis: torch.Tensor, solution: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gauss-Newton on the frequency, as the four-parameter fit of IEEE Std 1241-2010, all ADCs at once."""
    record = float(len(time))
    for _ in range(_ITERATIONS):
        # The derivative by the frequency, counted in cycles per record to keep the columns alike in size.
        slope = (
            (basis[..., 1] * solution[:, 0] - basis[..., 0] * solution[:, 1]) * (2 * math.pi / record) * time
        )
        step = torch.linalg.lstsq(torch.cat([basis, slope[..., None]], 2), y).solution[:, 3] / record
        cycles = cycles + step
        basis = _basis(cycles, time)
        solution = torch.linalg.lstsq(basis, y).solution
        if bool((step.abs() * record < 1e-9).all()):
            return cycles, basis, solution
    raise ValueError("the sine fit found no frequency; begin within half a cycle per record of the true one")

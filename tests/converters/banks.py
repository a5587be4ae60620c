"""Banks with errors of every kind, and the inputs to look at them with."""

from __future__ import annotations

from collections.abc import Callable

import torch

from device_models.converters import Transfer, flash, ramp, sar, uniform

BANKS: dict[str, Callable[[int, int, int], Transfer]] = {
    "uniform": lambda bits, adcs, seed: uniform(bits, adcs),
    "sar": lambda bits, adcs, seed: sar(
        bits, adcs, seed, "bank", unit_capacitor_mismatch=0.05, comparator_offset=1.0
    ),
    "flash": lambda bits, adcs, seed: flash(bits, adcs, seed, "bank", threshold_offset=0.4),
    "ramp": lambda bits, adcs, seed: ramp(
        bits,
        adcs,
        seed,
        "bank",
        gain_error=0.03,
        offset=-0.7,
        curvature=0.6,
        step_mismatch=0.2,
        comparator_offset=0.5,
    ),
}


def staircase(low: float, high: float, samples: int) -> torch.Tensor:
    """Inputs that stand for the middle of ``samples`` equal parts of ``low`` to ``high``."""
    return low + (high - low) * (torch.arange(samples, dtype=torch.float64) + 0.5) / samples


def sine(offset: float, amplitude: float, cycles: int, samples: int, phase: float = 0.3) -> torch.Tensor:
    """A coherently sampled sine: a whole number of cycles, coprime to the number of samples."""
    angle = 2 * torch.pi * cycles * torch.arange(samples, dtype=torch.float64) / samples
    return offset + amplitude * torch.sin(angle + phase)

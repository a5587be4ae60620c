"""The converters of a layer: one bank for each tile, as tables for the compiled loop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from device_models.converters import Transfer, UniformAdc, foreground
from device_models.random import stream
from hwloop.mapping import LayerMap
from hwloop.mapping.resolution import Resolution
from hwloop.recipe import Readout

_STEPS_PER_LSB = 8  # of the staircase that calibrates ADCs
_STAIRCASE = 4096  # inputs in it, at most


@dataclass(frozen=True)
class LayerAdcs:
    """The ADCs of a layer.

    Attributes:
        lsb: least significant bit in level steps at the read voltage.
        top: largest code of the converters of each tile, float32 ``[tiles]``.
        bottom: code that stands for no current, float32 ``[tiles]``.
        shift: middle of the errors of each bit line's converter, with its sign turned, in LSB, float64
            ``[tiles, arrays, cols]``: with it added to a current, the nearest code is hardly ever far off.
        starts: where the curve of that converter starts, int64 ``[tiles, arrays, cols]``.
        curves: float32, one curve after the other: a converter gives code k for a shifted current from
            ``curve[k]`` LSB up to ``curve[k + 1]``; its ends are infinite. Without errors there are none.
        corrections: codes that a curve differs from the ideal one by, at most.
        noise: rms noise at the input, in LSB.
    """

    lsb: float
    top: np.ndarray
    bottom: np.ndarray
    shift: np.ndarray
    starts: np.ndarray
    curves: np.ndarray
    corrections: int
    noise: float

    @property
    def ideal(self) -> bool:
        """Whether they round to the nearest code, always the same."""
        return self.curves.size == 0 and self.noise == 0


def build_adcs(
    layer: LayerMap, found: Resolution, readout: Readout, arrays: int, seed: int, instance: int | str
) -> LayerAdcs:
    """Draw the ADCs of a layer; those of a tile do not depend on which other tiles there are.

    Args:
        layer: the layer.
        found: what its converters resolve.
        readout: what they are, and how many bit lines share one.
        arrays: arrays of a tile that have converters.
        seed: seed of the run.
        instance: which chip.

    Raises:
        ValueError: if a bank cannot be built.
    """
    cols = layer.codes.shape[-1]
    share = min(cols, readout.bit_lines_per_adc or cols)
    per_array = -(-cols // share)
    starts, shift = (np.zeros((layer.tiles, arrays, cols), kind) for kind in (np.int64, np.float64))
    adc = np.arange(arrays)[:, None] * per_array + np.arange(cols) // share
    curves, length, corrections, noise = [], 0, 0, 0.0
    if not isinstance(readout.adc, UniformAdc):
        for tile, bits in enumerate(found.bits.tolist()):
            names = ("adc", instance, layer.name, tile)
            bank = readout.adc.build(bits, arrays * per_array, seed, *names)
            if readout.adc_calibrated:
                bank = _calibrated(bank, seed, *names)
            errors = bank.thresholds.numpy() - (np.arange(1, 1 << bits) - 0.5)
            middle = (errors.max(axis=1) + errors.min(axis=1)) / 2
            corrections = max(corrections, int(np.ceil(np.abs(errors - middle[:, None]).max())))
            curves.append(_curves(bank.thresholds.numpy() - middle[:, None]))
            starts[tile] = length + adc * curves[-1].shape[1]
            shift[tile] = -middle[adc]
            length += curves[-1].size
            noise = bank.noise
    if length >= 1 << 31:
        raise ValueError(
            f"layer {layer.name}: its ADCs have {length} thresholds, too many to keep; let more bit lines "
            f"share one (bit_lines_per_adc), or use fewer bits"
        )
    if corrections == 0 and not shift.any():
        curves = []
    return LayerAdcs(
        lsb=found.lsb,
        top=(2.0**found.bits - 1).numpy().astype(np.float32),
        bottom=found.bottom.numpy().astype(np.float32),
        shift=shift,
        starts=starts,
        curves=np.concatenate([c.ravel() for c in curves]) if curves else np.empty(0, np.float32),
        corrections=corrections,
        noise=noise,
    )


def _calibrated(bank: Transfer, seed: int, *names: str | int) -> Transfer:
    """Return a bank whose gain and offset a staircase of inputs has trimmed; one bit has neither."""
    if bank.bits == 1:
        return bank
    codes = 1 << bank.bits
    inputs = torch.linspace(0, codes - 1, min(_STAIRCASE, _STEPS_PER_LSB * codes), dtype=torch.float64)
    draws = None
    if bank.noise:
        numbers = stream(seed, *names, "calibration").standard_normal((len(inputs), bank.adcs))
        draws = torch.from_numpy(numbers)
    return foreground(bank, inputs, draws)


def _curves(thresholds: np.ndarray) -> np.ndarray:
    """Return thresholds ``[adcs, 2^bits - 1]`` between infinite ends, float32 ``[adcs, 2^bits + 1]``."""
    ends = np.full((len(thresholds), 1), np.inf)
    return np.concatenate([-ends, thresholds, ends], axis=1).astype(np.float32)

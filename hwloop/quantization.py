"""Quantization: masked weights onto the codes that the cells of arrays can hold.

A kept weight has one of the codes ``±1 … ±levels``, where ``levels`` is the largest that the encoding holds;
a pruned weight stays zero. All weights of a layer share one scale: ``weight = scale * code``. Biases stay
digital.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from hwloop import recipe
from hwloop.datasets import Dataset
from hwloop.mapping import LevelSet
from hwloop.networks import crossbar_layers, from_matrix, to_matrix
from hwloop.training.fit import EpochRecord, cosine, fit

SCALES = 0.2 + 0.8 / 255 * torch.arange(320, dtype=torch.float64)
"""Scales that are tried, over the one that puts the largest weight on the highest level."""


@dataclass(frozen=True)
class QuantizedLayer:
    """Weight codes of one layer.

    Attributes:
        codes: int8 ``[rows, cols]`` in GEMM form; 0 = pruned, otherwise from 1 to the largest code, signed.
        scale: weight units of code 1; a float32 value.
    """

    codes: torch.Tensor
    scale: float

    @property
    def matrix(self) -> torch.Tensor:
        """Weights in GEMM form, float32 ``[rows, cols]``."""
        return self.codes.float() * self.scale


@dataclass(frozen=True)
class Quantized:
    """What quantization gives; the network itself carries exactly ``scale * code``.

    Attributes:
        layers: weight codes and scale of each crossbar layer.
        records: one for each epoch of training on the levels.
    """

    layers: dict[str, QuantizedLayer]
    records: list[EpochRecord]


class _OnLevels(nn.Module):
    """Forward: the nearest levels. Backward: as if the weights had stayed (straight-through estimator)."""

    mask: torch.Tensor
    signs: torch.Tensor | None

    def __init__(self, level_set: LevelSet, mask: torch.Tensor, signs: torch.Tensor | None) -> None:
        super().__init__()
        self.level_set = level_set
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("signs", signs, persistent=False)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the levels of the kept weights, and zero for the others."""
        allowed = weight
        if self.signs is not None:
            allowed = torch.where(weight * self.signs > 0, weight, self.level_set.scale * self.signs)
        # The difference is zero in value, so the result is on its level to the last bit.
        return self.mask * (self.level_set.project(allowed).detach() + (weight - weight.detach()))


def largest_scale(matrix: torch.Tensor, levels: int) -> float:
    """Return the scale that puts the largest weight on the highest level, so that none is clipped."""
    largest = float(matrix.detach().abs().max()) if matrix.numel() else 0.0
    return float(np.float32(largest / levels)) or 1.0


def best_scale(matrix: torch.Tensor, levels: int) -> float:
    """Return the scale that puts the nonzero entries of ``matrix`` on levels with the least squared error.

    The error has many local minima, so a grid of scales is searched; each is refined by least squares for
    the codes that it gives.
    """
    values = matrix[matrix != 0].detach().double()
    if not len(values):
        return 1.0
    grid = values.abs().max() / levels * SCALES

    def refined(scale: float) -> tuple[float, float]:
        codes = LevelSet(scale, levels).codes(values).double()
        best = float(codes @ values / (codes @ codes))
        return float((best * codes - values).square().sum()), best

    return float(np.float32(min(refined(scale) for scale in grid.tolist())[1]))


def quantize(
    net: nn.Module,
    masks: Mapping[str, torch.Tensor],
    levels: int | Mapping[str, int],
    scale: recipe.Scale = "least-squares",
    clip: float | None = None,
) -> dict[str, QuantizedLayer]:
    """Return weight codes and scale of each crossbar layer, as near to its weights as can be.

    Args:
        net: the network; not changed.
        masks: bool ``[rows, cols]`` for each crossbar layer, True = kept.
        levels: largest weight code, at most 127 (:func:`hwloop.mapping.largest_code`), of all or by layer.
        scale: how the scale of a layer is chosen: of least squared error, or its largest weight at the
            highest level.
        clip: standard deviations of a layer's kept weights beyond which they are clipped; None = none is. A
            few large weights would leave most cells near HRS, where variation is large beside the weight.
    """
    choose = best_scale if scale == "least-squares" else largest_scale
    layers: dict[str, QuantizedLayer] = {}
    for name, layer in crossbar_layers(net).items():
        matrix = to_matrix(layer).detach() * masks[name]
        kept = matrix[masks[name]]
        if clip is not None and len(kept) > 1 and (largest := clip * float(kept.std())) > 0:
            matrix = matrix.clamp(-largest, largest)
        largest_code = _of(levels, name)
        chosen = choose(matrix, largest_code)
        layers[name] = QuantizedLayer(LevelSet(chosen, largest_code).codes(matrix), chosen)
    return layers


def _of(levels: int | Mapping[str, int], layer: str) -> int:
    return levels if isinstance(levels, int) else levels[layer]


def quantize_and_tune(
    net: nn.Module,
    dataset: Dataset,
    masks: Mapping[str, torch.Tensor],
    levels: int | Mapping[str, int],
    choice: recipe.Quantize,
    *,
    batch: int,
    seed: int,
    shift: int = 0,
    keep_signs: bool = False,
    checkpoint: Path | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> Quantized:
    """Quantize ``net`` in place, and train on while its weights are on their levels.

    The scale of each layer is fixed at the start. Training moves weights that are not quantized; the network
    runs on their levels, and the gradient goes straight through.

    Args:
        net: a pruned network; afterwards its weights are exactly ``scale * code``.
        dataset: its training part is learned, its validation part is watched.
        masks: bool ``[rows, cols]`` for each crossbar layer, True = kept.
        levels: largest weight code, of all layers or by layer.
        choice: how long and how fast to learn.
        batch: images of one step.
        seed: seed of the run.
        shift: random shift of training images in pixels.
        keep_signs: whether every weight keeps the sign that it has, as polarised fragments must.
        checkpoint: file to save to and to resume from.
        progress: called with the fraction done and a few words.
    """
    layers = crossbar_layers(net)
    start = quantize(net, masks, levels, choice.scale, choice.clip)
    for name, layer in layers.items():
        mask = from_matrix(layer, masks[name].to(layer.weight))
        signs = layer.weight.detach().sign() if keep_signs else None
        on_levels = _OnLevels(LevelSet(start[name].scale, _of(levels, name)), mask, signs)
        parametrize.register_parametrization(layer, "weight", on_levels)
    try:
        records = fit(
            net,
            dataset,
            epochs=choice.epochs,
            batch=batch,
            learning_rate=choice.learning_rate,
            seed=seed,
            shift=shift,
            station="quantized training",
            schedule=cosine,
            checkpoint=checkpoint,
            progress=progress,
        )
    finally:
        for layer in layers.values():
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    return Quantized(
        {
            name: QuantizedLayer(
                LevelSet(start[name].scale, _of(levels, name)).codes(to_matrix(layer).detach()),
                start[name].scale,
            )
            for name, layer in layers.items()
        },
        records,
    )

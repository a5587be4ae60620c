"""What layers must keep for a target in the user's terms: ``tiles=8x``, ``weights=20x``, ``adc_bits=5``,
``accuracy=-0.5``.

Layers differ in how much they bear, so a search (Optuna's tree-structured Parzen estimator) finds how their
shares relate. Each trial steps all shares down together until the target is met, projects the dense weights,
trains a few steps, and counts the loss on validation images. Tiles are counted as the mapping packs them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import optuna
import torch
from torch import nn

from device_models.converters import lossless_bits
from device_models.random import stream_key, torch_stream
from hwloop.datasets import Dataset
from hwloop.mapping import tile_count
from hwloop.networks import CrossbarLayer, crossbar_layers, from_matrix, to_matrix
from hwloop.pruning.constraints import LowRank
from hwloop.pruning.masks import Masks, apply_masks, full_masks, without_unused_paths
from hwloop.pruning.methods import METHODS, constraint_set, counts, shapes
from hwloop.recipe import Keep, Prune

STEPS_PER_DECADE = 16
"""Shares are tried on a grid: so many for each factor of ten."""
SMALLEST = 48
"""Grid steps to the smallest share, a thousandth."""
SPREAD = 16
"""Grid steps by which the shares of layers can differ."""
TUNING_STEPS = 30
VALIDATION_IMAGES = 1000
_BATCH = 128


class TargetError(ValueError):
    """A target that cannot be met; the message says what can be."""


@dataclass(frozen=True)
class Target:
    """A target: ``tiles`` or ``weights`` fewer by a factor, most ``adc_bits``, ``accuracy`` points lost."""

    what: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read ``tiles=8x``, ``weights=20x``, ``adc_bits=5`` or ``accuracy=-0.5``.

        Raises:
            TargetError: if it is not written so, or no network could meet it.
        """
        what, _, number = text.partition("=")
        try:
            value = float(number.removesuffix("x") if what in ("tiles", "weights") else number)
        except ValueError:
            value = float("nan")
        possible = {
            "tiles": value >= 1,
            "weights": value >= 1,
            "adc_bits": value >= 1,
            "accuracy": value <= 0,
        }
        if not possible.get(what, False):
            raise TargetError(
                f"target {text!r}: write tiles=8x or weights=20x (at least 1x), adc_bits=5, or accuracy=-0.5"
            )
        return cls(what, value)


class Shares:
    """Shares of layers on a grid, and what a network keeps at them.

    Args:
        net: the dense network.
        choice: method and its options; layers that ``choice.keep`` names keep that.
        array: word lines and bit lines of one array.
        what: ``tiles`` or ``weights``, which sizes count.
        image_shape: shape of one input.
    """

    def __init__(
        self, net: nn.Module, choice: Prune, array: tuple[int, int], what: str, image_shape: tuple[int, ...]
    ) -> None:
        self._net, self._choice, self.what, self._image_shape = net, choice, what, image_shape
        self._layers: dict[str, CrossbarLayer] = crossbar_layers(net)
        self._array, self._shapes, self._method = array, shapes(net, array), METHODS[choice.method]
        self.free = [name for name in self._layers if name not in choice.keep]
        self._cells_per_column = choice.per_column if self._method.sparse_columns else None
        self._cuts: dict[tuple[str, int], torch.Tensor] = {}
        self._groups = {name: getattr(layer, "groups", 1) for name, layer in self._layers.items()}

    @property
    def dense(self) -> int:
        """Size of the network that keeps everything."""
        return self.size_of(full_masks(self._net))

    @property
    def by_size(self) -> dict[str, int]:
        """Offsets at which shares go by the root of how many weights a layer has: small layers bear less."""
        sizes = {name: self._shapes[name].rows * self._shapes[name].cols for name in self.free}
        largest = max(sizes.values())
        return {
            name: min(SPREAD, round(STEPS_PER_DECADE * math.log10(largest / size) / 2))
            for name, size in sizes.items()
        }

    def keep(self, steps: Mapping[str, int]) -> dict[str, Keep]:
        """Return what each layer keeps that is so many grid steps below its full share."""
        return dict(self._choice.keep) | {name: self._counts(name, step) for name, step in steps.items()}

    def masks(self, steps: Mapping[str, int]) -> Masks:
        """Return the masks of the dense weights at these steps."""
        masks = {name: self._cut(name, steps.get(name, 0)) for name in self._layers}
        return without_unused_paths(self._net, masks, self._image_shape)

    def size(self, steps: Mapping[str, int]) -> int:
        """Return the size of the network at these steps."""
        kept = self.keep(steps)
        ranks = {name: one.rank for name, one in kept.items() if one.rank is not None}
        masks = self.masks(steps)
        whole = {name: mask for name, mask in masks.items() if name not in ranks}
        return self.size_of(whole) + sum(self._factors(rank, name) for name, rank in ranks.items())

    def size_of(self, masks: Masks) -> int:
        """Return the size of a network with these masks; layers may have become two of a lower rank."""
        if self.what == "weights":
            return sum(int(torch.count_nonzero(mask)) for mask in masks.values())
        return sum(
            tile_count(mask, self._array, self._groups.get(name, 1), cells_per_column=self._cells_per_column)
            for name, mask in masks.items()
        )

    def lower_ranks(self, steps: Mapping[str, int]) -> dict[str, torch.Tensor]:
        """Return the matrices of layers that lose rank at these steps, as near as that rank allows."""
        found = {}
        for name, kept in self.keep(steps).items():
            if kept.rank is not None:
                found[name] = LowRank(kept.rank).project(to_matrix(self._layers[name]).detach())
        return found

    def meeting(self, offsets: Mapping[str, int], most: float) -> dict[str, int] | None:
        """Return the least steps, with layers so far apart, at which the network is not above ``most``."""
        low, high = -1, SMALLEST + SPREAD
        while high - low > 1:
            level = (low + high) // 2
            low, high = (low, level) if self.size(at_level(offsets, level)) <= most else (level, high)
        steps = at_level(offsets, high)
        # A network that lost a whole layer is small, and useless.
        alive = all(mask.any() for mask in self.masks(steps).values())
        return steps if alive and self.size(steps) <= most else None

    def _counts(self, name: str, step: int) -> Keep:
        share = Keep(share=10 ** (-step / STEPS_PER_DECADE))
        return counts(share, self._method, self._shapes[name], self._choice)

    def _cut(self, name: str, step: int) -> torch.Tensor:
        """Return the mask of a layer at a step."""
        if (name, step) not in self._cuts:
            matrix, shape = to_matrix(self._layers[name]).detach(), self._shapes[name]
            asked = self._choice.keep.get(name)
            kept = (
                self._counts(name, step)
                if asked is None
                else counts(asked, self._method, shape, self._choice)
            )
            made = constraint_set(kept, shape, self._method.ternary)
            self._cuts[name, step] = made.project(matrix) != 0
        return self._cuts[name, step]

    def _factors(self, rank: int, name: str) -> int:
        """Size of the two factors of a layer."""
        shape = self._shapes[name]
        return self.size_of(
            {
                f"{name}.u": torch.ones(shape.rows, rank, dtype=torch.bool),
                f"{name}.v": torch.ones(rank, shape.cols, dtype=torch.bool),
            }
        )


def at_level(offsets: Mapping[str, int], level: int) -> dict[str, int]:
    """Return the steps of layers that start so far apart, after all went down together."""
    return {name: min(max(level - offset, 0), SMALLEST) for name, offset in offsets.items()}


def search(
    net: nn.Module,
    dataset: Dataset,
    choice: Prune,
    array_shape: tuple[int, int],
    most: float,
    what: str,
    *,
    seed: int,
    progress: Callable[[float, str], None] | None = None,
) -> tuple[Shares, dict[str, int]]:
    """Find how shares of layers relate when a network must be no larger than ``most``.

    Args:
        net: the dense network; not changed.
        dataset: a few steps are trained on its training part; its validation part, not empty, decides.
        choice: method, its options, layers that are given, and trials.
        array_shape: word lines and bit lines of one array.
        most: tiles or weights that it may have.
        what: ``tiles`` or ``weights``.
        seed: seed of the search.
        progress: called with the fraction done and a few words.

    Returns:
        The shares, and for each free layer by how many grid steps it lags behind the others.

    Raises:
        TargetError: if no shares are small enough.
    """
    shares = Shares(net, choice, array_shape, what, tuple(dataset.train_x.shape[1:]))
    if shares.meeting(dict.fromkeys(shares.free, 0), most) is None:
        raise TargetError(
            f"{choice.method} cannot leave {most:.3g} of {shares.dense} {what} and something of every layer; "
            "ask for less"
        )

    def objective(trial: optuna.Trial) -> float:
        offsets = {name: trial.suggest_int(name, 0, SPREAD) for name in shares.free}
        steps = shares.meeting(offsets, most)
        loss = float("inf") if steps is None else _loss(net, shares, steps, dataset, seed)
        if progress is not None:
            progress((trial.number + 1) / choice.trials, f"trial {trial.number + 1} of {choice.trials}")
        return loss

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=stream_key(seed, "target") % 2**32)
    study = optuna.create_study(sampler=sampler)
    study.enqueue_trial(dict.fromkeys(shares.free, 0))
    study.enqueue_trial(shares.by_size)
    study.optimize(objective, n_trials=choice.trials)
    return shares, dict(study.best_params)


def most_per_column(bits: int, levels: int, dac_bits: int, rows: int, on_off: float | None = None) -> int:
    """Return the most weights on a bit line whose sum an ADC of ``bits`` holds; 0 if not even one.

    With an on/off ratio the other cells of the bit line leak, and the leakage takes its part of the range.
    """
    steps = (1 << dac_bits) - 1
    leak = 0.0 if on_off is None else levels / on_off
    fitting = [
        cells
        for cells in range(1, rows + 1)
        if lossless_bits(cells, levels, dac_bits) <= bits
        and steps * (cells * levels + (rows - cells) * leak) < 2**bits - 0.5
    ]
    return max(fitting, default=0)


def _loss(net: nn.Module, shares: Shares, steps: Mapping[str, int], dataset: Dataset, seed: int) -> float:
    """Return the validation loss at these steps, after a few steps of training what is masked."""
    net, masks, lower = copy.deepcopy(net), shares.masks(steps), shares.lower_ranks(steps)
    layers = crossbar_layers(net)
    for name, matrix in lower.items():
        layers[name].weight.data.copy_(from_matrix(layers[name], matrix))
        layers[name].weight.requires_grad_(False)  # it would grow all its ranks again
    apply_masks(net, masks)
    net.train()
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=1e-3)
    order = torch.randperm(len(dataset.train_x), generator=torch_stream(seed, "target", "order"))
    kept = {
        layer: from_matrix(layer, masks[name]).to(layer.weight)
        for name, layer in layers.items()
        if name not in lower
    }
    with torch.random.fork_rng():
        torch.manual_seed(stream_key(seed, "target", "dropout") % 2**63)
        for index in order[: TUNING_STEPS * _BATCH].split(_BATCH):
            loss = dataset.goal.loss_of(net(dataset.train_x[index]), dataset.train_y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for layer, mask in kept.items():
                    layer.weight.mul_(mask)
    net.eval()
    x, y = dataset.validation_x[:VALIDATION_IMAGES], dataset.validation_y[:VALIDATION_IMAGES]
    with torch.no_grad():
        return float(dataset.goal.loss_of(net(x), y))

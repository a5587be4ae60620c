"""What a recipe names, loaded and checked before anything is written."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from device_models.card import DeviceCard
from device_models.crossbar import Wires
from device_models.parts import PartError, Parts, part_parameters
from hwloop.cost import vectors_per_image
from hwloop.datasets import Dataset, Goal, load_dataset
from hwloop.hardware import card_of, largest_codes
from hwloop.hardware import make_wires as make_wires
from hwloop.networks import (
    NetworkError,
    build_network,
    crossbar_layers,
    keep_digital,
    load_weights,
    prune_by_masks,
)
from hwloop.pruning import METHODS, check_target
from hwloop.recipe import ON_ANY_CHIP, Recipe, RecipeError
from hwloop.training.strategies import ON_ONE_CHIP, STRATEGIES


@dataclass(frozen=True)
class Inputs:
    """The files and factories that a recipe names.

    Attributes:
        recipe: every choice of the run.
        dataset: images and labels.
        card: the device card, with as many levels as the recipe wants.
        wires: wire figures of every array.
    """

    recipe: Recipe
    dataset: Dataset
    card: DeviceCard
    wires: Wires

    @property
    def array_shape(self) -> tuple[int, int]:
        """Word lines and bit lines of one array."""
        return self.recipe.hardware.rows, self.recipe.hardware.cols

    def largest_codes(self, layers: Iterable[str]) -> dict[str, int]:
        """Largest weight code that the cells of a weight hold, by layer."""
        return largest_codes(self.recipe.hardware, self.card, layers)

    @cached_property
    def test(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and labels that every accuracy of the run is measured on."""
        images = self.recipe.evaluate.images
        # Torch aligns its own memory; from unaligned memory, products differ in their last bits run by run.
        return self.dataset.test_x[:images].clone(), self.dataset.test_y[:images]

    @property
    def device_test(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and labels that every device instance is measured on."""
        x, y = self.test
        return x[: self.recipe.evaluate.device_images], y[: self.recipe.evaluate.device_images]

    def network(self) -> nn.Module:
        """Return the network as the line starts with it: with the recipe's weights, or with random ones."""
        net = build_network(self.recipe.network.factory, self.recipe.seed)
        if self.recipe.network.weights:
            load_weights(net, self.recipe.network.weights)
        keep_digital(net, self.recipe.network.digital)
        if self.recipe.network.masks:
            prune_by_masks(net, self.recipe.network.masks)
        return net.eval()


def load_inputs(recipe: Recipe) -> Inputs:
    """Load everything that a recipe names, and check that it fits together.

    Raises:
        ValueError: a subclass that names the file, layer or field.
    """
    card = card_of(recipe.hardware)
    dataset = load_images(recipe, recipe.evaluate.images)
    inputs = Inputs(recipe, dataset, card, make_wires(recipe.hardware))
    check_part("prune.method", METHODS, recipe.prune.method, recipe.prune.parameters)
    check_part("retrain.strategy", STRATEGIES, recipe.retrain.strategy, recipe.retrain.parameters)
    if (strategy := recipe.retrain.strategy) in (*ON_ONE_CHIP, "scale"):
        raise RecipeError(
            f"retrain.strategy: the line evaluates on fresh devices, which {strategy!r} is not for; "
            f"use one of {', '.join(ON_ANY_CHIP)}, or hwloop ladder"
        )
    check_target(recipe.prune, recipe.hardware, card.levels, dataset)
    net = inputs.network()
    layers = crossbar_layers(net)
    _check_layers("prune.keep", recipe.prune.keep, layers)
    _check_layers("hardware.layer", recipe.hardware.layer, layers)
    for field in ("adc_bits", "adc_lsb", "copies"):
        chosen = getattr(recipe.hardware, field)
        if isinstance(chosen, dict):
            # A layer of clipped rank is two on arrays, ``u`` and ``v``.
            named = (name.removesuffix(".u").removesuffix(".v") for name in chosen)
            _check_layers(f"hardware.{field}", named, layers)
    _check_shapes(net, dataset, recipe)
    vectors = vectors_per_image(net, dataset.test_x[:1])
    idle = [name for name in layers if name not in vectors]
    if idle:
        raise NetworkError(f"network {recipe.network.factory!r}: layer {idle[0]} is never used")
    return inputs


def load_images(recipe: Recipe, test_images: int) -> Dataset:
    """Load the images that a recipe names, and of those to test with the first ``test_images``.

    Raises:
        DatasetError: if a file cannot be used.
    """
    data = recipe.data
    dataset = load_dataset(
        data.name,
        data.validation,
        recipe.seed,
        train_images=data.train_images,
        test_images=test_images,
        image_size=data.image_size,
    )
    return replace(dataset, goal=Goal(recipe.task.loss, recipe.task.metric))


def check_part(field: str, parts: Parts[Any], name: str, parameters: Mapping[str, Any]) -> None:
    """Raise RecipeError unless there is a part of this name that takes these parameters."""
    try:
        part_parameters(parts[name], parameters)
    except PartError as error:
        raise RecipeError(f"{field}: {error}") from error


def _check_layers(field: str, named: Iterable[str], layers: Collection[str]) -> None:
    unknown = sorted(set(named).difference(layers))
    if unknown:
        raise RecipeError(
            f"{field}.{unknown[0]}: the network has no such layer; its layers are {', '.join(layers)}"
        )


def _check_shapes(net: nn.Module, dataset: Dataset, recipe: Recipe) -> None:
    """Raise NetworkError unless the network takes the images and gives a logit for each class."""
    shape = list(dataset.test_x.shape[1:])
    if recipe.data.shift and len(shape) != 3:
        raise RecipeError(f"data.shift: moves images; inputs of shape {shape} are none")
    name = f"network {recipe.network.factory!r}"
    try:
        with torch.no_grad():
            logits = net(dataset.test_x[:1])
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise NetworkError(f"{name} does not take images of shape {shape} ({reason})") from error
    _check_goal(name, logits, dataset)


def _check_goal(name: str, outputs: Any, dataset: Dataset) -> None:
    """Raise NetworkError unless loss and score take what the network gives for one input."""
    wanted, goal = dataset.test_y[:1], dataset.goal
    shape = list(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
    if wanted.ndim == 1 and goal.loss in ("auto", "classification") and isinstance(outputs, torch.Tensor):
        classes = dataset.classes
        if classes and (outputs.ndim != 2 or outputs.shape[1] < classes):
            raise NetworkError(
                f"{name} gives outputs of shape {shape} for one image; needed is [1, {classes} or more]"
            )
    try:
        loss = goal.loss_of(outputs, wanted)
        goal.scores(outputs, wanted, 1.0)
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise NetworkError(f"{name}: the task does not take its outputs, {shape} ({reason})") from error
    if loss.shape:
        raise NetworkError(f"{name}: task.loss gives a tensor of shape {list(loss.shape)}, not a scalar")

"""A user's own training loop on ``hwloop.convert`` beside what ``hwloop ladder`` gives with the same effort.

    hwloop ladder hwloop/recipes/ladder/lenet-coarse.toml --rungs none,variation --networks dense \
        --set retrain.distill=0 --set retrain.epochs=2 --out runs/own-loop
    python benchmarks/own_loop.py runs/own-loop

Both begin with the dense network that the ladder trained, and are evaluated on the same chips and images.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import torch
from torch.nn import functional as F

import hwloop
from hwloop.datasets import Dataset
from hwloop.line import load_inputs
from hwloop.networks import load_weights
from hwloop.recipe import Recipe
from hwloop.training.fit import cosine, shifted


def main() -> None:
    """Train as a user would, evaluate, and print both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("ladder", type=Path, help="folder of the ladder")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    recipe = Recipe.model_validate(json.loads((options.ladder / "ladder.json").read_text("utf-8"))["recipe"])
    inputs = load_inputs(recipe)
    model, dataset = inputs.network(), inputs.dataset
    load_weights(model, options.ladder / "base" / "stations" / "train" / "weights.safetensors")
    analog = hwloop.convert(
        model,
        recipe.hardware,
        calibrate=dataset.train_x[:2000],
        scale=recipe.quantize.scale,
        clip=recipe.quantize.clip,
        seed=recipe.seed,
    )
    x, y = inputs.test
    count = recipe.evaluate.instances
    before = accuracies(analog, x, y, range(count))
    train(analog, dataset, recipe, options.seed)
    after = accuracies(analog, x, y, range(options.seed * count, (options.seed + 1) * count))
    for name, values in (("own loop, before", before), ("own loop, after", after), *rungs(options.ladder)):
        print(f"{name:20} {100 * statistics.fmean(values):6.2f} ± {100 * statistics.stdev(values):.2f} %")


def train(analog: hwloop.NetworkOnArrays, dataset: Dataset, recipe: Recipe, seed: int) -> None:
    """The user's own loop: images, steps and learning rates as the recipe has them."""
    choice = recipe.retrain
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    images = torch.randperm(len(dataset.train_x), generator=generator)[: choice.images]
    optimizer = torch.optim.AdamW(analog.parameters(), choice.learning_rate, weight_decay=0.0)
    steps = choice.epochs * -(-len(images) // choice.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine(min(1.0, step / steps)))
    for _ in range(choice.epochs):
        for index in images[torch.randperm(len(images), generator=generator)].split(choice.batch):
            x = shifted(dataset.train_x[index], recipe.data.shift, generator)
            loss = F.cross_entropy(analog.train()(x), dataset.train_y[index])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()


def accuracies(analog: hwloop.NetworkOnArrays, x: torch.Tensor, y: torch.Tensor, chips: range) -> list[float]:
    """Accuracy on each of the chips."""
    found = []
    for chip in chips:
        analog.program(chip).eval()
        with torch.no_grad():
            right = sum(
                int((analog(part).argmax(1) == labels).sum())
                for part, labels in zip(x.split(500), y.split(500), strict=True)
            )
        found.append(right / len(x))
    return found


def rungs(ladder: Path) -> list[tuple[str, list[float]]]:
    """What the ladder found for the dense network."""
    found = []
    for path in sorted((ladder / "dense").glob("*-*/result.json")):
        result = json.loads(path.read_text("utf-8"))
        found.append((f"ladder, {result['rung']}", result["accuracy"]))
    return found


if __name__ == "__main__":
    main()

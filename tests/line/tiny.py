"""A network, images and a recipe that go through the whole line in seconds."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from torch import nn

NETWORK = "tests.line.tiny:network"


def network() -> nn.Module:
    """A convolution and two linear layers for 8×8 images and 10 classes."""
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(1, 8, 3),
            relu=nn.ReLU(),
            pool=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(72, 32),
            relu1=nn.ReLU(),
            fc2=nn.Linear(32, 10),
        )
    )


def write_digits(path: Path) -> Path:
    """Write 1,297 handwritten digits in the layout that datasets are read from."""
    digits = load_digits()
    images = np.rint(digits.images * 15.9).astype(np.uint8)
    labels = digits.target.astype(np.uint8)
    np.savez_compressed(
        path, x_train=images[:900], y_train=labels[:900], x_test=images[1400:], y_test=labels[1400:]
    )
    return path


def write_recipe(folder: Path, **changes: str) -> Path:
    """Write images and a recipe that uses them; ``changes`` replace whole sections by other TOML text."""
    images = write_digits(folder / "digits.npz")
    sections = {
        "network": f'factory = "{NETWORK}"',
        "data": f'name = "{images}"\nvalidation = 200',
        "train": "epochs = 4\nbatch = 32\nlearning_rate = 1e-2",
        "prune": "rounds = 2\nretrain_epochs = 2\nlearning_rate = 3e-3\nretrain_learning_rate = 3e-3",
        "prune.keep.fc1": "filters = 24\nrows = 48",
        "quantize": "epochs = 1",
        "hardware": "rows = 16\ncols = 16",
        "spice": "tiles = 2",
        "retrain": "epochs = 1\nbatch = 64",
        "evaluate": "instances = 2\nbatch = 200",
    }
    sections |= changes
    text = "seed = 1\n" + "".join(f"\n[{name}]\n{body}\n" for name, body in sections.items())
    recipe = folder / "recipe.toml"
    recipe.write_text(text, "utf-8")
    return recipe

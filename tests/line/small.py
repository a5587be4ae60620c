"""Data and networks small enough for tests: the 8×8 digits of scikit-learn, and a network for them."""

from collections import OrderedDict

import torch
from sklearn.datasets import load_digits
from torch import nn

from hwloop.datasets import Dataset
from hwloop.networks import build_network


def small_network():
    """A conv, pool, conv, fc, fc network for 8×8 images."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 6, 3),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(6, 10, 3),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(40, 24),
            relu2=nn.ReLU(),
            fc2=nn.Linear(24, 10),
        )
    )


def seeded_network(seed=0):
    return build_network(f"{__name__}:small_network", seed)


def digits():
    """1,000 images to train on, 300 to choose by and 497 to test with."""
    x, y = load_digits(return_X_y=True)
    x = torch.tensor(x / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    y = torch.tensor(y, dtype=torch.int64)
    return Dataset("digits", x[:1000], y[:1000], x[1000:1300], y[1000:1300], x[1300:], y[1300:])

"""Quantiles of the standard normal distribution for arrays."""

from __future__ import annotations

import numpy as np

from .base import Array


def normal_quantile(probability: Array) -> Array:
    """Return the standard normal score of probabilities, any shape."""
    import torch  # cards are read by commands that need no torch

    return torch.special.ndtri(torch.from_numpy(np.asarray(probability, dtype=np.float64))).numpy()

"""Random streams that do not depend on the order, the chunking or the number of workers.

Every random quantity belongs to a name, for example ``stream(seed, "instance", 3, "fc1", "tile", 17)``.
Two names give independent streams, and one name always gives the same stream, so a tile draws the
same devices whether it is programmed alone, in a batch or on another machine.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def stream_key(seed: int, *names: str | int) -> int:
    """Return the 128-bit key of a named stream: SHA-256 of the seed and the names, cut to 128 bits."""
    text = "\x1f".join([str(int(seed)), *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return the NumPy generator (Philox, counter based) of a named stream."""
    return np.random.Generator(np.random.Philox(key=stream_key(seed, *names)))


def torch_stream(seed: int, *names: str | int) -> torch.Generator:
    """Return a CPU torch generator for a named stream (for shuffles and dropout in training)."""
    import torch  # cards are read by commands that need no torch, and importing it takes a second

    generator = torch.Generator()
    generator.manual_seed(stream_key(seed, *names) % 2**63)
    return generator

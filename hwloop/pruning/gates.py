"""Crossbar-aware pruning: gates on the groups of a layer, chosen so that its outputs change least.

With the contributions ``C_g = X_g W_g`` of the groups to the output ``Y`` of a layer on sample inputs, gates
``b`` solve (Liang, Deng et al., 2018; equations rebuilt, see ``docs/pruning.md``)

    minimise  1/(2n) || Y - sum_g b_g C_g ||²   subject to at most r gates that are not zero

by L0-norm constrained gradient descent: a gradient step in the dense space, then a projection onto the gates
allowed. The relaxant probabilistic projection draws which gates stay; what it drops stays in the dense
iterate and can come back.

* pool: r gates are drawn, by magnitude, from the largest ``(1 + relax) r``; relax shrinks to zero.
* draw: r gates are drawn from all, by magnitude.
* largest: the r largest; iterative hard thresholding, the control.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, cg
from torch import nn
from torch.nn import functional as F

from device_models.random import torch_stream
from hwloop.networks import CrossbarLayer, crossbar_layers, record_inputs, to_matrix, windows
from hwloop.pruning.groups import Groups

Projection = Literal["pool", "draw", "largest"]
STEPS = 60
SAMPLES = 1024
_IMAGES = 256

_Product = Callable[[torch.Tensor], torch.Tensor]


def gated(
    net: nn.Module, groups: dict[str, Groups], images: torch.Tensor, projection: Projection, seed: int
) -> dict[str, torch.Tensor]:
    """Return the matrices of layers with the groups that their budgets allow, rescaled by least squares.

    Args:
        net: the network; not changed. Layers see the inputs that the unpruned network gives them.
        groups: for each layer groups that are unions of column segments.
        images: training images, ``[n, channels, height, width]``.
        projection: how gates are chosen.
        seed: seed of samples and draws.
    """
    inputs = record_inputs(net, images[:_IMAGES])
    layers = crossbar_layers(net)
    return {
        name: _gate_layer(name, layers[name], cut, inputs[name], projection, seed)
        for name, cut in groups.items()
    }


def _gate_layer(
    name: str, layer: CrossbarLayer, cut: Groups, x: torch.Tensor, projection: Projection, seed: int
) -> torch.Tensor:
    matrix = to_matrix(layer).detach()
    rows = _input_rows(layer, x)
    chosen = torch.randperm(len(rows), generator=torch_stream(seed, "gates", name, "samples"))[:SAMPLES]
    partition = cut.partition(matrix)
    gates = choose(
        rows[chosen],
        matrix,
        partition.groups,
        cut.keep,
        projection,
        torch_stream(seed, "gates", name, "draws"),
    )
    return matrix * gates[partition.groups]


def choose(
    x: torch.Tensor,
    matrix: torch.Tensor,
    groups: torch.Tensor,
    keep: int,
    projection: Projection,
    generator: torch.Generator,
    steps: int = STEPS,
) -> torch.Tensor:
    """Return a gate for each group, at most ``keep`` of them not zero.

    Args:
        x: inputs ``[n, rows]``.
        matrix: weights ``[rows, cols]``.
        groups: number of the group of each weight, int64 ``[rows, cols]``.
        keep: how many gates may be open.
        projection: how they are chosen.
        generator: of the draws.
        steps: of gradient descent.
    """
    count = int(groups.max()) + 1
    if keep >= count:
        return torch.ones(count, dtype=matrix.dtype)
    quadratic = _quadratic(x, matrix, groups)
    linear = quadratic(torch.ones(count, dtype=matrix.dtype))
    step = 1 / _largest_eigenvalue(quadratic, count)
    dense = gates = torch.zeros(count, dtype=matrix.dtype)
    for number in range(steps):
        # What was dropped stays in the dense iterate; the control goes on from what it kept alone.
        dense = (gates if projection == "largest" else dense) - step * (quadratic(gates) - linear)
        relax = 1 - (number + 1) / steps
        gates = dense * _support(dense.abs(), keep, relax, projection, generator)
    # Reading "draw" ends with a draw too, unless the largest are taken at last, which is never worse.
    support = _support(dense.abs(), keep, 0.0, "largest", generator) if projection == "draw" else gates != 0
    return _refit(quadratic, linear, support)


def _quadratic(x: torch.Tensor, matrix: torch.Tensor, groups: torch.Tensor) -> _Product:
    """Return ``b -> C^T C b / n``; groups act on each other through columns that they share."""
    moment = (x.T @ x) / len(x)
    columns = [numbers.unique(return_inverse=True) for numbers in groups.T]
    most = max(len(mine) for mine, _ in columns)
    index = torch.zeros(len(columns), most, dtype=torch.int64)
    blocks = torch.zeros(len(columns), most, most, dtype=matrix.dtype)
    for number, (mine, local) in enumerate(columns):
        spread = torch.zeros(len(matrix), most, dtype=matrix.dtype)
        spread[torch.arange(len(matrix)), local] = matrix[:, number]
        index[number, : len(mine)] = mine
        blocks[number] = spread.T @ moment @ spread

    def product(gates: torch.Tensor) -> torch.Tensor:
        parts = (blocks @ gates[index][:, :, None])[:, :, 0]
        return torch.zeros_like(gates).index_add(0, index.flatten(), parts.flatten())

    return product


def _largest_eigenvalue(quadratic: _Product, count: int) -> float:
    """Return an upper bound by power iteration, a little enlarged."""
    vector = torch.ones(count)
    for _ in range(30):
        vector = F.normalize(quadratic(vector), dim=0)
    return max(1.05 * float(vector @ quadratic(vector)), 1e-30)


def _support(
    scores: torch.Tensor, keep: int, relax: float, projection: Projection, generator: torch.Generator
) -> torch.Tensor:
    """Return which gates stay open, bool."""
    support = torch.zeros_like(scores, dtype=torch.bool)
    order = scores.sort(descending=True, stable=True).indices
    if projection == "largest":
        support[order[:keep]] = True
        return support
    pool = order if projection == "draw" else order[: min(len(order), math.ceil((1 + relax) * keep))]
    # Scores of zero can be drawn too, or there might be fewer than needed.
    weights = scores[pool] + 1e-6 * scores.max() + 1e-30
    # The least of E / w, E exponential, are draws without replacement (Efraimidis and Spirakis, 2006).
    keys = torch.empty_like(weights).exponential_(generator=generator) / weights
    support[pool[keys.argsort()[:keep]]] = True
    return support


def _refit(quadratic: _Product, linear: torch.Tensor, support: torch.Tensor) -> torch.Tensor:
    """Return the gates of least squared error on a support."""
    kept = support.to(linear)
    count = len(support)
    ridge = 1e-6 * float(linear.abs().mean()) + 1e-30

    def product(gates: np.ndarray) -> np.ndarray:
        b = torch.from_numpy(gates).to(linear)
        result: np.ndarray = (kept * quadratic(kept * b) + ridge * b).double().numpy()
        return result

    operator = LinearOperator((count, count), matvec=product, dtype=np.float64)
    target, start = (kept * linear).double().numpy(), kept.double().numpy()
    solved, _ = cg(operator, target, x0=start, rtol=1e-4, maxiter=200)
    return kept * torch.from_numpy(solved).to(linear)


def _input_rows(layer: CrossbarLayer, x: torch.Tensor) -> torch.Tensor:
    """Return what a layer's matrix is multiplied with, ``[n, rows]``."""
    if isinstance(layer, nn.Linear):
        return x.reshape(-1, x.shape[-1])
    return windows(layer, x).flatten(3).flatten(0, 2)

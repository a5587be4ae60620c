"""Remapping: which lines of its array a tile uses, and with which sign, so that stuck cells do the least
harm.

Which cells are stuck is told by the chip: cells that hold the same after they were written low and high. Word
lines, then bit lines are assigned (Kuhn and Munkres) so that the squared error of the weights that stuck
cells cannot hold is least; the sign of a column is turned where that helps, and digital logic turns it back.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from hwloop.hardware.columns import Column
from hwloop.mapping import UNUSED_LINE, ConductanceMap, LayerMap
from hwloop.training.strategies.task import Outcome, Task

ROUNDS = 2  # of word lines, then bit lines
_MOVED = 0.25  # of what a writable cell would have changed by: less is stuck


def remap(task: Task) -> Outcome:
    """Place the weights of every tile around the stuck cells of the chip, and program it.

    Raises:
        ValueError: if a layer is not differential in one slice.
    """
    hardware, whole = task.make_hardware(task.instance), task.conductance_map
    stuck = find_stuck(task)
    layers, columns = {}, {}
    for name, layer in whole.layers.items():
        signs = _signs(layer, stuck[name], whole)
        layers[name] = place(_turned(layer, signs), stuck[name], whole.card.idle_steps)
        if bool((signs < 0).any()):
            columns[name] = Column(signs, torch.zeros_like(signs))
    placed = replace(whole, layers=layers)
    hardware.program(placed)
    return Outcome(placed, columns or None, hardware=hardware)


def find_stuck(task: Task) -> dict[str, torch.Tensor]:
    """Return what stuck cells of the chip hold, in level steps, and NaN for cells that can be written.

    All arrays are written twice, with every cell at level 1 and at the highest; a cell that moves by less
    than a quarter of the way is stuck.

    Returns:
        For each layer float32 ``[tiles, 2, rows, cols]``, NaN on lines that are not there too.
    """
    hardware, whole = task.make_hardware(task.instance), task.conductance_map
    found = {}
    held = {level: hardware.program(_flat(whole, level)).layers for level in (1, whole.card.levels)}
    step = whole.g_step
    for name, layer in whole.layers.items():
        if layer.encoding != "differential" or layer.slices != 1:
            raise ValueError(f"layer {name}: only differential encoding in one slice can be remapped")
        low, high = (held[level][name].actual for level in (1, whole.card.levels))
        if low is None or high is None:
            raise ValueError(f"layer {name}: the hardware does not say what its cells hold")
        still = (high - low).abs() < _MOVED * (whole.card.levels - 1) * step
        cells = torch.where(still, low / step, torch.full_like(low, float("nan")))
        found[name] = cells[:, :, 0]
    return found


def place(layer: LayerMap, stuck: torch.Tensor, idle: float) -> LayerMap:
    """Return the layer with the lines of each tile where stuck cells do the least harm.

    Args:
        layer: the layer.
        stuck: what stuck cells hold, as :func:`find_stuck` gives it.
        idle: what a cell of level 0 conducts, in level steps.
    """
    codes, row_index, col_index = layer.codes.clone(), layer.row_index.clone(), layer.col_index.clone()
    for tile, faults in enumerate(stuck.numpy()):
        if not np.isfinite(faults).any():
            continue
        for _ in range(ROUNDS):
            rows = _assignment(codes[tile, :, 0], row_index[tile], col_index[tile], faults, idle, axis=1)
            codes[tile], row_index[tile] = codes[tile][:, :, rows], row_index[tile][rows]
            cols = _assignment(codes[tile, :, 0], col_index[tile], row_index[tile], faults, idle, axis=2)
            codes[tile], col_index[tile] = codes[tile][:, :, :, cols], col_index[tile][cols]
    return replace(layer, codes=codes, row_index=row_index, col_index=col_index, actual=None)


def harm(layer: LayerMap, stuck: torch.Tensor, idle: float) -> float:
    """Return the squared error of the weights that stuck cells cannot hold, in level steps squared."""
    wanted = layer.codes[:, :, 0].float() + idle
    used = (layer.row_index != UNUSED_LINE)[:, None, :, None] & (layer.col_index != UNUSED_LINE)[
        :, None, None, :
    ]
    return float(torch.nan_to_num((stuck - wanted) * used).square().sum())


def _assignment(
    codes: torch.Tensor,
    lines: torch.Tensor,
    crossing: torch.Tensor,
    faults: np.ndarray,
    idle: float,
    axis: int,
) -> torch.Tensor:
    """Which line of ``codes [2, rows, cols]`` goes to each line of the array, along an axis.

    Lines that are not used may go anywhere, and cells where an unused line crosses do no harm.
    """
    size = faults.shape[axis]
    weighs = (crossing != UNUSED_LINE).numpy().astype(np.float64)
    bad = np.isfinite(faults) * (weighs if axis == 1 else weighs[:, None])
    held, bad = (np.moveaxis(x, axis, 0).reshape(size, -1) for x in (np.nan_to_num(faults), bad))
    wanted = np.moveaxis(codes.numpy(), axis, 0).reshape(size, -1) + idle
    # Sum over stuck cells of (held - wanted)^2 for every pair of lines.
    cost = (held**2 * bad).sum(1)[:, None] - 2 * (held * bad) @ wanted.T + bad @ (wanted**2).T
    cost = cost * (lines != UNUSED_LINE).numpy() - 1e-9 * np.eye(size)  # stay put where nothing is gained
    return torch.from_numpy(linear_sum_assignment(cost)[1])


def _signs(layer: LayerMap, stuck: torch.Tensor, whole: ConductanceMap) -> torch.Tensor:
    """Sign of every matrix column, -1 where the other sign is hurt less by the stuck cells where it lies."""
    idle = whole.card.idle_steps
    as_is, turned = torch.zeros(layer.matrix_shape[1]), torch.zeros(layer.matrix_shape[1])
    for tile, cols in enumerate(layer.col_index.long()):
        used = cols != UNUSED_LINE
        for total, cells in ((as_is, layer.codes[tile, :, 0]), (turned, layer.codes[tile, :, 0].flip(0))):
            error = torch.nan_to_num(stuck[tile] - cells - idle).square().sum((0, 1))
            total.index_add_(0, cols[used], error[used])
    return torch.where(turned < as_is, -1.0, 1.0)


def _turned(layer: LayerMap, signs: torch.Tensor) -> LayerMap:
    """Return the layer with the columns of sign -1 in the arrays of the other polarity."""
    turn = (signs[layer.col_index.long().clamp(min=0)] < 0)[:, None, None, None, :]
    return replace(layer, codes=torch.where(turn, layer.codes.flip(1), layer.codes), actual=None)


def _flat(whole: ConductanceMap, level: int) -> ConductanceMap:
    """Return a map with every cell of every array at one level."""
    layers = {
        name: replace(layer, codes=torch.full_like(layer.codes, level), actual=None)
        for name, layer in whole.layers.items()
    }
    return replace(whole, layers=layers)

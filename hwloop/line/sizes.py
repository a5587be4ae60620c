"""What pruning left of a network, in weights, tiles and wires, against the network that it began with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from hwloop.cost import crossbar_area, routing_area
from hwloop.mapping import tile_count
from hwloop.networks import crossbar_layers, to_matrix
from hwloop.pruning import Masks, full_masks
from hwloop.recipe import HardwareConfig

ARRAYS = ((32, 32), (64, 64), (128, 64), (128, 128))
"""Sizes of arrays that tiles are counted for, beside the recipe's."""


def sizes(net: nn.Module, masks: Masks, hardware: HardwareConfig) -> dict[str, Any]:
    """Return counts before and after pruning.

    Args:
        net: the dense network.
        masks: of the pruned network, in which layers may have become two of a lower rank.
        hardware: arrays, and how matrices are laid on them.

    Returns:
        ``weights`` of all layers, ``inner_weights`` without the classifier and 1×1 convolutions, which not
        all papers count, ``tiles`` by size of array, and the areas by the rules of Group Scissor.
    """
    dense, layers = full_masks(net), crossbar_layers(net)
    groups = {name: getattr(layer, "groups", 1) for name, layer in layers.items()}
    outer = {name for name, layer in layers.items() if tuple(getattr(layer, "kernel_size", ())) == (1, 1)}
    outer.add(list(layers)[-1])
    inner = {name for name in masks if name not in outer and name.rpartition(".")[0] not in outer}
    return {
        "weights": _pair(_count(dense.values()), _count(masks.values())),
        "inner_weights": _pair(
            _count(mask for name, mask in dense.items() if name not in outer),
            _count(masks[name] for name in inner),
        ),
        "tiles": {
            f"{rows}x{cols}": _pair(
                _tiles(dense, groups, (rows, cols)),
                _tiles(masks, groups, (rows, cols), hardware.fragment, hardware.cells_per_column),
            )
            for rows, cols in dict.fromkeys((*ARRAYS, (hardware.rows, hardware.cols)))
            if rows % hardware.fragment == 0
        },
        "crossbar_area": crossbar_area(
            (_used(mask) for mask in masks.values()), (to_matrix(layer).shape for layer in layers.values())
        ),
        "routing_area": routing_area(masks),
    }


def _used(mask: torch.Tensor) -> tuple[int, int]:
    """Return how many rows and columns of a matrix are not empty."""
    return int(mask.any(1).sum()), int(mask.any(0).sum())


def _pair(dense: int, kept: int) -> dict[str, int]:
    return {"dense": dense, "kept": kept}


def _count(masks: Iterable[torch.Tensor]) -> int:
    return sum(int(torch.count_nonzero(mask)) for mask in masks)


def _tiles(
    masks: Masks,
    groups: Mapping[str, int],
    array: tuple[int, int],
    fragment: int = 1,
    cells_per_column: int | None = None,
) -> int:
    return sum(
        tile_count(mask, array, groups.get(name, 1), fragment, cells_per_column)
        for name, mask in masks.items()
    )

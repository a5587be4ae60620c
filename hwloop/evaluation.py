"""Accuracy on freshly programmed hardware, one device instance after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from hwloop.datasets import Goal
from hwloop.hardware import Hardware, network_from_map, on_hardware
from hwloop.mapping import ConductanceMap
from hwloop.training.fit import accuracy


def evaluate_instances(
    net: nn.Module,
    conductance_map: ConductanceMap,
    make_hardware: Callable[[int | str], Hardware],
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    instances: Iterable[int],
    batch: int = 500,
    goal: Goal | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> list[float]:
    """Return the accuracy of a map on each of several device instances.

    Args:
        net: the network's structure; weights, biases and the like are the map's.
        conductance_map: what to program.
        make_hardware: gives hardware for an instance; it is programmed here.
        x: images.
        y: their labels.
        instances: numbers of the instances.
        batch: images at a time.
        goal: what the score is; None = what follows from the labels.
        progress: called with the fraction done and a few words.
    """
    quantized = network_from_map(net, conductance_map)
    numbers = list(instances)
    results: list[float] = []
    for number in numbers:
        hardware = make_hardware(number)
        hardware.program(conductance_map)
        results.append(accuracy(on_hardware(quantized, hardware), x, y, batch, goal))
        if progress is not None:
            progress(
                len(results) / len(numbers), f"instance {len(results)} of {len(numbers)}: {results[-1]:.2%}"
            )
    return results

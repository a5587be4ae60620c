"""Calling networks with batches of whatever they take."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

Batch = Any
"""A tensor, a mapping of tensors by the names of the network's arguments, or a tuple of its arguments."""


def feed(net: nn.Module, batch: Batch) -> Any:
    """Return what ``net`` gives for a batch.

    A mapping becomes keyword arguments if the network knows all of its names, else it is the one argument;
    the items of a tuple become its arguments.
    """
    if isinstance(batch, Mapping):
        return net(**batch) if _takes(net, batch) else net(batch)
    return net(*batch) if isinstance(batch, tuple) else net(batch)


def batches(net: nn.Module, given: Batch | Iterable[Batch]) -> Iterator[Batch]:
    """Yield the batches of what a user gives: one of them, or an iterable such as a ``DataLoader``.

    Of a batch of an iterable that is itself a list or tuple, such as images with labels, the network gets as
    many items as it needs.

    Raises:
        ValueError: if there is none.
    """
    if isinstance(given, torch.Tensor | Mapping | tuple):
        yield given
        return
    if not isinstance(given, Iterable):
        raise ValueError(  # noqa: TRY004 - what a user gives
            f"calibrate is {type(given).__name__}; give a batch that the network takes, or several of them"
        )
    batch = None
    for batch in given:
        yield tuple(batch[: _needed(net)]) if isinstance(batch, list | tuple) else batch
    if batch is None:
        raise ValueError("calibrate has no batch")


def first_of(batch: Batch, count: int) -> Batch:
    """Return the first ``count`` samples of a batch: of every tensor in it along the first dimension."""
    if isinstance(batch, torch.Tensor):
        return batch[:count] if batch.ndim else batch
    if isinstance(batch, Mapping):
        return {name: first_of(value, count) for name, value in batch.items()}
    return tuple(first_of(value, count) for value in batch) if isinstance(batch, tuple) else batch


def _takes(net: nn.Module, batch: Mapping[str, Any]) -> bool:
    """Whether the names of a batch are names of the network's arguments."""
    parameters = inspect.signature(net.forward).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return True
    return batch.keys() <= {p.name for p in parameters if p.kind is not p.VAR_POSITIONAL}


def _needed(net: nn.Module) -> int:
    """How many arguments the network must be given."""
    parameters = inspect.signature(net.forward).parameters.values()
    plain = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return max(1, sum(p.default is p.empty for p in plain))

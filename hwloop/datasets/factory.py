"""Data sets of the user's own: what a factory makes, as torch ``Dataset``s."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch

from hwloop.factories import call_factory

from .part import MAX_CLASSES, DatasetError, check_bytes

_SPEC = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_]\w*)")

Samples = tuple[torch.Tensor, torch.Tensor]


def is_factory(name: str) -> bool:
    """Whether ``data.name`` reads ``package.module:factory``."""
    return _SPEC.fullmatch(name) is not None


def make_parts(name: str) -> list[Samples]:
    """Import a factory, that is, run its code, and read the torch ``Dataset``s that it makes.

    Args:
        name: ``package.module:factory``; without arguments it gives a training and a test part, or one to
            train on, one that is held back, and one to test with. Each has pairs of an input, a tensor or
            array of one shape for all, and a class.

    Returns:
        For each part inputs ``[n, ...]``, floats as float32, and classes, int64 ``[n]``.

    Raises:
        DatasetError: if there is no such factory, or it makes something else.
    """
    match = _SPEC.fullmatch(name)
    if match is None:
        raise DatasetError(f"{name}: must read package.module:factory")
    try:
        made = call_factory(*match.groups())
    except ValueError as error:
        raise DatasetError(f"data {name!r}: {error}") from error
    if not isinstance(made, tuple | list) or len(made) not in (2, 3):
        raise DatasetError(
            f"data {name!r}: gives {type(made).__name__}; needed are two data sets (training, test) or three "
            "(training, validation, test)"
        )
    titles = ("training", "validation", "test") if len(made) == 3 else ("training", "test")
    parts = [_read(f"data {name!r}, {title}", part) for title, part in zip(titles, made, strict=True)]
    shapes = [list(inputs.shape[1:]) for inputs, _ in parts]
    if any(shape != shapes[0] for shape in shapes):
        raise DatasetError(f"data {name!r}: inputs of its parts are of different shapes: {shapes}")
    return parts


def _read(where: str, part: Any) -> Samples:
    if not isinstance(part, Iterable) and not hasattr(part, "__getitem__"):
        raise DatasetError(f"{where}: is {type(part).__name__}, no data set")
    inputs: list[torch.Tensor] = []
    targets: list[torch.Tensor] = []
    size = 0
    for number, item in enumerate(_items(part)):
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise DatasetError(
                f"{where}, item {number}: is {type(item).__name__}, not a pair of input and target"
            )
        try:
            x, wanted = (torch.as_tensor(value) for value in item)
        except (TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DatasetError(f"{where}, item {number}: no tensors ({reason})") from error
        for found, before in ((x, inputs[:1]), (wanted, targets[:1])):
            if before and found.shape != before[0].shape:
                raise DatasetError(
                    f"{where}, item {number}: {list(found.shape)}, those before {list(before[0].shape)}"
                )
        size += x.numel() * x.element_size()
        check_bytes(where, size, "use a part of it")
        inputs.append(x.to(torch.float32) if x.is_floating_point() else x)
        targets.append(wanted.to(torch.float32 if wanted.is_floating_point() else torch.int64))
    if not inputs:
        raise DatasetError(f"{where}: is empty")
    x, y = torch.stack(inputs), torch.stack(targets)
    if any(values.is_floating_point() and not bool(values.isfinite().all()) for values in (x, y)):
        raise DatasetError(f"{where}: holds values that are not finite")
    if not y.is_floating_point() and not 0 <= int(y.min()) <= int(y.max()) < MAX_CLASSES:
        raise DatasetError(f"{where}: classes must lie between 0 and {MAX_CLASSES - 1}")
    return x, y


def _items(part: Any) -> Iterable[Any]:
    """The items of a data set: by number where it has a length, as not all of them end by themselves."""
    return (part[i] for i in range(len(part))) if hasattr(part, "__len__") else iter(part)

"""How two conductance maps differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import torch

from .conductance_map import ConductanceMap, LayerMap


class Difference(NamedTuple):
    """One difference: the layer or data set, and by how much."""

    where: str
    what: str


def compare_maps(first: ConductanceMap, second: ConductanceMap) -> list[Difference]:
    """Return every difference between two maps; empty if they are equal."""
    return [
        *_header(first, second),
        *_layers(first, second),
        *_digital(first, second),
    ]


def _header(first: ConductanceMap, second: ConductanceMap) -> Iterator[Difference]:
    for field in ("network", "array_shape"):
        if getattr(first, field) != getattr(second, field):
            yield Difference(field, f"{getattr(first, field)} / {getattr(second, field)}")
    ours, theirs = first.card.model_dump(), second.card.model_dump()
    for name in ours:
        if ours[name] != theirs[name]:
            yield Difference("card", f"{name} differs ({first.card.name} / {second.card.name})")
    for name in sorted(set(first.attributes) | set(second.attributes)):
        if name not in first.attributes or name not in second.attributes:
            yield Difference("attributes", f"{name} only in {_holder(name in first.attributes)}")
        elif first.attributes[name] != second.attributes[name]:
            yield Difference("attributes", f"{name} differs")


def _layers(first: ConductanceMap, second: ConductanceMap) -> Iterator[Difference]:
    common = [name for name in first.layers if name in second.layers]
    for name in [*first.layers, *(name for name in second.layers if name not in first.layers)]:
        if name not in common:
            yield Difference(f"layers/{name}", f"only in {_holder(name in first.layers)}")
            continue
        for field in dataclasses.fields(LayerMap):
            ours, theirs = getattr(first.layers[name], field.name), getattr(second.layers[name], field.name)
            if what := _difference(ours, theirs, "S" if field.name == "actual" else ""):
                yield Difference(f"layers/{name}/{field.name}", what)
    if common != [name for name in second.layers if name in first.layers]:
        yield Difference("layers", "come in another order")


def _digital(first: ConductanceMap, second: ConductanceMap) -> Iterator[Difference]:
    for name in sorted(set(first.digital) | set(second.digital)):
        if name not in first.digital or name not in second.digital:
            yield Difference(f"digital/{name}", f"only in {_holder(name in first.digital)}")
        elif what := _difference(first.digital[name], second.digital[name], ""):
            yield Difference(f"digital/{name}", what)


def _difference(ours: object, theirs: object, unit: str) -> str:
    """Say how two values differ, in ``unit``; empty if they do not."""
    if not isinstance(ours, torch.Tensor) or not isinstance(theirs, torch.Tensor):
        if isinstance(ours, torch.Tensor) or isinstance(theirs, torch.Tensor):
            return f"only in {_holder(ours is not None)}"
        return "" if ours == theirs else f"{ours} / {theirs}"
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return f"{_kind(ours)} / {_kind(theirs)}"
    differ = ours != theirs
    if not differ.any():
        return ""
    most = (ours[differ].double() - theirs[differ].double()).abs().max().item()
    return f"{int(differ.sum())} of {differ.numel()} differ, by at most {most:.4g} {unit}".rstrip()


def _kind(value: torch.Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


def _holder(in_first: bool) -> str:
    return "the first" if in_first else "the second"

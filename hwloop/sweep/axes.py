"""What a sweep varies: fields of the recipe's hardware, their values, and the designs that they make."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from device_models.card import CardError, parse_card
from hwloop.recipe import HardwareConfig, Recipe, read_value

HOLDING = ("card", "cell_levels", "encoding", "slices")
"""Choices of hardware that decide which weights its cells can hold."""


class SweepError(ValueError):
    """A sweep that cannot be done; the message names the axis or the folder, and the fix."""


@dataclass(frozen=True)
class Axis:
    """Fields of the recipe's hardware that take the same value, and the values they take."""

    fields: tuple[str, ...]
    values: tuple[Any, ...]

    @classmethod
    def parse(cls, text: str) -> Axis:
        """Read ``rows=16,32``, or ``rows+cols=16,32`` where both take each value.

        Raises:
            SweepError: if it is not written so, or the hardware has no such field.
        """
        names, equals, values = text.partition("=")
        fields = tuple(name.strip().removeprefix("hardware.") for name in names.split("+"))
        if not equals or not values:
            raise SweepError(f"--set {text}: write FIELD=VALUE,VALUE,... or FIELD+FIELD=VALUE,VALUE,...")
        for field in fields:
            if field not in HardwareConfig.model_fields:
                known = ", ".join(HardwareConfig.model_fields)
                raise SweepError(f"--set {text}: hardware has no field {field!r}; it has {known}")
        return cls(fields, tuple(read_value(value.strip()) for value in values.split(",")))


@dataclass(frozen=True)
class Design:
    """One design: its number in the order of the axes, its settings, and the recipe with them in place."""

    number: int
    settings: dict[str, Any]
    recipe: Recipe

    @property
    def way(self) -> str:
        """Name of the way in which its cells hold weights; designs of the same way share them."""
        held = {field: getattr(self.recipe.hardware, field) for field in HOLDING}
        return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()[:16]


def designs(recipe: Recipe, axes: Sequence[Axis]) -> list[Design]:
    """Return every combination of the axes' values.

    Raises:
        SweepError: if a field is on two axes, or a combination is no possible hardware.
    """
    fields = [field for axis in axes for field in axis.fields]
    if twice := {field for field in fields if fields.count(field) > 1}:
        raise SweepError(f"--set: {min(twice)} is on two axes")
    found: list[Design] = []
    for values in product(*(axis.values for axis in axes)):
        settings = {field: value for axis, value in zip(axes, values, strict=True) for field in axis.fields}
        told = ", ".join(f"{field}={value}" for field, value in settings.items())
        try:
            hardware = parse_card(
                HardwareConfig, {**recipe.hardware.model_dump(), **settings}, f"--set {told}"
            )
        except CardError as error:
            raise SweepError(str(error)) from error
        found.append(Design(len(found), settings, recipe.model_copy(update={"hardware": hardware})))
    return found

"""Cost cards: area, power and energy of the parts around a crossbar, each figure with its source."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from device_models.card import CardError, parse_card


class CostFigure(BaseModel):
    """One number of a cost card: its value, its unit and where it comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    value: float = Field(gt=0)
    unit: Literal["W", "J", "s", "mm2"]
    source: str = Field(min_length=3)


class CostFigures(BaseModel):
    """One number for each resolution of a converter."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    value: tuple[float, ...] = Field(min_length=1, max_length=32)
    unit: Literal["J", "mm2"]
    source: str = Field(min_length=3)


class Part(BaseModel):
    """A part that draws power whenever its array is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    power: CostFigure
    area: CostFigure


class AdcCost(BaseModel):
    """Energy of one conversion and area of one converter by resolution.

    Below the table a converter costs what the smallest one in it does; above, twice as much for each bit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    first_bits: int = Field(ge=1, le=32)
    energy: CostFigures
    area: CostFigures

    @model_validator(mode="after")
    def _same_length(self) -> AdcCost:
        if len(self.energy.value) != len(self.area.value):
            raise ValueError("energy and area must list the same resolutions")
        return self

    def conversion_energy(self, bits: int) -> float:
        """Energy in joule of one conversion at ``bits`` of resolution."""
        return self._at(self.energy.value, bits)

    def converter_area(self, bits: int) -> float:
        """Area in mm² of one converter of ``bits`` of resolution."""
        return self._at(self.area.value, bits)

    def _at(self, table: tuple[float, ...], bits: int) -> float:
        beyond = max(bits - (self.first_bits + len(table) - 1), 0)
        return table[max(bits - beyond - self.first_bits, 0)] * 2.0**beyond


class CostCard(BaseModel):
    """What one array and the parts around it cost."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal["hwloop-cost-card"]
    version: Literal[1]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    title: str = Field(max_length=200)
    cycle: CostFigure
    cell: Part
    word_line_dac: Part
    sample_and_hold: Part
    shift_and_add: Part
    adc: AdcCost


def load_cost_card(name: str = "isaac-32nm") -> CostCard:
    """Load a shipped cost card.

    Raises:
        CardError: if there is no such card.
    """
    folder = resources.files("hwloop") / "cost" / "cards"
    names = sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir())
    if name not in names:
        raise CardError(f"no cost card {name!r}: shipped are {', '.join(names)}")
    return parse_card(CostCard, tomllib.loads((folder / f"{name}.toml").read_text("utf-8")), name)

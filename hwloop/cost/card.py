"""Cost cards: area, power and energy of the parts of a chip, each figure with its node and its source."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from device_models.card import CardError, parse_card

from .adc_law import ADCS, AdcLaw, ScaledLaw, TableLaw
from .figure import CostFigure

Level = Literal["ima", "tile", "chip"]
Unit = Literal["cell", "one-bit DAC", "bit line", "array", "input bit", "output bit", "index bit", "line"]
"""What a part is counted by. A line is a word line or a bit line."""


class Part(BaseModel):
    """A part of the chip: what ``count`` units of it cost together while they are busy.

    ``level`` is the lowest unit of the hierarchy that holds the part: the multiply-accumulate unit of a few
    arrays (IMA), the tile of several IMAs around a buffer, or the chip.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    level: Level
    per: Unit
    count: int = Field(ge=1)
    power: CostFigure
    area: CostFigure

    @model_validator(mode="after")
    def _units(self) -> Part:
        if self.power.unit != "W" or self.area.unit != "mm2":
            raise ValueError(
                f"power must be in W and area in mm2, not {self.power.unit} and {self.area.unit}"
            )
        return self


class CostCard(BaseModel):
    """What the parts of a chip cost, and how fast its arrays are read."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal["hwloop-cost-card"]
    version: Literal[2]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    title: str = Field(max_length=200)
    array_read: CostFigure
    adc_rate: CostFigure
    parts: dict[str, Part]
    default_adc_law: str
    adc: dict[str, Annotated[TableLaw | ScaledLaw, Field(discriminator="kind")]]

    @model_validator(mode="after")
    def _consistent(self) -> CostCard:
        if self.array_read.unit != "s" or self.adc_rate.unit != "Hz":
            raise ValueError("array_read must be in s and adc_rate in Hz")
        if ADCS in self.parts:
            raise ValueError(f"{ADCS} are priced under [adc], not under [parts]")
        if self.default_adc_law not in self.adc:
            raise ValueError(f"default_adc_law {self.default_adc_law!r} is not one of {', '.join(self.adc)}")
        return self

    def adc_law(self, name: str | None = None) -> AdcLaw:
        """Return an ADC law by name; None is the card's default.

        Raises:
            CardError: if the card has no such law.
        """
        name = self.default_adc_law if name is None else name
        if name not in self.adc:
            raise CardError(f"{self.name}: no ADC law {name!r}: there are {', '.join(self.adc)}")
        return self.adc[name]

    def part_names(self, *levels: Level) -> tuple[str, ...]:
        """Return the names of all parts at the given levels, ADCs included (they are in the IMA)."""
        adcs = (ADCS,) if "ima" in levels else ()
        return adcs + tuple(name for name, part in self.parts.items() if part.level in levels)


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

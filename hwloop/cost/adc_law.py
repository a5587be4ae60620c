"""What a converter costs at a resolution: the laws of a cost card."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .figure import CostFigure, CostFigures

ADCS = "ADCs"
"""Name of the converters among the parts of a chip."""


class TableLaw(BaseModel):
    """Energy and area listed by resolution, from ``first_bits`` up.

    Below the table a converter costs what the smallest one in it does; above, twice as much for each bit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["table"]
    first_bits: int = Field(ge=1, le=32)
    energy: CostFigures
    area: CostFigures

    @model_validator(mode="after")
    def _consistent(self) -> TableLaw:
        _check_units(self.energy.unit, self.area.unit)
        if len(self.energy.value) != len(self.area.value):
            raise ValueError("energy and area must list the same resolutions")
        return self

    def covers(self, bits: int) -> bool:
        """Return whether the card gives figures for ``bits``; elsewhere the law is an extrapolation."""
        return self.first_bits <= bits < self.first_bits + len(self.energy.value)

    def conversion_energy(self, bits: int) -> float:
        """Energy in joule of one conversion at ``bits`` of resolution."""
        return self._at(self.energy.value, bits)

    def converter_area(self, bits: int) -> float:
        """Area in mm² of one converter of ``bits`` of resolution."""
        return self._at(self.area.value, bits)

    def _at(self, table: tuple[float, ...], bits: int) -> float:
        last = self.first_bits + len(table) - 1
        return table[min(max(bits, self.first_bits), last) - self.first_bits] * 2.0 ** max(bits - last, 0)


class ScaledLaw(BaseModel):
    """Energy and area of a converter of ``known_bits``, scaled to others: by ``2^bits`` or linearly."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["exponential", "linear"]
    known_bits: int = Field(ge=1, le=32)
    energy: CostFigure
    area: CostFigure

    @model_validator(mode="after")
    def _consistent(self) -> ScaledLaw:
        _check_units(self.energy.unit, self.area.unit)
        return self

    def covers(self, bits: int) -> bool:
        """Return whether the card gives figures for ``bits``; elsewhere the law is an extrapolation."""
        return bits == self.known_bits

    def conversion_energy(self, bits: int) -> float:
        """Energy in joule of one conversion at ``bits`` of resolution."""
        return self.energy.value * self._factor(bits)

    def converter_area(self, bits: int) -> float:
        """Area in mm² of one converter of ``bits`` of resolution."""
        return self.area.value * self._factor(bits)

    def _factor(self, bits: int) -> float:
        if self.kind == "exponential":
            return 2.0 ** (bits - self.known_bits)
        return bits / self.known_bits


AdcLaw = TableLaw | ScaledLaw


def _check_units(energy: str, area: str) -> None:
    if energy != "J" or area != "mm2":
        raise ValueError(f"energy must be in J and area in mm2, not {energy} and {area}")

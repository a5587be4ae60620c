"""What a converter costs at a resolution: the laws of a cost card."""

from __future__ import annotations

from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .figure import CostFigure, CostFigures

ADCS = "ADCs"
"""Name of the converters among the parts of a chip."""


Figures = TypeVar("Figures", CostFigure, CostFigures)


class _Law(BaseModel, Generic[Figures]):
    """Energy of one conversion in joule and area of one converter in mm², at any resolution."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    energy: Figures
    area: Figures

    @model_validator(mode="after")
    def _units(self) -> Self:
        if self.energy.unit != "J" or self.area.unit != "mm2":
            raise ValueError(
                f"energy must be in J and area in mm2, not {self.energy.unit} and {self.area.unit}"
            )
        return self

    def conversion_energy(self, bits: int) -> float:
        """Energy in joule of one conversion at ``bits`` of resolution."""
        return self._at(self.energy.value, bits)

    def converter_area(self, bits: int) -> float:
        """Area in mm² of one converter of ``bits`` of resolution."""
        return self._at(self.area.value, bits)

    def _at(self, known: Any, bits: int) -> float:
        raise NotImplementedError


class TableLaw(_Law[CostFigures]):
    """Energy and area listed by resolution, from ``first_bits`` up.

    Below the table a converter costs what the smallest one in it does; above, twice as much for each bit.
    """

    kind: Literal["table"]
    first_bits: int = Field(ge=1, le=32)

    @model_validator(mode="after")
    def _same_length(self) -> TableLaw:
        if len(self.energy.value) != len(self.area.value):
            raise ValueError("energy and area must list the same resolutions")
        return self

    def covers(self, bits: int) -> bool:
        """Return whether the card gives figures for ``bits``; elsewhere the law is an extrapolation."""
        return self.first_bits <= bits < self.first_bits + len(self.energy.value)

    def _at(self, table: tuple[float, ...], bits: int) -> float:
        last = self.first_bits + len(table) - 1
        return table[min(max(bits, self.first_bits), last) - self.first_bits] * 2.0 ** max(bits - last, 0)


class ScaledLaw(_Law[CostFigure]):
    """Energy and area of a converter of ``known_bits``, scaled to others: by ``2^bits`` or linearly."""

    kind: Literal["exponential", "linear"]
    known_bits: int = Field(ge=1, le=32)

    def covers(self, bits: int) -> bool:
        """Return whether the card gives figures for ``bits``; elsewhere the law is an extrapolation."""
        return bits == self.known_bits

    def _at(self, known: float, bits: int) -> float:
        return known * (
            2.0 ** (bits - self.known_bits) if self.kind == "exponential" else bits / self.known_bits
        )


AdcLaw = TableLaw | ScaledLaw

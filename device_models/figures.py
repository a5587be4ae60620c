"""Figures of a card: numbers with their unit, their source and, where it is known, their uncertainty."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Unit = Literal["S", "V", "A", "K", "1", "s", "eV", "1/V"]


class Figure(BaseModel):
    """One number of a card: its value, its SI unit and where it comes from.

    ``standard_error`` is in the unit of the value; None is a figure whose uncertainty is not stated.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    value: float
    unit: Unit
    source: str = Field(min_length=3)
    standard_error: float | None = Field(default=None, ge=0)

    def drawn(self, rng: np.random.Generator) -> Figure:
        """Return the figure as it may truly be: itself where no error is stated.

        The draw is log-normal, with the value as its median, so that a figure keeps its sign.
        """
        if not self.standard_error or not self.value:
            return self
        factor = np.exp(self.standard_error / abs(self.value) * rng.standard_normal())
        return self.model_copy(update={"value": float(self.value * factor), "standard_error": None})


class FigureList(BaseModel):
    """Several numbers of a card that belong together, such as the coefficients of a polynomial.

    ``covariance`` is theirs, in the unit squared; None where it is not stated.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    value: tuple[float, ...] = Field(min_length=1, max_length=32)
    unit: Unit
    source: str = Field(min_length=3)
    covariance: tuple[tuple[float, ...], ...] | None = None

    @model_validator(mode="after")
    def _check(self) -> FigureList:
        if self.covariance is None:
            return self
        size = len(self.value)
        if [len(row) for row in self.covariance] != [size] * size:
            raise ValueError(f"covariance must be {size} by {size}, as there are {size} values")
        matrix = np.array(self.covariance)
        scale = np.sqrt(np.abs(np.diag(matrix)))
        scaled = matrix / np.outer(np.where(scale > 0, scale, 1), np.where(scale > 0, scale, 1))
        if not np.allclose(scaled, scaled.T, atol=1e-6) or np.linalg.eigvalsh(scaled).min() < -1e-6:
            raise ValueError("covariance must be symmetric and have no negative eigenvalue")
        return self

    def drawn(self, rng: np.random.Generator) -> FigureList:
        """Return the figures as they may truly be, drawn together from a Gaussian; see :class:`Figure`."""
        if self.covariance is None:
            return self
        # Scaled to unit variances: coefficients in siemens have covariances that squares would lose.
        matrix = np.array(self.covariance)
        scale = np.sqrt(np.diag(matrix))
        scale[scale == 0] = 1
        eigenvalues, vectors = np.linalg.eigh(matrix / np.outer(scale, scale))
        steps = np.sqrt(eigenvalues.clip(0)) * rng.standard_normal(len(scale))
        value = np.array(self.value) + scale * (vectors @ steps)
        return self.model_copy(update={"value": tuple(value.tolist()), "covariance": None})


def _in(unit: Unit) -> Any:
    def check(figure: Figure | FigureList) -> Figure | FigureList:
        if figure.unit != unit:
            raise ValueError(f"must be given in {unit!r}, not {figure.unit!r}")
        return figure

    return AfterValidator(check)


Siemens = Annotated[Figure, _in("S")]
Volt = Annotated[Figure, _in("V")]
Ampere = Annotated[Figure, _in("A")]
Kelvin = Annotated[Figure, _in("K")]
Second = Annotated[Figure, _in("s")]
Number = Annotated[Figure, _in("1")]
ElectronVolt = Annotated[Figure, _in("eV")]
SiemensList = Annotated[FigureList, _in("S")]
NumberList = Annotated[FigureList, _in("1")]
PerVoltList = Annotated[FigureList, _in("1/V")]

"""Current-voltage laws of a card, as the cells that the circuit solver takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from device_models.figures import FigureList, PerVoltList, Siemens, Volt

from .base import Array, Effect, RangeError, polynomial

if TYPE_CHECKING:
    import torch

    from device_models.crossbar import Cells


class _Curve(Effect):
    """A curve through the origin whose slope there is the conductance of the cell."""

    disturbs: ClassVar[Literal["conductance", "current"]] = "current"
    v_max: Volt

    def _check_voltage(self, v: Array) -> None:
        largest = float(np.abs(v).max(initial=0.0))
        if largest > self.v_max.value * (1 + 1e-9) and not self.extrapolate:
            raise RangeError(f"the I-V curve was measured up to {self.v_max.value:g} V, not {largest:g} V")


class SinhCurve(_Curve):
    """I = g sinh(alpha v) / alpha, with alpha a polynomial of g / g_reference.

    Attributes:
        alpha: coefficients in 1/V.
    """

    form: Literal["sinh"]
    alpha: PerVoltList
    g_reference: Siemens

    def alphas(self, g: Array) -> Array:
        """Return alpha (1/V) for conductances ``g`` in siemens; raises RangeError outside the range."""
        return polynomial(self.alpha, self.within(g) / self.g_reference.value)

    def current(self, g: Array, v: Array) -> Array:
        """Return currents in ampere for conductances (S) and voltages (V) that broadcast."""
        self._check_voltage(v)
        alpha = self.alphas(g)
        return g * np.sinh(alpha * v) / alpha

    def spice(self, g: float, voltage: str) -> str:
        """Return the current of a cell as an expression for a B source of ngspice; ``voltage`` is another."""
        alpha = float(self.alphas(np.array(g)))
        return f"{g / alpha!r}*sinh({alpha!r}*({voltage}))"

    def cells(self, g: torch.Tensor) -> Cells:
        """Return the cells of arrays with conductances ``g`` in siemens, float64 ``[..., rows, cols]``."""
        from torch import from_numpy  # cards are read by commands that need no torch

        from device_models.crossbar import Sinh

        formed = g.numpy(force=True)
        present = np.where(formed > 0, formed, formed.max(initial=self.g_reference.value))
        return Sinh(g, from_numpy(self.alphas(present)).to(g.device))


class PolynomialCurve(_Curve):
    """I = g v + n2 v^2 + n3 v^3, with n2 and n3 polynomials of log10(g / 1 S).

    Attributes:
        square: coefficients of n2, in A/V^2 (numbers of the fit, unit ``1``).
        cube: coefficients of n3, in A/V^3.
        linear_at: conductance at which n2 and n3 vanish by assumption; not used, only told.
    """

    form: Literal["polynomial"]
    square: FigureList
    cube: FigureList

    @model_validator(mode="after")
    def _check(self) -> PolynomialCurve:
        if self.valid is None or self.valid.value[0] <= 0:
            raise ValueError("a polynomial curve needs its valid range, above 0 S")
        return self

    def coefficients(self, g: Array) -> tuple[Array, Array]:
        """Return n2 (A/V^2) and n3 (A/V^3); raises RangeError outside the range."""
        x = np.log10(self.within(g))
        return polynomial(self.square, x), polynomial(self.cube, x)

    def current(self, g: Array, v: Array) -> Array:
        """Return currents in ampere for conductances (S) and voltages (V) that broadcast."""
        self._check_voltage(v)
        square, cube = self.coefficients(g)
        return g * v + square * v**2 + cube * v**3

    def spice(self, g: float, voltage: str) -> str:
        """Return the current of a cell as an expression for a B source of ngspice; ``voltage`` is another."""
        square, cube = (float(n) for n in self.coefficients(np.array(g)))
        v = f"({voltage})"
        return f"{v}*({g!r}+{v}*({square!r}+{v}*({cube!r})))"

    def cells(self, g: torch.Tensor) -> Cells:
        """Return the cells of arrays with conductances ``g`` in siemens, float64 ``[..., rows, cols]``."""
        from torch import from_numpy  # cards are read by commands that need no torch

        from device_models.crossbar import Polynomial

        formed = g.numpy(force=True)
        square, cube = self.coefficients(np.where(formed > 0, formed, formed.max()))
        parts = [from_numpy(np.where(formed > 0, part, 0.0)).to(g.device) for part in (square, cube)]
        return Polynomial([g, *parts], self.v_max.value)


Curve = Annotated[SinhCurve | PolynomialCurve, Field(discriminator="form")]

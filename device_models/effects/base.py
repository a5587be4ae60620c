"""What all effects share: where they hold, and what they disturb."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from device_models.figures import Figure, FigureList, Kelvin, SiemensList
from device_models.parts import Parts

Array = NDArray[np.float64]


class RangeError(ValueError):
    """A law is asked about what lies outside its range of validity; the message names both."""


class Effect(BaseModel):
    """One section of a card.

    Attributes:
        disturbs: the conductance of a cell (which then stays), or the current of one read.
        temperature: at which the figures hold; the card's where it is left out.
        valid: lowest and highest conductance (S) at which the figures hold; anywhere if left out.
        extrapolate: outside that range, use the figures of its nearest end instead of raising.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    disturbs: ClassVar[Literal["conductance", "current"]]
    temperature: Kelvin | None = None
    valid: SiemensList | None = None
    extrapolate: bool = False

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.valid is not None and (
            len(self.valid.value) != 2 or self.valid.value[0] > self.valid.value[1]
        ):
            raise ValueError("valid must be the lowest and the highest conductance")
        return self

    def within(self, g: Array | float) -> Array:
        """Return conductances (S) at which the law may be evaluated.

        Raises:
            RangeError: if one lies outside the range of validity and the card does not say ``extrapolate``.
        """
        asked = np.asarray(g, dtype=np.float64)
        if self.valid is None:
            return asked
        low, high = self.valid.value
        slack = 1e-6 * high  # float32 maps
        if not self.extrapolate and asked.size and (asked.min() < low - slack or asked.max() > high + slack):
            raise RangeError(
                f"conductances of {asked.min():g} to {asked.max():g} S lie outside {low:g} to {high:g} S, "
                "where the figures were measured; choose levels within, or set extrapolate = true in the card"
            )
        return asked.clip(low, high)

    def drawn(self, rng: np.random.Generator) -> Self:
        """Return the effect with every uncertain figure drawn, in the order of the fields."""
        changed: dict[str, object] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Figure | FigureList):
                changed[name] = value.drawn(rng)
            elif isinstance(value, tuple) and value and isinstance(value[0], Effect):
                changed[name] = tuple(part.drawn(rng) for part in value)
        return self.model_copy(update=changed)


class CellEffect(Effect):
    """An effect of another package on the conductance that a cell is left with.

    A subclass has the figures as fields, and says what they do. Cards have it as ``[effects.NAME]``, under
    the name of its entry point (``hwloop.effects``).
    """

    disturbs: ClassVar[Literal["conductance", "current"]] = "conductance"

    def disturb(self, g: Array, elapsed: float | None, rng: np.random.Generator) -> Array:
        """Return the conductances (S) of cells that would otherwise end up with ``g``.

        Args:
            g: siemens, ``[..., rows, cols]`` of arrays, 0 for absent cells, which must stay so.
            elapsed: seconds since programming at the card's temperature; None is right after it.
            rng: draws of this effect in these arrays.
        """
        raise NotImplementedError


def _fits(part: object) -> str:
    own = isinstance(part, type) and issubclass(part, CellEffect)
    return "" if own else "is no subclass of device_models.effects.CellEffect"


EFFECTS: Parts[type[CellEffect]] = Parts("hwloop.effects", "device effect", __name__, _fits)
"""Effects beyond the sections of a card, by name."""


def described(effects: Any) -> Any:
    """Validate the effects of a card that other packages know, each by its own model."""
    if not isinstance(effects, dict):
        return effects
    return {name: _described(name, value) for name, value in effects.items()}


def _described(name: str, value: Any) -> Any:
    if isinstance(value, Effect):
        return value
    try:
        return EFFECTS[name].model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in (name, *first["loc"]))
        raise ValueError(f"{place}: {first['msg']}") from error


def polynomial(coefficients: FigureList, x: Array) -> Array:
    """Return ``sum_k c_k x^k`` in the unit of the coefficients."""
    return np.asarray(np.polynomial.polynomial.polyval(x, coefficients.value), dtype=np.float64)

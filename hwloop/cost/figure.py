"""The numbers of a cost card."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0)]


class _Sourced(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    unit: Literal["W", "J", "s", "Hz", "mm2"]
    node_nm: float = Field(gt=0)
    source: str = Field(min_length=3)


class CostFigure(_Sourced):
    """One number: its value, its unit, the technology node it holds for, and where it comes from."""

    value: Positive


class CostFigures(_Sourced):
    """One number for each resolution of a converter."""

    value: tuple[Positive, ...] = Field(min_length=1, max_length=32)

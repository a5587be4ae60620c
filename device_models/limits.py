"""What a cell bears: the limits that nobody may exceed at a bench."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, model_validator

from .figures import Ampere, Volt


class Limits(BaseModel):
    """Safe limits of a process.

    Attributes:
        read_voltage: largest magnitude that cells are read at.
        cell_current: compliance: most that may flow through one cell when it is read.
        program_voltage: largest magnitude of a pulse; None = not known, and nothing may be pulsed.
        program_current: compliance of a pulse; None = that of reading.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    read_voltage: Volt
    cell_current: Ampere
    program_voltage: Volt | None = None
    program_current: Ampere | None = None

    @model_validator(mode="after")
    def _check(self) -> Limits:
        for name in ("read_voltage", "cell_current", "program_voltage", "program_current"):
            figure = getattr(self, name)
            if figure is not None and not 0 < figure.value <= 100:
                raise ValueError(f"{name} must lie between 0 and 100 {figure.unit}")
        return self

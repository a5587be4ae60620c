"""What a check against ngspice found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from .stations import CURRENT_BUDGET, Station, current_station


@dataclass(frozen=True)
class ArrayCheck:
    """One array, solved twice.

    Attributes:
        layer: name of the layer.
        tile: tile position in the layer.
        polarity: ``positive`` or ``negative``.
        slice: slice of the weight.
        cells: conducting cells.
        error: largest difference of a column current, relative to full scale: the current of a column whose
            cells all conduct ``g_max`` at the read voltage. None if ngspice failed.
        error_of_largest: the same, relative to the largest column current of the array under these inputs.
        seconds: time that ngspice took.
        failure: why ngspice failed, in one line, with the path of the netlist if it was kept; else empty.
    """

    layer: str
    tile: int
    polarity: str
    slice: int
    cells: int
    error: float | None
    error_of_largest: float | None
    seconds: float
    failure: str


@dataclass(frozen=True)
class VerifyReport:
    """What the check found.

    Attributes:
        status: ``passed`` if no station failed, ``failed`` if one did, ``not run`` if there was nothing to
            check or nothing to check it with.
        reason: why it is not ``passed``; else empty.
        ngspice: version of ngspice; empty if there is none.
        tiles_checked: tile positions that were checked, each in both polarities.
        inputs: input vectors per array.
        budget: largest error that passes.
        max_error: worst ``error`` of all arrays; None if none was solved.
        typical_error: median ``error``.
        max_error_of_largest: worst ``error_of_largest``.
        stations: array current, amplifier and ADC code, each with its budget; none if it did not run.
        arrays: every array, in order of the map.
        seconds: wall-clock time of the check.
    """

    status: Literal["passed", "failed", "not run"]
    reason: str
    ngspice: str
    tiles_checked: int
    inputs: int
    budget: float
    max_error: float | None
    typical_error: float | None
    max_error_of_largest: float | None
    stations: tuple[Station, ...]
    arrays: tuple[ArrayCheck, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every sampled array was solved and every station is within its budget."""
        return self.status == "passed"

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON-compatible values."""
        return asdict(self)


def make_report(
    arrays: tuple[ArrayCheck, ...],
    behind: tuple[Station, Station],
    version: str,
    tiles: int,
    inputs: int,
    seconds: float,
) -> VerifyReport:
    """Sum up a check.

    Args:
        arrays: every array, in order of the map.
        behind: stations of amplifier and ADC.
        version: of ngspice.
        tiles: tile positions that were checked.
        inputs: input vectors per array.
        seconds: that the check took.
    """
    errors = [array.error for array in arrays if array.error is not None]
    of_largest = [array.error_of_largest for array in arrays if array.error_of_largest is not None]
    unsolved = [array for array in arrays if array.error is None]
    failure = ""
    if unsolved:
        first = unsolved[0]
        failure = f"ngspice could not solve {len(unsolved)} of {len(arrays)} arrays; "
        failure += f"{first.layer} tile {first.tile}: {first.failure}"
    currents = current_station(errors, inputs * len(errors), failure)
    stations = (currents, *behind)
    over = sum(error > CURRENT_BUDGET for error in errors)
    if over and not failure:
        failure = f"{over} of {len(arrays)} arrays differ by more than {CURRENT_BUDGET:g} of full scale"
    bad = [station for station in stations if station.status == "failed"]
    reason = failure or "".join(f"{station.name}: {station.shortfall}" for station in bad[:1])
    return VerifyReport(
        status="failed" if bad else "passed",
        reason=reason,
        ngspice=version,
        tiles_checked=tiles,
        inputs=inputs,
        budget=CURRENT_BUDGET,
        max_error=currents.worst,
        typical_error=currents.typical,
        max_error_of_largest=max(of_largest, default=None),
        stations=stations,
        arrays=arrays,
        seconds=seconds,
    )

"""The stations of a readout, what ngspice and the models say at each, and the budgets they must meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

CURRENT_BUDGET = 1e-6
"""Largest difference of a column current that passes, relative to full scale."""
AMPLIFIER_BUDGET = 0.05
"""Largest difference behind the amplifier that passes, in LSB of the ADC."""
CODE_BUDGET = 1e-3
"""Largest share of clear reads with another code that passes."""
CLEAR = 0.05
"""A read is clear if the model sees it at least so far from every threshold, in LSB."""

Name = Literal["array current", "amplifier", "ADC code"]
Unit = Literal["full scale", "LSB", "codes"]
Status = Literal["passed", "failed", "not run"]


@dataclass(frozen=True)
class Station:
    """What ngspice and the models say at one station of the readout, over all sampled reads.

    Attributes:
        name: ``array current``, ``amplifier`` or ``ADC code``.
        unit: of ``worst`` and ``typical``.
        worst: largest difference; None if nothing was compared.
        typical: median difference.
        judged: what the budget is for: ``worst``, or the share of clear reads whose codes differ.
        budget: what ``judged`` may be.
        reads: how many reads were compared.
        unclear: how many of them lie so near a threshold that their codes do not count.
        status: ``passed`` if the budget is met and no read is missing, ``failed`` if not; ``not run`` if
            there was nothing to compare.
        reason: why reads are missing; else empty.
    """

    name: Name
    unit: Unit
    worst: float | None
    typical: float | None
    judged: float | None
    budget: float
    reads: int
    unclear: int
    status: Status
    reason: str

    @property
    def shortfall(self) -> str:
        """Why the station failed, in a few words."""
        if self.reason:
            return self.reason
        what = "share of clear reads with another code" if self.name == "ADC code" else self.unit
        return f"{self.judged:.2g} ({what}), {self.budget:g} allowed"


@dataclass(frozen=True, eq=False)
class Read:
    """Some reads of one array behind the amplifier, by ngspice and by the models.

    Attributes:
        seen: before the ADC, in LSB, ``[reads]``.
        model_seen: the same by the model.
        codes: ``[reads]``.
        model_codes: the same by the model.
        margin: of the model's input to the nearest threshold, in LSB, ``[reads]``.
    """

    seen: np.ndarray
    model_seen: np.ndarray
    codes: np.ndarray
    model_codes: np.ndarray
    margin: np.ndarray


def current_station(errors: Sequence[float], reads: int, failure: str) -> Station:
    """The station of array currents.

    Args:
        errors: of the arrays that were solved, as shares of full scale.
        reads: inputs of arrays that were compared, at all of their bit lines.
        failure: why arrays are missing, if they are.
    """
    worst = max(errors, default=None)
    return _station("array current", "full scale", list(errors), worst, CURRENT_BUDGET, reads, 0, failure)


def readout_stations(reads: Sequence[Read], failure: str) -> tuple[Station, Station]:
    """The stations of amplifier and ADC; ``failure`` says why reads are missing, if they are."""
    ahead = [float(x) for read in reads for x in np.abs(read.seen - read.model_seen)]
    apart = [float(x) for read in reads for x in np.abs(read.codes - read.model_codes)]
    clear = [bool(x) for read in reads for x in read.margin >= CLEAR]
    wrong = sum(codes > 0 for codes, counts in zip(apart, clear, strict=True) if counts)
    share = wrong / max(1, sum(clear)) if reads else None
    count, unclear = len(apart), clear.count(False)
    return (
        _station("amplifier", "LSB", ahead, max(ahead, default=None), AMPLIFIER_BUDGET, count, 0, failure),
        _station("ADC code", "codes", apart, share, CODE_BUDGET, count, unclear, failure),
    )


def without_circuit(reason: str) -> tuple[Station, Station]:
    """The stations of amplifier and ADC where the readout has no circuit."""
    return (
        Station("amplifier", "LSB", None, None, None, AMPLIFIER_BUDGET, 0, 0, "not run", reason),
        Station("ADC code", "codes", None, None, None, CODE_BUDGET, 0, 0, "not run", reason),
    )


def _station(
    name: Name, unit: Unit, differences: list[float], judged: float | None, budget: float, reads: int,
    unclear: int, failure: str,
) -> Station:  # fmt: skip
    status: Status = "passed"
    if failure or (judged is not None and judged > budget):
        status = "failed"
    elif judged is None:
        status, failure = "not run", "nothing to read"
    worst = max(differences, default=None)
    typical = float(np.median(differences)) if differences else None
    return Station(name, unit, worst, typical, judged, budget, reads, unclear, status, failure)

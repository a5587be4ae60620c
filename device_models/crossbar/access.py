"""Cells behind an access device (1T1R): the transistor, and the node between the two."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Self

import torch

from .cells import Cells, ConvergenceError, View, check_values

Law = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

_PRECISION = 1e-13
_MAX_STEPS = 200


class Transistor(Cells):
    """Square-law transistor as an access device: triode, saturation, and reverse conduction.

    The gate is held ``overdrive`` above threshold with respect to the far terminal (the one at the lower
    potential for v > 0): the level-1 equations of Shichman and Hodges (IEEE J. Solid-State Circuits 3, 1968)
    without body effect, as in SPICE with VTO = 0, KP = ``gain`` and a source of ``overdrive`` volt
    from that terminal to the gate.

    Args:
        gain: KP W / L in A/V^2, not negative; 0 is a transistor that is off.
        overdrive: gate voltage above threshold in volt, positive.
        channel_length_modulation: LAMBDA in 1/V, not negative.
    """

    _names = ("gain", "overdrive", "channel_length_modulation")

    def __init__(
        self,
        gain: torch.Tensor,
        overdrive: torch.Tensor | float,
        channel_length_modulation: torch.Tensor | float = 0.0,
    ) -> None:
        overdrive, modulation = (
            torch.as_tensor(x, dtype=gain.dtype, device=gain.device)
            for x in (overdrive, channel_length_modulation)
        )
        check_values("gain", gain, gain >= 0, "must be finite and not negative (in A/V^2)")
        check_values("overdrive", overdrive, overdrive > 0, "must be finite and positive (in volt)")
        check_values(
            "channel_length_modulation", modulation, modulation >= 0, "must not be negative (in 1/V)"
        )
        self.gain, self.overdrive, self.channel_length_modulation = gain, overdrive, modulation

    def evaluate(self, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`Cells.evaluate`."""
        size = v.abs()
        channel = torch.minimum(v, self.overdrive)  # saturates forwards only
        ideal = self.gain * (self.overdrive - channel / 2) * channel
        modulation = 1 + self.channel_length_modulation * size
        slope = self.gain * (self.overdrive - channel) * modulation
        return ideal * modulation, slope + self.channel_length_modulation * ideal.abs()


class SeriesAccess(Cells):
    """A cell in series with an access device (1T1R): both carry one current, their voltages add up.

    Args:
        cell: the law of the memristor.
        access: the law of the access device: :class:`Transistor`, or :class:`Ohmic` for an on-resistance.
    """

    def __init__(self, cell: Cells, access: Cells) -> None:
        torch.broadcast_shapes(cell.shape, access.shape)
        self.cell, self.access = cell, access

    @property
    def parameters(self) -> tuple[torch.Tensor, ...]:
        """Those of the cell, then those of the access device."""
        return (*self.cell.parameters, *self.access.parameters)

    @property
    def shape(self) -> torch.Size:
        """See :attr:`Cells.shape`."""
        return torch.broadcast_shapes(self.cell.shape, self.access.shape)

    def replace(self, parameters: Iterable[torch.Tensor]) -> Self:
        """See :meth:`Cells.replace`."""
        parameters = tuple(parameters)
        count = len(self.cell.parameters)
        replaced = copy.copy(self)
        replaced.cell = self.cell.replace(parameters[:count])
        replaced.access = self.access.replace(parameters[count:])
        return replaced

    def map(self, view: View) -> Self:
        """See :meth:`Cells.map`."""
        mapped = copy.copy(self)
        mapped.cell, mapped.access = self.cell.map(view), self.access.map(view)
        return mapped

    def evaluate(self, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`Cells.evaluate`; raises ConvergenceError if the node between the two is not found."""
        with torch.no_grad():
            drop = series_drop(self.cell.evaluate, self.access.evaluate, v.expand(self._with(v)))
        through, g_access = self.access.evaluate(drop)
        arriving, g_cell = self.cell.evaluate(v - drop)
        g_access, g_cell = g_access.detach(), g_cell.detach()
        total = g_access + g_cell
        share = torch.where(total > 0, g_access / torch.where(total > 0, total, 1.0), 0.0)
        # The last Newton step of the node, kept in the graph: it carries the implicit derivative.
        return through + share * (arriving - through), share * g_cell

    def check_range(self, v: torch.Tensor) -> None:
        """See :meth:`Cells.check_range`; looks at the voltages across both devices."""
        with torch.no_grad():
            v = v.expand(self._with(v))
            drop = series_drop(self.cell.evaluate, self.access.evaluate, v)
        self.access.check_range(drop)
        self.cell.check_range(v - drop)

    def _with(self, v: torch.Tensor) -> torch.Size:
        return torch.broadcast_shapes(self.shape, v.shape)


def series_drop(first: Law, second: Law, v: torch.Tensor) -> torch.Tensor:
    """Voltage across ``second`` when ``v`` lies across both in series.

    Newton's method kept within a shrinking bracket: both currents rise with their voltage and are 0 at 0 V,
    so the drop lies between 0 and ``v``, and a step that leaves the bracket or does little for the mismatch
    is replaced by a bisection. Where ``v`` is not finite the drop is NaN.

    Raises:
        ConvergenceError: if a last Newton step would still move the node by more than 1e-13 of the drop.
    """
    given, v = v, v.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    low, high = v.clamp_max(0), v.clamp_min(0)
    g_first, g_second = first(torch.zeros_like(v))[1], second(torch.zeros_like(v))[1]
    drop = v * _ratio(g_first, g_first + g_second)
    before = torch.full_like(v, float("inf"))
    for _ in range(_MAX_STEPS):
        i_first, g_first = first(v - drop)
        i_second, g_second = second(drop)
        excess = i_second - i_first
        step = _ratio(excess, g_first + g_second)
        low, high = torch.where(excess < 0, drop, low), torch.where(excess > 0, drop, high)
        middle = low + (high - low) / 2
        # A bracket without a number between its ends is the answer to the last digit.
        open_ = (excess != 0) & (middle != low) & (middle != high) & ~(step.abs() <= _PRECISION * drop.abs())
        if not open_.any():
            return torch.where(torch.isfinite(given), drop, float("nan"))
        newton = drop - step
        safe = (newton > low) & (newton < high) & (excess.abs() <= before / 8)
        drop = torch.where(open_, torch.where(safe, newton, middle), drop)
        before = excess.abs()
    worst = int(torch.where(open_, step.abs(), 0.0).argmax())
    raise ConvergenceError(
        f"the node between cell and access device was not found: at {v.flatten()[worst].item():g} V it still "
        f"moves by {step.flatten()[worst].item():.3g} V after {_MAX_STEPS} steps"
    )


def _ratio(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a / b, and 0 where b is 0."""
    return torch.where(b != 0, a / torch.where(b != 0, b, 1.0), 0.0)

"""Current-voltage laws of the cells of an array, as small objects that hold torch tensors.

``v`` is the voltage of the word line above the bit line at the cell: a positive current leaves the word line.
Every law passes through the origin and rises with ``v``; a cell whose parameters are zero is absent and
conducts nothing. Parameters broadcast to ``[..., rows, cols]`` and may require grad.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Self

import torch


class ConvergenceError(RuntimeError):
    """An iteration did not reach its tolerance; the message says where and by how much."""


View = Callable[[torch.Tensor], torch.Tensor]


class Cells(ABC):
    """One law for the cells of an array, or of several arrays with leading dimensions."""

    _names: ClassVar[tuple[str, ...]]

    @property
    def parameters(self) -> tuple[torch.Tensor, ...]:
        """The tensors that the law is computed from."""
        return tuple(getattr(self, name) for name in self._names)

    @property
    def shape(self) -> torch.Size:
        """Common shape ``[..., rows, cols]`` of the parameters."""
        return torch.broadcast_shapes(*(p.shape for p in self.parameters))

    def replace(self, parameters: Iterable[torch.Tensor]) -> Self:
        """Return the same law with other tensors for :attr:`parameters`; these are not checked."""
        replaced = copy.copy(self)
        for name, value in zip(self._names, parameters, strict=True):
            setattr(replaced, name, value)
        return replaced

    def map(self, view: View) -> Self:
        """Return the same law with ``view`` applied to every parameter as a tensor ``[..., rows, cols]``."""
        return self.replace(view(torch.atleast_2d(p)) for p in self.parameters)

    @abstractmethod
    def evaluate(self, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return current (A) and slope dI/dv (S) at voltages ``v`` that broadcast with :attr:`shape`.

        Beyond its range of validity a law goes on along its tangent, so that a solver may pass through;
        :meth:`check_range` tells whether a voltage lies within. The current is differentiable with respect to
        ``v`` and the parameters, once.
        """

    def check_range(self, v: torch.Tensor) -> None:  # noqa: B027 - most laws hold at any voltage
        """Raise ValueError, naming the cell, if a voltage lies outside the range of validity."""

    def current(self, v: torch.Tensor) -> torch.Tensor:
        """Current in ampere at ``v`` volt; raises ValueError outside the range of validity."""
        self.check_range(v)
        return self.evaluate(v)[0]

    def conductance(self, v: torch.Tensor) -> torch.Tensor:
        """Slope dI/dv in siemens at ``v`` volt; raises ValueError outside the range of validity."""
        self.check_range(v)
        return self.evaluate(v)[1]


class Ohmic(Cells):
    """I = g v.

    Args:
        g: conductance in siemens, not negative.
    """

    _names = ("g",)

    def __init__(self, g: torch.Tensor) -> None:
        check_values("conductance", g, g >= 0, "must be finite and not negative (in siemens)")
        self.g = g

    def evaluate(self, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`Cells.evaluate`."""
        return self.g * v, self.g.expand(torch.broadcast_shapes(self.g.shape, v.shape))


class Sinh(Cells):
    """I = g sinh(alpha v) / alpha, the law of hopping and tunnelling gaps; ``g`` is the slope at 0 V.

    Args:
        g: small-signal conductance in siemens, not negative.
        alpha: non-linearity in 1/V, positive; a tensor or a number. Ohm's law is the limit at 0.
    """

    _names = ("g", "alpha")

    def __init__(self, g: torch.Tensor, alpha: torch.Tensor | float) -> None:
        check_values("conductance", g, g >= 0, "must be finite and not negative (in siemens)")
        alpha = torch.as_tensor(alpha, dtype=g.dtype, device=g.device)
        check_values("alpha", alpha, alpha > 0, "must be finite and positive (in 1/V)")
        self.g, self.alpha = g, alpha

    def evaluate(self, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`Cells.evaluate`."""
        sinh = torch.sinh(self.alpha * v)
        cosh = (
            sinh.clamp(-1e150, 1e150).square().add(1).sqrt()
        )  # cheaper than cosh; the clamp keeps it finite
        return sinh * (self.g / self.alpha), cosh * self.g


class Polynomial(Cells):
    """I = c1 v + c2 v^2 + c3 v^3 + ... for |v| up to ``v_max``.

    Args:
        coefficients: c1, c2, ... in A/V^k, each broadcasting to ``[..., rows, cols]``. Even ones make the
            cell conduct differently in the two directions.
        v_max: limit of validity in volt.

    Raises:
        ValueError: if the current of a cell does not rise everywhere within the limits (the slope is looked
            at at 129 voltages), unless all its coefficients are zero.
    """

    def __init__(self, coefficients: Sequence[torch.Tensor], v_max: float) -> None:
        if not coefficients:
            raise ValueError("a polynomial needs at least the coefficient of v")
        if not 0 < v_max < float("inf"):
            raise ValueError(f"v_max is {v_max!r}: it must be finite and positive (in volt)")
        for k, c in enumerate(coefficients, 1):
            check_values(f"coefficient of v^{k}", c, torch.isfinite(c), "must be finite")
        self.coefficients, self.v_max = tuple(coefficients), v_max
        with torch.no_grad():
            present = sum((c != 0).to(c.dtype) for c in coefficients) > 0
            for v in torch.linspace(-v_max, v_max, 129, dtype=torch.float64).tolist():
                slope = self._horner(torch.full_like(coefficients[0], v))[1]
                rule = f"must be positive wherever |v| <= {v_max:g} V, but is not at {v:g} V"
                check_values("slope dI/dv", slope, (slope > 0) | ~present, rule)

    @property
    def parameters(self) -> tuple[torch.Tensor, ...]:
        """The coefficients c1, c2, ..."""
        return self.coefficients

    def replace(self, parameters: Iterable[torch.Tensor]) -> Self:
        """See :meth:`Cells.replace`."""
        replaced = copy.copy(self)
        replaced.coefficients = tuple(parameters)
        return replaced

    def evaluate(self, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`Cells.evaluate`."""
        inside = v.clamp(-self.v_max, self.v_max)
        current, slope = self._horner(inside)
        return current + slope * (v - inside), slope

    def check_range(self, v: torch.Tensor) -> None:
        """See :meth:`Cells.check_range`."""
        _check_voltage(v, -self.v_max, self.v_max, "the polynomial", "give a larger v_max, or drive less")

    def _horner(self, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        value = self.coefficients[-1].expand(torch.broadcast_shapes(self.shape, v.shape))
        slope = torch.zeros_like(value)
        for c in reversed((torch.zeros_like(self.coefficients[0]), *self.coefficients[:-1])):
            slope = slope * v + value
            value = value * v + c
        return value, slope


class Table(Cells):
    """Measured points joined by the monotone cubic of Fritsch and Butland (SIAM J. Sci. Stat. Comput. 5,
    1984).

    Args:
        v: voltages of the points in volt, ``[points]``, rising, with 0 among them.
        i: currents in ampere, ``[..., rows, cols, points]`` or what broadcasts to it: 0 at 0 V and rising
            with v, or 0 throughout for an absent cell.
        extrapolate: go on along the last tangent outside the table instead of raising.
    """

    _names = ("_start", "_slope", "_square", "_cube")

    def __init__(self, v: torch.Tensor, i: torch.Tensor, *, extrapolate: bool = False) -> None:
        if v.dim() != 1 or len(v) < 2 or not (v.diff() > 0).all() or not (v == 0).any():
            raise ValueError("table: v must hold at least two rising voltages, one of them 0 V")
        if i.dim() < 3 or i.shape[-1] != len(v):
            raise ValueError(f"table: i has shape {list(i.shape)}, but needs [..., rows, cols, {len(v)}]")
        check_values("current at 0 V", i[..., v == 0][..., 0], i[..., v == 0][..., 0] == 0, "must be 0 A")
        present = (i != 0).any(-1)
        for k in range(len(v) - 1):
            rise = i[..., k + 1] - i[..., k]
            name = f"rise of the current from {v[k].item():g} to {v[k + 1].item():g} V"
            check_values(name, rise, (rise > 0) | ~present, "must be positive")
        self.v, self.extrapolate = v.detach(), extrapolate
        width = self.v.diff()
        secant = i.diff(dim=-1) / width
        slope = _monotone_slopes(width, secant)
        left, right = slope[..., :-1], slope[..., 1:]
        self._start, self._slope = i[..., :-1], left
        self._square = (3 * secant - 2 * left - right) / width
        self._cube = (left + right - 2 * secant) / width**2

    @property
    def shape(self) -> torch.Size:
        """See :attr:`Cells.shape`."""
        return self._start.shape[:-1]

    def map(self, view: View) -> Self:
        """See :meth:`Cells.map`."""
        return self.replace(torch.stack([view(x) for x in p.unbind(-1)], -1) for p in self.parameters)

    def evaluate(self, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`Cells.evaluate`."""
        v = v.expand(torch.broadcast_shapes(self.shape, v.shape))
        inside = v.clamp(self.v[0], self.v[-1])
        piece = (torch.bucketize(inside.detach(), self.v, right=True) - 1).clamp_(0, len(self.v) - 2)
        c0, c1, c2, c3 = (
            p.expand(*v.shape, -1).gather(-1, piece[..., None])[..., 0] for p in self.parameters
        )
        t = inside - self.v[piece]
        slope = c1 + t * (2 * c2 + 3 * t * c3)
        return c0 + t * (c1 + t * (c2 + t * c3)) + slope * (v - inside), slope

    def check_range(self, v: torch.Tensor) -> None:
        """See :meth:`Cells.check_range`."""
        if not self.extrapolate:
            low, high = self.v[0].item(), self.v[-1].item()
            _check_voltage(v, low, high, "the table", "measure further, drive less, or set extrapolate=True")


def _monotone_slopes(width: torch.Tensor, secant: torch.Tensor) -> torch.Tensor:
    """Slopes at the points ``[..., points]`` from the widths and secants of the pieces."""
    if len(width) == 1:
        return secant.expand(*secant.shape[:-1], 2)
    present = (secant != 0).any(-1, keepdim=True)
    left, right = (torch.where(present, s, 1.0) for s in (secant[..., :-1], secant[..., 1:]))
    w_left, w_right = 2 * width[1:] + width[:-1], width[1:] + 2 * width[:-1]
    inner = (w_left + w_right) / (w_left / left + w_right / right)
    ends = []
    for near, far in ((0, 1), (-1, -2)):
        bend = width[near] / (width[near] + width[far])
        ends.append((secant[..., near] + bend * (secant[..., near] - secant[..., far])).clamp_min(0))
    return torch.cat([ends[0][..., None], torch.where(present, inner, 0.0), ends[1][..., None]], -1)


def check_values(name: str, value: torch.Tensor, good: torch.Tensor, rule: str) -> None:
    """Raise, naming the first cell, unless every entry is finite and ``good``; cells compute in float64."""
    if not isinstance(value, torch.Tensor) or value.dtype != torch.float64:
        raise TypeError(
            f"{name} must be a float64 torch.Tensor: non-linear cells are solved in double precision"
        )
    bad = ~(good & torch.isfinite(value))
    if bad.any():
        index = tuple(int(k) for k in bad.nonzero()[0])
        raise ValueError(f"{name}{_where(index)} is {value[index].item():g}: it {rule}")


def _check_voltage(v: torch.Tensor, low: float, high: float, law: str, fix: str) -> None:
    slack = 1e-12 * (high - low)
    bad = (v < low - slack) | (v > high + slack)
    if bad.any():
        index = tuple(int(k) for k in bad.nonzero()[0])
        raise ValueError(
            f"voltage{_where(index)} is {v[index].item():g} V, outside {law} ({low:g} to {high:g} V): {fix}"
        )


def _where(index: tuple[int, ...]) -> str:
    if len(index) < 2:
        return f" at cell {index[0]}" if index else ""
    lead = f" of array {list(index[:-2])}" if len(index) > 2 else ""
    return f" at cell {index[-2:]}{lead}"

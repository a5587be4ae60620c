"""Wire resistances from measured readouts of arrays whose conductances are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import torch
from scipy.optimize import least_squares

from device_models.crossbar import Wires, effective_conductance, factorize

Name = Literal["word_line", "bit_line", "driver", "sense"]
Array = np.ndarray[Any, np.dtype[np.float64]]

FIGURES: tuple[Name, ...] = ("word_line", "bit_line", "driver", "sense")

# From far below what any circuit shows to far above.
_LOG_BOUNDS = (math.log(1e-9), math.log(1e12))
# A combination of figures known no better than to a factor of e counts as unknown.
_UNKNOWN = 1.0
# Figures that make up less than this of an unknown combination are not blamed for it.
_PART_OF = 0.3


@dataclass(frozen=True, eq=False)
class WireFit:
    """Fitted wire figures and how well the data determine them.

    Attributes:
        wires: the figures in ohm, those that were not fitted as given.
        fitted: names of the fitted figures.
        log_covariance: covariance of the natural logarithms of the fitted figures, ``[fitted, fitted]``;
            infinite where the data do not determine them at all.
        residual: root mean square of measured less fitted currents, in ampere.
        chi_square: sum of squared residuals over their variances, per degree of freedom: about 1 if the model
            is right and ``sigma`` was given truly; nan if it was not given.
        unidentified: groups of figures that the data cannot tell apart. A group of one has no visible effect.
            The figures of a group must be fixed, but one, or measured with other arrays (longer lines, larger
            conductances, other inputs).
    """

    wires: Wires
    fitted: tuple[Name, ...]
    log_covariance: Array
    residual: float
    chi_square: float
    unidentified: tuple[tuple[Name, ...], ...]

    @property
    def identifiable(self) -> bool:
        """Whether the data determine every fitted figure."""
        return not self.unidentified

    @property
    def standard_errors(self) -> dict[Name, float]:
        """Standard error of each fitted figure in ohm (of its logarithm, times the figure)."""
        errors = np.sqrt(np.diag(self.log_covariance))
        return {
            name: float(getattr(self.wires, name) * e) for name, e in zip(self.fitted, errors, strict=True)
        }

    def interval(self, name: Name, level: float = 0.95) -> tuple[float, float]:
        """Confidence interval of a fitted figure in ohm, symmetric in its logarithm."""
        error = math.sqrt(self.log_covariance[self.fitted.index(name), self.fitted.index(name)])
        factor = math.exp(min(NormalDist().inv_cdf((1 + level) / 2) * error, 700.0))
        value = float(getattr(self.wires, name))
        return value / factor, value * factor


def fit_wires(
    g: torch.Tensor,
    voltages: torch.Tensor,
    currents: torch.Tensor,
    *,
    initial: Wires | None = None,
    fit: Sequence[Name] = FIGURES,
    sigma: torch.Tensor | float | None = None,
) -> WireFit:
    """Fit wire figures by least squares on their logarithms, with the exact derivatives of the circuit.

    Args:
        g: known conductances in siemens, ``[..., rows, cols]``, float64.
        voltages: applied word-line voltages, ``[..., batch, rows]`` in volt.
        currents: measured bit-line currents, ``[..., batch, cols]`` in ampere.
        initial: where to start, single numbers from 1e-9 to 1e12 for the figures to be fitted; 1 ohm each
            when left out. The other figures keep the value given here.
        fit: names of the figures to be fitted.
        sigma: standard deviation of the measured currents in ampere, broadcasting to ``currents``. When left
            out, all are taken to be equally uncertain, by as much as the residuals show.

    Raises:
        ValueError: if a shape does not fit, a value is not finite, a start is not positive, there are
            fewer currents than figures, or the fit does not converge.
    """
    names = tuple(fit)
    start = Wires(1.0, 1.0, 1.0, 1.0) if initial is None else initial
    weights = check_readout(g, voltages, currents, names, start, sigma)

    def at(logs: Array) -> Wires:
        given = {n: getattr(start, n) for n in FIGURES}
        return Wires(**given | dict(zip(names, np.exp(logs).tolist(), strict=True)))

    def residuals(logs: Array) -> Array:
        effective = effective_conductance(g, at(logs))
        return ((voltages @ effective - currents) * weights).numpy().ravel()

    def jacobian(logs: Array) -> Array:
        slopes = effective_conductance_slopes(g, at(logs), names)
        columns = [((voltages @ s) * weights).numpy().ravel() for s in slopes]
        return np.stack(columns, 1) * np.exp(logs)

    logs = np.log([float(getattr(start, n)) for n in names])
    exact = {"xtol": 1e-12, "ftol": 1e-12, "gtol": 1e-12}
    found = least_squares(residuals, logs, jacobian, bounds=_LOG_BOUNDS, x_scale="jac", **exact)
    if not found.success:
        raise ValueError(f"the fit did not converge ({found.message}); start nearer, or fit fewer figures")
    freedom = max(found.fun.size - len(names), 1)
    variance = 2 * found.cost / freedom
    covariance, unidentified = uncertainty(found.jac, 1.0 if sigma is not None else variance, names)
    return WireFit(
        wires=at(found.x),
        fitted=names,
        log_covariance=covariance,
        residual=float(np.sqrt(np.mean((found.fun / weights.numpy().ravel()) ** 2))),
        chi_square=variance if sigma is not None else math.nan,
        unidentified=unidentified,
    )


def effective_conductance_slopes(g: torch.Tensor, wires: Wires, names: Sequence[Name]) -> list[torch.Tensor]:
    """Derivatives of the effective conductance by single wire figures, each ``[..., rows, cols]`` in S/ohm.

    By Tellegen's theorem a segment adds the product of its currents with word line i at 1 V and with the
    sense of bit line l at 1 V (Director and Rohrer, IEEE Trans. Circuit Theory 16, 1969).
    """
    rows, cols = g.shape[-2:]
    solved = factorize(g, wires)
    lead = g.shape[:-2]
    none = g.new_zeros(*lead, cols, rows)
    forward = solved.node_voltages(torch.eye(rows, dtype=g.dtype).expand(*lead, -1, -1))
    adjoint = solved.node_voltages(none, torch.eye(cols, dtype=g.dtype).expand(*lead, -1, -1))
    by_cell = [g[..., None, :, :] * (word - bit) for word, bit in (forward, adjoint)]
    in_word = [x.flip(-1).cumsum(-1).flip(-1) for x in by_cell]
    in_bit = [x.cumsum(-2) for x in by_cell]
    segments = {
        "word_line": in_word,
        "bit_line": in_bit,
        "driver": [x[..., :1] for x in in_word],
        "sense": [x[..., -1:, :] for x in in_bit],
    }
    return [segments[n][0].flatten(-2) @ segments[n][1].flatten(-2).mT for n in names]


def uncertainty(
    jacobian: Array, variance: float, names: tuple[Name, ...]
) -> tuple[Array, tuple[tuple[Name, ...], ...]]:
    """Gauss-Newton covariance of the logarithms, and the groups of figures in unknown combinations."""
    _, singular, directions = np.linalg.svd(jacobian, full_matrices=False)
    floor = np.finfo(float).eps * max(jacobian.shape) * max(float(singular[0]), np.finfo(float).tiny)
    known = singular > floor
    errors = np.where(known, math.sqrt(variance) / np.where(known, singular, 1.0), np.inf)
    # An infinite error counts for a figure only if the direction has a share in it.
    shares = np.where(np.abs(directions) > 1e-6, directions, 0.0)
    finite = (directions[known].T * errors[known] ** 2) @ directions[known]
    lost = (shares[~known] != 0).any(0)
    covariance = np.where(np.logical_or.outer(lost, lost), np.inf, finite)
    groups = [
        tuple(n for n, share in zip(names, direction, strict=True) if abs(share) > _PART_OF)
        for error, direction in zip(errors, directions, strict=True)
        if error > _UNKNOWN
    ]
    return covariance, tuple(groups)


def check_readout(
    g: torch.Tensor,
    voltages: torch.Tensor,
    currents: torch.Tensor,
    names: tuple[Name, ...],
    start: Wires,
    sigma: torch.Tensor | float | None,
) -> torch.Tensor:
    """Raise on data that cannot be fitted; return the weights of the residuals in 1/A."""
    for name, value in (("g", g), ("voltages", voltages), ("currents", currents)):
        if not isinstance(value, torch.Tensor) or value.dtype != torch.float64:
            raise ValueError(f"{name} must be a float64 torch.Tensor")
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} holds values that are not finite")
    *lead, rows, cols = g.shape
    batch = voltages.shape[-2] if voltages.dim() > 1 else 0
    for name, value, lines in (("voltages", voltages, rows), ("currents", currents, cols)):
        if list(value.shape) != [*lead, batch, lines]:
            want = ", ".join(str(n) for n in (*lead, "batch", lines))
            raise ValueError(f"{name} has shape {list(value.shape)}, but these conductances need [{want}]")
    if not names or len(set(names)) != len(names) or not set(names) <= set(FIGURES):
        raise ValueError(f"fit is {list(names)}: give one or more of {', '.join(FIGURES)}, each once")
    for name in names:
        value = torch.as_tensor(getattr(start, name))
        if value.numel() != 1 or not 1e-9 <= float(value) <= 1e12:
            raise ValueError(f"initial.{name}: a fit starts from a single number of 1e-9 to 1e12 ohm")
    if currents.numel() < len(names):
        raise ValueError(f"{currents.numel()} currents cannot determine {len(names)} figures")
    if sigma is None:
        largest = currents.abs().max()
        return (1 / largest if largest > 0 else torch.ones_like(largest)).expand(currents.shape)
    deviation = torch.as_tensor(sigma, dtype=torch.float64)
    if not ((deviation > 0) & torch.isfinite(deviation)).all():
        raise ValueError("sigma must be finite and positive (in ampere)")
    try:
        return (1 / deviation).expand(currents.shape)
    except RuntimeError:
        raise ValueError(
            f"sigma has shape {list(deviation.shape)}, currents {list(currents.shape)}"
        ) from None

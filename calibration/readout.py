"""Wires and the converters of every column together, from the codes that arrays were read as."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import least_squares

from device_models.crossbar import Wires, effective_conductance

from .wires import FIGURES, Array, Name, WireFit, check_readout, effective_conductance_slopes, uncertainty


@dataclass(frozen=True, eq=False)
class ReadoutFit:
    """Wires, and for every column the law ``code = offset + gain I + curvature I^2``.

    Attributes:
        wires: the wire figures, with their uncertainty while the converters are free.
        gain: codes per ampere, ``[cols]``.
        offset: codes, ``[cols]``.
        curvature: codes per ampere squared, ``[cols]``; 0 where it was not fitted.
        gain_error, offset_error, curvature_error: standard errors of these.
        residual: root mean square of measured less fitted codes.
    """

    wires: WireFit
    gain: Array
    offset: Array
    curvature: Array
    gain_error: Array
    offset_error: Array
    curvature_error: Array
    residual: float


def fit_readout(
    g: torch.Tensor,
    voltages: torch.Tensor,
    codes: torch.Tensor,
    *,
    initial: Wires,
    fit: Sequence[Name] = FIGURES,
    curved: bool = False,
) -> ReadoutFit:
    """Fit wires and per-column converters by least squares, with the exact derivatives of the circuit.

    A gain that all columns share and a resistance that all currents pass look alike in part: read arrays
    whose columns differ, at low and high conductances; :attr:`WireFit.unidentified` tells what stays open.

    Args:
        g: known conductances in siemens, ``[arrays, rows, cols]``, float64; the converters are those of the
            columns, the same for all arrays.
        voltages: word-line voltages, ``[arrays, batch, rows]`` in volt.
        codes: what the converters returned, ``[arrays, batch, cols]``, float64.
        initial: where the wires start; figures that are not fitted keep the value given here.
        fit: names of the wire figures to be fitted.
        curved: fit a curvature of each column too.

    Raises:
        ValueError: if a shape does not fit, there are fewer codes than figures, or the fit does not converge.
    """
    names = tuple(fit)
    if g.dim() != 3:
        raise ValueError(f"g has shape {list(g.shape)}, but needs [arrays, rows, cols]")
    check_readout(g, voltages, codes, names, initial, None)
    cols, terms = g.shape[-1], 3 if curved else 2
    if codes.numel() < len(names) + terms * cols:
        raise ValueError(f"{codes.numel()} codes cannot determine {len(names) + terms * cols} figures")
    unit = float((voltages @ g).abs().max())

    def wires_at(x: Array) -> Wires:
        given = {n: getattr(initial, n) for n in FIGURES}
        return Wires(**given | dict(zip(names, np.exp(x[: len(names)]).tolist(), strict=True)))

    def law(x: Array) -> list[torch.Tensor]:
        return [torch.from_numpy(part) for part in x[len(names) :].reshape(terms, cols)]

    def residuals(x: Array) -> Array:
        current = voltages @ effective_conductance(g, wires_at(x)) / unit
        offset, gain, *curvature = law(x)
        model = offset + gain * current + (curvature[0] * current**2 if curved else 0.0)
        return (model - codes).numpy().ravel()

    def jacobian(x: Array) -> Array:
        wires = wires_at(x)
        current = voltages @ effective_conductance(g, wires) / unit
        _, gain, *curvature = law(x)
        slope = gain + (2 * curvature[0] * current if curved else 0.0)
        columns = [
            (slope * (voltages @ s / unit)).numpy().ravel() * float(getattr(wires, n))
            for n, s in zip(names, effective_conductance_slopes(g, wires, names), strict=True)
        ]
        powers = [torch.ones_like(current), current, current**2][:terms]
        each = [torch.diag_embed(p).reshape(-1, cols).numpy() for p in powers]
        return np.concatenate([np.stack(columns, 1) if columns else np.empty((codes.numel(), 0)), *each], 1)

    ideal = (voltages @ effective_conductance(g, initial) / unit).reshape(-1, cols).numpy()
    measured = codes.reshape(-1, cols).numpy()
    lines = np.array([np.polyfit(ideal[:, k], measured[:, k], 1) for k in range(cols)])
    start = np.concatenate(
        [
            np.log([float(getattr(initial, n)) for n in names]),
            lines[:, 1],
            lines[:, 0],
            np.zeros(cols * (terms - 2)),
        ]
    )
    exact = {"xtol": 1e-12, "ftol": 1e-12, "gtol": 1e-12}
    found = least_squares(residuals, start, jacobian, x_scale="jac", max_nfev=200, **exact)
    if not found.success:
        raise ValueError(f"the fit did not converge ({found.message}); start nearer, or fit fewer figures")
    variance = 2 * found.cost / max(found.fun.size - found.x.size, 1)
    inverse = np.linalg.pinv(found.jac.T @ found.jac, hermitian=True) * variance
    # What the converters can explain of the wires does not count for the wires.
    of_wires, of_columns = found.jac[:, : len(names)], found.jac[:, len(names) :]
    left = of_wires - of_columns @ np.linalg.lstsq(of_columns, of_wires, rcond=None)[0]
    covariance, unidentified = uncertainty(left, variance, names)
    residual = math.sqrt(float(np.mean(found.fun**2)))
    errors = np.sqrt(np.diag(inverse))[len(names) :].reshape(terms, cols)
    values = found.x[len(names) :].reshape(terms, cols)
    none: Array = np.zeros(cols)
    return ReadoutFit(
        wires=WireFit(
            wires_at(found.x),
            names,
            covariance,
            residual / float(np.mean(values[1]) / unit),
            math.nan,
            unidentified,
        ),
        gain=values[1] / unit,
        offset=values[0],
        curvature=values[2] / unit**2 if curved else none,
        gain_error=errors[1] / unit,
        offset_error=errors[0],
        curvature_error=errors[2] / unit**2 if curved else none,
        residual=residual,
    )

"""Variation between wafers, arrays, devices and cycles, from levels that were written again and again."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy.stats import chi2

from device_models.effects import Variation

from .measurement import Array, Measurement
from .result import Fit, Fitted, figure
from .robust import robust_scores, stuck_devices

_FAR = 5.0  # robust standard deviations beyond which a reading or device is left out


def fit_variation(table: Measurement) -> Fit | None:
    """Split the spread of ln(conductance / target) into its levels; None if nothing repeats.

    The levels are wafers, arrays, devices and cycles, each within the one before. Nested analysis of variance
    with Satterthwaite's intervals (Biometrics Bull. 2, 1946). Devices that do not follow their targets, and
    readings and devices far from the others, are left out before.

    Args:
        table: of kind levels with a column ``device``; ``array`` and ``wafer`` too, or those levels are not
            identified. Arrays of different wafers may have the same numbers.
    """
    states, _ = stuck_devices(table)
    use = (table["target"] > 0) & (table["conductance"] > 0) & (states[table.device] == 0)
    device = table.device[use]
    if "device" not in table.columns or not use.any():
        return None
    pairs = np.stack([table.device[use], table["target"][use]])
    if np.unique(pairs, axis=1).shape[1] > 0.6 * pairs.shape[1]:
        return None  # cells were written to other targets, not again to the same
    ratio = np.log(table["conductance"][use] / table["target"][use])
    places = [table.columns.get(name, np.zeros(len(table)))[use] for name in ("wafer", "array")]
    keep = _without_outliers(ratio, device)
    ratio, device, place = ratio[keep], device[keep], np.stack(places)[:, keep]
    means, sizes, places_of = _by(ratio, device, place)
    if len(means) < 5 or sizes.mean() < 2:
        return None
    within = float(
        sum(((ratio[device == d] - m) ** 2).sum() for d, m in zip(np.unique(device), means, strict=True))
    )
    spent = int(sizes.sum() - len(means))
    parts = [_component("between_cycles", [(1.0, within / spent, spent)])]
    repeats = _harmonic(sizes)
    arrays, owner = np.unique(places_of, axis=1, return_inverse=True)
    centre, per_array = _means(means, owner)
    freedom = len(means) - len(centre)
    between = float(((means - centre[owner]) ** 2).sum()) / freedom
    cycle_part = (-1 / repeats, within / spent, spent)
    parts.append(_component("between_devices", [(1.0, between, freedom), cycle_part]))
    device_part = (-1 / _harmonic(per_array), between, freedom)
    more, notes = _above_devices(centre, arrays[0], device_part, "wafer" in table.columns)
    parts += more
    source = f"{table.source}: {len(means)} devices, {len(ratio)} readings"
    by_name = {p.name: p for p in parts}
    fields = {
        name: figure(p.value, "1", source, (p.high - p.low) / 3.92)
        if (p := by_name.get(name))
        else figure(0.0, "1", "not identified: too few arrays")
        for name in ("between_arrays", "between_devices", "between_cycles")
    }
    if wafers := by_name.get("between_wafers"):
        fields["between_wafers"] = figure(wafers.value, "1", source, (wafers.high - wafers.low) / 3.92)
    effect = Variation.model_validate({"form": "log-normal", **fields})
    rejected = int((table["target"] > 0).sum()) - len(ratio)
    return Fit("variation", effect, tuple(parts), source, len(ratio), rejected, notes=notes)


def without_devices(table: Measurement) -> Measurement:
    """Return the table with what each device keeps taken out, so that its readings scatter by cycles alone.

    Of n readings, a mean takes a part of the scatter; the rest is widened by sqrt(n / (n - 1)).
    """
    target, g = table["target"], table["conductance"].copy()
    for rows in table.by_device():
        good = rows[(target[rows] > 0) & (g[rows] > 0)]
        if len(good) < 2:
            continue
        ratio = np.log(g[good] / target[good])
        near = ratio[np.abs(robust_scores(ratio)) < _FAR]
        centre, count = float(near.mean()), max(len(near), 2)
        g[good] = target[good] * np.exp((ratio - centre) * math.sqrt(count / (count - 1)))
    return replace(table, columns={**table.columns, "conductance": g})


def _without_outliers(ratio: Array, device: np.ndarray) -> np.ndarray:
    residual = ratio.copy()
    medians = {d: float(np.median(ratio[device == d])) for d in np.unique(device)}
    for d, median in medians.items():
        residual[device == d] -= median
    names = np.array(list(medians))
    odd = names[np.abs(robust_scores(np.array(list(medians.values())))) > _FAR]
    return (np.abs(robust_scores(residual)) < _FAR) & ~np.isin(device, odd)


def _above_devices(
    centre: Array, wafer: Array, device_part: tuple[float, float, int], given: bool
) -> tuple[list[Fitted], tuple[str, ...]]:
    """Components of arrays and wafers, from the mean and the wafer of each array; and what is not identified.

    A level is identified by four degrees of freedom: five arrays, or five wafers. With too few arrays of one
    wafer (one of each, say), the two levels cannot be told apart, and all is taken as from arrays.
    """
    note = "variation between wafers: measure five wafers or more, in a column 'wafer'"
    _, owner = np.unique(wafer, return_inverse=True)
    if given and len(centre) - len(np.unique(owner)) < 4:
        note = "variation between wafers is in that between arrays: measure two arrays or more of each wafer"
        owner = np.zeros(len(centre), dtype=np.int64)
    of_wafer, per_wafer = _means(centre, owner)
    freedom = len(centre) - len(of_wafer)
    notes = (note,) if given and len(of_wafer) < 5 else ()
    if freedom < 4:
        return [], ("variation between arrays: measure five arrays or more, in a column 'array'", *notes)
    of_arrays = float(((centre - of_wafer[owner]) ** 2).sum()) / freedom
    parts = [_component("between_arrays", [(1.0, of_arrays, freedom), device_part])]
    if given and len(of_wafer) >= 5:
        squares = float(of_wafer.var(ddof=1))
        array_part = (-1 / _harmonic(per_wafer), of_arrays, freedom)
        parts.append(_component("between_wafers", [(1.0, squares, len(of_wafer) - 1), array_part]))
    return parts, notes


def _by(ratio: Array, device: np.ndarray, place: Array) -> tuple[Array, Array, Array]:
    """Mean and count of readings, and place (wafer, array), of each device."""
    _, first, where = np.unique(device, return_index=True, return_inverse=True)
    return *_means(ratio, where), place[:, first]


def _means(values: Array, owner: np.ndarray) -> tuple[Array, Array]:
    """Mean and count of the values of each owner."""
    counts = np.bincount(owner).astype(float)
    return np.bincount(owner, values) / counts, counts


def _harmonic(counts: Array) -> float:
    return len(counts) / float((1 / counts).sum())


def _component(name: str, squares: list[tuple[float, float, int]]) -> Fitted:
    """A standard deviation from a sum of coefficient times mean square, with their degrees of freedom."""
    terms = [c * square for c, square, _ in squares]
    variance = max(sum(terms), 0.0)
    spread = sum(t**2 / f for t, (_, _, f) in zip(terms, squares, strict=True))
    if variance == 0:
        return Fitted(name, 0.0, 0.0, math.sqrt(2 * math.sqrt(spread)), "1")
    freedom = variance**2 / spread
    low, high = (math.sqrt(freedom * variance / float(chi2.ppf(q, freedom))) for q in (0.975, 0.025))
    return Fitted(name, math.sqrt(variance), low, high, "1")

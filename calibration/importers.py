"""Public data sets of devices as measurements: their own formats in, tables of known kinds out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .measurement import Array, Measurement, MeasurementError

ROOM = 298.0  # none of these sets states its temperature


def read_change_tables(increasing: str | Path, decreasing: str | Path) -> Measurement:
    """Read two look-up tables of conductance change, in the text form of Sandia's CrossSim data.

    A table is the inverse distribution of the change that one pulse makes: a heading, one line of
    conductances (S), one of cumulative probabilities, and one line of changes (S) for each probability. At
    every conductance it is read at 100 even steps of probability, each of which becomes one pulse:
    together they are distributed as the table says.

    Raises:
        MeasurementError: if a file is not of that form.
    """
    parts = []
    for path, up in ((Path(increasing), 1.0), (Path(decreasing), 0.0)):
        lines = path.read_text("utf-8").splitlines()[1:]
        try:
            rows = [line.strip().strip(",").split(",") for line in lines if line.strip()]
            numbers = [np.array(row, dtype=float) for row in rows]
        except ValueError as error:
            raise MeasurementError(f"{path}: {error}; expected lines of numbers with commas") from error
        if len(numbers) < 5:
            raise MeasurementError(f"{path}: {len(numbers)} lines of numbers; a table has at least 5")
        g, cdf, change = numbers[0], numbers[1], numbers[2:]
        if len(change) != len(cdf) or any(len(row) != len(g) for row in change):
            raise MeasurementError(f"{path}: {len(change)} rows of changes, but {len(cdf)} probabilities")
        parts.append(_as_pulses(g, cdf, np.stack(change), up))
    return _joined(parts, f"{increasing}, {decreasing}")


def read_change_archive(path: str | Path) -> Measurement:
    """Read the same two tables from an ``.npz`` with ``G_bins_S``, ``cdf``, ``dG_set_S`` and ``dG_reset_S``.

    Raises:
        MeasurementError: if an array is missing or does not fit.
    """
    with np.load(path, allow_pickle=False) as file:
        missing = {"G_bins_S", "cdf", "dG_set_S", "dG_reset_S"} - set(file.files)
        if missing:
            raise MeasurementError(f"{path}: has no array {', '.join(sorted(missing))}")
        g, cdf = file["G_bins_S"], file["cdf"]
        parts = [_as_pulses(g, cdf, file["dG_set_S"], 1.0), _as_pulses(g, cdf, file["dG_reset_S"], 0.0)]
    return _joined(parts, str(path))


def read_normalized_train(path: str | Path) -> tuple[Array, Array]:
    """Read a two-column table of states after up and after down pulses, in a unit of its own (not siemens).

    Returns:
        States after each up pulse, and after each down pulse.
    """
    try:
        states = np.loadtxt(path, delimiter=",", ndmin=2)
    except ValueError as error:
        raise MeasurementError(f"{path}: {error}") from error
    if states.shape[1] != 2 or not np.isfinite(states).all():
        raise MeasurementError(f"{path}: expected two columns of finite numbers (after up and down pulses)")
    return states[:, 0], states[:, 1]


def train_measurement(up: Array, down: Array, g_low: float, g_high: float, source: str) -> Measurement:
    """Return a normalized train as conductances, from ``g_low`` at its lowest state to ``g_high`` (S)."""
    states = np.concatenate([up, down])
    low, high = states.min(), states.max()
    g = g_low + (states - low) / (high - low) * (g_high - g_low)
    is_up = np.concatenate([np.ones(len(up)), np.zeros(len(down))])
    return Measurement("pulse-train", {"up": is_up, "conductance": g}, ROOM, source)


def _as_pulses(g: Array, cdf: Array, change: Array, up: float) -> dict[str, Array]:
    inner = (cdf > 0) & (cdf < 1)
    # Even steps of probability: a finer grid in the tails must not weigh more.
    even = np.linspace(0, 1, 101)[:-1] + 0.005
    at = np.stack([np.interp(even, cdf[inner], change[inner, k]) for k in range(len(g))])
    before = np.repeat(g, len(even))
    return {"up": np.full(before.size, up), "before": before, "after": before + at.ravel()}


def _joined(parts: list[dict[str, Array]], source: str) -> Measurement:
    return Measurement("pulses", {n: np.concatenate([p[n] for p in parts]) for n in parts[0]}, ROOM, source)

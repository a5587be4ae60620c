"""Read traces as relative deviations, evenly spaced, with spikes told apart."""

from __future__ import annotations

import numpy as np

from .measurement import Array, Measurement, MeasurementError
from .robust import MAD, need

_SPIKE = 5.0  # robust standard deviations of a reading from the median of its neighbours


def relative_trace(table: Measurement, rows: np.ndarray, clean: bool = True) -> tuple[Array, int, float]:
    """Relative deviation from the median, with spikes replaced; their number, and the period in seconds."""
    need(len(rows), 64, table, "readings of a trace")
    steps = np.diff(table["time"][rows])
    period = float(np.median(steps))
    if np.abs(steps / period - 1).max() > 0.01:
        row = int(rows[int(np.argmax(np.abs(steps / period - 1))) + 1])
        raise MeasurementError(
            f"{table.source}: column 'time', row {row + 1}: readings are not evenly spaced"
        )
    g = table["conductance"][rows]
    median = float(np.median(g))
    if median <= 0:
        raise MeasurementError(f"{table.source}: column 'conductance': the median of a trace is {median:g} S")
    relative = g / median - 1
    if not clean:
        return relative, 0, period
    padded = np.pad(relative, 3, mode="reflect")
    around = np.median(np.lib.stride_tricks.sliding_window_view(padded, 7), axis=1)
    apart = relative - around
    spikes = np.abs(apart) > _SPIKE * MAD * np.median(np.abs(apart))
    return np.where(spikes, around, relative), int(spikes.sum()), period

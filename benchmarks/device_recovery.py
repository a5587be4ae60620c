"""How often fitted intervals hold the truth: synthetic measurements of every effect, clean and dirty.

    python benchmarks/device_recovery.py [--sets 200] [--effect NAME ...]

Dirty data have 2 % of stuck devices and 1 % of readings that are grossly off.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import torch

from calibration.drift import fit_drift
from calibration.iv import fit_iv
from calibration.measurement import Measurement
from calibration.programming import fit_programming_error, fit_stuck
from calibration.pulses import fit_soft_bounds, moving_pulses
from calibration.read_noise import fit_read_noise
from calibration.result import Fit, Fitted
from calibration.synthetic import MAKERS
from calibration.telegraph import fit_telegraph
from calibration.variation import fit_variation
from calibration.write_verify import fit_write_verify


def fitted(effect: str, table: Measurement) -> list[Fitted]:
    """Fit one effect to its table."""
    if effect == "pulse response":
        rows = moving_pulses(table)
        change = (table["after"] - table["before"])[rows]
        estimate = fit_soft_bounds(table["before"][rows], change, (table["up"] == 1)[rows])
        return [Fitted(n, estimate[n], *estimate.interval(n), "") for n in estimate.names]
    if effect == "I-V":
        return _at_20_us(fit_iv(table, held_out=False))
    fits = {
        "programming error": lambda t: [fit_programming_error(t, degree=2, held_out=False)],
        "stuck cells": lambda t: [fit_stuck(t)],
        "variation": lambda t: [fit_variation(t)],
        "variation over wafers": lambda t: [fit_variation(t)],
        "read noise": fit_read_noise,
        "telegraph noise": lambda t: [fit_telegraph(t)[0]],
        "drift": fit_drift,
        "retention": fit_drift,
        "write-verify": lambda t: [fit_write_verify(t)],
    }
    return [parameter for fit in fits[effect](table) if fit is not None for parameter in fit.parameters]


def _at_20_us(fit: Fit) -> list[Fitted]:
    """Alpha and its slope at 20 uS: the fit has them at its own median, which moves with devices left out."""
    found = {p.name: p for p in fit.parameters}
    alpha, slope = found["alpha"], found["alpha_slope"]
    ratio = 20e-6 / fit.effect.g_reference.value
    moved = slope.value * (ratio - 1)
    return [
        replace(alpha, value=alpha.value + moved, low=alpha.low + moved, high=alpha.high + moved),
        replace(slope, value=slope.value * ratio, low=slope.low * ratio, high=slope.high * ratio),
        found["readings"],
    ]


def main() -> None:
    """Draw, fit and count."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--effect", choices=list(MAKERS), nargs="*", default=list(MAKERS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'effect':21} {'parameter':18} {'clean':>7} {'dirty':>7}   95 % intervals that hold the truth, %")
    for effect in options.effect:
        started = time.perf_counter()
        held: dict[str, list[int]] = {}
        for column, dirty in enumerate((False, True)):
            for seed in range(options.sets):
                table, truth = MAKERS[effect](seed, dirty)
                found = {p.name: p for p in fitted(effect, table)}
                for name, value in truth.items():
                    counts = held.setdefault(name, [0, 0])
                    counts[column] += name in found and found[name].low <= value <= found[name].high
        for name, counts in held.items():
            clean, dirty_part = (100 * c / options.sets for c in counts)
            print(f"{effect:21} {name:18} {clean:7.1f} {dirty_part:7.1f}")
        total = [100 * sum(c[k] for c in held.values()) / options.sets / len(held) for k in (0, 1)]
        seconds = time.perf_counter() - started
        print(f"{effect:21} {'all':18} {total[0]:7.1f} {total[1]:7.1f}   {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()

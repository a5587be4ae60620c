"""Column currents of random tiles: ngspice against the linear and the non-linear solver.

    python benchmarks/spice_parity.py [--tiles 100] [--curved 30] [--size 64] [--curved-size 32]

Every tile draws its own wires, from 0.1 to 50 ohm per segment and as much again for drivers and senses,
evenly on a logarithmic scale; its own share of pruned cells, up to 95 %; and an input that drives all of its
word lines and one that drives half of them. Errors are shares of full scale, the current of a column whose
cells all conduct g_max = 40 uS at the read voltage: 0.2 V for ohmic cells and 1 V for the others (sinh with
0.5 to 3 / V; transistors of 0.1 to 0.4 mA/V^2 with 0.6 V of overdrive).
"""

import argparse
import time

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from device_models.crossbar import (
    Ohmic,
    SeriesAccess,
    Sinh,
    Transistor,
    Wires,
    effective_conductance,
    solve_array,
)
from spice_netlists import Job, crossbar_read, run_jobs

G_MAX = 40e-6


def tile(rng, size):
    """Conductances, wires and inputs (share of the read voltage) of one random tile."""
    wires = Wires(*(10 ** rng.uniform(-1, np.log10(50), 4)))
    g = rng.uniform(0, G_MAX, (size, size)) * (rng.random((size, size)) < rng.uniform(0.05, 1))
    inputs = np.stack([np.ones(size), rng.integers(0, 2, size)])
    return torch.from_numpy(g), wires, torch.from_numpy(inputs)


def linear(rng, size):
    """Ohmic cells and the linear solver's currents."""
    g, wires, inputs = tile(rng, size)
    volts = 0.2 * inputs
    return g, wires, volts, lambda: volts @ effective_conductance(g, wires)


def curved(rng, size):
    """Sinh cells, half of them behind transistors, and the non-linear solver's currents."""
    g, wires, volts = tile(rng, size)
    memristor = Sinh(g, float(rng.uniform(0.5, 3)))
    cells = memristor
    if rng.random() < 0.5:
        gain = torch.from_numpy(rng.uniform(1e-4, 4e-4, (size, size)))
        cells = SeriesAccess(rng.choice([memristor, Ohmic(g)]), Transistor(gain, 0.6, 0.02))
    return cells, wires, volts, lambda: solve_array(cells, wires, volts).currents


def compare(name, make, first, tiles, size, full_scale, workers):
    """One row of the table."""
    drawn = [make(np.random.default_rng([7, first + k]), size) for k in range(tiles)]
    start = time.perf_counter()
    jobs = (Job(str(k), crossbar_read(*each[:3], title=f"{name} {k}")) for k, each in enumerate(drawn))
    errors, relative, failed = [], [], []
    for result in track(run_jobs(jobs, workers), name, tiles, console=Console(stderr=True)):
        if result.values is None:
            failed.append(f"{name} {result.job.label}: {result.error}")
            continue
        worst = np.abs(result.values - drawn[int(result.job.label)][3]().numpy()).max()
        errors.append(worst / (full_scale * size))
        relative.append(worst / np.abs(result.values).max())
    seconds = time.perf_counter() - start
    figures = (max(errors), float(np.median(errors)), max(relative))
    return (name, str(tiles), f"{size} x {size}", *(f"{x:.1e}" for x in figures), f"{seconds:.0f}"), failed


def main():
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, default=100)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--curved", type=int, default=30)
    parser.add_argument("--curved-size", type=int, default=32)
    parser.add_argument("--first", type=int, default=0, help="number of the first tile, to go on from a run")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    table = Table(title="ngspice against the fast solvers: largest error of a column current of each tile")
    for heading in ("cells", "tiles", "size", "worst", "median", "worst, of largest", "seconds"):
        table.add_column(heading, justify="right")
    rows = [
        compare(name, make, options.first, tiles, size, full_scale, options.workers)
        for name, make, tiles, size, full_scale in (
            ("ohmic", linear, options.tiles, options.size, 0.2 * G_MAX),
            ("curved", curved, options.curved, options.curved_size, G_MAX),
        )
        if tiles
    ]
    for row, failed in rows:
        table.add_row(*row)
        for line in failed:
            print(line)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()

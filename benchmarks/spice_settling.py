"""How long a read of an array takes to settle, against its size, and what reading earlier costs in codes.

    python benchmarks/spice_settling.py [--sizes 8,16,32,64] [--segment-ff 0.5] [--node 45nm]

ngspice transients of arrays with conductances uniform over 15 levels up to 40 uS: all word lines rise to
0.2 V in 2 ps, then a random half of them falls. Wires are those of 1T1R cells at the node, with drivers and
senses of 100 ohm, and the given capacitance per segment of both lines. One LSB is a level step at 0.2 V.
Settled: every bit line within half an LSB (and a twentieth) of where it ends. Codes: all bit lines of both
cycles, read at shares of the settling time to half an LSB, against codes of the end.
"""

import argparse
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from device_models.crossbar import Wires
from device_models.wire_table import wire_resistance
from spice_netlists import Job, array_transient, run_jobs, settling_time

LSB = 0.2 * 40e-6 / 15
SHARES = (0.25, 0.5, 0.75, 1.0)


def transient(size, options):
    """The transient of a random array of ``size``: a cycle is twelve times its slowest product of R and C."""
    rng = np.random.default_rng(size)
    g = rng.integers(0, 16, (size, size)) * (40e-6 / 15)
    wires = Wires(*wire_resistance(options.node, "1t1r"), driver=100.0, sense=100.0)
    farad = options.segment_ff * 1e-15
    ohm = 100.0 + size * max(wires.word_line, wires.bit_line)
    volts = 0.2 * np.stack([np.ones(size), rng.integers(0, 2, size)])
    cycle = max(12 * ohm * size * farad, 40e-12)
    return array_transient(
        g, wires, volts, f"{size}", capacitance=(farad, farad), cycle_time=cycle, rise_time=2e-12, samples=400
    )


def row(size, each, values, seconds):
    """One row of the table."""
    cycles = values.reshape(2, each.samples, size)
    times = each.times[: each.samples]
    half, fine = (max(settling_time(c, times, share * LSB).max() for c in cycles) for share in (0.5, 0.05))
    final = np.rint(cycles[:, -1] / LSB)
    costs = []
    for share in SHARES:
        early = np.rint(cycles[:, np.searchsorted(times, share * half)] / LSB)
        costs.append(f"{np.abs(early - final).max():.0f}, {100 * (early != final).mean():.0f} %")
    return (f"{size} x {size}", f"{half * 1e12:.1f}", f"{fine * 1e12:.1f}", *costs, f"{seconds:.0f}")


def main():
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="8,16,32,64")
    parser.add_argument("--segment-ff", type=float, default=0.5)
    parser.add_argument("--node", default="45nm")
    options = parser.parse_args()
    each = {int(size): transient(int(size), options) for size in options.sizes.split(",")}
    table = Table(
        title=f"{options.node}, {options.segment_ff:g} fF per segment; codes: worst error, share wrong"
    )
    early = [f"read at {share:g}" for share in SHARES]
    for name in ("array", "ps to LSB / 2", "ps to LSB / 20", *early, "ngspice s"):
        table.add_column(name, justify="right")
    start = time.perf_counter()
    results = {int(r.job.label): r for r in run_jobs([Job(str(size), x) for size, x in each.items()])}
    for size, result in sorted(results.items()):
        if result.values is None:
            raise SystemExit(f"{size}: {result.error}")
        table.add_row(*row(size, each[size], result.values, result.seconds))
    Console(width=120).print(table)
    print(f"{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()

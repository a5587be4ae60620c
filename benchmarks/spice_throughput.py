"""ngspice in bulk against the plain way, one ``.op`` for each input and instance in one process, in one run.

    python benchmarks/spice_throughput.py [--instances 50] [--inputs 100] [--workers 2] [--plain 10]

One 64 x 64 tile with 2 ohm segments: a Monte Carlo of device instances with one input, and inputs of one
instance. Both share the work out among the workers as sweeps, whose times include the start of the processes.
The plain way is timed on the first ``--plain`` operating points (0: on all) and multiplied; it includes
building each netlist. Where other work shares the cores, CPU seconds tell more: on free cores the sweeps
would be faster by their ratio times the workers. Currents are held against the fast solver. Then the memory
of one worker is watched over many small jobs.
"""

import argparse
import multiprocessing
import os
import resource
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from device_models.crossbar import Wires, effective_conductance
from spice_netlists import Job, crossbar_read, find_ngspice, run_jobs
from spice_netlists.ngspice import NgspiceSession

WIRES = Wires(word_line=2.0, bit_line=2.0, driver=100.0, sense=100.0)


def plain(session, cases, count):
    """Seconds and CPU seconds for all ``cases`` as operating points, timed on the first; their currents."""
    few = cases[: count or len(cases)]
    start = np.array([time.perf_counter(), time.process_time()])
    currents = []
    for g, v in few:
        read = crossbar_read(g, WIRES, v, "plain")
        currents.append(session.run(read.netlist(), read.vectors, read.points))
    seconds = np.array([time.perf_counter(), time.process_time()]) - start
    return seconds * len(cases) / len(few), np.concatenate(currents)


def bulk(reads, workers):
    """Seconds and CPU seconds of the workers for sweeps on a pool, and their currents in order."""
    start = np.array([time.perf_counter(), worker_seconds()])
    jobs = (Job(str(k), read) for k, read in enumerate(reads))
    results = {result.job.label: result for result in run_jobs(jobs, workers)}
    seconds = np.array([time.perf_counter(), worker_seconds()]) - start
    failed = [result.error for result in results.values() if result.error]
    if failed:
        raise SystemExit(failed[0])
    return seconds, np.concatenate([results[str(k)].values for k in range(len(results))])


def worker_seconds():
    """CPU seconds of all workers that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def compare(what, session, cases, reads, options):
    """One row: the plain way, the sweeps, and both against the fast solver."""
    g, v = np.stack([each for each, _ in cases]), np.stack([each for _, each in cases])
    exact = (torch.from_numpy(v) @ effective_conductance(torch.from_numpy(g), WIRES))[:, 0].numpy()
    slow, by_op = plain(session, cases, options.plain)
    fast, swept = bulk(reads, options.workers)
    errors = (np.abs(found - exact[: len(found)]).max() / exact.max() for found in (by_op, swept))
    wall, cpu = slow / fast
    return (
        what,
        *(f"{seconds:.1f}" for seconds in (slow[0], fast[0])),
        f"{wall:.1f}",
        *(f"{seconds:.1f}" for seconds in (slow[1], fast[1])),
        f"{cpu * options.workers:.1f}",
        *(f"{error:.1e}" for error in errors),
    )


def resident_mib(pid):
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory(count):
    """Resident memory of one worker as it runs ``count`` jobs of an 8 x 8 tile, at ten moments."""
    rng = np.random.default_rng(0)
    g, v = rng.uniform(1e-6, 4e-5, (8, 8)), rng.uniform(0, 0.2, (2, 8))
    seen = []
    jobs = (Job(str(k), crossbar_read(g, WIRES, v, "memory")) for k in range(count))
    for done, result in enumerate(run_jobs(jobs, workers=1), start=1):
        if result.error:
            raise SystemExit(result.error)
        if done % max(1, count // 10) == 0:
            (worker,) = multiprocessing.active_children()
            seen.append(resident_mib(worker.pid))
    return seen


def main():
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instances", type=int, default=50)
    parser.add_argument("--inputs", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--plain", type=int, default=10, help="operating points that are timed; 0: all")
    parser.add_argument("--jobs", type=int, default=1000)
    options = parser.parse_args()
    install = find_ngspice()
    if install is None:
        raise SystemExit("no ngspice found")
    session, rng = NgspiceSession(install), np.random.default_rng(1)
    g = rng.uniform(1e-6, 4e-5, (options.instances, 64, 64))
    v = rng.uniform(0, 0.2, (options.inputs, 64))
    table = Table(
        title=f"ngspice {install.version}, {options.workers} workers: seconds; errors of the largest current"
    )
    timed = ("plain .op", "sweeps", "times faster", "CPU .op", "CPU sweeps", "faster on free cores")
    for name in ("64 x 64 cells", *timed, "error .op", "error sweeps"):
        table.add_column(name, justify="right")
    shares = np.array_split(g, options.workers)
    table.add_row(
        *compare(
            f"{len(g)} instances",
            session,
            [(each, v[:1]) for each in g],
            [crossbar_read(share, WIRES, v[:1], "instances") for share in shares],
            options,
        )
    )
    shares = np.array_split(v, options.workers)
    table.add_row(
        *compare(
            f"{len(v)} inputs",
            session,
            [(g[0], each[None]) for each in v],
            [crossbar_read(g[0], WIRES, share, "inputs") for share in shares],
            options,
        )
    )
    Console(width=130).print(table)
    seen = memory(options.jobs)
    print(f"memory of a worker over {options.jobs} jobs, MiB: {' '.join(f'{mib:.1f}' for mib in seen)}")


if __name__ == "__main__":
    main()

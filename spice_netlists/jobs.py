"""Circuits through ngspice in bulk: a pool of worker processes that outlives any one of them.

A crash, a hang or a leak of ngspice takes down one worker and costs one attempt of one job; a fresh worker
takes its place. A job that fails is tried once more with convergence aids, then reported as failed and its
netlist kept. A job over its time limit is not tried again: aids make a run longer, and the limit is what one
job may cost. The workers are spawned: a script that calls this needs the usual
``if __name__ == "__main__":``.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from numpy.typing import ArrayLike, NDArray

from device_models.files import write_atomically

from .array import WireFigures
from .crossbar import crossbar_read
from .ngspice import SpiceError, SpiceTimeoutError, find_ngspice, why_missing, with_options
from .worker import SpiceCircuit, Worker

TIME_LIMIT = 300.0
"""Seconds that a job may take, if the caller does not say."""


@dataclass(frozen=True, eq=False)
class Job:
    """One circuit to run; the label names it in messages and files, and should be unique."""

    label: str
    circuit: SpiceCircuit


@dataclass(frozen=True, eq=False)
class JobResult:
    """How one job ended.

    Attributes:
        job: the job.
        values: result vectors, float64 ``[points, vectors]``; None if the job failed.
        error: why it failed, in one line; empty if it did not.
        attempts: 1, or 2 if it was tried again with convergence aids.
        seconds: wall-clock time of all attempts.
        netlist: where the netlist of a failed job was kept, if it was.
    """

    job: Job
    values: NDArray[np.float64] | None
    error: str
    attempts: int
    seconds: float
    netlist: Path | None = None


def run_jobs(
    jobs: Iterable[Job],
    workers: int = 2,
    time_limit: float = TIME_LIMIT,
    keep_failed: Path | None = None,
) -> Iterator[JobResult]:
    """Run jobs on worker processes; yield each result as it comes, in any order.

    Jobs are taken from the iterable as workers become free, so it may be long. Leaving the loop early stops
    the workers.

    Args:
        jobs: circuits to run.
        workers: number of worker processes.
        time_limit: seconds that an attempt of a job may take.
        keep_failed: folder that receives the netlists of failed jobs; None keeps none.

    Raises:
        SpiceError: if there is no ngspice shared library.
        ValueError: if ``workers`` or ``time_limit`` is not positive.
    """
    if workers < 1 or not time_limit > 0:
        raise ValueError(f"workers ({workers}) and time_limit ({time_limit} s) must be positive")
    install = find_ngspice()
    if install is None or why_missing(install):
        raise SpiceError(why_missing(install))
    crew = [Worker(install, time_limit) for _ in range(workers)]
    idle: SimpleQueue[Worker] = SimpleQueue()
    for worker in crew:
        idle.put(worker)

    def attend(job: Job) -> JobResult:
        worker = idle.get()
        try:
            return _attempt(job, worker, keep_failed)
        finally:
            idle.put(worker)

    remaining = iter(jobs)
    with ThreadPoolExecutor(workers, "ngspice") as threads:
        try:
            pending = {threads.submit(attend, job) for job in itertools.islice(remaining, 2 * workers)}
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                pending |= {threads.submit(attend, job) for job in itertools.islice(remaining, len(done))}
                yield from map(Future.result, done)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            for worker in crew:
                worker.close()


def column_currents(
    g: ArrayLike,
    wires: WireFigures,
    voltages: ArrayLike,
    title: str = "crossbar",
    time_limit: float = TIME_LIMIT,
) -> NDArray[np.float64]:
    """Column currents of one array in ampere, ``[inputs, cols]``, by ngspice in one worker process.

    Args:
        g: cell conductances in siemens, ``[rows, cols]``; 0 = no cell.
        wires: wire figures in ohm.
        voltages: word-line voltages, ``[inputs, rows]``.
        title: title of the netlist.
        time_limit: seconds that one attempt may take.

    Raises:
        SpiceError: if ngspice is missing or could not solve the circuit.
        ValueError: if the figures do not make an array.
    """
    job = Job(title, crossbar_read(g, wires, voltages, title))
    (result,) = run_jobs([job], workers=1, time_limit=time_limit)
    if result.values is None:
        raise SpiceError(f"{title}: {result.error}")
    return result.values


def _attempt(job: Job, worker: Worker, keep_failed: Path | None) -> JobResult:
    """Try a job, try it again with convergence aids, and give it up."""
    started = time.monotonic()
    errors = []
    for aids in (False, True):
        try:
            values = worker.solve(job.circuit, aids)
        except SpiceTimeoutError as error:
            errors.append(str(error))
            break
        except SpiceError as error:
            errors.append(str(error))
        else:
            return JobResult(job, values, "", len(errors) + 1, time.monotonic() - started)
    reason = "; with convergence aids: ".join(dict.fromkeys(errors))
    kept = None
    if keep_failed is not None:
        try:
            kept = _keep(job, keep_failed, worker.install.klu)
        except (OSError, ValueError) as error:
            reason += f" (its netlist could not be kept: {error})"
    return JobResult(job, None, reason, len(errors), time.monotonic() - started, kept)


def _keep(job: Job, folder: Path, klu: bool) -> Path:
    """Write the netlist of the last attempt to ``folder``; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", job.label)[:100].strip("_") or "job"
    path = folder / f"{name}.cir"
    write_atomically(path, with_options(job.circuit.netlist(), klu, aids=True).encode())
    return path

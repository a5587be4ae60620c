"""A process that runs ngspice, and the handle by which it is given work, watched and replaced."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .ngspice import FATAL_EXIT, NgspiceInstall, NgspiceSession, SpiceError, SpiceTimeoutError

START_LIMIT = 120.0
"""Seconds that a worker may take to start."""

Answer = NDArray[np.float64] | str
"""What a worker sends back: result vectors, or why there are none."""


class SpiceCircuit(Protocol):
    """What a worker can run: picklable, and turned into text in the worker."""

    @property
    def vectors(self) -> tuple[str, ...]:
        """Names of the result vectors that are wanted."""

    @property
    def points(self) -> int:
        """Length that each vector has when the run is complete."""

    @property
    def times(self) -> NDArray[np.float64] | None:
        """When a transient is looked at, in seconds, ``[points]``; None for any other analysis."""

    def netlist(self) -> str:
        """The circuit and its analysis, up to and including ``.end``."""


class Worker:
    """A process with an ngspice session, replaced when it dies; serves one thread at a time."""

    def __init__(self, install: NgspiceInstall, time_limit: float) -> None:
        self.install = install
        self._time_limit = time_limit
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._closed = False
        self._lock = threading.Lock()

    def solve(self, circuit: SpiceCircuit, aids: bool) -> NDArray[np.float64]:
        """Run one circuit; raises SpiceError if that fails in any way."""
        try:
            pipe = self._pipe or self._start()
            pipe.send((circuit, aids))
            if not pipe.poll(self._time_limit):
                self._end()
                raise SpiceTimeoutError(f"no answer within {self._time_limit:g} s")
            answer: Answer = pipe.recv()
        except (EOFError, OSError):
            raise SpiceError(self._obituary()) from None
        if isinstance(answer, str):
            raise SpiceError(answer)
        return answer

    def close(self) -> None:
        """End the process; a job that it was at fails, and no other process is started."""
        with self._lock:
            self._closed = True
            process = self._process
        if process is not None:
            process.kill()
            process.join()

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        pipe, far_end = context.Pipe()
        with self._lock:
            if self._closed:
                raise SpiceError("stopped")
            self._process = context.Process(target=_serve, args=(far_end, self.install), daemon=True)
            self._process.start()
        far_end.close()
        self._pipe = pipe
        if not pipe.poll(START_LIMIT):
            self._end()
            raise SpiceError(f"the worker did not start within {START_LIMIT:g} s")
        pipe.recv()
        return pipe

    def _end(self) -> int | None:
        """Kill the process, if it still runs, and forget it; return its exit status."""
        status = None
        if self._process is not None:
            self._process.kill()
            self._process.join()
            status = self._process.exitcode
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None
        return status

    def _obituary(self) -> str:
        if self._process is not None:
            self._process.join(timeout=5)  # it closed the pipe; what it died of is known when it has
        status = self._end()
        if status == FATAL_EXIT:
            return "ngspice ended itself after a fatal error"
        if status is not None and status < 0:
            return f"the worker was ended by {signal.Signals(-status).name}"
        return f"the worker ended with status {status}"


def _serve(pipe: Connection, install: NgspiceInstall) -> None:
    """The worker process: run circuits until the caller hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller decides what an interrupt means
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # standard output belongs to the caller's results
    session = NgspiceSession(install)
    pipe.send("ready")
    with contextlib.suppress(EOFError):
        while True:
            circuit, aids = pipe.recv()
            try:
                answer: NDArray[np.float64] | str = session.run(
                    circuit.netlist(), circuit.vectors, circuit.points, circuit.times, aids
                )
            except Exception as error:  # noqa: BLE001  whatever happened, the caller must hear of it
                answer = f"{error}" or type(error).__name__
            pipe.send(answer)

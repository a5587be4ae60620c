"""Finding ngspice and running it; what differs between versions and what PySpice gets wrong stays in here.

ngspice runs as a shared library inside a worker process (:mod:`spice_netlists.worker`), never in the
caller's.
What this module works around:

* PySpice looks for ``libngspice.so``, which only a -dev package installs; here the run-time name is found.
* PySpice takes every line on ngspice's stderr, and every line with "error" in it, for a failure. ngspice
  writes notes and the progress of its convergence steps there. Here a run has failed if its answer is
  missing, short or not finite, or if ngspice says that it gave up; the messages only explain it.
* PySpice knows versions up to 34 and warns about later ones.
* ngspice never frees circuits and results by itself; here each run frees the one before.
* libngspice may end its process on a fatal error; the worker then ends at once, which the pool sees.
* ngspice below 42, and builds without it, lack the KLU solver, which orders a large matrix tenfold faster.
"""

from __future__ import annotations

import ctypes.util
import logging
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .pyspice import INSTALLED, MISSING, NgSpiceShared, SpiceError, ffi

LIBRARY_VARIABLE = "NGSPICE_LIBRARY_PATH"
INSTALL_HINT = "apt-get install ngspice libngspice0, or name the library in NGSPICE_LIBRARY_PATH"
FATAL_EXIT = 70
"""Exit status of a worker whose ngspice ended itself."""

_GAVE_UP = re.compile(r"aborted|^\s*(fatal )?error", re.IGNORECASE)
_EXPLAINS = re.compile(
    _GAVE_UP.pattern + r"|singular matrix|timestep too small|failed|iteration limit", re.IGNORECASE
)

# Tolerances well below the budgets that results are held to; ngspice's defaults are 1e-3, 1e-12 A and 1e-6 V.
_OPTIONS = "reltol=1e-6 abstol=1e-15 vntol=1e-10"
_AIDS = "reltol=1e-5 abstol=1e-14 vntol=1e-9 itl1=1000 itl2=1000 gminsteps=50 srcsteps=50"


class SpiceTimeoutError(SpiceError):
    """A circuit took longer than its time limit."""


@dataclass(frozen=True)
class NgspiceInstall:
    """An ngspice that is installed.

    Attributes:
        binary: path of the ``ngspice`` command, or None.
        library: name or path of the shared library, or None.
        version: such as ``39``.
        klu: whether it was built with the KLU solver.
    """

    binary: str | None
    library: str | None
    version: str
    klu: bool


def find_ngspice() -> NgspiceInstall | None:
    """Look for the ``ngspice`` command and for its shared library; None if neither answers.

    The library is the one named (or given by path) in the environment variable ``NGSPICE_LIBRARY_PATH``; if
    that is not set, the one the system finds.
    """
    library, banner = _library()
    binary = shutil.which("ngspice")
    if binary and not banner:
        banner = _output_of([binary, "--version"])
    version = re.search(r"ngspice-(\S+)", banner)
    if version is None:
        return None
    return NgspiceInstall(binary, library, version.group(1), "Compiled with KLU" in banner)


def why_missing(install: NgspiceInstall | None) -> str:
    """Say why no circuit can be solved with what :func:`find_ngspice` found; "" if it can."""
    if not INSTALLED:
        return MISSING
    if install is None or install.library is None:
        return f"no ngspice shared library found: {INSTALL_HINT}"
    return ""


def _library() -> tuple[str | None, str]:
    """Name of the shared library and its banner; (None, "") if none loads."""
    named = os.environ.get(LIBRARY_VARIABLE)
    names = [named] if named else [ctypes.util.find_library("ngspice"), "libngspice.so.0", "libngspice.dylib"]
    script = str(Path(__file__).with_name("banner.py"))
    for name in filter(None, names):
        banner = _output_of([sys.executable, "-I", script, name])
        if banner:
            return name, banner
    return None, ""


def _output_of(command: list[str]) -> str:
    """Standard output of a command that ends well within half a minute, else nothing."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout if answer.returncode == 0 else ""


class NgspiceSession:
    """ngspice in this process. Its state is global: one session per process, one circuit at a time."""

    def __init__(self, install: NgspiceInstall) -> None:
        if install.library is None:
            raise SpiceError(f"no ngspice shared library found: {INSTALL_HINT}")
        logging.getLogger("PySpice").setLevel(logging.CRITICAL)
        self._klu = install.klu
        self._library = _Library.load(install.library)

    def run(
        self,
        netlist: str,
        vectors: tuple[str, ...],
        points: int,
        times: NDArray[np.float64] | None = None,
        aids: bool = False,
    ) -> NDArray[np.float64]:
        """Run a netlist with its analysis and return vectors of its result.

        Args:
            netlist: text that ends with ``.end``.
            vectors: names of result vectors, such as ``vsense_0#branch``.
            points: length of the result.
            times: when a transient is looked at, in seconds, rising, ``[points]``; None for an analysis that
                gives one value for each point.
            aids: use convergence aids: looser tolerances, more iterations, more steps of gmin and sources.

        Returns:
            float64 ``[points, len(vectors)]``.

        Raises:
            SpiceError: if ngspice gave up or a vector is missing, short or not finite.
        """
        self._library.start_afresh()
        self._library.load_circuit(with_options(netlist, self._klu, aids))
        self._library.exec_command("run")
        columns = [self._library.vector(name) for name in vectors]
        if times is not None:
            columns = _at(times, self._library.vector("time"), columns)
        if self._library.gave_up() or any(len(column) != points for column in columns):
            raise SpiceError(f"ngspice gave no complete result: {self._library.explanation()}")
        result = np.column_stack(columns)
        if not np.isfinite(result).all():
            raise SpiceError("ngspice returned numbers that are not finite")
        return result


def _at(
    times: NDArray[np.float64], seen: NDArray[np.float64], columns: list[NDArray[np.float64]]
) -> list[NDArray[np.float64]]:
    """Columns at ``times`` between the moments that were simulated; empty where those end too early."""
    complete = len(seen) > 0 and seen[0] <= times[0] and seen[-1] >= times[-1]
    return [
        np.interp(times, seen, column) if complete and len(column) == len(seen) else np.empty(0)
        for column in columns
    ]


def with_options(netlist: str, klu: bool, aids: bool) -> str:
    """Return the netlist with solver options before its ``.end``."""
    options = (_AIDS if aids else _OPTIONS) + (" klu" if klu else "")
    return f"{netlist.rstrip().removesuffix('.end')}.options {options}\n.end\n"


class _Library(NgSpiceShared):
    """PySpice's binding of the shared library, with its own ears."""

    @classmethod
    def load(cls, name: str) -> _Library:
        """Load the library by name or path."""
        cls.LIBRARY_PATH = name.replace("{", "{{").replace("}", "}}")  # PySpice formats it
        return cls()

    @staticmethod
    def _send_char(message: Any, _ngspice_id: int, user_data: Any) -> int:
        """Listen to ngspice; its stderr is no failure by itself."""
        self = ffi.from_handle(user_data)
        _, _, text = ffi.string(message).decode("utf-8", "replace").partition(" ")
        self._stdout.append(text)
        return 0

    @staticmethod
    def _exit(_status: int, _unload: bool, _quit: bool, _ngspice_id: int, _user_data: Any) -> int:
        """End the process: ngspice asks for it after a fatal error and cannot go on."""
        os._exit(FATAL_EXIT)

    def start_afresh(self) -> None:
        """Free the circuit, the results and the command history of the run before."""
        for command in (b"destroy all", b"remcirc", ffi.NULL):
            self._ngspice_shared.ngSpice_Command(command)
        self.clear_output()

    def vector(self, name: str) -> NDArray[np.float64]:
        """A copy of one real vector of the latest analysis; empty if there is no such vector."""
        info = self._ngspice_shared.ngGet_Vec_Info(name.encode("ascii"))
        if info == ffi.NULL or info.v_realdata == ffi.NULL:
            return np.empty(0)
        data = ffi.buffer(info.v_realdata, info.v_length * 8)
        return np.frombuffer(data, dtype=np.float64).copy()

    def gave_up(self) -> bool:
        """Whether ngspice said that it stopped before the end."""
        return any(_GAVE_UP.search(line) for line in self._said())

    def explanation(self) -> str:
        """What ngspice said of a failure, in one line."""
        lines = [line.strip() for line in self._said()]
        return "; ".join(line for line in lines if _EXPLAINS.search(line))[:300] or "it did not say why"

    def _said(self) -> list[str]:
        """The lines that are ngspice's own; it repeats the title too, which may say anything."""
        return [line for line in self._stdout if not line.startswith(("Circuit:", "Title:"))]

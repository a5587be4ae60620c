"""Whether the HDF5 library survives a file, found out in a process that may die.

The library parses the inner structures of a file in C, and a file made to deceive can make it crash, run for
ever or take all memory. So before this process opens a file that may come from a stranger, another one walks
all of its structures under limits of time and memory. That process is forked for each file from a small
server, which is started at the first file and ends with this process; the server itself opens no file.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

MEMORY_BYTES = 768 << 20
"""Address space that a walk may take above that of the interpreter."""
SECONDS = 2
"""Processor time that a walk may take, and as much again for every ``BYTES_PER_TIME`` of the file."""
BYTES_PER_TIME = 1 << 27
MAX_OBJECTS = 1 << 20
MAX_ATTRIBUTE_BYTES = 1 << 16
MAX_DATA_BYTES = 256 << 20


class ScreenError(ValueError):
    """A file that the HDF5 library does not survive or refuses: place and problem, not the file's name."""


def screen(path: str | Path, *, data: bool = False) -> None:
    """Raise unless a file can be opened and walked by the HDF5 library.

    The file must not change until it has been read; files of hwloop are replaced, never changed in place.

    Args:
        path: the file, which must be there.
        data: read all data sets as well, through the library's filters.

    Raises:
        ScreenError: if that crashes the library, if it refuses the file, or if it takes too long or too much
            memory.
        OSError: if the file cannot be looked at.
    """
    seconds = SECONDS * (1 + Path(path).stat().st_size // BYTES_PER_TIME)
    status, refusal = _server(os.getpid()).ask(str(Path(path).absolute()), seconds, data)
    if status in (-signal.SIGXCPU, -signal.SIGALRM, -signal.SIGKILL):
        raise ScreenError(f"damaged (its structures take more than {seconds} s to walk)")
    if status != 0:
        raise ScreenError("damaged (its structures crash the HDF5 library)")
    if refusal:
        raise ScreenError(refusal)


def reason(error: BaseException) -> str:
    """Return the cause of an error in a few words, without what the HDF5 library wraps around it."""
    text = getattr(error, "strerror", None) or str(error.args[0] if error.args else "")
    quoted = re.search(r"error message = '([^']*)'", text)
    wrapped = re.fullmatch(r"(?:Unable to|Can't) [^(]*\((.*)\)", text)
    found = quoted or wrapped
    return " ".join((found.group(1) if found else text).split())[:160] or type(error).__name__


class _Server:
    """The process that forks one for each file; asked from one thread at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = self._start()

    def ask(self, *question: object) -> tuple[int, str]:
        """Return how a walk over a file ended: exit status, or minus the signal; and what was refused."""
        with self._lock:
            for _ in range(2):
                with contextlib.suppress(OSError):
                    return self._ask(question)
                # Somebody ended it; a new one can say the same.
                self._process.kill()
                self._process.wait()
                self._process = self._start()
        raise OSError(0, "the process that checks HDF5 files does not answer")

    def _ask(self, question: tuple[object, ...]) -> tuple[int, str]:
        to, of = self._process.stdin, self._process.stdout
        if to is None or of is None:
            raise BrokenPipeError
        to.write(json.dumps(question).encode() + b"\n")
        to.flush()
        answer = of.readline()
        if not answer:
            raise BrokenPipeError
        status, refusal = json.loads(answer)
        return status, refusal

    @staticmethod
    def _start() -> subprocess.Popen[bytes]:
        # Isolated, and by its path: it imports h5py and nothing of the user's or of this project.
        command = [sys.executable, "-I", __file__]
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(  # noqa: S603 - our own interpreter and file
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )


@functools.cache
def _server(process: int) -> _Server:  # noqa: ARG001 - a forked process must not share its parent's server
    return _Server()


def _serve() -> None:
    """Answer questions until there are no more."""
    import h5py  # noqa: F401 - loaded once, before the first fork

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin.buffer:
        path, seconds, data = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, _walk_under_limits(path, seconds, data).encode()[:1000])
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            refusal = pipe.read().decode(errors="replace")
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.buffer.write(json.dumps([status, refusal]).encode() + b"\n")
        sys.stdout.buffer.flush()


def _walk_under_limits(path: str, seconds: int, data: bool) -> str:
    """Walk a file; return what was refused, if anything. Runs in a process of its own."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    signal.alarm(30 * seconds)  # by the clock: a disk may make it wait, and a busy machine too
    try:
        return _walk(path, data)
    except MemoryError:
        return f"damaged (its structures take more than {MEMORY_BYTES >> 20} MiB to walk)"


def _walk(path: str, data: bool) -> str:
    """Ask the library for everything but the data themselves, following hard links only."""
    import h5py

    place = ""
    try:
        with h5py.File(path, "r", locking=False) as file:
            waiting, seen = [(h5py.h5g.open(file.id, b"/"), "")], set[int]()
            while waiting:
                item, place = waiting.pop()
                _ask_attributes(item)
                if isinstance(item, h5py.h5d.DatasetID):
                    _ask_storage(item, data)
                    continue
                for name in list(item):
                    if item.links.get_info(name).type != h5py.h5l.TYPE_HARD:
                        continue
                    member = h5py.h5o.open(item, name)
                    address = h5py.h5o.get_info(member).addr
                    if address not in seen and not isinstance(member, h5py.h5t.TypeID):
                        seen.add(address)
                        waiting.append((member, f"{place}/{name.decode(errors='replace')}"))
                    if len(seen) > MAX_OBJECTS:
                        raise MemoryError
    except (OSError, RuntimeError, LookupError, ValueError, ArithmeticError) as error:
        where = f"{ascii(place[1:])[1:-1][:200]}: " if place else ""
        return f"{where}damaged ({ascii(reason(error))[1:-1]})"
    return ""


def _ask_attributes(item: Any) -> None:
    """Read every attribute of bounded size and of a type that Python knows."""
    import h5py
    import numpy as np

    for index in range(h5py.h5a.get_num_attrs(item)):
        attribute = h5py.h5a.open(item, index=index)
        kind, shape = attribute.get_type(), attribute.shape
        if shape is None or int(np.prod(shape, dtype=float)) * kind.get_size() > MAX_ATTRIBUTE_BYTES:
            continue
        with contextlib.suppress(TypeError):
            attribute.read(np.empty(shape, dtype=attribute.dtype))


def _ask_storage(item: Any, data: bool) -> None:
    """Ask a data set for its type, its shape and where each of its chunks lies; read it if wanted."""
    import h5py

    dataset, plan = h5py.Dataset(item), item.get_create_plist()
    # The shape of one that is made of other files depends on those, which are not opened.
    if plan.get_layout() == h5py.h5d.VIRTUAL or plan.get_external_count():
        return
    kind = item.get_type()
    [plan.get_filter(index) for index in range(plan.get_nfilters())]
    if plan.get_layout() == h5py.h5d.CHUNKED:
        item.get_storage_size()
        item.chunk_iter(lambda chunk: None)  # noqa: ARG005
    if data and dataset.shape is not None and dataset.size * kind.get_size() <= MAX_DATA_BYTES:
        with contextlib.suppress(TypeError):
            dataset[()]


if __name__ == "__main__":
    _serve()

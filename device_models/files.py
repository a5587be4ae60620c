"""Opening files that may be anything, and writing files so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

UNFINISHED = ".part"
"""How the names of files end that are still being written; they begin with a dot."""


def open_regular(path: str | Path, most: int) -> BinaryIO:
    """Open a file for reading after a look at what it is; nothing else is waited for or read without end.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        OSError: if it cannot be opened, is not a regular file (a folder, a pipe, a device), or is larger.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(handle)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, "a folder, not a file", str(path))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if status.st_size > most:
            raise OSError(errno.EFBIG, f"larger than {most} bytes, which is not read", str(path))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give the path of a new, empty file beside ``path``; it takes that name when all went well.

    Raises:
        OSError: if the folder cannot be written; ``path`` is then as it was before.
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=UNFINISHED, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write ``data`` to ``path``: into a new file beside it first, which then takes its name.

    Raises:
        OSError: if the folder cannot be written; ``path`` is then as it was before.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(data)

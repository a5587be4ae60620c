"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give the path of a new, empty file beside ``path``; it takes that name when all went well.

    Raises:
        OSError: if the folder cannot be written; ``path`` is then as it was before.
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
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

"""Folders that one process works in at a time, and that a killed one leaves fit to go on in."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from device_models.files import UNFINISHED

LOCK = ".lock"
"""Name of the file whose lock says that a process works in its folder; the system takes it from the dead."""


class FolderInUseError(ValueError):
    """A folder that another process works in; the message names it."""


def discard(folder: Path) -> None:
    """Remove a folder with all that is in it, if it is there; killed on the way, none of it is to be seen."""
    if folder.is_dir():
        doomed = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=UNFINISHED, dir=folder.parent))
        folder.rename(doomed / folder.name)
        shutil.rmtree(doomed)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Be the only process that works in a folder; what killed ones left half-written in it is removed.

    Raises:
        FolderInUseError: if another process works in it.
        OSError: if it cannot be written.
    """
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUseError(
                f"{folder}: another process works in this folder; wait for it, or use another folder"
            ) from None
        for stray in list(folder.rglob(f".*{UNFINISHED}")):
            if stray.is_dir():
                shutil.rmtree(stray)
            else:
                stray.unlink(missing_ok=True)
        yield


def is_vacant(folder: Path) -> bool:
    """Whether a folder is missing, or holds nothing but what a killed process left half-written."""
    if not folder.is_dir():
        return not folder.exists()
    names = [entry.name for entry in folder.iterdir()]
    return all(name == LOCK or (name.startswith(".") and name.endswith(UNFINISHED)) for name in names)

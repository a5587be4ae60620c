"""Work that a command has begun and not ended: a folder beside what it works on, gone when it is done."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from device_models.files import write_atomically
from device_models.folders import LOCK, alone_in, discard
from hwloop.line.run_folder import code_digest


class UnfinishedError(ValueError):
    """Unfinished work that cannot be gone on with; the message names its folder and the fix."""


def unfinished_folder(beside: Path, command: str) -> Path:
    """Return where a command keeps what it has done so far: ``maps.h5.verify`` for ``maps.h5``."""
    return beside.with_name(f"{beside.name}.{command}")


@contextlib.contextmanager
def unfinished_work(beside: Path, command: str, choices: Mapping[str, Any], fresh: bool) -> Iterator[Path]:
    """Give the folder of a command's unfinished work; it goes away when the block ends well.

    Args:
        beside: file that the command reads or writes.
        command: name of the command.
        choices: all that the result depends on but the code, JSON-compatible.
        fresh: throw away what is there.

    Raises:
        UnfinishedError: if the folder holds work with other choices, or of another version of hwloop.
        FolderInUseError: if another process works in it.
        OSError: if it cannot be written.
    """
    folder = unfinished_folder(beside, command)
    folder.mkdir(parents=True, exist_ok=True)
    told = folder / "choices.json"
    wanted = {**choices, "code": code_digest()}
    with alone_in(folder):
        if fresh:
            for entry in folder.iterdir():
                if entry.name not in (LOCK, told.name):
                    entry.unlink()
        elif told.exists():
            _compare(folder, told, json.loads(json.dumps(wanted)))
        write_atomically(told, json.dumps(wanted).encode())
        try:
            yield folder
        except BaseException:
            if {entry.name for entry in folder.iterdir()} <= {LOCK, told.name}:
                discard(folder)
            raise
        discard(folder)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _compare(folder: Path, told: Path, wanted: Mapping[str, Any]) -> None:
    way_out = "--fresh throws it away"
    try:
        found = json.loads(told.read_text("utf-8"))
    except ValueError as error:
        raise UnfinishedError(f"{told}: damaged ({error}); {way_out}") from error
    for name, value in wanted.items():
        if not isinstance(found, dict) or found.get(name) != value:
            what = "of another version of hwloop" if name == "code" else f"with another {name}"
            raise UnfinishedError(f"{folder}: holds unfinished work {what}; {way_out}")

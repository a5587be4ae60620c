"""Files are whole or absent, folders have one user at a time, and killed writers leave nothing for good."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from device_models.files import UNFINISHED, replacing, write_atomically
from device_models.folders import FolderInUseError, alone_in, discard, is_vacant

KILLED_WRITER = """
import os, signal, sys
from device_models.files import replacing
with replacing(sys.argv[1]) as temporary:
    temporary.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_writer(path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(path)], check=False)
    assert ended.returncode == -signal.SIGKILL


def test_a_killed_writer_leaves_the_file_as_it_was_and_the_next_user_of_the_folder_cleans_up(
    tmp_path: Path,
) -> None:
    path = tmp_path / "deep" / "figures.json"
    path.parent.mkdir()
    killed_writer(path)
    assert is_vacant(path.parent)
    write_atomically(path, b"whole")
    killed_writer(path)
    assert path.read_bytes() == b"whole"
    assert len(list(path.parent.iterdir())) == 3
    (tmp_path / "mine.part").write_bytes(b"of the user")
    with alone_in(tmp_path):
        assert list(path.parent.iterdir()) == [path]
    assert (tmp_path / "mine.part").exists()


def _fail_half_way(path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError


def test_a_writer_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    write_atomically(path, b"whole")
    with pytest.raises(RuntimeError):
        _fail_half_way(path)
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


def _hold(folder: str, ready: multiprocessing.synchronize.Event) -> None:
    with alone_in(Path(folder)):
        ready.set()
        signal.pause()


def test_a_folder_has_one_user_until_that_one_is_gone_however_it_went(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    other = context.Process(target=_hold, args=(str(tmp_path), ready))
    other.start()
    assert ready.wait(60)
    with pytest.raises(FolderInUseError, match="another process works in this folder"), alone_in(tmp_path):
        pass
    assert other.pid is not None
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    with alone_in(tmp_path):
        pass


def test_what_is_discarded_goes_at_once_and_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "stations"
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "weights").write_bytes(b"1")
    discard(folder)
    discard(folder)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / f".stations.x{UNFINISHED}" / "stations").mkdir(parents=True)
    assert is_vacant(tmp_path)
    with alone_in(tmp_path):
        assert not list(tmp_path.glob(f".stations*{UNFINISHED}"))

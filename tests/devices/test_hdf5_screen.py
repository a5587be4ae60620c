"""The process that walks HDF5 files before this one opens them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from device_models.hdf5_screen import ScreenError, _server, screen

FORKED = """
import os, sys
from device_models.hdf5_screen import screen
screen(sys.argv[1])
child = os.fork()
screen(sys.argv[1])
if child == 0:
    os._exit(0)
sys.exit(os.waitpid(child, 0)[1])
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        for number in range(50):
            file.create_dataset(f"group/{number}", data=np.arange(100), chunks=(10,), compression=1)
        file["group"].attrs["note"] = "text of any length"
        file["group/again"] = file["group"]
        file["outside"] = h5py.ExternalLink("/nowhere.h5", "/x")
    return tmp_path / "x.h5"


def test_a_whole_file_is_walked_whatever_its_links(path: Path) -> None:
    screen(path)
    screen(path, data=True)


def test_what_the_library_refuses_is_said_with_its_place(path: Path, tmp_path: Path) -> None:
    (tmp_path / "short.h5").write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ScreenError, match=r"^damaged \(truncated file"):
        screen(tmp_path / "short.h5")
    with h5py.File(path, "r+") as file:
        place = file["group/7"].id.get_chunk_info(3).byte_offset
    data = bytearray(path.read_bytes())
    data[place : place + 8] = bytes(8)
    path.write_bytes(data)
    screen(path)
    with pytest.raises(ScreenError, match=r"^group/7: damaged \("):
        screen(path, data=True)


def test_data_in_other_files_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    layout = h5py.VirtualLayout((12,), "<f4", maxshape=(None,))
    source = h5py.VirtualSource(str(tmp_path / "pipe"), "x", (12,), "<f4", maxshape=(None,))
    layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        file.create_virtual_dataset("virtual", layout)
    screen(tmp_path / "x.h5", data=True)


def test_a_server_that_was_ended_is_started_again(path: Path) -> None:
    screen(path)
    server = _server(os.getpid())
    os.kill(server._process.pid, signal.SIGKILL)
    time.sleep(0.1)
    screen(path)


def test_a_forked_process_has_a_server_of_its_own_and_all_end_with_theirs(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FORKED, path], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")

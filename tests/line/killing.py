"""Commands that are killed: SIGKILL leaves a process no chance to tidy up."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start(*arguments: str | Path) -> subprocess.Popen[bytes]:
    """Start a command of hwloop."""
    return subprocess.Popen(
        [sys.executable, "-m", "hwloop", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill_when(seen: Callable[[], bool], *arguments: str | Path) -> None:
    """Start a command, and kill it as soon as something is seen."""
    with start(*arguments) as process:
        while not seen() and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"

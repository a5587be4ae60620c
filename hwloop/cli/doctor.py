"""``hwloop doctor``: what is installed, in which version, and what is missing for what."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from dataclasses import asdict, dataclass

from rich.markup import escape
from rich.table import Table

from .common import JsonOption, emit_json, output


@dataclass(frozen=True)
class Finding:
    """One thing that hwloop uses: whether it is here, in which version, and what it is needed for."""

    name: str
    found: bool
    version: str
    needed_for: str
    fix: str


def examine() -> list[Finding]:
    """Look for everything that hwloop uses."""
    return [
        Finding("Python", True, platform.python_version(), "everything", ""),
        _package("torch", "networks, training, the batched solver"),
        _cuda(),
        _package("numba", "the compiled crossbar solver"),
        _ngspice(),
        _libngspice(),
        _package("PySpice", "building the netlists that ngspice checks"),
        _package("distributed", "sweeps on a Dask scheduler", "pip install 'hwloop[cluster]'", name="Dask"),
    ]


def doctor(as_json: JsonOption = False) -> None:
    """Say what is installed, in which version, and what is missing for what."""
    findings = examine()
    if as_json:
        emit_json({finding.name: asdict(finding) for finding in findings})
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("", "found", "needed for", "if missing"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        state = f"[green]{escape(finding.version)}[/]" if finding.found else "[yellow]missing[/]"
        table.add_row(finding.name, state, finding.needed_for, "" if finding.found else escape(finding.fix))
    output.print(table)


def _package(package: str, needed_for: str, fix: str = "", name: str = "") -> Finding:
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name or package, False, "", needed_for, fix or f"pip install {package}")
    return Finding(name or package, True, version, needed_for, "")


def _cuda() -> Finding:
    needed_for = "training and solving on an NVIDIA GPU"
    import torch

    if not torch.version.cuda:
        return Finding("CUDA", False, "", needed_for, "optional: a CUDA build of torch and an NVIDIA GPU")
    if not torch.cuda.is_available():
        return Finding("CUDA", False, "", needed_for, "optional: torch has CUDA, but no NVIDIA GPU answers")
    version = f"{torch.version.cuda} ({torch.cuda.get_device_name(0)})"
    return Finding("CUDA", True, version, needed_for, "")


def _ngspice() -> Finding:
    needed_for = "checking tiles against SPICE"
    path = shutil.which("ngspice")
    if path is None:
        return Finding("ngspice", False, "", needed_for, "apt-get install ngspice")
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return Finding("ngspice", False, "", needed_for, f"{path} does not answer; apt-get install ngspice")
    version = re.search(r"ngspice-(\S+)", answer.stdout)
    return Finding("ngspice", True, version.group(1) if version else "unknown version", needed_for, "")


def _libngspice() -> Finding:
    needed_for = "running ngspice inside the process"
    name = os.environ.get("NGSPICE_LIBRARY_PATH") or ctypes.util.find_library("ngspice")
    if name is None:
        return Finding("libngspice", False, "", needed_for, "apt-get install libngspice0")
    try:
        banner = _libngspice_banner(name)
    except (OSError, AttributeError) as error:
        return Finding("libngspice", False, "", needed_for, f"{name} cannot be loaded: {error}")
    version = re.search(r"ngspice-(\S+)", banner)
    return Finding(
        "libngspice", True, f"{version.group(1) if version else 'unknown'} ({name})", needed_for, ""
    )


def _libngspice_banner(name: str) -> str:
    """Start the shared library, which greets with its version."""
    lines: list[str] = []
    listener = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p)

    @listener
    def hear(text: bytes, _number: int, _data: int) -> int:
        lines.append(text.decode(errors="replace"))
        return 0

    ctypes.CDLL(name).ngSpice_Init(hear, None, None, None, None, None, None)
    return "\n".join(lines)

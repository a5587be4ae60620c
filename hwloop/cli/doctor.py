"""``hwloop doctor``: what is installed, in which version, and what is missing for what."""

from __future__ import annotations

import importlib.metadata
import platform
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
        *_ngspice(),
        _package("PySpice", "building the netlists that ngspice checks"),
        _package("distributed", "sweeps, on this machine or on a cluster", name="Dask"),
        _package("PyVISA-py", "instruments at a bench", "pip install 'hwloop[bench]'"),
        _package("dask-jobqueue", "sweeps on SLURM, LSF, SGE or PBS", "pip install 'hwloop[cluster]'"),
        *_parts(),
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


def _parts() -> list[Finding]:
    """Return what other packages offer, each part imported."""
    from device_models.converters import ADCS
    from device_models.effects import EFFECTS
    from hwloop.bench import DRIVERS
    from hwloop.pruning import METHODS
    from hwloop.training.strategies import STRATEGIES

    offers = [offer for parts in (METHODS, EFFECTS, ADCS, DRIVERS, STRATEGIES) for offer in parts.offers()]
    return [
        Finding(f"{offer.group} {offer.name}", not offer.fault, offer.source, "what names it", offer.fault)
        for offer in offers
    ]


def _cuda() -> Finding:
    needed_for = "training and solving on an NVIDIA GPU"
    import torch

    if not torch.version.cuda:
        return Finding("CUDA", False, "", needed_for, "optional: a CUDA build of torch and an NVIDIA GPU")
    if not torch.cuda.is_available():
        return Finding("CUDA", False, "", needed_for, "optional: torch has CUDA, but no NVIDIA GPU answers")
    version = f"{torch.version.cuda} ({torch.cuda.get_device_name(0)})"
    return Finding("CUDA", True, version, needed_for, "")


def _ngspice() -> list[Finding]:
    command_for, library_for = "running SPICE netlists by hand", "checking tiles against SPICE"
    try:
        from spice_netlists.ngspice import INSTALL_HINT, find_ngspice
    except ImportError as error:
        fix = f"not looked for: {error}"
        return [
            Finding("ngspice", False, "", command_for, fix),
            Finding("libngspice", False, "", library_for, fix),
        ]
    install = find_ngspice()
    command = install.binary if install else None
    library = install.library if install else None
    version = f"{install.version}, {'with' if install.klu else 'without'} KLU" if install else ""
    return [
        Finding("ngspice", command is not None, version if command else "", command_for, INSTALL_HINT),
        Finding(
            "libngspice",
            library is not None,
            f"{version} ({library})" if library else "",
            library_for,
            INSTALL_HINT,
        ),
    ]

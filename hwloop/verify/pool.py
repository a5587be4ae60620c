"""The ngspice processes of a check, and what they have solved so far."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from hwloop.training.checkpoint import load_checkpoint, save_checkpoint
from spice_netlists import Job, JobResult, find_ngspice, run_jobs


@dataclass(frozen=True)
class Pool:
    """How circuits are run.

    Attributes:
        workers: ngspice processes.
        time_limit: seconds that an attempt of a job may take.
        keep_failed: folder for netlists that fail; None keeps none.
        checkpoint: folder in which each result is kept; None keeps none.
    """

    workers: int
    time_limit: float
    keep_failed: Path | None
    checkpoint: Path | None

    def run(self, jobs: Sequence[Job]) -> Iterator[JobResult]:
        """Yield the result of each job, those that an earlier call has solved first; others in any order.

        Raises:
            CheckpointError: if a result that was kept is damaged, or of another circuit or ngspice.
            SpiceError: if there is no ngspice shared library.
        """
        install = find_ngspice()
        version = "" if install is None else install.version
        left = []
        for job in jobs:
            found = None if self.checkpoint is None else _load(self.checkpoint, job, version)
            if found is None:
                left.append(job)
            else:
                yield found
        if not left:
            return
        for result in run_jobs(left, self.workers, self.time_limit, self.keep_failed):
            if self.checkpoint is not None and result.values is not None:
                save_checkpoint(
                    _path(self.checkpoint, result.job),
                    _settings(result.job, version),
                    {"values": torch.from_numpy(result.values)},
                    {"attempts": result.attempts, "seconds": result.seconds},
                )
            yield result


def _load(checkpoint: Path, job: Job, version: str) -> JobResult | None:
    path = _path(checkpoint, job)
    found = load_checkpoint(path, _settings(job, version)) if path.exists() else None
    if found is None:
        return None
    tensors, state = found
    return JobResult(job, tensors["values"].numpy(), "", state["attempts"], state["seconds"])


def _path(checkpoint: Path, job: Job) -> Path:
    return checkpoint / f"{hashlib.sha256(job.label.encode()).hexdigest()[:16]}.safetensors"


def _settings(job: Job, version: str) -> dict[str, str]:
    """What a result belongs to: a circuit, and the program that solved it."""
    digest = hashlib.sha256(job.circuit.netlist().encode()).hexdigest()
    return {"job": job.label, "netlist": digest, "ngspice": version}

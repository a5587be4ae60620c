"""Where the tasks of a sweep run: worker processes of this machine, or those of a Dask scheduler."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import dask
from distributed import Client, LocalCluster

from hwloop.sweep.axes import SweepError

TIME_LIMIT = 20.0
"""Seconds that a scheduler may take to answer."""
CONFIG = {
    # Tasks start ngspice in a process of its own, which a daemon may not.
    "distributed.worker.daemon": False,
}


@contextlib.contextmanager
def connect(workers: int, scheduler: str | None = None) -> Iterator[Client]:
    """Give a client for tasks, with new workers of this machine or with those of a scheduler.

    Args:
        workers: processes of this machine, if there is no scheduler.
        scheduler: its address, such as ``tcp://host:8786``.

    Raises:
        SweepError: if no scheduler answers there.
    """
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=TIME_LIMIT)
        except (OSError, ValueError) as error:
            raise SweepError(f"--scheduler {scheduler}: no Dask scheduler answers there ({error})") from error
        with client:
            yield client
        return
    with (
        dask.config.set(CONFIG),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client

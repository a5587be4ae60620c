"""Virtual instruments on real sockets."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest

from device_models import DeviceCard, load_card
from hwloop.bench import BenchServer, virtual_instrument


@contextlib.contextmanager
def serving(
    card: str | DeviceCard = "rram-neurram",
    *,
    arrays: int = 64,
    array_shape: tuple[int, int] = (8, 8),
    adc_bits: int = 10,
    seed: int = 3,
) -> Iterator[BenchServer]:
    """A virtual instrument that is served while the block runs."""
    whole = load_card(card) if isinstance(card, str) else card
    instrument = virtual_instrument(
        whole, arrays=arrays, array_shape=array_shape, adc_bits=adc_bits, seed=seed
    )
    with BenchServer(instrument) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join()


@pytest.fixture
def server() -> Iterator[BenchServer]:
    """A virtual instrument with arrays of 8x8."""
    with serving() as running:
        yield running


@pytest.fixture
def address(server: BenchServer) -> str:
    """Where it is."""
    return f"127.0.0.1:{server.port}"

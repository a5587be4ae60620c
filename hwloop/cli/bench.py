"""``hwloop bench``: a virtual instrument to try the whole loop on."""

from __future__ import annotations

import signal
import threading
from typing import Annotated

import typer

from .common import JsonOption, emit_json, new_app, note

bench_app = new_app(help="Instruments at a bench.")


@bench_app.callback()
def _group() -> None:
    """Keep ``serve`` a command of its own."""


@bench_app.command()
def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0 = any that is free.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    card: Annotated[str, typer.Option(help="Device card of the chip, by name or file.")] = "rram-neurram",
    seed: Annotated[int, typer.Option(min=0, help="Which of the possible chips.")] = 0,
    rows: Annotated[int, typer.Option(min=1, max=1024, help="Word lines of an array.")] = 64,
    cols: Annotated[int, typer.Option(min=1, max=1024, help="Bit lines of an array.")] = 64,
    arrays: Annotated[int, typer.Option(min=1, max=65536, help="Arrays.")] = 256,
    adc_bits: Annotated[int, typer.Option(min=1, max=14, help="Bits of an ADC.")] = 8,
    as_json: JsonOption = False,
) -> None:
    """Serve a virtual instrument that speaks SCPI over TCP, with a simulated chip behind it, until stopped.

    The chip's parameters follow from the seed, and no command tells them.
    """
    from threadpoolctl import threadpool_limits

    from device_models import load_card
    from hwloop.bench import BenchServer, virtual_instrument

    instrument = virtual_instrument(
        load_card(card), arrays=arrays, array_shape=(rows, cols), adc_bits=adc_bits, seed=seed
    )
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    # Products with one array are so small that threads of BLAS cost more than they give.
    with threadpool_limits(1, user_api="blas"), BenchServer(instrument, host, port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        if as_json:
            emit_json({"host": host, "port": server.port})
        else:
            typer.echo(f"{host}:{server.port}")
        note(f"serving {arrays} arrays of {rows}x{cols} ({card}); stop with Ctrl-C")
        stopped.wait()
        server.stop()
        thread.join()
    note("stopped")

"""A virtual instrument on a TCP socket."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import socketserver
import threading
from typing import Any

from device_models.card import DeviceCard

from .bank import ArrayBank
from .instrument import VirtualInstrument
from .scpi import MessageReader, ScpiError
from .session import Session

MAX_CONNECTIONS = 16
IDLE_SECONDS = 3600.0
_RECEIVE = 1 << 16


class BenchServer(socketserver.ThreadingTCPServer):
    """Serves a virtual instrument until :meth:`stop`; use as a context manager.

    Whatever a client sends, the instrument goes on: what cannot be understood goes to the error queue of its
    connection, and a message that is too long ends the connection. At most ``MAX_CONNECTIONS`` are open at
    a time; one more ends the oldest, so that a client that lost its connection always gets another.

    Args:
        instrument: what is served.
        host: address to listen on.
        port: port to listen on; 0 = any that is free.

    Raises:
        OSError: if the port cannot be listened on.
    """

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, instrument: VirtualInstrument, host: str = "127.0.0.1", port: int = 0) -> None:
        self.instrument = instrument
        self._open: dict[socket.socket, Session] = {}
        self._guard = threading.Lock()
        super().__init__((host, port), _Connection)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self.server_address[1])

    def stop(self) -> None:
        """Stop serving and end all connections; call it from another thread than the one that serves."""
        self.shutdown()
        self.server_close()
        with self._guard:
            for connection in self._open:
                _end(connection)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; the oldest ends if there are too many."""
        connection, address = super().get_request()
        with self._guard:
            # Here, in one thread, so that sessions are in the order in which clients came.
            self._open[connection] = self.instrument.open_session()
            if len(self._open) > MAX_CONNECTIONS:
                _end(next(iter(self._open)))
        return connection, address

    def session_of(self, connection: socket.socket) -> Session:
        """Return what the instrument keeps for a connection."""
        with self._guard:
            return self._open[connection]

    def closed(self, connection: socket.socket) -> None:
        """Forget a connection."""
        with self._guard:
            self._open.pop(connection, None)


class _Connection(socketserver.BaseRequestHandler):
    """One client."""

    server: BenchServer

    def handle(self) -> None:
        """Carry out messages until the client goes."""
        session, reader = self.server.session_of(self.request), MessageReader()
        # A client that goes in the middle of a message or of an answer is none of the instrument's business.
        with contextlib.suppress(OSError):
            self.request.settimeout(IDLE_SECONDS)
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := self.request.recv(_RECEIVE):
                try:
                    for message in reader.feed(data):
                        self.request.sendall(self.server.instrument.execute(session, message))
                except ScpiError as error:
                    session.report(error)
                    break
        self.server.closed(self.request)


def virtual_instrument(
    card: DeviceCard, *, arrays: int, array_shape: tuple[int, int], adc_bits: int, seed: int
) -> VirtualInstrument:
    """Return an instrument with a chip of its own behind it; arguments as :class:`~.bank.ArrayBank`.

    Its serial number tells chips apart and tells nothing about them.
    """
    bank = ArrayBank(card, arrays=arrays, array_shape=array_shape, adc_bits=adc_bits, seed=seed)
    facts = f"{card.model_dump_json()} {arrays} {array_shape} {adc_bits} {seed}"
    return VirtualInstrument(bank, hashlib.sha256(facts.encode()).hexdigest()[:8])


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)

"""A wire that fails: a TCP proxy that cuts, garbles and hangs when it is told to."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from enum import Enum


class Fault(Enum):
    """What the wire does to bytes: pass them on, cut the connection halfway, change one, keep them."""

    NONE = "none"
    CUT = "cut"
    GARBLE = "garble"
    HANG = "hang"


class FaultyWire:
    """Passes bytes on between a client and ``port``; use as a context manager.

    Args:
        port: of the instrument.
        choose: called with the direction (``to`` or ``from`` the instrument) and the running number of a
            chunk of bytes, from 0 over all connections; says what becomes of it.
    """

    def __init__(self, port: int, choose: Callable[[str, int], Fault]) -> None:
        self._behind, self._choose = port, choose
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.faults = 0
        self._count = 0
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> FaultyWire:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._listener.close()
        for end in self._sockets:
            _close(end)

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.port}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                instrument = socket.create_connection(("127.0.0.1", self._behind))
                for end in (client, instrument):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets += [client, instrument]
                for source, sink, way in ((client, instrument, "to"), (instrument, client, "from")):
                    threading.Thread(target=self._pass_on, args=(source, sink, way), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, way: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                with self._lock:
                    fault = self._choose(way, self._count)
                    self._count += 1
                    self.faults += fault is not Fault.NONE
                if fault is Fault.GARBLE:
                    wrong = bytearray(data)
                    wrong[len(data) // 2] ^= 0x55
                    data = bytes(wrong)
                elif fault is Fault.CUT:
                    sink.sendall(data[: len(data) // 2])
                    break
                if fault is not Fault.HANG:
                    sink.sendall(data)
        _close(source)
        _close(sink)


def _close(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        end.close()

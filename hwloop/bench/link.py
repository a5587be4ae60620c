"""The client's end of the wire: PyVISA, and what keeps a transaction whole when the wire is not."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import BenchError
from .messages import MAX_MESSAGE_BYTES, MessageError, block, open_answer, pack_request

if TYPE_CHECKING:
    from pyvisa.resources import MessageBasedResource

TIMEOUT = 10.0
"""Seconds that an instrument may be silent."""
ATTEMPTS = 6
"""How often a message is sent before giving up."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
_SLICE_MS = 100
_RECEIVE = 1 << 20
_GARBLED = 101  # status of a transaction that the instrument did not understand, and did not carry out
_ADDRESS = re.compile(r"([A-Za-z0-9.-]{1,253}):([0-9]{1,5})")

Result = TypeVar("Result")


class Link:
    """A connection to one instrument that is made when it is needed, and made again when it is lost.

    Args:
        address: ``HOST:PORT``.
        timeout: seconds that the instrument may be silent.
        attempts: how often a message is sent, each time over a new connection, before giving up.

    Raises:
        BenchError: if the address is none, or PyVISA is missing.
    """

    def __init__(self, address: str, *, timeout: float = TIMEOUT, attempts: int = ATTEMPTS) -> None:
        found = _ADDRESS.fullmatch(address)
        if found is None or not 0 < int(found[2]) < 1 << 16:
            raise BenchError(f"{address!r} is no address of an instrument; give HOST:PORT")
        self.address = address
        self._resource_name = f"TCPIP0::{found[1]}::{int(found[2])}::SOCKET"
        self._timeout, self._attempts = timeout, attempts
        self._faults = (OSError, MessageError, _visa().errors.Error)
        self._manager: Any = None
        self._resource: MessageBasedResource | None = None

    def transact(self, number: int, message: bytes) -> bytes:
        """Have a message carried out once, however often it must be sent, and return the response.

        Args:
            number: of the transaction; of one that is sent again it is the same.
            message: commands and queries, without newline.

        Raises:
            BenchError: if the instrument refuses it, or gives no usable answer.
        """
        request = b"TRAN? " + block(pack_request(number, message)) + b"\n"

        def once() -> bytes | BenchError:
            self._send(request)
            answer = open_answer(self._receive_block())
            if answer.status == _GARBLED:
                raise MessageError("what was sent arrived garbled")
            if answer.number != number:
                raise MessageError("the answer belongs to another transaction")
            if answer.status:
                words = answer.data.decode("ascii", "replace")
                return BenchError(f"bench {self.address} refuses ({answer.status}): {words}")
            return answer.data

        result = self._persist(once)
        if isinstance(result, BenchError):
            raise result
        return result

    def ask(self, query: str) -> str:
        """Return the answer to a query that may be repeated at will, without a transaction.

        Raises:
            BenchError: if the instrument gives none.
        """

        def once() -> str:
            self._send(query.encode("ascii") + b"\n")
            line = bytearray()
            while not line.endswith(b"\n"):
                line += self._receive(1)
                if len(line) > 1 << 16:
                    raise MessageError("an answer without an end")
            return line[:-1].decode("ascii")

        return self._persist(once)

    def close(self) -> None:
        """End the connection; the next message makes a new one."""
        if self._resource is not None:
            with contextlib.suppress(*self._faults):
                self._resource.close()
            self._resource = None

    def _persist(self, once: Callable[[], Result]) -> Result:
        """Try over new connections, with growing pauses, until it works or the attempts are used up."""
        pause, reason = _FIRST_PAUSE, ""
        for attempt in range(self._attempts):
            if attempt:
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            try:
                return once()
            except self._faults as error:
                reason = " ".join(str(error).split())
                self.close()
            except UnicodeDecodeError:
                reason = "an answer that is no text"
                self.close()
        raise BenchError(
            f"bench {self.address}: no usable answer in {self._attempts} attempts (the last one: {reason}); "
            "see that the instrument is on and reachable, then run again"
        )

    def _connected(self) -> MessageBasedResource:
        if self._resource is None:
            visa = _visa()
            if self._manager is None:
                self._manager = visa.ResourceManager("@py")
            resource = self._manager.open_resource(
                self._resource_name, open_timeout=int(1000 * self._timeout), timeout=_SLICE_MS
            )
            # Half an answer is handed over when no more comes, and the end of a message leaves at once.
            resource.set_visa_attribute(visa.constants.ResourceAttribute.suppress_end_enabled, False)
            if (interface := _socket_of(resource)) is not None:
                interface.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._resource = resource
        return self._resource

    def _send(self, data: bytes) -> None:
        self._connected().write_raw(data)

    def _receive_block(self) -> bytes:
        """Receive one block and its newline."""
        mark = self._receive(2)
        if mark[:1] != b"#" or not mark[1:].isdigit() or mark[1:] == b"0":
            raise MessageError("garbled answer")
        length = self._receive(int(mark[1:]))
        if not length.isdigit() or int(length) > MAX_MESSAGE_BYTES:
            raise MessageError("garbled answer")
        data = self._receive(int(length) + 1)
        if data[-1:] != b"\n":
            raise MessageError("garbled answer")
        return data[:-1]

    def _receive(self, count: int) -> bytes:
        """Receive exactly ``count`` bytes; raises OSError if they do not come."""
        resource, visa = self._connected(), _visa()
        data = bytearray()
        deadline = time.monotonic() + self._timeout
        while len(data) < count:
            part = b""
            try:
                with resource.ignore_warning(visa.constants.StatusCode.success_max_count_read):
                    part, _ = resource.visalib.read(resource.session, min(count - len(data), _RECEIVE))
            except visa.errors.VisaIOError as error:
                if error.error_code != visa.constants.StatusCode.error_timeout:
                    raise
            if part:
                data += part
                deadline = time.monotonic() + self._timeout
            elif _gone(resource):
                raise ConnectionError("the connection was cut")
            elif time.monotonic() > deadline:
                raise TimeoutError(f"no answer within {self._timeout:g} s")
        return bytes(data)


def _gone(resource: MessageBasedResource) -> bool:
    """Return whether the other end has closed the connection, which PyVISA-py takes for silence."""
    interface = _socket_of(resource)
    if interface is None:
        return False
    try:
        return interface.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False


def _socket_of(resource: MessageBasedResource) -> socket.socket | None:
    """Return the socket that PyVISA-py keeps to itself; None if it is kept otherwise.

    Its attribute for sending small messages at once cannot be set, and there is none for a connection that
    was closed.
    """
    sessions = getattr(resource.visalib, "sessions", {})
    interface = getattr(sessions.get(resource.session), "interface", None)
    return interface if isinstance(interface, socket.socket) else None


def _visa() -> Any:
    """Return PyVISA.

    Raises:
        BenchError: if it, or its back end in Python, is missing.
    """
    try:
        import pyvisa
        import pyvisa_py  # noqa: F401 found by name later
    except ImportError as error:
        raise BenchError(f"instruments need PyVISA ({error}); install hwloop[bench]") from error
    return pyvisa

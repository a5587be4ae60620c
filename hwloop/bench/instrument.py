"""The virtual instrument: SCPI commands to an array bank; ``docs/bench.md`` describes the command tree."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .bank import ArrayBank
from .messages import (
    MAX_MESSAGE_BYTES,
    Answer,
    MessageError,
    array_block,
    block,
    open_request,
    pack_answer,
    read_array,
)
from .scpi import Command, ScpiError, parse
from .session import OPERATION_COMPLETE, Parameters, Session

MAX_BITS = 16
CHECKSUM_ERROR = 101
COMPLIANCE_ERROR = 102
SUPERSEDED_ERROR = 103


class _Last(NamedTuple):
    """The last transaction, and what was answered."""

    request: bytes
    answer: bytes


class VirtualInstrument:
    """Carries out messages, one at a time, on behalf of any number of sessions.

    Args:
        bank: the arrays.
        serial: serial number that it shows.
    """

    def __init__(self, bank: ArrayBank, serial: str) -> None:
        self._bank, self._serial = bank, serial
        limits = bank.card.safe_limits
        self._largest = limits.read_voltage.value
        pulse = limits.program_voltage
        self._limits = {
            "VOLTAGE": max(self._largest, pulse.value if pulse else 0.0),
            "CURRENT": limits.cell_current.value * bank.array_shape[0],
        }
        self._lock = threading.Lock()
        self._last = _Last(b"", b"")
        self._sessions = itertools.count()
        self._latest = 0  # place of the latest session that made a transaction
        self._count = 1 << 63  # numbers of commands that come without a transaction

    def open_session(self) -> Session:
        """Return the state of a new connection."""
        return Session(next(self._sessions))

    def execute(self, session: Session, message: bytes) -> bytes:
        """Carry out a message and return the response with its newline; empty if nothing was asked."""
        with self._lock:
            self._count += 1
            session.number, session.step = self._count, 0
            responses = self._run(session, message)
        return b";".join(responses) + b"\n" if responses else b""

    def _run(self, session: Session, message: bytes) -> list[bytes]:
        """Carry out the commands of a message up to the first error, which goes to the queue."""
        responses: list[bytes] = []
        try:
            for command in parse(message):
                session.step += 1
                handler = _handler(command)
                response = handler(self, session, Parameters(command))
                if response is not None:
                    responses.append(response)
        except ScpiError as error:
            session.report(error)
        except MessageError as error:
            session.report(ScpiError(-161, f"Invalid block data;{error}"))
        except ValueError as error:
            session.report(ScpiError(-222, f"Data out of range;{error}"))
        return responses

    def _transaction(self, session: Session, given: Parameters) -> bytes:
        request = given.data()
        given.end()
        if session.nested:
            raise ScpiError(-221, "Settings conflict;a transaction cannot hold another")
        try:
            number, message = open_request(request)
        except MessageError as error:
            return block(pack_answer(Answer(0, CHECKSUM_ERROR, str(error).encode())))
        # What an abandoned connection still held must not be done after what came over the next one.
        if session.place < self._latest:
            words = b"a later connection has taken over"
            return block(pack_answer(Answer(number, SUPERSEDED_ERROR, words)))
        self._latest = session.place
        digest = hashlib.sha256(request).digest()
        if digest == self._last.request:
            return self._last.answer
        inner = Session(session.place, number=number, nested=True)
        responses = self._run(inner, message)
        status, data = (inner.errors[0][0], inner.errors[0][1].encode()) if inner.errors else (0, b"")
        answer = block(pack_answer(Answer(number, status, data or b";".join(responses))))
        self._last = _Last(digest, answer)
        return answer

    # IEEE 488.2 and SYSTem

    def _identify(self, _: Session, given: Parameters) -> bytes:
        given.end()
        return f"hwloop,virtual-instrument,{self._serial},1".encode()

    def _reset(self, session: Session, given: Parameters) -> None:
        given.end()
        self._bank.erase_all()
        self._last = _Last(b"", b"")
        session.array, session.word_lines, session.volts, session.compliance = 0, [], 0.0, None

    def _clear(self, session: Session, given: Parameters) -> None:
        given.end()
        session.errors.clear()
        session.status = 0

    def _event_status(self, session: Session, given: Parameters) -> bytes:
        given.end()
        status, session.status = session.status, 0
        return b"%d" % status

    def _complete(self, session: Session, given: Parameters) -> None:
        given.end()
        session.status |= OPERATION_COMPLETE

    def _completed(self, _: Session, given: Parameters) -> bytes:
        given.end()
        return b"1"

    def _passed(self, _: Session, given: Parameters) -> bytes:
        given.end()
        return b"0"

    def _wait(self, _: Session, given: Parameters) -> None:
        given.end()

    def _next_error(self, session: Session, given: Parameters) -> bytes:
        given.end()
        code, words = session.errors.popleft() if session.errors else (0, "No error")
        return b'%d,"%s"' % (code, words.replace('"', "'").encode("ascii", "replace"))

    def _version(self, _: Session, given: Parameters) -> bytes:
        given.end()
        return b"1999.0"

    def _capabilities(self, _: Session, given: Parameters) -> bytes:
        given.end()
        rows, cols = self._bank.array_shape
        figures = (rows, cols, self._bank.arrays, self._bank.card.levels, self._bank.adc_bits)
        return ",".join(map(str, figures)).encode()

    # Limits and selection

    def _set_voltage_limit(self, _: Session, given: Parameters) -> None:
        self._limits["VOLTAGE"] = given.number(0.0, 100.0)
        given.end()

    def _set_current_limit(self, _: Session, given: Parameters) -> None:
        self._limits["CURRENT"] = given.number(0.0, 100.0)
        given.end()

    def _voltage_limit(self, _: Session, given: Parameters) -> bytes:
        given.end()
        return _text(self._limits["VOLTAGE"])

    def _current_limit(self, _: Session, given: Parameters) -> bytes:
        given.end()
        return _text(self._limits["CURRENT"])

    def _select(self, session: Session, given: Parameters) -> None:
        session.array = given.whole(0, self._bank.arrays - 1)
        given.end()

    def _selected(self, session: Session, given: Parameters) -> bytes:
        given.end()
        return b"%d" % session.array

    # Whole tiles

    def _erase(self, session: Session, given: Parameters) -> None:
        given.end()
        self._bank.erase(session.array)

    def _program(self, session: Session, given: Parameters) -> None:
        target = read_array(given.data(), "<f4", self._bank.array_shape)
        given.end()
        self._bank.program(session.array, target, session.number)

    def _conductances(self, session: Session, given: Parameters) -> bytes:
        given.end()
        return array_block(self._bank.conductances(session.array, session.number), "<f4")

    def _apply(self, session: Session, given: Parameters) -> bytes:
        volts, full_scale = self._read_voltage(given), given.number(1e-12, 1e3)
        bits, data = given.whole(1, MAX_BITS), given.data()
        given.end()
        rows, cols = self._bank.array_shape
        kind = "|u1" if bits <= 8 else "<u2"
        vectors = len(data) // (rows * np.dtype(kind).itemsize)
        if vectors * cols * 4 > MAX_MESSAGE_BYTES // 2:
            raise ScpiError(-223, f"Too much data;the answer to {vectors} vectors is too long")
        codes = read_array(data, kind, (vectors, rows))
        if vectors and int(codes.max()) >> bits:
            raise ScpiError(-222, f"Data out of range;an input code has more than {bits} bits")
        sums = self._bank.apply(session.array, codes, bits, full_scale / volts, session.number)
        return array_block(sums, "<i4")

    # Source, switching matrix and measurement

    def _source(self, session: Session, given: Parameters) -> None:
        session.volts = self._read_voltage(given)
        given.end()

    def _protect(self, session: Session, given: Parameters) -> None:
        session.compliance = given.number(0.0, self._limits["CURRENT"])
        given.end()

    def _open_all(self, session: Session, given: Parameters) -> None:
        given.end()
        session.word_lines = []

    def _close(self, session: Session, given: Parameters) -> None:
        lines = given.lines(self._bank.array_shape[0])
        given.end()
        session.word_lines = sorted({*session.word_lines, *lines})

    def _measure(self, session: Session, given: Parameters) -> bytes:
        lines = given.lines(self._bank.array_shape[1])
        given.end()
        volts = np.zeros(self._bank.array_shape[0])
        volts[session.word_lines] = session.volts
        number = f"{session.number} {session.step}"
        currents = self._bank.currents(session.array, volts, lines, number)
        limit = self._limits["CURRENT"] if session.compliance is None else session.compliance
        if np.any(np.abs(currents) > limit):
            line = lines[int(np.argmax(np.abs(currents)))]
            raise ScpiError(COMPLIANCE_ERROR, f"Compliance;bit line {line} draws more than {limit:g} A")
        return ",".join(f"{current:.9e}" for current in currents).encode()

    def _pulse(self, session: Session, given: Parameters) -> None:
        volts = given.number(-self._limits["VOLTAGE"], self._limits["VOLTAGE"])
        seconds = given.number(0.0, 1.0)
        cell = (
            given.whole(0, self._bank.array_shape[0] - 1),
            given.whole(0, self._bank.array_shape[1] - 1),
        )
        given.end()
        self._bank.pulse(session.array, cell, volts, seconds, f"{session.number} {session.step}")

    def _read_voltage(self, given: Parameters) -> float:
        return given.number(1e-6, min(self._largest, self._limits["VOLTAGE"]))


_Handler = Callable[[VirtualInstrument, Session, Parameters], bytes | None]

# Capitals are the short form of a keyword; either form is understood.
_COMMANDS: dict[str, _Handler] = {
    "*IDN?": VirtualInstrument._identify,
    "*RST": VirtualInstrument._reset,
    "*CLS": VirtualInstrument._clear,
    "*ESR?": VirtualInstrument._event_status,
    "*OPC": VirtualInstrument._complete,
    "*OPC?": VirtualInstrument._completed,
    "*TST?": VirtualInstrument._passed,
    "*WAI": VirtualInstrument._wait,
    "SYSTem:ERRor?": VirtualInstrument._next_error,
    "SYSTem:ERRor:NEXT?": VirtualInstrument._next_error,
    "SYSTem:VERSion?": VirtualInstrument._version,
    "SYSTem:CAPability?": VirtualInstrument._capabilities,
    "TRANsaction?": VirtualInstrument._transaction,
    "LIMit:VOLTage": VirtualInstrument._set_voltage_limit,
    "LIMit:VOLTage?": VirtualInstrument._voltage_limit,
    "LIMit:CURRent": VirtualInstrument._set_current_limit,
    "LIMit:CURRent?": VirtualInstrument._current_limit,
    "ARRay:SELect": VirtualInstrument._select,
    "ARRay:SELect?": VirtualInstrument._selected,
    "ARRay:ERASe": VirtualInstrument._erase,
    "ARRay:PROGram": VirtualInstrument._program,
    "ARRay:CONDuctance?": VirtualInstrument._conductances,
    "ARRay:APPLy?": VirtualInstrument._apply,
    "SOURce:VOLTage": VirtualInstrument._source,
    "SENSe:CURRent:PROTection": VirtualInstrument._protect,
    "ROUTe:OPEN:ALL": VirtualInstrument._open_all,
    "ROUTe:CLOSe": VirtualInstrument._close,
    "MEASure:CURRent?": VirtualInstrument._measure,
    "PULSe": VirtualInstrument._pulse,
}


def _forms(pattern: str) -> list[str]:
    """Return every way to write a header, in upper case."""
    query = "?" if pattern.endswith("?") else ""
    written = [""]
    for keyword in pattern.removesuffix("?").split(":"):
        short = "".join(c for c in keyword if not c.islower())
        written = [f"{start}:{form}" for start in written for form in {short, keyword.upper()}]
    return [form[1:] + query for form in written]


_HANDLERS = {form: handler for pattern, handler in _COMMANDS.items() for form in _forms(pattern)}


def _handler(command: Command) -> _Handler:
    try:
        return _HANDLERS[command.header]
    except KeyError:
        raise ScpiError(-113, f"Undefined header;{command.header[:80]}") from None


def _text(value: float) -> bytes:
    return f"{value:.9g}".encode()

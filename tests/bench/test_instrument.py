"""The virtual instrument over real sockets: IEEE 488.2, the command tree, limits, garbage, many clients."""

from __future__ import annotations

import socket

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwloop.bench import BenchServer, Link
from hwloop.bench.messages import array_block, block, open_block, pack_request
from hwloop.bench.server import MAX_CONNECTIONS

TARGET = np.zeros((8, 8))
TARGET[2, 5], TARGET[3, 0] = 40e-6, 20e-6


class Client:
    """A plain socket."""

    def __init__(self, server: BenchServer) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        self._file = self._socket.makefile("rb")

    def send(self, message: bytes) -> None:
        self._socket.sendall(message + b"\n")

    def ask(self, message: bytes) -> bytes:
        self.send(message)
        return self._file.readline()[:-1]

    def ask_block(self, message: bytes) -> bytes:
        self.send(message)
        digits = int(self._file.read(2)[1:])
        data = self._file.read(int(self._file.read(digits)))
        assert self._file.read(1) == b"\n"
        return data

    def closed(self) -> bool:
        return self._file.read(1) == b""


@pytest.fixture
def client(server: BenchServer) -> Client:
    return Client(server)


def test_common_commands_answer_as_the_standard_says(client: Client) -> None:
    assert client.ask(b"*IDN?").startswith(b"hwloop,virtual-instrument,")
    assert client.ask(b"*OPC?;*TST?") == b"1;0"
    client.send(b"*WAI;*OPC")
    assert client.ask(b"*ESR?") == b"1"
    assert client.ask(b"*ESR?") == b"0"
    assert client.ask(b"SYSTEM:ERROR:NEXT?") == b'0,"No error"'
    assert client.ask(b"syst:cap?") == b"8,8,64,15,10"


def test_errors_queue_up_in_order_and_are_cleared(client: Client) -> None:
    for message in (b"NOPE:CMD", b"ARR:SEL 64", b"ARR:SEL", b"ARR:SEL 1,2", b"ARR:PROG #13abc", b"ARR:SEL x"):
        client.send(message)
    codes = [int(client.ask(b"SYST:ERR?").split(b",")[0]) for _ in range(7)]
    assert codes == [-113, -222, -109, -108, -161, -104, 0]
    client.send(b"NOPE")
    assert client.ask(b"*ESR?") == b"48"  # command and execution errors
    client.send(b"NOPE;*CLS")
    client.send(b"*CLS")
    assert client.ask(b"SYST:ERR?;*ESR?") == b'0,"No error";0'


def test_the_error_queue_ends_with_overflow(client: Client) -> None:
    for _ in range(100):
        client.send(b"NOPE")
    codes = [int(client.ask(b"SYST:ERR?").split(b",")[0]) for _ in range(31)]
    assert codes == [-113] * 29 + [-350, 0]


def test_whole_tiles_are_programmed_measured_and_multiplied(client: Client) -> None:
    client.send(b"ARR:SEL 7;PROG " + array_block(TARGET, "<f4"))
    measured = np.frombuffer(client.ask_block(b"ARR:COND?"), "<f4").reshape(8, 8)
    assert (measured[TARGET == 0] == 0).all()
    assert np.abs(measured - TARGET).max() < 12e-6
    codes = np.zeros((3, 8), np.uint8)
    codes[1, 2], codes[2, 3] = 255, 100
    response = client.ask_block(b"ARR:APPL? 0.2,8e-6,8," + array_block(codes, "|u1"))
    sums = np.frombuffer(response, "<i4").reshape(3, 8) * 40e-6 / 1023
    assert sums[1, 5] == pytest.approx(255 * measured[2, 5], rel=0.1)
    assert sums[2, 0] == pytest.approx(100 * measured[3, 0], rel=0.15)
    assert np.abs(sums[0]).max() < 255 * 3 * 40e-6 / 1023  # offsets of the converters


def test_an_array_holds_what_it_holds_until_reset(client: Client, server: BenchServer) -> None:
    client.send(b"ARR:SEL 7;PROG " + array_block(TARGET, "<f4"))
    assert client.ask(b"*OPC?") == b"1"
    other = Client(server)
    assert np.frombuffer(other.ask_block(b"ARR:SEL 7;COND?"), "<f4").any()
    assert not np.frombuffer(other.ask_block(b"ARR:SEL 6;COND?"), "<f4").any()
    other.send(b"*RST")
    assert not np.frombuffer(other.ask_block(b"ARR:SEL 7;COND?"), "<f4").any()


def test_pulses_raise_and_lower_a_cell_and_a_line_is_measured(client: Client) -> None:
    client.send(b"ARR:SEL 1;:ROUT:CLOS (@4);:SOUR:VOLT 0.2")

    def current() -> float:
        return float(client.ask(b"MEAS:CURR? (@0:7)").split(b",")[6])

    assert current() == 0
    for _ in range(5):
        client.send(b"PULS 2.5,1E-6,4,6")
    risen = current()
    assert risen > 2e-6
    for _ in range(5):
        client.send(b"PULS -2.5,1E-6,4,6")
    assert current() < risen / 2
    client.send(b"ROUT:OPEN:ALL")
    assert current() == 0


def test_limits_are_kept(client: Client) -> None:
    client.send(b"LIM:VOLT 1;CURR 1e-6")
    assert client.ask(b"LIM:VOLT?;CURR?") == b"1;1e-06"
    client.send(b"PULS 1.1,1e-6,0,0")
    assert b"not within -1 to 1" in client.ask(b"SYST:ERR?")
    client.send(b"SOUR:VOLT 0.31")  # above the read voltage that the card allows
    assert client.ask(b"SYST:ERR?").startswith(b"-222")
    client.send(b"ARR:SEL 2;PROG " + array_block(TARGET, "<f4"))
    client.send(b"ROUT:CLOS (@2);:SOUR:VOLT 0.2;:MEAS:CURR? (@5)")
    assert b"Compliance;bit line 5" in client.ask(b"SYST:ERR?")
    client.send(b"ARR:PROG " + array_block(2 * TARGET, "<f4"))
    assert b"targets must lie between 0 and 4e-05 S" in client.ask(b"SYST:ERR?")


def test_the_same_transaction_is_answered_again_and_not_done_again(client: Client) -> None:
    client.send(b"ARR:SEL 1;:ROUT:CLOS (@4);:SOUR:VOLT 0.2")
    pulse = b"ARR:SEL 1;:PULS 2.5,1E-6,4,6;:ARR:COND?"
    request = b"TRAN? " + block(pack_request(5, pulse))
    first = client.ask_block(request)
    assert client.ask_block(request) == first
    assert client.ask_block(b"TRAN? " + block(pack_request(6, pulse))) != first
    # What was drawn in a transaction does not depend on when or how often it is carried out.
    read = b"TRAN? " + block(pack_request(9, b"ARR:SEL 1;COND?"))
    once = client.ask_block(read)
    client.ask_block(b"TRAN? " + block(pack_request(10, b"ARR:SEL 1;COND?")))
    assert client.ask_block(read) == once


def test_a_garbled_transaction_is_not_carried_out(client: Client) -> None:
    request = bytearray(pack_request(1, b"ARR:SEL 1;PROG " + array_block(TARGET, "<f4")))
    request[-9] ^= 1
    client.ask_block(b"TRAN? " + block(bytes(request)))
    assert not np.frombuffer(client.ask_block(b"ARR:SEL 1;COND?"), "<f4").any()


def test_what_an_abandoned_connection_still_held_is_not_done_later(server: BenchServer) -> None:
    pulse = b"ARR:SEL 1;:PULS 2.5,1E-6,4,6"
    old, new = Client(server), Client(server)
    for client in (old, new):
        assert client.ask(b"*OPC?") == b"1"
    new.ask_block(b"TRAN? " + block(pack_request(5, pulse)))
    measure = b"TRAN? " + block(pack_request(6, b"ARR:SEL 1;COND?"))
    once = new.ask_block(measure)
    assert b"a later connection has taken over" in old.ask_block(b"TRAN? " + block(pack_request(5, pulse)))
    assert new.ask_block(measure) == once


def test_transactions_do_not_nest(client: Client) -> None:
    message = b"*IDN?"
    for _ in range(300):
        message = b"TRAN? " + block(pack_request(1, message))
    assert b"cannot hold another" in client.ask_block(message)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=80),
            st.sampled_from([b"ARR:APPL? ", b"TRAN? ", b"#", b"#9", b"(@", b"\n", b";:", b"nan,inf,1e999,"]),
        ),
        max_size=8,
    )
)
def test_garbage_never_ends_the_instrument(server: BenchServer, parts: list[bytes]) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as wild:
        wild.sendall(b"".join(parts) + b"\n")
    assert Client(server).ask(b"*OPC?") == b"1"


def test_a_message_that_is_too_long_ends_its_connection_only(client: Client, server: BenchServer) -> None:
    client.send(b"ARR:PROG #9999999999")
    assert client.closed()
    assert Client(server).ask(b"*OPC?") == b"1"


def test_one_connection_too_many_ends_the_oldest(server: BenchServer) -> None:
    clients = []
    for _ in range(MAX_CONNECTIONS + 1):
        clients.append(Client(server))
        assert clients[-1].ask(b"*OPC?") == b"1"
    assert clients[0].closed()
    assert clients[1].ask(b"*OPC?") == b"1"


def test_chips_of_other_seeds_are_others_and_nothing_tells_the_seed(address: str) -> None:
    from .conftest import serving

    def first_word(seed: int) -> tuple[str, bytes]:
        with serving(seed=seed) as server:
            link = Link(f"127.0.0.1:{server.port}")
            data = link.transact(1, b"ARR:PROG " + array_block(TARGET, "<f4") + b";:ARR:COND?")
            return link.ask("*IDN?"), open_block(data)[0]

    assert first_word(1) == first_word(1)
    assert first_word(1)[0] != first_word(2)[0]
    assert first_word(1)[1] != first_word(2)[1]

"""SCPI as it is heard: streams cut anywhere, headers in every form, and nothing that garbage can end."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwloop.bench.messages import (
    MAX_MESSAGE_BYTES,
    Answer,
    MessageError,
    block,
    open_answer,
    open_block,
    open_request,
    pack_answer,
    pack_request,
)
from hwloop.bench.scpi import Command, MessageReader, ScpiError, channel_list, channels, parse


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_blocks_give_back_what_they_hold(data: bytes) -> None:
    packed = block(data)
    assert open_block(b"," + packed + b";", 1) == (data, 1 + len(packed))


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=4), st.data())
def test_streams_are_cut_at_newlines_outside_of_blocks_however_they_arrive(
    contents: list[bytes], data: st.DataObject
) -> None:
    messages = [b"ARR:PROG " + block(content) for content in contents]
    stream = b"".join(message + b"\n" for message in messages)
    reader, found = MessageReader(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += list(reader.feed(stream[:size]))
        stream = stream[size:]
    assert found == messages


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=6))
def test_garbage_is_cut_or_refused_and_never_anything_else(parts: list[bytes]) -> None:
    reader = MessageReader()
    with contextlib.suppress(ScpiError):
        for part in parts:
            for message in reader.feed(part):
                list(parse(message))


def test_a_block_that_claims_too_much_is_refused_before_it_arrives() -> None:
    with pytest.raises(ScpiError, match="Input buffer overrun"):
        list(MessageReader().feed(b"ARR:PROG #9999999999"))


def test_a_message_without_end_is_refused() -> None:
    reader = MessageReader()
    list(reader.feed(b"A" * MAX_MESSAGE_BYTES))
    with pytest.raises(ScpiError, match="Input buffer overrun"):
        list(reader.feed(b"A"))


def test_a_header_without_colon_goes_on_where_the_last_one_was() -> None:
    given = b"limit:volt 1.5;CURR 2; *OPC?;:ARR:SEL 3;ERAS"
    assert list(parse(given)) == [
        Command("LIMIT:VOLT", ["1.5"]),
        Command("LIMIT:CURR", ["2"]),
        Command("*OPC?", []),
        Command("ARR:SEL", ["3"]),
        Command("ARR:ERAS", []),
    ]


def test_parameters_are_words_blocks_and_channel_lists() -> None:
    (command,) = parse(b"X 1.5 , #13a;\n,(@1,3:4)")
    assert command == Command("X", ["1.5", b"a;\n", "(@1,3:4)"])
    assert channels("(@1,3:4)") == [1, 3, 4]


@settings(deadline=None)
@given(st.sets(st.integers(0, 200)))
def test_channel_lists_name_the_lines_they_were_made_of(lines: set[int]) -> None:
    assert channels(channel_list(sorted(lines))) == sorted(lines)


@pytest.mark.parametrize("text", ["(@1", "1,2", "(@a)", "(@1:2:3)", "(@0:999999)", "(@1234567)"])
def test_bad_channel_lists_are_refused(text: str) -> None:
    with pytest.raises(ScpiError):
        channels(text)


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), st.binary(max_size=50), st.data())
def test_one_wrong_byte_in_a_transaction_is_noticed(number: int, message: bytes, data: st.DataObject) -> None:
    request, answer = pack_request(number, message), pack_answer(Answer(number, -5, message))
    assert open_request(request) == (number, message)
    assert open_answer(answer) == Answer(number, -5, message)
    for whole, opened in ((request, open_request), (answer, open_answer)):
        place = data.draw(st.integers(0, len(whole) - 1))
        wrong = bytearray(whole)
        wrong[place] ^= data.draw(st.integers(1, 255))
        with pytest.raises(MessageError, match="differs"):
            opened(bytes(wrong))

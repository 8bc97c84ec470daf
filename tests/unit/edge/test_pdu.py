"""Requests and what passes for their replies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.links import pdu
from edge.links.pdu import Refusal
from heron.powergrid.registers.table import Space
from simulator.modbus.pdu import expected_length

READ = pdu.read_request(Space.HOLDING, 100, 2)
BITS = pdu.read_request(Space.COIL, 0, 11)
WRITE = pdu.write_request(100, b"\x00\x07\x00\x08")


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (READ, "0300640002"),
        (pdu.read_request(Space.INPUT, 0, 125), "040000007d"),
        (BITS, "010000000b"),
        (pdu.read_request(Space.DISCRETE, 65535, 1), "02ffff0001"),
        (WRITE, "100064000204" + "00070008"),
        (pdu.write_bits_request(3, [1, 0, 1]), "0f0003000301" + "05"),
        (pdu.read_write_request(10, 4, 100, b"\0\7"), "17000a0004006400010200" + "07"),
    ],
)
def test_requests_are_those_of_the_specification(request_: bytes, text: str) -> None:
    assert request_.hex() == text
    assert expected_length(request_) == len(request_)


@pytest.mark.parametrize(
    "make",
    [
        lambda: pdu.read_request(Space.HOLDING, 0, 0),
        lambda: pdu.read_request(Space.HOLDING, 0, 126),
        lambda: pdu.read_request(Space.COIL, 0, 2001),
        lambda: pdu.read_request(Space.HOLDING, 65535, 2),
        lambda: pdu.read_request(Space.HOLDING, -1, 2),
        lambda: pdu.write_request(0, b""),
        lambda: pdu.write_request(0, bytes(2 * 124)),
        lambda: pdu.read_write_request(0, 1, 0, bytes(2 * 122)),
    ],
)
def test_a_request_that_no_device_may_answer_is_not_made(make: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("8302", r"exception 0x02 \(illegal data address\)"),
        ("8363", r"exception 0x63 \(unknown\)"),
        ("9002", "asked with function 3, answered with 144"),
        ("830200", "asked with function 3, answered with 131"),
        ("04040007", "asked with function 3, answered with 4"),
        ("03020007", "asked for 2 registers, got 1"),
        ("0306000700080009", "asked for 2 registers, got 3"),
        ("030400070008ff", "asked for 2 registers"),
        ("0304000700", "asked for 2 registers, got 1"),
        ("03", "asked for 2 registers, got 0"),
    ],
)
def test_a_reply_that_does_not_fit_gives_no_registers(reply: str, reason: str) -> None:
    with pytest.raises(Refusal, match=reason):
        pdu.registers_of(bytes.fromhex(reply), READ, 2)


def test_registers_are_given_as_they_came() -> None:
    assert pdu.registers_of(bytes.fromhex("030400070008"), READ, 2) == b"\x00\x07\x00\x08"


def test_bits_are_taken_from_the_lowest_on() -> None:
    assert pdu.bits_of(bytes.fromhex("01020504"), BITS, 11) == [1, 0, 1] + 7 * [0] + [1]
    with pytest.raises(Refusal, match="asked for 11 bits, got 8"):
        pdu.bits_of(bytes.fromhex("010105"), BITS, 11)


def test_a_confirmation_of_another_write_is_none() -> None:
    pdu.check_written(bytes.fromhex("1000640002"), WRITE)
    with pytest.raises(Refusal, match="wrote 2 values at 100, the reply is for 1 at 100"):
        pdu.check_written(bytes.fromhex("1000640001"), WRITE)
    with pytest.raises(Refusal, match="the reply is for"):
        pdu.check_written(bytes.fromhex("100064"), WRITE)


def test_the_code_of_an_exception_is_kept() -> None:
    with pytest.raises(Refusal) as caught:
        pdu.check_written(bytes.fromhex("9006"), WRITE)
    assert caught.value.code == 6


@given(st.binary(min_size=1, max_size=253), st.integers(1, 125))
def test_whatever_comes_is_registers_of_the_right_number_or_refused(
    reply: bytes, count: int
) -> None:
    request = pdu.read_request(Space.HOLDING, 0, count)
    try:
        data = pdu.registers_of(reply, request, count)
    except Refusal:
        return
    assert reply == bytes((3, 2 * count)) + data
    assert len(data) == 2 * count

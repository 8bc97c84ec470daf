import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heron.powergrid.registers.codec import RegisterType
from heron.powergrid.registers.table import Access, Register, RegisterMap
from simulator.modbus.image import UnitImage
from simulator.modbus.pdu import answer, expected_length

RW = Access.READ_WRITE
MAP = RegisterMap(
    [
        Register("fixed", 100, 2, RegisterType.UINT32),
        Register("word", 102, 1, RegisterType.UINT16, access=RW),
        Register("long", 103, 2, RegisterType.INT32, access=RW),
        Register("mode", 105, 1, RegisterType.ENUM16, access=RW, symbols={0: "OFF", 1: "ON"}),
        Register("tail", 106, 1, RegisterType.UINT16),
    ]
)


@pytest.fixture
def unit() -> UnitImage:
    return UnitImage(
        MAP,
        {"fixed": 0x12345678, "word": 7, "long": -2, "mode": 0, "tail": 9},
        frozenset({"word", "long", "mode"}),
        coils=("a", "b", "c"),
        discretes=("x", "y"),
        identity={0: "HERON-HIL", 1: "Thing", 2: "1", 4: "name"},
    )


def request(fmt: str, *values: int) -> bytes:
    return struct.pack(">" + fmt, *values)


@pytest.mark.parametrize("function", [3, 4])
def test_registers_are_read(unit: UnitImage, function: int) -> None:
    assert answer(unit, request("BHH", function, 100, 3)) == bytes(
        [function, 6, 0x12, 0x34, 0x56, 0x78, 0, 7]
    )


@pytest.mark.parametrize("count", [0, 126, 0xFFFF])
def test_a_bad_count_is_exception_3(unit: UnitImage, count: int) -> None:
    assert answer(unit, request("BHH", 3, 100, count)) == b"\x83\x03"


@pytest.mark.parametrize(("address", "count"), [(99, 1), (107, 1), (100, 8), (0xFFFF, 2)])
def test_a_bad_address_is_exception_2(unit: UnitImage, address: int, count: int) -> None:
    assert answer(unit, request("BHH", 3, address, count)) == b"\x83\x02"


def test_one_register_is_written(unit: UnitImage) -> None:
    sent = request("BHH", 6, 102, 55)
    assert answer(unit, sent) == sent
    assert unit.value("word") == 55


def test_many_registers_are_written(unit: UnitImage) -> None:
    sent = request("BHHBHi", 16, 102, 3, 6, 55, -99)
    assert answer(unit, sent) == sent[:5]
    assert (unit.value("word"), unit.value("long")) == (55, -99)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (request("BHH", 6, 100, 1), 2),  # read-only
        (request("BHHBiI", 16, 103, 4, 8, 5, 1), 2),  # runs into a read-only one
        (request("BHHBHH", 16, 102, 2, 4, 1, 1), 3),  # half of a 32-bit value
        (request("BHH", 6, 104, 1), 3),  # the other half
        (request("BHH", 6, 105, 2), 3),  # not in the enumeration
        (request("BHHBHi", 16, 102, 3, 4, 55, -99), 3),  # byte count
        (request("BHHB", 16, 102, 0, 0), 3),  # nothing to write
        (request("BHHBH", 16, 102, 2, 2, 1), 3),  # fewer registers than announced
    ],
)
def test_a_refused_write_changes_nothing(unit: UnitImage, sent: bytes, code: int) -> None:
    before = unit.read(100, 7)
    assert answer(unit, sent) == bytes([sent[0] | 0x80, code])
    assert unit.read(100, 7) == before


def test_a_mask_write_changes_the_masked_bits(unit: UnitImage) -> None:
    unit.publish({"word": 0x12})
    sent = request("BHHH", 22, 102, 0xF2, 0x25)
    assert answer(unit, sent) == sent
    assert unit.value("word") == 0x17  # the example of the specification


def test_read_write_writes_first_and_reads_then(unit: UnitImage) -> None:
    sent = request("BHHHHBH", 23, 101, 2, 102, 1, 2, 77)
    assert answer(unit, sent) == bytes([23, 4, 0x56, 0x78, 0, 77])


def test_read_write_with_a_bad_read_writes_nothing(unit: UnitImage) -> None:
    assert answer(unit, request("BHHHHBH", 23, 200, 2, 102, 1, 2, 77)) == b"\x97\x02"
    assert unit.value("word") == 7


def test_bits_are_read_and_written(unit: UnitImage) -> None:
    unit.discretes = {"x": False, "y": True}
    assert answer(unit, request("BHH", 2, 0, 2)) == bytes([2, 1, 0b10])
    assert answer(unit, request("BHH", 5, 1, 0xFF00)) == request("BHH", 5, 1, 0xFF00)
    assert answer(unit, request("BHHBB", 15, 1, 2, 1, 0b10)) == request("BHH", 15, 1, 2)
    assert answer(unit, request("BHH", 1, 0, 3)) == bytes([1, 1, 0b100])


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (request("BHH", 5, 0, 0x1234), 3),
        (request("BHH", 5, 3, 0xFF00), 2),
        (request("BHH", 1, 0, 4), 2),
        (request("BHH", 1, 0, 2001), 3),
        (request("BHHBB", 15, 2, 2, 1, 3), 2),
        (request("BHHBH", 15, 0, 2, 2, 3), 3),
    ],
)
def test_bad_bit_requests_are_refused(unit: UnitImage, sent: bytes, code: int) -> None:
    assert answer(unit, sent) == bytes([sent[0] | 0x80, code])
    assert not any(unit.coils.values())


def test_the_device_identifies_itself(unit: UnitImage) -> None:
    reply = answer(unit, bytes([43, 14, 1, 0]))
    assert reply[:7] == bytes([43, 14, 1, 0x82, 0, 0, 3])
    assert reply[7:] == b"\x00\x09HERON-HIL\x01\x05Thing\x02\x011"
    assert answer(unit, bytes([43, 14, 2, 0]))[6] == 4
    assert answer(unit, bytes([43, 14, 4, 4]))[7:] == b"\x04\x04name"
    assert answer(unit, bytes([43, 14, 1, 99]))[6] == 3  # an unknown start means the beginning


def test_a_long_identification_says_that_more_follows(unit: UnitImage) -> None:
    unit.identity = dict.fromkeys(range(5), "x" * 120)
    reply = answer(unit, bytes([43, 14, 2, 0]))
    assert len(reply) <= 253
    more, following, count = reply[4:7]
    assert (more, count) == (0xFF, following)
    assert answer(unit, bytes([43, 14, 2, following]))[7] == following


@pytest.mark.parametrize(
    ("sent", "code"),
    [(bytes([43, 13, 1, 0]), 1), (bytes([43, 14, 4, 9]), 2), (bytes([43, 14, 9, 0]), 3)],
)
def test_bad_identification_requests_are_refused(unit: UnitImage, sent: bytes, code: int) -> None:
    assert answer(unit, sent) == bytes([0xAB, code])


@pytest.mark.parametrize("function", [7, 8, 11, 17, 20, 24, 100])
def test_an_unknown_function_is_exception_1(unit: UnitImage, function: int) -> None:
    assert answer(unit, bytes([function, 0, 0])) == bytes([function | 0x80, 1])


@given(sent=st.binary(min_size=1, max_size=260))
def test_any_bytes_get_an_answer_that_fits_a_frame(sent: bytes) -> None:
    unit = UnitImage(MAP, {}, frozenset({"word", "long", "mode"}), coils=("a",), discretes=("x",))
    reply = answer(unit, sent)
    assert 2 <= len(reply) <= 253
    assert reply[0] & 0x7F == sent[0] & 0x7F


@given(function=st.sampled_from([1, 2, 3, 4, 5, 6, 15, 16, 22, 23, 43]), rest=st.binary())
def test_a_request_of_another_length_is_exception_3(function: int, rest: bytes) -> None:
    unit = UnitImage(MAP, {}, frozenset())
    sent = bytes([function]) + rest
    if expected_length(sent) != len(sent):
        assert answer(unit, sent) == bytes([function | 0x80, 3])

"""Answer one Modbus request: a pure function from the request's bytes to the reply's.

Source: Modbus Application Protocol Specification 1.1b3, section 6.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from simulator.modbus.image import (
    ILLEGAL_ADDRESS,
    ILLEGAL_FUNCTION,
    ILLEGAL_VALUE,
    RefusalError,
    UnitImage,
)

READ_COILS: Final = 1
READ_DISCRETE: Final = 2
READ_HOLDING: Final = 3
READ_INPUT: Final = 4
WRITE_COIL: Final = 5
WRITE_REGISTER: Final = 6
WRITE_COILS: Final = 15
WRITE_REGISTERS: Final = 16
MASK_WRITE: Final = 22
READ_WRITE: Final = 23
ENCAPSULATED: Final = 43
_DEVICE_IDENTIFICATION: Final = 14
WRITE_FUNCTIONS: Final = frozenset(
    {WRITE_COIL, WRITE_REGISTER, WRITE_COILS, WRITE_REGISTERS, MASK_WRITE, READ_WRITE}
)
_TWO_WORDS = struct.Struct(">HH")
_LARGEST_PDU = 253
_FIXED_LENGTHS: Final = {
    READ_COILS: 5,
    READ_DISCRETE: 5,
    READ_HOLDING: 5,
    READ_INPUT: 5,
    WRITE_COIL: 5,
    WRITE_REGISTER: 5,
    MASK_WRITE: 7,
    ENCAPSULATED: 4,
}
_COUNTED_AT: Final = {WRITE_COILS: 5, WRITE_REGISTERS: 5, READ_WRITE: 9}
"""Position of the byte count in requests that carry data."""


def expected_length(head: bytes) -> int | None:
    """Return how long a request is, from its first bytes; None when they do not tell."""
    if not head:
        return None
    function = head[0]
    if function in _FIXED_LENGTHS:
        return _FIXED_LENGTHS[function]
    at = _COUNTED_AT.get(function)
    return None if at is None or len(head) <= at else at + 1 + head[at]


def answer(unit: UnitImage, request: bytes) -> bytes:
    """Return the reply's PDU, which may be an exception."""
    function = request[0]
    handler = _HANDLERS.get(function)
    try:
        if handler is None:
            raise RefusalError(ILLEGAL_FUNCTION)
        if expected_length(request) != len(request):
            raise RefusalError(ILLEGAL_VALUE)
        return handler(unit, request)
    except RefusalError as refusal:
        return bytes((function | 0x80, refusal.code))


def _range(request: bytes, most: int, at: int = 1) -> tuple[int, int]:
    address, count = _TWO_WORDS.unpack_from(request, at)
    if not 1 <= count <= most:
        raise RefusalError(ILLEGAL_VALUE)
    if address + count > 0x10000:
        raise RefusalError(ILLEGAL_ADDRESS)
    return address, count


def _read_registers(unit: UnitImage, request: bytes) -> bytes:
    address, count = _range(request, 125)
    return bytes((READ_HOLDING, 2 * count)) + unit.read(address, count)


def _read_inputs(unit: UnitImage, request: bytes) -> bytes:
    address, count = _range(request, 125)
    return bytes((READ_INPUT, 2 * count)) + unit.read_input(address, count)


def _read_bits(unit: UnitImage, request: bytes) -> bytes:
    address, count = _range(request, 2000)
    bits = unit.read_bits(request[0] == READ_DISCRETE, address, count)
    packed = bytearray((count + 7) // 8)
    for i, on in enumerate(bits):
        packed[i // 8] |= on << i % 8
    return bytes((request[0], len(packed))) + packed


def _write_coil(unit: UnitImage, request: bytes) -> bytes:
    address, value = _TWO_WORDS.unpack_from(request, 1)
    if value not in (0x0000, 0xFF00):
        raise RefusalError(ILLEGAL_VALUE)
    unit.write_bits(address, [value == 0xFF00])
    return request


def _write_register(unit: UnitImage, request: bytes) -> bytes:
    unit.write(_TWO_WORDS.unpack_from(request, 1)[0], request[3:5])
    return request


def _write_coils(unit: UnitImage, request: bytes) -> bytes:
    address, count = _range(request, 1968)
    if request[5] != (count + 7) // 8:
        raise RefusalError(ILLEGAL_VALUE)
    unit.write_bits(address, [bool(request[6 + i // 8] >> i % 8 & 1) for i in range(count)])
    return request[:5]


def _write_registers(unit: UnitImage, request: bytes) -> bytes:
    address, count = _range(request, 123)
    if request[5] != 2 * count:
        raise RefusalError(ILLEGAL_VALUE)
    unit.write(address, request[6:])
    return request[:5]


def _mask_write(unit: UnitImage, request: bytes) -> bytes:
    address, keep = _TWO_WORDS.unpack_from(request, 1)
    (put,) = struct.unpack_from(">H", request, 5)
    now = int.from_bytes(unit.read(address, 1), "big")
    unit.write(address, ((now & keep) | (put & ~keep & 0xFFFF)).to_bytes(2, "big"))
    return request


def _read_write(unit: UnitImage, request: bytes) -> bytes:
    read_from, read_count = _range(request, 125)
    write_to, write_count = _range(request, 121, at=5)
    if request[9] != 2 * write_count:
        raise RefusalError(ILLEGAL_VALUE)
    unit.read(read_from, read_count)  # refuse before anything is written
    unit.write(write_to, request[10:])
    return bytes((READ_WRITE, 2 * read_count)) + unit.read(read_from, read_count)


def _identify(unit: UnitImage, request: bytes) -> bytes:
    kind, code, first = request[1:4]
    if kind != _DEVICE_IDENTIFICATION:
        raise RefusalError(ILLEGAL_FUNCTION)
    objects = unit.identity
    if code == 4:
        if first not in objects:
            raise RefusalError(ILLEGAL_ADDRESS)
        wanted = [first]
    elif code in (1, 2, 3):
        highest = {1: 0x02, 2: 0x7F, 3: 0xFF}[code]
        start = first if first in objects and first <= highest else 0
        wanted = sorted(i for i in objects if start <= i <= highest)
    else:
        raise RefusalError(ILLEGAL_VALUE)
    body, count, following = b"", 0, 0
    for object_id in wanted:
        text = objects[object_id].encode()[:240]
        if 7 + len(body) + 2 + len(text) > _LARGEST_PDU:
            following = object_id
            break
        body += bytes((object_id, len(text))) + text
        count += 1
    more = 0xFF if following else 0x00
    head = bytes((ENCAPSULATED, kind, code, 0x82, more, following, count))
    return head + body


_HANDLERS: Final[dict[int, Callable[[UnitImage, bytes], bytes]]] = {
    READ_COILS: _read_bits,
    READ_DISCRETE: _read_bits,
    READ_HOLDING: _read_registers,
    READ_INPUT: _read_inputs,
    WRITE_COIL: _write_coil,
    WRITE_REGISTER: _write_register,
    WRITE_COILS: _write_coils,
    WRITE_REGISTERS: _write_registers,
    MASK_WRITE: _mask_write,
    READ_WRITE: _read_write,
    ENCAPSULATED: _identify,
}
FUNCTIONS: Final = frozenset(_HANDLERS)

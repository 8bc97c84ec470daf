"""Modbus requests as bytes, and what their replies must look like.

Pure functions over protocol data units: no header, no unit id. Whatever the transport, a reply
passes `body` before anything is taken from it: function code, length and counts are those of the
request, or there is no value.

Source: Modbus Application Protocol Specification 1.1b3, section 6.
"""

from __future__ import annotations

import struct
from typing import Final

from heron.powergrid.registers.table import Space

READ_WRITE: Final = 23
MOST_WRITTEN_BESIDE_A_READ: Final = 121
"""Registers that one request may write which also reads."""
_READ_FUNCTION: Final = {Space.COIL: 1, Space.DISCRETE: 2, Space.HOLDING: 3, Space.INPUT: 4}
_WRITE_COILS, _WRITE_REGISTERS = 15, 16
_ERROR = 0x80
_REQUEST = struct.Struct(">BHH")
_WRITE = struct.Struct(">BHHB")
_READ_WRITE = struct.Struct(">BHHHHB")
EXCEPTIONS: Final = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "server failure",
    5: "acknowledge",
    6: "busy",
    10: "gateway path unavailable",
    11: "gateway target did not answer",
}
ILLEGAL_FUNCTION: Final = 1


class Refusal(Exception):
    """A reply that gives nothing; stops in the connection.

    Attributes:
        code: The device's exception code; None for a reply that does not fit its request.
    """

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.code = code


def read_request(space: Space, address: int, count: int) -> bytes:
    """Return the request for ``count`` registers or bits from ``address``, counted from 0.

    Raises:
        ValueError: The request cannot be made: address 0-65535, 1-125 registers, 1-2000 bits.
    """
    most = 125 if space in (Space.HOLDING, Space.INPUT) else 2000
    _check_range(address, count, most)
    return _REQUEST.pack(_READ_FUNCTION[space], address, count)


def registers_of(reply: bytes, request: bytes, count: int) -> bytes:
    """Return the bytes of the registers that a reply carries, high byte first.

    Raises:
        Refusal: An exception, or a reply that does not fit.
    """
    data = body(reply, request)
    if len(data) != 1 + 2 * count or data[0] != 2 * count:
        raise Refusal(f"asked for {count} registers, got {_carried(data) // 2}")
    return data[1:]


def bits_of(reply: bytes, request: bytes, count: int) -> list[int]:
    """Return the bits that a reply carries, as 0 or 1.

    Raises:
        Refusal: An exception, or a reply that does not fit.
    """
    data = body(reply, request)
    size = (count + 7) // 8
    if len(data) != 1 + size or data[0] != size:
        raise Refusal(f"asked for {count} bits, got {8 * _carried(data)}")
    return [data[1 + i // 8] >> i % 8 & 1 for i in range(count)]


def write_request(address: int, data: bytes) -> bytes:
    """Return the request that writes neighbouring registers, given as their bytes.

    Raises:
        ValueError: The request cannot be made: address 0-65535, 1-123 registers.
    """
    count = len(data) // 2
    _check_range(address, count, 123)
    return _WRITE.pack(_WRITE_REGISTERS, address, count, 2 * count) + data


def write_bits_request(address: int, bits: list[int]) -> bytes:
    """Return the request that writes neighbouring coils.

    Raises:
        ValueError: The request cannot be made: address 0-65535, 1-1968 coils.
    """
    _check_range(address, len(bits), 1968)
    packed = bytearray((len(bits) + 7) // 8)
    for i, on in enumerate(bits):
        packed[i // 8] |= bool(on) << i % 8
    return _WRITE.pack(_WRITE_COILS, address, len(bits), len(packed)) + packed


def check_written(reply: bytes, request: bytes) -> None:
    """Pass when the reply confirms a write of registers or coils.

    Raises:
        Refusal: An exception, or a reply that does not fit.
    """
    data = body(reply, request)
    if data != request[1:5]:
        wanted = struct.unpack_from(">HH", request, 1)
        got = struct.unpack_from(">HH", data) if len(data) == 4 else ("?", "?")
        raise Refusal(
            f"wrote {wanted[1]} values at {wanted[0]}, the reply is for {got[1]} at {got[0]}"
        )


def read_write_request(read_at: int, count: int, write_at: int, data: bytes) -> bytes:
    """Return the request that writes registers and then reads others, in one.

    Raises:
        ValueError: The request cannot be made: 1-125 registers to read, 1-121 to write.
    """
    written = len(data) // 2
    _check_range(read_at, count, 125)
    _check_range(write_at, written, MOST_WRITTEN_BESIDE_A_READ)
    return _READ_WRITE.pack(READ_WRITE, read_at, count, write_at, written, 2 * written) + data


def body(reply: bytes, request: bytes) -> bytes:
    """Return what follows the function code of a reply that answers the request.

    Raises:
        Refusal: An exception code, or the reply to another function.
    """
    asked, answered = request[0], reply[0]
    if answered == asked:
        return reply[1:]
    if answered == asked | _ERROR and len(reply) == 2:
        code = reply[1]
        raise Refusal(f"exception {code:#04x} ({EXCEPTIONS.get(code, 'unknown')})", code)
    raise Refusal(f"asked with function {asked}, answered with {answered}")


def _carried(data: bytes) -> int:
    """Return how many bytes of values a reply brings: fewer than it says, where it is cut off."""
    return min(data[0], len(data) - 1) if data else 0


def _check_range(address: int, count: int, most: int) -> None:
    if not 1 <= count <= most:
        raise ValueError(f"{count} registers or bits in one request, expected 1 to {most}")
    if not 0 <= address <= 0x10000 - count:
        raise ValueError(f"{count} from address {address}, expected to end at 65535 at most")

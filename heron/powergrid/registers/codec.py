"""Turn register words into numbers and back.

Modbus sends each 16-bit register high byte first. What a value of several registers looks like is
the vendor's choice: the four letters of `Order` name the bytes of a 32-bit value 0xAABBCCDD in the
order in which they travel. SunSpec is always ABCD.

Every type has a value that means "not implemented"; it decodes to None and None encodes to it.

Source: SunSpec Device Information Model Specification 1.1, "Point types"; for the byte orders the
Modbus Application Protocol Specification 1.1b3, section 4.2.
"""

from __future__ import annotations

import math
import struct
from enum import StrEnum
from typing import Final

Number = int | float
Raw = int | float | str | None
"""A value as it stands in the registers, before scaling; None is 'not implemented'."""


class RegisterType(StrEnum):
    """How the words of one point are to be read."""

    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    INT64 = "int64"
    UINT64 = "uint64"
    FLOAT16 = "float16"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    STRING = "string"
    ACC16 = "acc16"
    ACC32 = "acc32"
    ACC64 = "acc64"
    ENUM16 = "enum16"
    ENUM32 = "enum32"
    BITFIELD16 = "bitfield16"
    BITFIELD32 = "bitfield32"
    BITFIELD64 = "bitfield64"
    COUNT = "count"
    SUNSSF = "sunssf"
    RAW16 = "raw16"
    IPADDR = "ipaddr"
    PAD = "pad"
    BIT = "bit"


class Order(StrEnum):
    """In which order the bytes of a value travel; the letters are those of 0xAABBCCDD."""

    ABCD = "ABCD"
    DCBA = "DCBA"
    BADC = "BADC"
    CDAB = "CDAB"


_INT16_NA: Final = -0x8000
_UINT16_NA: Final = 0xFFFF
_FORMATS: Final[dict[RegisterType, tuple[str, Number | None]]] = {
    RegisterType.INT16: (">h", _INT16_NA),
    RegisterType.UINT16: (">H", _UINT16_NA),
    RegisterType.INT32: (">i", -0x80000000),
    RegisterType.UINT32: (">I", 0xFFFFFFFF),
    RegisterType.INT64: (">q", -0x8000000000000000),
    RegisterType.UINT64: (">Q", 0xFFFFFFFFFFFFFFFF),
    RegisterType.FLOAT16: (">e", None),
    RegisterType.FLOAT32: (">f", None),
    RegisterType.FLOAT64: (">d", None),
    RegisterType.ACC16: (">H", 0),
    RegisterType.ACC32: (">I", 0),
    RegisterType.ACC64: (">Q", 0),
    RegisterType.ENUM16: (">H", _UINT16_NA),
    RegisterType.ENUM32: (">I", 0xFFFFFFFF),
    RegisterType.BITFIELD16: (">H", _UINT16_NA),
    RegisterType.BITFIELD32: (">I", 0xFFFFFFFF),
    RegisterType.BITFIELD64: (">Q", 0xFFFFFFFFFFFFFFFF),
    RegisterType.COUNT: (">H", _UINT16_NA),
    RegisterType.SUNSSF: (">h", _INT16_NA),
    RegisterType.RAW16: (">H", None),
    RegisterType.IPADDR: (">I", 0),
    RegisterType.PAD: (">H", 0x8000),
    RegisterType.BIT: (">H", None),
}
_STRUCTS: Final = {kind: struct.Struct(fmt) for kind, (fmt, _) in _FORMATS.items()}
FLOAT_TYPES: Final = frozenset({RegisterType.FLOAT16, RegisterType.FLOAT32, RegisterType.FLOAT64})


def width(kind: RegisterType) -> int:
    """Return the number of registers that a value takes; 0 for a string, which may be any."""
    return 0 if kind is RegisterType.STRING else _STRUCTS[kind].size // 2


def layout(kind: RegisterType) -> struct.Struct:
    """Return how the bytes of a number stand in the usual order.

    Raises:
        KeyError: A string is no number.
    """
    return _STRUCTS[kind]


def absent_value(kind: RegisterType) -> Number | None:
    """Return the integer that `decode` takes for "not implemented"; None where there is none."""
    return _FORMATS[kind][1] if _is_absent(kind) else None


def not_implemented(kind: RegisterType) -> Number | None:
    """Return the raw value that SunSpec gives to a point that is not implemented."""
    return math.nan if kind in FLOAT_TYPES else _FORMATS[kind][1]


def limits(kind: RegisterType) -> tuple[int, int]:
    """Return the lowest and highest integer of a type that mean a value.

    Raises:
        KeyError: The type is not an integer type.
    """
    if kind in FLOAT_TYPES or kind is RegisterType.STRING:
        raise KeyError(kind)
    fmt, absent = _FORMATS[kind]
    bits = 8 * _STRUCTS[kind].size
    low, high = (
        (-(1 << bits - 1), (1 << bits - 1) - 1) if fmt[1].islower() else (0, (1 << bits) - 1)
    )
    if absent == low and low < 0:
        low += 1
    elif absent == high:
        high -= 1
    return low, high


def reorder(data: bytes, order: Order) -> bytes:
    """Turn bytes between the wire's order and ABCD; each order is its own inverse."""
    match order:
        case Order.ABCD:
            return data
        case Order.DCBA:
            return data[::-1]
        case Order.BADC:
            return b"".join(data[i + 1 : i + 2] + data[i : i + 1] for i in range(0, len(data), 2))
        case Order.CDAB:
            return b"".join(data[i : i + 2] for i in range(len(data) - 2, -1, -2))


def decode(kind: RegisterType, data: bytes, order: Order = Order.ABCD) -> Raw:
    """Return what the bytes of one point mean, before scaling; None when not implemented.

    Raises:
        ValueError: The number of bytes does not fit the type.
    """
    if kind is RegisterType.STRING:
        swapped = data if order in (Order.ABCD, Order.CDAB) else reorder(data, Order.BADC)
        text = swapped.split(b"\0", 1)[0].decode("utf-8", errors="replace").rstrip()
        return text or None
    layout = _STRUCTS[kind]
    if len(data) != layout.size:
        raise ValueError(f"{kind}: expected {layout.size} bytes, got {len(data)}")
    value: Number = layout.unpack(reorder(data, order))[0]
    if kind in FLOAT_TYPES:
        return None if math.isnan(value) else value
    return None if value == _FORMATS[kind][1] and _is_absent(kind) else value


def _is_absent(kind: RegisterType) -> bool:
    # An accumulator of 0 is 'not accumulated', which is a fine value for a counter.
    return kind not in (RegisterType.ACC16, RegisterType.ACC32, RegisterType.ACC64)


def encode(kind: RegisterType, value: Raw, count: int, order: Order = Order.ABCD) -> bytes:
    """Return the bytes of one point in ``count`` registers; None encodes as not implemented.

    Raises:
        ValueError: The value does not fit the type.
    """
    if kind is RegisterType.STRING:
        text = ("" if value is None else str(value)).encode()
        if len(text) > 2 * count:
            raise ValueError(f"string of {len(text)} bytes does not fit {count} registers")
        padded = text.ljust(2 * count, b"\0")
        return padded if order in (Order.ABCD, Order.CDAB) else reorder(padded, Order.BADC)
    layout = _STRUCTS[kind]
    if layout.size != 2 * count:
        raise ValueError(f"{kind}: takes {layout.size // 2} registers, not {count}")
    if value is None:
        absent = not_implemented(kind)
        value = 0 if absent is None else absent
    if isinstance(value, str):
        raise ValueError(f"{kind}: expected a number, got {value!r}")
    if kind not in FLOAT_TYPES:
        if not math.isfinite(value):
            raise ValueError(f"{kind}: {value} is not finite")
        value = round(value)
    try:
        packed = layout.pack(value)
    except (struct.error, OverflowError) as error:
        raise ValueError(f"{kind}: {value} does not fit {count} registers") from error
    return reorder(packed, order)

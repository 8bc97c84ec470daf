"""Points made ready once for what is done in every cycle: to read a number, to encode a value.

The arithmetic is that of `Register.decode` and `Register.encode`, step for step, so that both ways
give the same number to the last bit; only the questions (which type, which order, which absent
value) are asked beforehand.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from heron.powergrid.registers import codec
from heron.powergrid.registers.codec import FLOAT_TYPES, Order, Raw, RegisterType

if TYPE_CHECKING:
    from heron.powergrid.registers.table import Register

NumberReader = Callable[[bytes], "float | None"]
"""Takes the bytes of one point; None when the device gives no number."""
Encoder = Callable[[Raw], bytes]
"""Returns the bytes of one point. Raises: ValueError when the value does not fit."""


def _is_plain(register: Register) -> bool:
    """Whether the words of a point are one number in the usual order."""
    return (
        register.type is not RegisterType.STRING
        and (register.order is Order.ABCD or register.count == 1)
        and register.order not in (Order.DCBA, Order.BADC)
        and register.bits is None
        and codec.width(register.type) == register.count
    )


def number_reader(register: Register) -> NumberReader:
    """Return what reads a point's number from its bytes, as `Register.decode` does."""
    if not _is_plain(register):

        def general(data: bytes) -> float | None:
            value = register.decode(data)
            return float(value) if isinstance(value, (int, float)) else None

        return general

    unpack = codec.layout(register.type).unpack
    sign, scale, offset = register.sign, register.scale, register.offset
    times = int(10**register.exponent) if register.exponent >= 0 else None
    over = 1 if times is not None else int(10**-register.exponent)
    is_float = register.type in FLOAT_TYPES
    none = (None if is_float else codec.absent_value(register.type), register.not_implemented)

    def plain(data: bytes) -> float | None:
        (raw,) = unpack(data)
        if raw in none or (is_float and math.isnan(raw)):
            return None
        scaled = raw * times if times is not None else raw / over
        return float(sign * (scaled * scale + offset))

    return plain


def encoder(register: Register) -> Encoder:
    """Return what encodes a point's value, as `Register.encode` does."""
    if not _is_plain(register) or register.type in FLOAT_TYPES:
        return register.encode

    pack = codec.layout(register.type).pack
    sign, scale, offset = register.sign, register.scale, register.offset
    over = int(10**register.exponent) if register.exponent >= 0 else None
    times = 1 if over is not None else int(10**-register.exponent)
    nothing = register.encode(None)

    def plain(value: Raw) -> bytes:
        if value is None:
            return nothing
        if isinstance(value, str):
            return register.encode(value)
        raw = (sign * value - offset) / scale
        raw = raw / over if over is not None else raw * times
        try:
            return pack(round(raw))
        except (struct.error, OverflowError, ValueError):
            return register.encode(value)  # which says what is wrong with it

    return plain

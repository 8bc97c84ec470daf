import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heron.powergrid.registers import codec
from heron.powergrid.registers.codec import FLOAT_TYPES, Order, RegisterType

NUMERIC = [t for t in RegisterType if t is not RegisterType.STRING]
INTEGER = [t for t in NUMERIC if t not in FLOAT_TYPES]


@pytest.mark.parametrize(
    ("order", "wire"),
    [
        (Order.ABCD, "aabbccdd"),
        (Order.DCBA, "ddccbbaa"),
        (Order.BADC, "bbaaddcc"),
        (Order.CDAB, "ccddaabb"),
    ],
)
def test_the_four_orders_name_the_bytes_as_they_travel(order: Order, wire: str) -> None:
    assert codec.encode(RegisterType.UINT32, 0xAABBCCDD, 2, order).hex() == wire
    assert codec.decode(RegisterType.UINT32, bytes.fromhex(wire), order) == 0xAABBCCDD


@pytest.mark.parametrize(
    ("order", "wire"),
    [
        (Order.ABCD, "0102030405060708"),
        (Order.DCBA, "0807060504030201"),
        (Order.BADC, "0201040306050807"),
        (Order.CDAB, "0708050603040102"),
    ],
)
def test_orders_of_a_64_bit_value(order: Order, wire: str) -> None:
    assert codec.encode(RegisterType.UINT64, 0x0102030405060708, 4, order).hex() == wire


@given(kind=st.sampled_from(INTEGER), order=st.sampled_from(list(Order)), data=st.data())
def test_integers_survive_the_wire(kind: RegisterType, order: Order, data: st.DataObject) -> None:
    low, high = codec.limits(kind)
    value = data.draw(st.integers(low, high))
    absent = codec.not_implemented(kind)
    wire = codec.encode(kind, value, codec.width(kind), order)
    expected = None if value == absent and not kind.startswith("acc") else value
    assert codec.decode(kind, wire, order) == expected


@given(value=st.floats(width=32, allow_nan=False), order=st.sampled_from(list(Order)))
def test_floats_survive_the_wire(value: float, order: Order) -> None:
    wire = codec.encode(RegisterType.FLOAT32, value, 2, order)
    assert codec.decode(RegisterType.FLOAT32, wire, order) == value


@pytest.mark.parametrize("kind", [t for t in NUMERIC if not t.startswith("acc")])
def test_not_implemented_decodes_to_none(kind: RegisterType) -> None:
    if kind in (RegisterType.RAW16, RegisterType.BIT):
        return  # every bit pattern is a value
    assert codec.decode(kind, codec.encode(kind, None, codec.width(kind))) is None


def test_an_accumulator_of_zero_is_a_value() -> None:
    assert codec.decode(RegisterType.ACC32, b"\0\0\0\0") == 0


def test_a_string_ends_at_its_padding_and_an_empty_one_is_no_value() -> None:
    assert codec.encode(RegisterType.STRING, "AB", 2) == b"AB\0\0"
    assert codec.decode(RegisterType.STRING, b"AB\0\0") == "AB"
    assert codec.decode(RegisterType.STRING, b"BA\0C", Order.BADC) == "ABC"
    assert codec.decode(RegisterType.STRING, b"\0\0") is None


@pytest.mark.parametrize(
    ("kind", "value", "count"),
    [
        (RegisterType.INT16, 40_000, 1),
        (RegisterType.UINT16, -1, 1),
        (RegisterType.UINT16, math.nan, 1),
        (RegisterType.INT32, math.inf, 2),
        (RegisterType.INT32, 1, 1),
        (RegisterType.UINT16, "five", 1),
        (RegisterType.STRING, "too long", 2),
        (RegisterType.FLOAT16, 1e6, 1),
    ],
)
def test_what_does_not_fit_is_refused(kind: RegisterType, value: float | str, count: int) -> None:
    with pytest.raises(ValueError, match=r"fit|number|finite|takes"):
        codec.encode(kind, value, count)


def test_a_reply_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 4 bytes, got 2"):
        codec.decode(RegisterType.INT32, b"\0\0")

"""What is made ready once gives the same as what asks every time, to the last bit."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heron.powergrid.registers import codec
from heron.powergrid.registers.codec import FLOAT_TYPES, Order, RegisterType
from heron.powergrid.registers.compiled import encoder, number_reader
from heron.powergrid.registers.table import Register

TYPES = [kind for kind in RegisterType if kind is not RegisterType.STRING]
VALUES = st.one_of(
    st.none(),
    st.integers(-(2**65), 2**65),
    st.floats(allow_nan=True, allow_infinity=True),
)


@st.composite
def registers(draw: st.DrawFn) -> Register:
    kind = draw(st.sampled_from(TYPES))
    register = Register(
        "x",
        40000,
        codec.width(kind),
        kind,
        sign=draw(st.sampled_from((1, -1))),
        scale=draw(st.sampled_from((1.0, 0.1, 1e-6, 3.3))),
        offset=draw(st.sampled_from((0.0, -40.0))),
        exponent=draw(st.integers(-6, 4)),
        order=draw(st.sampled_from(list(Order))),
        not_implemented=draw(st.sampled_from((None, 7))),
    )
    one_word = register.count == 1 and kind not in FLOAT_TYPES
    return replace(register, bits=(2, 3)) if one_word and draw(st.booleans()) else register


def outcome(function: object, argument: object) -> str:
    try:
        got = function(argument)  # type: ignore[operator]
    except ValueError as error:
        return f"refused: {error}"
    number = isinstance(got, (int, float)) and not isinstance(got, bool)
    return repr(float(got)) if number else repr(got)


@given(registers(), st.binary(min_size=8, max_size=8))
def test_a_number_is_read_as_the_register_decodes_it(register: Register, data: bytes) -> None:
    for words in (data[: 2 * register.count], register.encode(None)):
        assert outcome(number_reader(register), words) == outcome(register.decode, words)


@given(registers(), VALUES)
def test_a_value_is_encoded_and_refused_as_the_register_does_it(
    register: Register, value: float | None
) -> None:
    assert outcome(encoder(register), value) == outcome(register.encode, value)


def test_text_is_no_number() -> None:
    name = Register("1.Md", 40020, 2, RegisterType.STRING)
    assert number_reader(name)(b"abc\0") is None
    assert encoder(name)("abc") == b"abc\0"


def test_a_value_that_is_not_implemented_is_none() -> None:
    assert number_reader(Register("x", 0, 1, RegisterType.INT16))(b"\x80\x00") is None
    assert number_reader(Register("x", 0, 2, RegisterType.FLOAT32))(b"\x7f\xc0\x00\x00") is None


@pytest.mark.parametrize("value", [math.nan, math.inf, 40000.0])
def test_what_does_not_fit_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="int16"):
        encoder(Register("x", 0, 1, RegisterType.INT16))(value)

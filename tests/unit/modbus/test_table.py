import pytest

from heron.powergrid.registers.codec import RegisterType
from heron.powergrid.registers.table import (
    Access,
    Block,
    Register,
    RegisterMap,
    Words,
    coalesce,
)

WATTS = Register("W", 10, 1, RegisterType.INT16, "W", exponent=2, scale_factor="W_SF")
FACTOR = Register("W_SF", 11, 1, RegisterType.SUNSSF)


def test_scale_offset_and_sign_are_applied_both_ways() -> None:
    point = Register("t", 0, 1, RegisterType.INT16, "C", sign=-1, scale=0.5, offset=-40.0)
    wire = point.encode(-10.0)
    assert wire == (100).to_bytes(2, "big")
    assert point.decode(wire) == -10.0


def test_a_negative_exponent_divides_exactly() -> None:
    point = Register("v", 0, 1, RegisterType.UINT16, "V", exponent=-2)
    assert point.decode((27713).to_bytes(2, "big")) == 277.13
    assert point.resolution == 0.01


def test_a_bit_field_is_cut_out() -> None:
    point = Register("mode", 0, 1, RegisterType.UINT16, bits=(4, 3))
    assert point.decode((0b101_0000 | 0b1000_0000).to_bytes(2, "big")) == 0b101


def test_a_vendors_own_marker_is_no_value() -> None:
    point = Register("t", 0, 1, RegisterType.INT16, not_implemented=-999)
    assert point.decode((-999).to_bytes(2, "big", signed=True)) is None


def test_the_devices_own_scale_factor_replaces_the_planned_one() -> None:
    words = Words()
    words.add(10, [42, 0xFFFF])  # -1
    table = RegisterMap([WATTS, FACTOR])
    assert table.number(words, "W") == 4200.0
    assert table.with_scale_factors(words).number(words, "W") == 4.2


def test_a_scale_factor_that_makes_no_sense_is_ignored() -> None:
    words = Words([(10, b"\x00\x2a\x00\x63")])  # 99
    assert RegisterMap([WATTS, FACTOR]).with_scale_factors(words).number(words, "W") == 4200.0


def test_what_was_not_read_has_no_value() -> None:
    assert RegisterMap([WATTS]).read(Words([(0, b"\0\0")]), "W") is None


def test_a_later_read_wins() -> None:
    words = Words([(10, b"\x00\x01")])
    words.add(10, [2])
    assert RegisterMap([WATTS]).number(words, "W") == 200.0


def test_a_run_is_one_write_of_neighbours() -> None:
    a = Register("a", 5, 2, RegisterType.INT32, access=Access.READ_WRITE)
    b = Register("b", 7, 1, RegisterType.UINT16, access=Access.READ_WRITE)
    write = RegisterMap([a, b]).run({"b": 3, "a": -1})
    assert (write.address, write.words) == (5, [0xFFFF, 0xFFFF, 3])


def test_a_run_with_a_gap_is_refused() -> None:
    a = Register("a", 5, 1, RegisterType.UINT16)
    b = Register("b", 7, 1, RegisterType.UINT16)
    with pytest.raises(ValueError, match="not neighbours"):
        RegisterMap([a, b]).run({"a": 1, "b": 2})


def test_a_name_may_stand_once_only() -> None:
    with pytest.raises(ValueError, match="named twice"):
        RegisterMap([WATTS, WATTS])


def test_reads_are_merged_over_small_holes_up_to_the_largest_request() -> None:
    blocks = [Block(0, 10), Block(12, 10), Block(100, 60), Block(150, 70)]
    assert coalesce(blocks, largest_hole=2) == (Block(0, 22), Block(100, 120))
    assert coalesce(blocks, largest_hole=1) == (Block(0, 10), Block(12, 10), Block(100, 120))
    assert coalesce([Block(0, 100), Block(100, 50)]) == (Block(0, 100), Block(100, 50))

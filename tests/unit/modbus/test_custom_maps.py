from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heron.errors import ConfigError
from heron.powergrid.quantities import Setpoint
from heron.powergrid.registers import (
    Block,
    MapTable,
    Order,
    RegisterType,
    Words,
    codec,
    load_map,
    parse_map,
)
from heron.powergrid.registers.table import Space

PCS: dict[str, Any] = {
    "name": "A battery converter that counts kilowatts of consumption from register 1",
    "base": 1,
    "order": "CDAB",
    "points": {
        "p_mw": {"address": 101, "type": "int32", "scale": 0.001, "sign": -1, "unit": "MW"},
        "q_mvar": {"address": 103, "type": "int32", "scale_factor": "exponent", "unit": "Mvar"},
        "v_pu": {"address": 105, "type": "float32", "order": "ABCD", "scale": 0.0025},
        "soc": {"address": 107, "scale": 0.01, "not_implemented": 255},
        "exponent": {"address": 108, "type": "sunssf"},
        "fault": {"address": 109, "type": "bitfield16", "bits": [0, 4], "priority": "high"},
        "state": {"address": 109, "type": "bitfield16", "bits": [4, 3]},
        "serial": {"address": 120, "type": "string", "count": 8},
        "connected": {"address": 1, "type": "bit", "space": "discrete"},
        "ambient": {"address": 5, "type": "int16", "space": "input", "scale": 0.1, "offset": -40},
        "p_set_mw": {"address": 201, "type": "int32", "scale": 0.001, "sign": -1, "access": "RW"},
        "q_set_mvar": {"address": 203, "type": "int32", "scale": 0.001, "access": "RW"},
        "enable": {"address": 205, "access": "RW"},
        "reversion_s": {"address": 210, "access": "RW"},
        "heartbeat": {"address": 211, "access": "W"},
    },
}


@pytest.fixture
def table() -> MapTable:
    return MapTable("ess1", parse_map(PCS), Setpoint(0.0))


def problems(raw: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_map(raw)
    return [str(p) for p in caught.value.problems]


def with_point(**point: Any) -> dict[str, Any]:
    return {"name": "m", "points": {"x": {"address": 1, **point}}}


def test_addresses_count_from_the_base(table: MapTable) -> None:
    assert table.registers["p_mw"].address == 100
    assert table.registers["connected"].address == 0


def test_orders_signs_scales_and_markers_are_applied(table: MapTable) -> None:
    words = Words()
    raw = codec.encode(RegisterType.INT32, 250, 2, Order.CDAB)
    volts = codec.encode(RegisterType.FLOAT32, 404.0, 2)
    words.add(100, raw + codec.encode(RegisterType.INT32, -5, 2, Order.CDAB) + volts)
    words.add(106, [255, 0xFFFE, 0b101_1001])
    words.add(0, [1], Space.DISCRETE)
    words.add(4, [650], Space.INPUT)
    known = table.with_scale_factors(words)
    points = known.decode_reading(words)
    assert points == {
        "p_mw": -0.25,
        "q_mvar": -0.05,
        "v_pu": pytest.approx(1.01),
        "soc": None,
        "exponent": -2.0,
        "fault": 9.0,
        "state": 5.0,
        "connected": 1.0,
        "ambient": 25.0,
    }


def test_reads_are_merged_by_table_and_hole(table: MapTable) -> None:
    assert table.telemetry == (Block(0, 1, Space.DISCRETE), Block(100, 9))
    slow = (Block(107, 2), Block(119, 8), Block(4, 1, Space.INPUT))
    assert tuple(table.slow_telemetry) == slow
    assert table.scale_factors == (Block(107, 1),)
    assert table.controls == (Block(200, 5),)
    assert table.sweep == (Block(0, 1, Space.DISCRETE), Block(100, 9), Block(200, 5))


def test_a_device_that_cannot_take_it_gets_one_point_a_request() -> None:
    table = MapTable("x", parse_map({**PCS, "one_point_a_request": True}), Setpoint(0.0))
    assert len(table.telemetry) == 6
    assert len(table.encode_setpoint(Setpoint(0.1))) == 4


def test_a_set_point_goes_out_in_the_devices_own_order_and_sign(table: MapTable) -> None:
    first, second = table.encode_setpoint(Setpoint(0.2504, -0.1), 900.0)
    assert (first.address, first.words) == (209, [900])
    assert second.address == 200
    expected = codec.encode(RegisterType.INT32, -250, 2, Order.CDAB)
    expected += codec.encode(RegisterType.INT32, -100, 2, Order.CDAB) + b"\0\1"
    assert second.data == expected
    assert table.quantise(Setpoint(0.2504, -0.1)) == Setpoint(0.25, -0.1)


def test_a_disabled_device_holds_no_set_point(table: MapTable) -> None:
    words = Words([(200, bytes(10))])
    assert table.decode_setpoint(words) is None


def test_a_heartbeat_wraps_before_it_means_no_value(table: MapTable) -> None:
    (write,) = table.heartbeat_writes(32767 * 3 + 5)
    assert (write.address, write.words) == (210, [5])


def test_resolutions_follow_from_the_scales(table: MapTable) -> None:
    assert table.resolution("p_mw") == 0.001
    assert table.resolution("p_set") == 0.001
    assert table.resolution("soc") == 0.01


def test_a_set_point_that_is_not_finite_is_never_written(table: MapTable) -> None:
    with pytest.raises(ValueError, match="not finite"):
        table.encode_setpoint(Setpoint(float("nan")))


def test_a_device_without_power_or_with_read_only_commands_is_refused() -> None:
    raw = {"name": "m", "points": {"p_set_mw": {"address": 1}}}
    with pytest.raises(ConfigError) as caught:
        MapTable("x", parse_map(raw), Setpoint(0.0))
    assert [p.where for p in caught.value.problems] == ["points.p_mw", "points.p_set_mw.access"]


def test_points_that_overlap_are_named_both() -> None:
    raw = {
        "name": "m",
        "points": {"a": {"address": 10, "type": "int32"}, "b": {"address": 11}},
    }
    assert problems(raw) == ["points.b = '11-11': overlaps points.a (register 10 on)"]


@pytest.mark.parametrize(
    ("first", "second", "collide"),
    [
        ({"bits": [0, 4]}, {"bits": [4, 4]}, False),
        ({"bits": [0, 5]}, {"bits": [4, 4]}, True),
        ({"bits": [0, 4]}, {}, True),
        ({"space": "input"}, {}, False),
        ({}, {}, True),
    ],
)
def test_only_different_bits_and_different_tables_may_share_a_register(
    first: dict[str, Any], second: dict[str, Any], collide: bool
) -> None:
    points = {"a": {"address": 10, **first}, "b": {"address": 10, **second}}
    raw = {"name": "m", "points": points}
    if collide:
        assert "overlaps" in problems(raw)[0]
    else:
        parse_map(raw)


def test_every_mistake_is_reported_at_once(tmp_path: Path) -> None:
    file = tmp_path / "map.yml"
    file.write_text(
        """
name: bad
base: 2
colour: red
points:
  a: {address: 10, type: int32}
  b: {address: 11, typ: int16}
  c: {address: 11}
  d: {address: 70000}
  e: {address: 20, type: string}
  f: {address: 30, scale: 0}
  g: {address: 40, scale_factor: nothing}
  h: {address: 50, type: int24}
"""
    )
    with pytest.raises(ConfigError) as caught:
        load_map(file)
    where = {p.where for p in caught.value.problems}
    assert where == {
        "base",
        "colour",
        "points.b.typ",
        "points.c",
        "points.d.address",
        "points.e.count",
        "points.f.scale",
        "points.g.scale_factor",
        "points.h.type",
    }
    assert all(p.source == str(file) for p in caught.value.problems)


@pytest.mark.parametrize(
    ("point", "where"),
    [
        ({"type": "string"}, "count"),
        ({"type": "string", "count": 4, "scale": 2}, "type"),
        ({"type": "int32", "count": 1}, "count"),
        ({"type": "bit"}, "type"),
        ({"space": "coil"}, "type"),
        ({"space": "input", "access": "RW"}, "access"),
        ({"type": "int16", "bits": [0, 1]}, "bits"),
        ({"bits": [12, 5]}, "bits"),
        ({"bits": [0, 4], "access": "RW"}, "access"),
        ({"not_implemented": 70000}, "not_implemented"),
        ({"not_implemented": 0.5}, "not_implemented"),
        ({"sign": 0}, "sign"),
        ({"poll_s": 0}, "poll_s"),
        ({"scale": float("nan")}, "scale"),
        ({"address": 65536}, "address"),
        ({"address": 65535, "type": "int32"}, "address"),
    ],
)
def test_each_contradiction_is_found(point: dict[str, Any], where: str) -> None:
    assert any(f"points.x.{where}" in p for p in problems(with_point(**point)))


def test_a_point_that_stands_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "map.yml"
    file.write_text("name: m\npoints:\n  a: {address: 1}\n  a: {address: 2}\n")
    with pytest.raises(ConfigError, match="stands twice"):
        load_map(file)


@pytest.mark.parametrize("text", ["", "- a\n", "name: [\n", "just text"])
def test_a_file_that_is_no_map_is_one_clear_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "map.yml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_map(file)
    assert len(caught.value.problems) == 1
    assert str(file) in str(caught.value)


@given(
    kind=st.sampled_from(["int16", "uint16", "int32", "uint32", "int64", "uint64", "float64"]),
    order=st.sampled_from(list(Order)),
    scale=st.sampled_from([1.0, 0.001, 0.1, 10.0]),
    sign=st.sampled_from([1, -1]),
    share=st.floats(0.0, 1.0),
)
def test_what_is_written_is_read_back_in_every_order(
    kind: str, order: Order, scale: float, sign: int, share: float
) -> None:
    raw = with_point(type=kind, order=order, scale=scale, sign=sign)
    register = parse_map(raw).registers()["x"]
    value = sign * scale * round(30_000 * share)
    assert register.decode(register.encode(value)) == pytest.approx(value, abs=1e-9)

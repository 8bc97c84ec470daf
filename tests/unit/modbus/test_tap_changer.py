"""A tap changer behind registers: read, commanded, refused, reverting by itself."""

from __future__ import annotations

from typing import Any

import pytest

from heron.errors import ConfigError
from heron.powergrid.device_configs import TransformerConfig
from heron.powergrid.quantities import DeviceReading, Setpoint
from heron.powergrid.registers import MapTable, TapTable, Words, parse_map, site_plan
from heron.powergrid.registers.tap import TAP_MODEL
from heron.powergrid.setups.models import SetupConfig
from simulator.modbus.image import RefusalError
from simulator.modbus.tap import TapImage

READING = DeviceReading(0.0, 0.0, 1.0123456, 1.0023, 1.0298, tap=-3, loading_pct=41.237)
CONTROL = {"v_set_pu": 1.02, "bandwidth_pu": 0.015, "delay_s": 30.0}


def image(**changes: object) -> TapImage:
    config = TransformerConfig.model_validate(
        {"element": "head", "tap_min": -8, "tap_max": 8, **changes}
    )
    idle = Setpoint(0.0, 0.0, None if config.local_control else config.start_tap)
    return TapImage(TapTable("oltc", config), idle)


def send(unit: TapImage, setpoint: Setpoint, reversion_s: float | None = None) -> None:
    for write in unit.table.encode_setpoint(setpoint, reversion_s):
        unit.write(write.address, write.data)


def point(name: str) -> str:
    return f"{TAP_MODEL}.{name}"


def test_a_reading_comes_back_through_the_registers() -> None:
    unit = image()
    unit.show(READING, 900.0)
    seen = unit.table.decode_reading(unit.words)
    assert seen.pop("connected") == 1.0
    for name, value in seen.items():
        away = abs((value or 0.0) - float(getattr(READING, name)))
        assert away <= unit.table.resolution(name) / 2 + 1e-12, name
    assert unit.table.resolution("v_pu") <= 1e-4
    assert set(seen) == {"p_mw", "q_mvar", "v_pu", "v_min_pu", "v_max_pu", "tap", "loading_pct"}


def test_one_sweep_reads_all_that_a_cycle_needs() -> None:
    unit = image()
    assert len(unit.table.sweep) == 1
    unit.show(READING, 0.0)
    block = unit.table.sweep[0]
    words = Words([(block.address, unit.read(block.address, block.count))])
    assert unit.table.decode_reading(words)["tap"] == -3
    assert unit.table.decode_setpoint(words) == Setpoint(0.0)


def test_a_commanded_tap_is_held_and_read_back() -> None:
    unit = image(init_tap=2)
    assert unit.setpoint() == Setpoint(0.0, 0.0, None)
    send(unit, Setpoint(0.0, 0.0, 5))
    assert unit.setpoint() == Setpoint(0.0, 0.0, 5)
    send(unit, Setpoint(0.0, 0.0, None))
    assert unit.setpoint().tap is None
    assert unit.table.quantise(Setpoint(0.3, 0.1, -8)) == Setpoint(0.0, 0.0, -8)


def test_positions_that_it_does_not_have_are_refused_on_either_side() -> None:
    unit = image()
    with pytest.raises(ValueError, match="tap 9: expected -8 to 8"):
        unit.table.encode_setpoint(Setpoint(0.0, 0.0, 9))
    write = unit.table.registers.run({point("TapSet"): 9})
    with pytest.raises(RefusalError):
        unit.write(write.address, write.data)
    only_read = unit.table.registers.run({point("Tap"): 1})
    with pytest.raises(RefusalError):
        unit.write(only_read.address, only_read.data)


@pytest.mark.parametrize(
    ("changes", "after"),
    [({"safe_tap": -1}, -1), ({}, None), ({"local_control": CONTROL}, None)],
)
def test_unheard_it_goes_to_its_safe_tap_or_back_to_itself(
    changes: dict[str, object], after: int | None
) -> None:
    unit = image(**changes)
    send(unit, Setpoint(0.0, 0.0, 5), reversion_s=60.0)
    unit.show(READING, 59.0)
    assert unit.setpoint().tap == 5
    assert unit.value(point("TapSetRvrtRem")) == 1
    unit.show(READING, 1.0)
    assert unit.setpoint().tap == after
    send(unit, Setpoint(0.0, 0.0, 4), reversion_s=60.0)
    assert unit.setpoint().tap == 4


def test_it_counts_its_moves_and_shows_its_own_control() -> None:
    unit = image(local_control=CONTROL)
    for tap in (0, 4, 4, -1):
        unit.show(DeviceReading(0.0, 0.0, 1.0, 1.0, 1.0, tap=tap), 60.0)
    assert unit.value(point("Mv")) == 9
    assert unit.value(point("LocV")) == pytest.approx(102.0)
    assert unit.value(point("LocBw")) == pytest.approx(1.5)
    assert unit.value(point("LocDly")) == 30
    assert unit.value(point("Ld")) is None


def test_nothing_old_looks_fresh_when_it_fails() -> None:
    unit = image()
    unit.show(READING, 60.0)
    unit.fail("no solution", 60.0)
    seen = unit.table.decode_reading(unit.words)
    assert seen["tap"] is None
    assert seen["v_pu"] is None


def test_a_site_serves_it_beside_its_ders() -> None:
    head = {"type": "Transformer", "name": "oltc", "device_state_config": {"element": "head"}}
    pv = {
        "type": "PV",
        "name": "pv",
        "device_state_config": {"bus": "Bus 675", "p_rated_MW": 0.4},
    }
    microgrid = {"name": "MG1", "connection_bus": "DSO Bus 850", "devices": [pv, head]}
    plan = site_plan(SetupConfig.model_validate({"microgrid_configs": [microgrid]}), (705,))
    unit = plan.devices["oltc"]
    assert isinstance(unit.table, TapTable)
    assert unit.unit_id == 2
    assert plan.resolution("oltc", "tap") == 1.0


REGULATOR: dict[str, Any] = {
    "name": "A regulator's control panel that counts its taps from 1 to 33",
    "points": {
        "tap": {"address": 10, "offset": -17},
        "v_pu": {"address": 11, "scale": 0.0001},
        "tap_set": {"address": 20, "offset": -17, "access": "RW"},
        "enable": {"address": 21, "access": "RW"},
        "tap_reversion": {"address": 22, "offset": -17, "access": "RW"},
        "reversion_s": {"address": 23, "access": "RW"},
    },
}


def test_another_makers_tap_changer_is_read_and_commanded_by_a_map() -> None:
    table = MapTable("reg", parse_map(REGULATOR), Setpoint(0.0, 0.0, 2))
    words = Words()
    words.add(10, [17 + 3, 10123])
    assert table.decode_reading(words) == {
        "p_mw": 0.0,
        "q_mvar": 0.0,
        "tap": 3.0,
        "v_pu": pytest.approx(1.0123),
    }
    (write,) = table.encode_setpoint(Setpoint(0.0, 0.0, -16), 60.0)
    assert (write.address, write.words) == (20, [1, 1, 19, 60])
    assert table.quantise(Setpoint(0.0, 0.0, -16)) == Setpoint(0.0, 0.0, -16)
    assert table.quantise(Setpoint(0.0)) == Setpoint(0.0, 0.0, None)


def test_a_map_that_cannot_leave_a_tap_to_its_device_says_so() -> None:
    points = {n: p for n, p in REGULATOR["points"].items() if n != "enable"}
    table = MapTable("reg", parse_map({**REGULATOR, "points": points}), Setpoint(0.0))
    with pytest.raises(ValueError, match="no enable"):
        table.encode_setpoint(Setpoint(0.0))
    with pytest.raises(ConfigError, match="a tap changer the point tap"):
        MapTable("reg", parse_map({"name": "m", "points": {"x": {"address": 1}}}), Setpoint(0.0))

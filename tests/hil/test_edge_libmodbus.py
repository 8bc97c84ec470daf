"""The edge's link against a slave on libmodbus, written in C."""

import pytest

from edge.links.connection import ModbusConnection
from edge.links.modbus import ModbusDeviceLink
from edge.timing import PlantTime
from heron.powergrid.link import Quality, WriteStatus
from heron.powergrid.quantities import Setpoint
from heron.powergrid.registers.custom import parse_map
from heron.powergrid.registers.map_table import MapTable

pytestmark = pytest.mark.cc

MAP = {
    "name": "a device on libmodbus",
    "points": {
        "p_mw": {"address": 10, "type": "int16", "scale": 0.001},
        "q_mvar": {"address": 11, "type": "int16", "scale": 0.001},
        "v_pu": {"address": 20, "scale": 0.001, "space": "input"},
        "p_set_mw": {"address": 30, "type": "int16", "scale": 0.001, "access": "RW"},
        "q_set_mvar": {"address": 31, "type": "int16", "scale": 0.001, "access": "RW"},
        "enable": {"address": 32, "access": "RW"},
        "reversion_s": {"address": 33, "access": "RW"},
        "exponent": {"address": 2, "type": "int16", "priority": "high"},
        "energy_kwh": {"address": 5, "scale_factor": "exponent"},
        "temperature_c": {"address": 50, "scale": 0.1},
        "fan_rpm": {"address": 63, "poll_s": 60},
        "heartbeat": {"address": 40, "access": "RW"},
    },
}


@pytest.fixture
def connection(libmodbus_slave: ModbusConnection) -> ModbusConnection:
    return libmodbus_slave


async def test_a_device_with_a_custom_map_is_read_and_commanded(
    connection: ModbusConnection,
) -> None:
    table = MapTable("d", parse_map(MAP), Setpoint(0.0))
    link = ModbusDeviceLink("d", connection, 1, table, PlantTime(), reversion_s=60.0)
    shown = await link.read()
    assert shown.quality is Quality.GOOD
    reading = shown.device_reading()
    assert (reading.p_mw, reading.q_mvar, reading.v_pu) == pytest.approx((0.010, 0.011, 1.02))
    result = await link.write(Setpoint(-1.25, 0.5))
    assert result.status is WriteStatus.WRITTEN
    assert await connection.read("d", 1, 30, 4) == [65536 - 1250, 500, 1, 60]
    assert await connection.read("d", 1, 40, 1) == [1]
    assert (await link.write(Setpoint(-1.25, 0.5))).status is WriteStatus.UNCHANGED


async def test_a_set_point_is_written_and_read_back_in_one_request(
    connection: ModbusConnection,
) -> None:
    table = MapTable("d", parse_map(MAP), Setpoint(0.0))
    link = ModbusDeviceLink(
        "d", connection, 1, table, PlantTime(), reversion_s=60.0, read_write=True
    )
    await link.read()
    reads, writes = connection.counters.reads, connection.counters.writes
    assert (await link.write(Setpoint(-1.25, 0.5))).status is WriteStatus.WRITTEN
    # The set-point, then the heartbeat with the read-back: two requests in all.
    assert (connection.counters.reads - reads, connection.counters.writes - writes) == (1, 2)
    assert await connection.read("d", 1, 30, 4) == [65536 - 1250, 500, 1, 60]


async def test_points_of_low_priority_take_turns_and_grow_older(
    connection: ModbusConnection,
) -> None:
    table = MapTable("d", parse_map(MAP), Setpoint(0.0))
    link = ModbusDeviceLink("d", connection, 1, table, PlantTime(), reversion_s=None)
    reads = [(await link.read()).values for _ in range(5)]
    # The device states an exponent of 2, so register 5 means 500.
    assert all(values["energy_kwh"].value == 500.0 for values in reads)
    seen = [{"temperature_c", "fan_rpm"} & values.keys() for values in reads]
    assert seen[:3] == [set(), {"temperature_c"}, {"temperature_c", "fan_rpm"}]
    assert reads[2]["temperature_c"].value == pytest.approx(5.0)
    assert reads[2]["fan_rpm"].value == 63.0
    assert reads[3]["temperature_c"] == reads[1]["temperature_c"]
    before, after = (reads[k]["temperature_c"].read_monotonic_s for k in (1, 4))
    assert after > before

"""The edge's link against a slave on npm's modbus-serial, a server that answers out of turn.

Needs ``npm ci`` in ``tests/contract/masters``.
"""

from pathlib import Path

import pytest

from edge.links.breaker import CircuitOpen
from edge.links.connection import ModbusConnection
from edge.links.modbus import ModbusDeviceLink
from edge.timing import PlantTime
from heron.errors import DeviceTimeout
from heron.powergrid.link import Quality, WriteStatus
from heron.powergrid.quantities import Setpoint
from heron.powergrid.registers.custom import parse_map
from heron.powergrid.registers.map_table import MapTable
from heron.powergrid.registers.table import Space

pytestmark = pytest.mark.node

MASTERS = Path(__file__).parents[1] / "contract" / "masters"

MAP = {
    "name": "a device on modbus-serial",
    "points": {
        "p_mw": {"address": 10, "type": "int16", "scale": 0.001},
        "v_pu": {"address": 20, "scale": 0.001, "space": "input"},
        "connected": {"address": 3, "space": "discrete", "type": "bit"},
        "p_set_mw": {
            "address": 30,
            "type": "int32",
            "order": "CDAB",
            "scale": 1e-6,
            "access": "RW",
        },
        "enable": {"address": 32, "access": "RW"},
        "reversion_s": {"address": 40, "access": "RW"},
        "mode": {"address": 0, "space": "coil", "type": "bit", "access": "W", "constant": 1},
    },
}


@pytest.fixture
def connection(node_slave: ModbusConnection) -> ModbusConnection:
    return node_slave


async def test_a_unit_that_is_not_there_costs_its_neighbour_nothing_after_its_time_out(
    connection: ModbusConnection,
) -> None:
    """modbus-serial says nothing at all for another unit, where most gateways answer 0x0B."""
    with pytest.raises(DeviceTimeout):
        await connection.read("other", 2, 0, 1)
    with pytest.raises(CircuitOpen):
        await connection.read("other", 2, 0, 1)
    assert await connection.read("d", 1, 0, 2) == [0, 1]
    assert connection.counters.timeouts == 1
    assert connection.counters.connects == 1


async def test_a_device_with_a_custom_map_is_read_and_commanded(
    connection: ModbusConnection,
) -> None:
    table = MapTable("d", parse_map(MAP), Setpoint(0.0))
    link = ModbusDeviceLink("d", connection, 1, table, PlantTime(), reversion_s=60.0)
    shown = await link.read()
    assert shown.quality is Quality.GOOD
    reading = shown.device_reading()
    assert (reading.p_mw, reading.v_pu, reading.connected) == pytest.approx((0.010, 1.02, False))
    result = await link.write(Setpoint(-1.25))
    assert result.status is WriteStatus.WRITTEN
    low, high, enable = await connection.read("d", 1, 30, 3)
    assert ((high << 16 | low) - (1 << 32), enable) == (-1_250_000, 1)
    assert await connection.read("d", 1, 40, 1) == [60]
    assert await connection.read("d", 1, 0, 1, Space.COIL) == [1]
    assert (await link.write(Setpoint(-1.25))).status is WriteStatus.UNCHANGED


async def test_a_slave_without_function_23_is_written_and_read_back_in_two_requests(
    connection: ModbusConnection, caplog: pytest.LogCaptureFixture
) -> None:
    table = MapTable("d", parse_map(MAP), Setpoint(0.0))
    link = ModbusDeviceLink(
        "d", connection, 1, table, PlantTime(), reversion_s=60.0, read_write=True
    )
    await link.read()
    for p_mw in (-1.25, 0.75):
        assert (await link.write(Setpoint(p_mw))).status is WriteStatus.WRITTEN
    assert [r.message for r in caplog.records].count("no_function_23 device=d") == 1

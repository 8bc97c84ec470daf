"""Points of custom maps that are not read in every cycle."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from edge.links.connection import ModbusConnection
from edge.links.modbus import ModbusDeviceLink
from edge.links.rota import Rota
from edge.links.transports import tcp_client
from edge.timing import PlantTime
from heron.errors import DeviceRejected
from heron.powergrid.link import Quality, WriteStatus
from heron.powergrid.quantities import Setpoint
from heron.powergrid.registers.codec import RegisterType
from heron.powergrid.registers.custom import parse_map
from heron.powergrid.registers.map_table import MapTable
from heron.powergrid.registers.table import Access, Register, RegisterMap
from simulator.modbus.image import UnitImage
from simulator.modbus.server import ModbusServer

DEVICE = RegisterMap(
    [Register(f"r{i}", i, 1, RegisterType.UINT16, access=Access.READ_WRITE) for i in range(50)]
)
RATE = 10.0
"""Plant seconds a wall second."""


def wall() -> float:
    return asyncio.get_running_loop().time()


def test_whoever_waited_longest_has_the_next_turn() -> None:
    clock = iter(range(9))
    rota = Rota({"a": 0.0, "b": 0.0, "slow": 5.0}, lambda: float(next(clock)))
    turns = [rota.next() for _ in range(9)]
    assert turns == ["a", "b", "slow", "a", "b", "a", "b", "slow", "a"]


def test_nobody_has_a_turn_while_all_rest() -> None:
    now = 0.0
    rota = Rota({"slow": 5.0}, lambda: now)
    assert (rota.next(), rota.next()) == ("slow", None)
    now = 5.0
    assert rota.next() == "slow"
    assert Rota({}, lambda: now).next() is None


class Rig:
    """A device of 50 registers (register i holds i) and an edge's connection to it."""

    def __init__(self, connection: ModbusConnection, image: UnitImage, time: PlantTime) -> None:
        self.connection, self.image, self.time = connection, image, time

    def link(self, **points: object) -> ModbusDeviceLink:
        shown = {"name": "d", "points": {"p_mw": {"address": 1}, **points}}
        table = MapTable("d", parse_map(shown), Setpoint(0.0))
        return ModbusDeviceLink("d", self.connection, 1, table, self.time, reversion_s=None)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    image = UnitImage(DEVICE, {f"r{i}": i for i in range(50)}, frozenset(DEVICE))
    time = PlantTime(wall, rate=RATE)
    connection = ModbusConnection("plant", tcp_client("plant", 502, 0.5), now=wall)
    async with ModbusServer([{1: image}], "plant", 502), connection:
        await connection.wait_connected()
        yield Rig(connection, image, time)


async def test_a_point_is_not_polled_more_often_than_its_map_says(rig: Rig) -> None:
    link = rig.link(fan_rpm={"address": 20, "poll_s": 60}, volts={"address": 10})
    asked = []
    for second in range(13):
        before = rig.connection.counters.reads
        rig.image.publish({"r20": 100 + second})
        values = (await link.read()).values
        asked.append((rig.connection.counters.reads - before, values.get("fan_rpm")))
        await asyncio.sleep(1.0)
    assert all(requests == 2 for requests, _ in asked)
    shown = [None if value is None else value.value for _, value in asked]
    # The first at once, the next 60 plant seconds later: that is 6 s here.
    assert shown == [None, *[101.0] * 6, *[107.0] * 6]
    age_s = wall() - asked[-1][1].read_monotonic_s
    assert age_s == pytest.approx(6.0, abs=0.1)


async def test_a_device_of_which_all_slow_points_rest_costs_one_request(rig: Rig) -> None:
    link = rig.link(fan_rpm={"address": 20, "poll_s": 600})
    await link.read()
    before = rig.connection.counters.reads
    await link.read()
    assert rig.connection.counters.reads - before == 1


async def test_points_polled_at_different_intervals_share_no_read(rig: Rig) -> None:
    points = {f"x{i}": {"address": 10 + i, "poll_s": 60 * (i % 2 + 1)} for i in range(4)}
    link = rig.link(**points)
    values = [(await link.read()).values.keys() for _ in range(2)]
    assert {"x0", "x2"} <= values[0]
    assert {"x1", "x3"} <= values[1]


async def test_points_that_a_device_refuses_to_show_do_not_stop_its_control(rig: Rig) -> None:
    link = rig.link(
        nowhere={"address": 99}, p_set_mw={"address": 30, "type": "int16", "access": "RW"}
    )
    for _ in range(3):
        shown = await link.read()
        assert shown.quality is Quality.GOOD
        assert "nowhere" not in shown.values
    assert (await link.write(Setpoint(-2.0))).status is WriteStatus.WRITTEN
    assert rig.connection.counters.rejected == 3


async def test_a_device_that_only_shows_can_be_watched_and_is_never_commanded(rig: Rig) -> None:
    link = rig.link()
    assert (await link.read()).device_reading().p_mw == 1.0
    with pytest.raises(DeviceRejected, match="no p_set_mw"):
        await link.write(Setpoint(1.0))

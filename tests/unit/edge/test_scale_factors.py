"""Scale factors that a custom map leaves to the device: asked for anew whenever it was away."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from edge.links.connection import ModbusConnection
from edge.links.modbus import ModbusDeviceLink
from edge.links.transports import tcp_client
from edge.timing import PlantTime
from heron.errors import DeviceRejected, TransportError
from heron.powergrid.link import Quality, WriteStatus
from heron.powergrid.quantities import Setpoint
from heron.powergrid.registers import MapTable, parse_map
from heron.testing.faults import FaultyPort, Mute, RegisterBank

UNIT, P, P_SF, P_SET, NONE = 1, 10, 20, 200, 0x8000
POWER = {"type": "int16", "scale": 0.000001, "scale_factor": "p_sf"}
STATED: dict[str, Any] = {
    "name": "it says itself in what it counts",
    "points": {
        "p_mw": {"address": P, **POWER},
        "v_pu": {"address": 12, "scale": 0.001},
        "p_sf": {"address": P_SF, "type": "sunssf"},
        "p_set_mw": {"address": P_SET, "access": "RW", **POWER},
    },
}


@dataclass
class Rig:
    bank: RegisterBank
    port: FaultyPort
    connection: ModbusConnection
    link: ModbusDeviceLink

    async def exchange(self, factor: int) -> None:
        """Take the device away and put another one, with another factor, in its place."""
        await self.port.stop()
        self.bank.set(UNIT, P_SF, [factor & 0xFFFF])
        await self.port.start()
        await asyncio.sleep(30)  # of the virtual clock: the loss is noticed without any read
        await self.connection.wait_connected()
        assert self.connection.counters.connects == 2


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    now = asyncio.get_running_loop().time
    bank = RegisterBank()
    bank.set(UNIT, P, [500])
    bank.set(UNIT, P_SF, [2])
    bank.set(UNIT, 12, [1000])
    async with (
        FaultyPort(bank, host="device", port=502) as port,
        ModbusConnection("device:502", tcp_client("device", 502, 0.5), now=now) as connection,
    ):
        await connection.wait_connected()
        table = MapTable("bat", parse_map(STATED), Setpoint(0.0))
        link = ModbusDeviceLink("bat", connection, UNIT, table, PlantTime(now), reversion_s=None)
        yield Rig(bank, port, connection, link)


async def test_a_device_that_took_anothers_place_is_told_in_its_own_unit(rig: Rig) -> None:
    assert (await rig.link.read()).device_reading().p_mw == pytest.approx(0.05)
    await rig.link.write(Setpoint(0.05))
    assert rig.bank.get(UNIT, P_SET, 1) == [500]
    await rig.exchange(3)
    assert (await rig.link.read()).device_reading().p_mw == pytest.approx(0.5)
    assert (await rig.link.write(Setpoint(0.05))).status is WriteStatus.WRITTEN
    assert rig.bank.get(UNIT, P_SET, 1) == [50]


async def test_so_it_is_when_it_is_written_before_it_is_read(rig: Rig) -> None:
    await rig.link.read()
    await rig.link.write(Setpoint(0.05))
    await rig.exchange(3)
    await rig.link.write(Setpoint(0.05))
    assert rig.bank.get(UNIT, P_SET, 1) == [50]


async def test_a_device_that_was_silent_on_a_connection_that_held_is_asked_again(rig: Rig) -> None:
    await rig.link.read()
    rig.port.fault = Mute()
    with pytest.raises(TransportError):
        await rig.link.read()
    rig.port.fault = None
    rig.bank.set(UNIT, P_SF, [3])
    await asyncio.sleep(60)
    assert (await rig.link.read()).device_reading().p_mw == pytest.approx(0.5)


async def test_a_device_that_does_not_say_its_factor_yet_is_not_believed_and_not_driven(
    rig: Rig,
) -> None:
    rig.bank.set(UNIT, P_SF, [NONE])
    assert (await rig.link.read()).quality is Quality.BAD
    with pytest.raises(DeviceRejected, match="no scale factor for p_set_mw"):
        await rig.link.write(Setpoint(0.05))
    assert rig.port.writes_seen() == 0
    rig.bank.set(UNIT, P_SF, [2])
    assert (await rig.link.read()).quality is Quality.GOOD
    await rig.link.write(Setpoint(0.05))
    assert rig.bank.get(UNIT, P_SET, 1) == [500]

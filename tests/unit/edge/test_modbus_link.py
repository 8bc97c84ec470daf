"""What a device link writes, when, and how it notices what happened behind its back."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from edge.links.connection import ModbusConnection
from edge.links.modbus import ModbusDeviceLink
from edge.links.transports import tcp_client
from edge.timing import PlantTime
from heron.errors import DeviceRejected, DeviceTimeout
from heron.powergrid.link import Quality, WriteStatus
from heron.powergrid.quantities import DeviceReading, MeterReading, Setpoint
from heron.powergrid.registers import DerTable, DeviceUnit, site_plan
from heron.powergrid.registers.clock import PACE_LOCKSTEP, ClockReading
from heron.powergrid.setups import as_setup
from heron.testing.faults import ExceptionReply, FaultyPort, Mute
from simulator.modbus.server import ModbusServer
from simulator.modbus.site import EmulatedSite

REVERSION_S = 60.0
DEVICE = {
    "type": "ESS",
    "name": "ess1",
    "device_state_config": {
        "bus": "Bus 671",
        "p_max_MW": 0.5,
        "p_min_MW": -0.5,
        "q_max_MVAr": 0.2,
        "q_min_MVAr": -0.2,
        "safe_p_mw": 0.05,
    },
}
SETUP = {
    "microgrid_configs": [{"name": "MG1", "connection_bus": "DSO Bus 850", "devices": [DEVICE]}]
}


def wall() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class Rig:
    """A battery behind a port that records."""

    site: EmulatedSite
    port: FaultyPort
    connection: ModbusConnection
    unit: DeviceUnit
    time: PlantTime

    def link(
        self,
        *,
        read_only: bool = False,
        read_write: bool = False,
        heartbeat_s: float | None = None,
    ) -> ModbusDeviceLink:
        return ModbusDeviceLink(
            "ess1",
            self.connection,
            self.unit.unit_id,
            self.unit.table,
            self.time,
            reversion_s=REVERSION_S,
            read_only=read_only,
            read_write=read_write,
            heartbeat_s=heartbeat_s,
        )

    def heartbeat(self) -> int:
        return int(self.site.devices["ess1"].value("715.ControllerHb"))

    def show(self, elapsed_s: float, soc: float = 0.5) -> None:
        reading = DeviceReading(0.0, 0.0, 1.0, 0.99, 1.01, soc=soc)
        meter = MeterReading(0.0, 0.0, 1.0, 0.99, 1.01)
        clock = ClockReading(1, 0, 0.0, 900.0, 0.0, PACE_LOCKSTEP, False)
        self.site.show({"ess1": reading}, {"head": meter, "MG1": meter}, clock, elapsed_s)

    def held(self) -> Setpoint:
        return self.site.setpoints()["ess1"]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    plan = site_plan(as_setup(SETUP).config)
    site = EmulatedSite(plan, {"ess1": Setpoint(0.0)}, lambda step: False)
    async with (
        ModbusServer(site.units, "plant", 502),
        FaultyPort(("plant", 502), host="proxy", port=502) as port,
        ModbusConnection("proxy:502", tcp_client("proxy", 502, 0.5), now=wall) as connection,
    ):
        await connection.wait_connected()
        rig = Rig(site, port, connection, plan.devices["ess1"], PlantTime(wall))
        rig.show(0.0)
        yield rig


async def test_neighbouring_registers_go_in_one_request(rig: Rig) -> None:
    await rig.link().write(Setpoint(0.3, 0.1))
    # Active power, reactive power and the heartbeat lie apart; each is one write of many.
    assert rig.port.seen[(rig.unit.unit_id, 16)] == 3
    assert rig.port.writes_seen() == 3


async def test_a_device_with_function_23_is_written_and_read_back_in_fewer_requests(
    rig: Rig,
) -> None:
    link = rig.link(read_write=True)
    result = await link.write(Setpoint(0.3, 0.1))
    assert (result.status, result.read_back) == (WriteStatus.WRITTEN, Setpoint(0.3, 0.1))
    unit = rig.unit.unit_id
    # Active and reactive power, then the heartbeat together with the read-back.
    assert {f: n for (u, f), n in rig.port.seen.items() if u == unit} == {16: 2, 23: 1}
    assert rig.heartbeat() == 1


async def test_a_device_that_refuses_function_23_is_asked_with_16_and_3(rig: Rig) -> None:
    link = rig.link(read_write=True)
    rig.port.function_faults[23] = ExceptionReply(1)
    for p_mw in (0.3, 0.2):
        assert (await link.write(Setpoint(p_mw, 0.1))).status is WriteStatus.WRITTEN
        assert rig.held() == Setpoint(p_mw, 0.1)
    unit = rig.unit.unit_id
    assert {f: n for (u, f), n in rig.port.seen.items() if u == unit} == {16: 6, 23: 1, 3: 2}


async def test_another_exception_to_function_23_is_no_reason_to_write_twice(rig: Rig) -> None:
    link = rig.link(read_write=True)
    rig.port.function_faults[23] = ExceptionReply(6)
    with pytest.raises(DeviceRejected, match="busy"):
        await link.write(Setpoint(0.3, 0.1))
    assert rig.port.seen[(rig.unit.unit_id, 16)] == 2
    rig.port.function_faults.clear()
    assert (await link.write(Setpoint(0.3, 0.1))).status is WriteStatus.WRITTEN
    assert rig.port.seen[(rig.unit.unit_id, 23)] == 2


async def test_the_heartbeat_is_written_each_second_while_the_setpoint_stands(rig: Rig) -> None:
    link = rig.link(heartbeat_s=1.0)
    beats = []
    for _ in range(20):
        await link.read()
        await link.write(Setpoint(0.3, 0.1))
        beats.append(rig.heartbeat())
        await asyncio.sleep(0.5)
    assert beats == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10]
    assert rig.port.seen[(rig.unit.unit_id, 16)] == 3 + 9


async def test_without_a_heartbeat_interval_it_goes_with_setpoints_only(rig: Rig) -> None:
    link = rig.link()
    for _ in range(5):
        await link.read()
        await link.write(Setpoint(0.3, 0.1))
        await asyncio.sleep(1.0)
    assert rig.heartbeat() == 1


async def test_a_link_that_only_reads_sends_no_heartbeat(rig: Rig) -> None:
    link = rig.link(heartbeat_s=1.0)
    for _ in range(5):
        await link.read()
        await asyncio.sleep(1.0)
    assert rig.port.writes_seen() == 0


async def test_a_held_setpoint_is_written_again_at_half_of_the_reversion_time(rig: Rig) -> None:
    link = rig.link()
    await link.write(Setpoint(0.3, 0.1))
    statuses = []
    for _ in range(60):
        await asyncio.sleep(1.0)
        await link.read()
        statuses.append((await link.write(Setpoint(0.3, 0.1))).status)
        rig.show(1.0)
        assert rig.held() == Setpoint(0.3, 0.1)
    assert [k for k, s in enumerate(statuses, 1) if s is WriteStatus.WRITTEN] == [30, 60]


async def test_a_device_that_hears_nothing_reverts_and_the_link_notices(rig: Rig) -> None:
    link = rig.link()
    await link.write(Setpoint(0.3, 0.1))
    rig.show(REVERSION_S + 1.0)
    assert rig.held() == Setpoint(0.05, 0.0)
    shown = await link.read()
    assert shown.values["p_set_mw"].value == 0.05
    assert (await link.write(Setpoint(0.3, 0.1))).status is WriteStatus.WRITTEN
    assert rig.held() == Setpoint(0.3, 0.1)


async def test_a_setpoint_that_somebody_else_changed_is_put_right(rig: Rig) -> None:
    mine, other = rig.link(), rig.link()
    await mine.write(Setpoint(0.3, 0.0))
    await other.write(Setpoint(-0.4, 0.0))
    await mine.read()
    assert (await mine.write(Setpoint(0.3, 0.0))).status is WriteStatus.WRITTEN
    assert rig.held() == Setpoint(0.3, 0.0)


async def test_a_write_whose_answer_was_lost_is_written_again(rig: Rig) -> None:
    link = rig.link()
    await link.write(Setpoint(0.3, 0.0))
    rig.port.fault = Mute()
    with pytest.raises(DeviceTimeout):
        await link.write(Setpoint(0.1, 0.0))
    rig.port.fault = None
    await asyncio.sleep(2.0)
    assert (await link.write(Setpoint(0.3, 0.0))).status is WriteStatus.WRITTEN
    assert rig.held() == Setpoint(0.3, 0.0)


async def test_a_read_only_link_writes_nothing(rig: Rig) -> None:
    link = rig.link(read_only=True)
    with pytest.raises(DeviceRejected, match="read-only"):
        await link.write(Setpoint(0.3, 0.0))
    assert (await link.read()).quality is Quality.GOOD
    assert rig.port.writes_seen() == 0


async def test_a_plant_without_a_solution_is_bad_quality(rig: Rig) -> None:
    clock = ClockReading(1, 1, 900.0, 900.0, 0.0, PACE_LOCKSTEP, False, failed=True)
    rig.site.fail("no solution", clock, 900.0)
    shown = await rig.link().read()
    assert shown.quality is Quality.BAD
    assert shown.values["p_mw"].quality is Quality.BAD


async def test_the_setpoint_is_rounded_to_the_registers_resolution(rig: Rig) -> None:
    result = await rig.link().write(Setpoint(0.1234567890123, 0.0))
    assert result.status is WriteStatus.WRITTEN
    assert result.written.p_mw == pytest.approx(0.123457, abs=1e-9)
    assert rig.held().p_mw == result.written.p_mw


def foreign(rig: Rig) -> ModbusDeviceLink:
    """A link that expects a battery of 8 MW, whose registers would have other scale factors."""
    ratings = replace(rig.unit.table.ratings, p_mw=(-8.0, 8.0), q_mvar=(-3.0, 3.0), s_mva=9.0)
    table = DerTable("ess1", ratings, Setpoint(0.05))
    assert table.resolution("p_mw") > rig.unit.table.resolution("p_mw")
    return ModbusDeviceLink(
        "ess1",
        rig.connection,
        rig.unit.unit_id,
        table,
        rig.time,
        reversion_s=REVERSION_S,
        discover=True,
    )


async def test_a_device_of_another_maker_is_read_and_written_with_its_own_scale_factors(
    rig: Rig,
) -> None:
    link = foreign(rig)
    reading = DeviceReading(0.1234, 0.05, 1.0, 0.99, 1.01, soc=0.5)
    meter = MeterReading(0.0, 0.0, 1.0, 0.99, 1.01)
    clock = ClockReading(1, 0, 0.0, 900.0, 0.0, PACE_LOCKSTEP, False)
    rig.site.show({"ess1": reading}, {"head": meter, "MG1": meter}, clock, 0.0)
    shown = await link.read()
    assert shown.quality is Quality.GOOD
    assert shown.values["p_mw"].value == pytest.approx(0.1234, abs=1e-4)
    assert (await link.write(Setpoint(0.3, 0.1))).status is WriteStatus.WRITTEN
    assert rig.held() == Setpoint(0.3, 0.1)


async def test_nothing_is_written_before_the_device_is_known_and_again_after_it_was_lost(
    rig: Rig,
) -> None:
    link = foreign(rig)
    with pytest.raises(DeviceRejected, match="not known yet"):
        await link.write(Setpoint(0.3, 0.1))
    await link.read()
    rig.port.fault = Mute()
    with pytest.raises(DeviceTimeout):
        await link.read()
    rig.port.fault = None
    with pytest.raises(DeviceRejected, match="not known yet"):
        await link.write(Setpoint(0.3, 0.1))
    assert rig.port.writes_seen() == 0

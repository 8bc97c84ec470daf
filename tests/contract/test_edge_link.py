"""One suite over every `DeviceLink`: in memory, before a plant in this process, over Modbus."""

import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, fields

import pytest

from edge.links.connection import ModbusConnection
from edge.links.modbus import ModbusDeviceLink, ModbusMeterLink
from edge.links.transports import tcp_client
from edge.timing import PlantTime
from heron.errors import DeviceRejected, TransportError
from heron.powergrid.link import DeviceLink, MeterLink, Quality, WriteStatus
from heron.powergrid.quantities import DeviceReading, MeterReading, Setpoint
from heron.powergrid.registers import site_plan
from heron.powergrid.registers.clock import PACE_LOCKSTEP, ClockReading
from heron.powergrid.setups import read_setup
from heron.testing.links import InMemoryLink, PlantGate
from simulator import Plant
from simulator.modbus.server import ModbusServer
from simulator.modbus.site import EmulatedSite

KINDS = ("in_memory", "in_process_plant", "modbus")


@dataclass
class Rig:
    """A battery and a meter behind links of one kind.

    Attributes:
        battery: Link to ``ess1``.
        meter: Link to the meter of MG1.
        shown: What the battery really shows.
        held: What the battery was really told.
        breaks: Makes the devices unreachable.
        resolution: Step of a reading's field.
    """

    battery: DeviceLink
    meter: MeterLink
    shown: DeviceReading
    held: Callable[[], Setpoint | None]
    breaks: Callable[[], Awaitable[None]]
    resolution: Callable[[str], float]


@pytest.fixture(scope="module")
def plant() -> Iterator[Plant]:
    yield Plant(read_setup("ieee34_ieee13"))


@asynccontextmanager
async def in_memory(plant: Plant) -> AsyncIterator[Rig]:
    measured = plant.reset(seed=1)
    battery = InMemoryLink("ess1", measured.devices["ess1"])
    meter = InMemoryLink("MG1", measured.meters["MG1"])

    async def breaks() -> None:
        battery.trouble.mute = meter.trouble.mute = True
        battery.trouble.timeout_s = meter.trouble.timeout_s = 0.01

    yield Rig(battery, meter, measured.devices["ess1"], lambda: battery.held, breaks, lambda _: 0.0)


@asynccontextmanager
async def in_process_plant(plant: Plant) -> AsyncIterator[Rig]:
    measured = plant.reset(seed=1)
    gate = PlantGate(plant)

    async def breaks() -> None:
        gate.lose()

    yield Rig(
        gate.link("ess1"),
        gate.link("MG1"),
        measured.devices["ess1"],
        lambda: gate.pending.get("ess1"),
        breaks,
        lambda _: 0.0,
    )


@asynccontextmanager
async def modbus(plant: Plant) -> AsyncIterator[Rig]:
    measured = plant.reset(seed=1)
    config = plant.setup.config
    plan = site_plan(config)
    site = EmulatedSite(plan, measured.setpoints, lambda step: False)
    clock = ClockReading(1, 0, measured.time_s, config.step_s, 0.0, PACE_LOCKSTEP, False)
    site.show_measurements(measured, clock)
    times = PlantTime(lockstep=True)
    async with AsyncExitStack() as stack:
        server = ModbusServer(site.units, "127.0.0.1", 0)
        await stack.enter_async_context(server)
        (port,) = server.ports
        connection = ModbusConnection(
            f"127.0.0.1:{port}", tcp_client("127.0.0.1", port, 0.5), now=time.monotonic
        )
        await stack.enter_async_context(connection)
        await connection.wait_connected()
        unit, meter = plan.devices["ess1"], plan.meters["MG1"]
        yield Rig(
            ModbusDeviceLink(
                "ess1",
                connection,
                unit.unit_id,
                unit.table,
                times,
                reversion_s=unit.reversion_s,
            ),
            ModbusMeterLink("MG1", connection, meter.unit_id, meter.table, times),
            measured.devices["ess1"],
            lambda: site.setpoints().get("ess1"),
            server.close,
            lambda point: plan.resolution("ess1", point),
        )


@pytest.fixture(params=KINDS)
async def rig(request: pytest.FixtureRequest, plant: Plant) -> AsyncIterator[Rig]:
    kinds = {"in_memory": in_memory, "in_process_plant": in_process_plant, "modbus": modbus}
    async with kinds[request.param](plant) as rig:
        yield rig


async def test_a_read_shows_what_the_device_shows(rig: Rig) -> None:
    snapshot = await rig.battery.read()
    assert (snapshot.device_id, snapshot.quality) == ("ess1", Quality.GOOD)
    got = snapshot.device_reading()
    for name in ("p_mw", "q_mvar", "v_pu", "v_min_pu", "v_max_pu", "soc"):
        within = rig.resolution(name)
        assert getattr(got, name) == pytest.approx(getattr(rig.shown, name), abs=within + 1e-12)
    assert got.connected is True


async def test_a_meter_reads_as_a_meter(rig: Rig) -> None:
    snapshot = await rig.meter.read()
    assert (snapshot.device_id, snapshot.quality) == ("MG1", Quality.GOOD)
    assert {f.name for f in fields(MeterReading)} <= set(snapshot.values)
    assert math.isfinite(snapshot.meter_reading().p_mw)


async def test_every_value_has_quality_and_age(rig: Rig) -> None:
    before = time.monotonic()
    snapshot = await rig.battery.read()
    for value in snapshot.values.values():
        assert value.quality is Quality.GOOD
        assert before <= value.read_monotonic_s <= time.monotonic()
        assert value.age_s(value.read_monotonic_s + 2.0) == pytest.approx(2.0)


async def test_a_write_is_held_and_read_back(rig: Rig) -> None:
    result = await rig.battery.write(Setpoint(0.25, 0.05))
    assert result.status is WriteStatus.WRITTEN
    assert result.read_back == result.written == Setpoint(0.25, 0.05)
    assert rig.held() == Setpoint(0.25, 0.05)


async def test_the_same_setpoint_is_not_written_twice(rig: Rig) -> None:
    await rig.battery.write(Setpoint(-0.2, 0.0))
    result = await rig.battery.write(Setpoint(-0.2, 0.0))
    assert result.status is WriteStatus.UNCHANGED
    assert rig.held() == Setpoint(-0.2, 0.0)


@pytest.mark.parametrize("bad", [Setpoint(math.nan, 0.0), Setpoint(0.1, math.inf)])
async def test_a_setpoint_that_is_not_finite_is_refused(rig: Rig, bad: Setpoint) -> None:
    await rig.battery.write(Setpoint(0.1, 0.0))
    with pytest.raises(DeviceRejected, match="ess1"):
        await rig.battery.write(bad)
    assert rig.held() == Setpoint(0.1, 0.0)


async def test_a_device_that_cannot_be_reached_is_a_transport_error(rig: Rig) -> None:
    await rig.battery.read()
    await rig.breaks()
    for _ in range(3):
        with pytest.raises(TransportError, match="ess1"):
            await rig.battery.read()
        with pytest.raises(TransportError, match="ess1"):
            await rig.battery.write(Setpoint(0.3, 0.0))


async def test_closing_writes_nothing(rig: Rig) -> None:
    await rig.battery.write(Setpoint(0.2, 0.0))
    await rig.battery.close()
    await rig.meter.close()
    assert rig.held() == Setpoint(0.2, 0.0)

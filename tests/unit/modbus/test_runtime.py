import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest

from heron.errors import PowerFlowDiverged
from heron.messaging.bus import InMemoryBus, MemoryHub
from heron.messaging.topics import ACCOUNT, ACTED, ALARM, CLOCK, STATUS
from heron.messaging.wire import Acted, Message, PlantClock, Status
from heron.powergrid.inverter_functions import InverterFunctions
from heron.powergrid.quantities import Measurements, Setpoint
from heron.powergrid.registers import Words
from heron.powergrid.setups import Setup, read_setup
from simulator import Plant
from simulator.modbus.image import RefusalError
from simulator.pace import Pace
from simulator.runtime import RunOptions, Simulator

START_S = 190 * 86400.0


@pytest.fixture(scope="module")
def setup() -> Setup:
    return read_setup("ieee34_ieee13")


def options(pace: str = "lockstep", steps: int | None = 3, **other: object) -> RunOptions:
    values: dict[str, object] = {"step_s": 900.0, "port": 0, "exit_when_finished": True}
    values |= {"start_s": START_S, **other}
    return RunOptions(pace=Pace.parse(pace), steps=steps, **values)  # type: ignore[arg-type]


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1_000_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never happened")


class Ear:
    """Hears everything on a hub."""

    def __init__(self) -> None:
        self.heard: list[Message] = []

    async def listen(self, bus: InMemoryBus, started: asyncio.Event) -> None:
        async with (
            bus.subscribe(CLOCK) as clocks,
            bus.subscribe(ACCOUNT) as accounts,
            bus.subscribe(ALARM) as alarms,
            asyncio.TaskGroup() as group,
        ):
            for subscription in (clocks, accounts, alarms):
                group.create_task(self._note(subscription))
            started.set()

    async def _note(self, subscription) -> None:  # type: ignore[no-untyped-def]
        async for _, message in subscription:
            self.heard.append(message)

    def of(self, topic: str) -> list[Message]:
        names = {"clock": "PlantClock", "account": "StepAccount", "alarm": "Alarm"}
        return [m for m in self.heard if type(m).__name__ == names[topic]]


@asynccontextmanager
async def edge(hub: MemoryHub, name: str, silent_on: frozenset[int]) -> AsyncIterator[list[int]]:
    """An edge process that does nothing but say that it has acted."""
    steps: list[int] = []
    status = Status(agent=name, online=True, role="edge")
    async with InMemoryBus(hub, status=status) as bus, bus.subscribe(CLOCK) as clocks:

        async def act() -> None:
            heard: set[int] = set()
            async for _, clock in clocks:
                if clock.finished:
                    continue
                if clock.step in silent_on and clock.step not in heard:
                    heard.add(clock.step)  # did not hear it the first time
                    continue
                steps.append(clock.step)
                await bus.publish(ACTED, Acted(agent=name, step=clock.step), agent=name)

        task = asyncio.create_task(act())
        yield steps
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def run(simulator: Simulator, hub: MemoryHub) -> Ear:
    ear, started = Ear(), asyncio.Event()
    async with InMemoryBus(hub) as bus:
        listener = asyncio.create_task(ear.listen(bus, started))
        await started.wait()
        await simulator.run(lambda: None)
        for _ in range(5):
            await asyncio.sleep(0)
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)
    return ear


async def test_lock_step_steps_when_every_edge_has_acted(setup: Setup) -> None:
    hub = MemoryHub()
    simulator = Simulator(Plant(setup), options(wait_for=("e1", "e2")), InMemoryBus(hub), epoch=5)
    async with edge(hub, "e1", frozenset()) as first, edge(hub, "e2", frozenset()) as second:
        ear = await run(simulator, hub)
    assert first == second == [0, 1, 2]
    clocks = [m for m in ear.heard if isinstance(m, PlantClock)]
    assert [(c.epoch, c.step, c.time_s - START_S, c.finished) for c in clocks] == [
        (5, 0, 0.0, False),
        (5, 1, 900.0, False),
        (5, 2, 1800.0, False),
        (5, 3, 2700.0, True),
    ]
    assert [m.step for m in ear.of("account")] == [0, 1, 2]  # type: ignore[attr-defined]


async def test_the_clock_is_repeated_for_an_edge_that_did_not_hear_it(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulator.runtime._REPEAT_CLOCK_S", 0.02)
    hub = MemoryHub()
    simulator = Simulator(Plant(setup), options(wait_for=("e1",)), InMemoryBus(hub))
    async with edge(hub, "e1", frozenset({0, 2})) as steps:
        await run(simulator, hub)
    assert steps == [0, 1, 2]


async def test_the_first_step_waits_until_the_edges_are_there(setup: Setup) -> None:
    hub = MemoryHub()
    simulator = Simulator(Plant(setup), options(wait_for=("e1",)), InMemoryBus(hub))
    ready = asyncio.Event()
    async with InMemoryBus(hub) as watcher, watcher.subscribe(CLOCK) as clocks:
        task = asyncio.create_task(simulator.run(ready.set))
        await ready.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await anext(clocks)
        async with edge(hub, "e1", frozenset()) as steps:
            await task
        assert steps == [0, 1, 2]


async def test_the_simulator_says_that_it_is_there(setup: Setup) -> None:
    hub = MemoryHub()
    status = Status(agent="simulator", online=True, role="simulator")
    simulator = Simulator(Plant(setup), options("max"), InMemoryBus(hub, status=status))
    await simulator.run(lambda: None)
    (payload,) = hub.retained().values()
    assert STATUS.model.model_validate_json(payload).online is False


async def test_without_mqtt_a_modbus_master_advances_the_plant(setup: Setup) -> None:
    simulator = Simulator(Plant(setup), options(steps=2))
    ready = asyncio.Event()
    task = asyncio.create_task(simulator.run(ready.set))
    await ready.wait()
    clock = simulator.plan.clock
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.server.ports[0])

    async def ask(pdu: bytes) -> bytes:
        writer.write(struct.pack(">HHHB", 1, 0, 1 + len(pdu), clock.unit_id) + pdu)
        head = await reader.readexactly(7)
        return await reader.readexactly(struct.unpack_from(">H", head, 4)[0] - 1)

    async def advance(step: int) -> int:
        write = clock.table.encode_advance(step)
        return (await ask(struct.pack(">BHHB", 16, write.address, 2, 4) + write.data))[0]

    assert await advance(1) == 0x90  # not the current step
    assert await advance(0) == 16
    await until(lambda: simulator.counters.steps == 1)
    (block,) = clock.table.telemetry
    reply = await ask(struct.pack(">BHH", 3, block.address, block.count))
    shown = clock.table.decode(Words([(block.address, reply[2:])]))
    assert shown is not None
    assert (shown.step, shown.time_s, shown.finished) == (1, START_S + 900.0, False)
    assert await ask(struct.pack(">BHH", 5, 0, 0xFF00)) == struct.pack(">BHH", 5, 0, 0xFF00)
    await task
    assert simulator.counters.steps == 2
    writer.close()
    await writer.wait_closed()


async def test_without_lock_step_nobody_can_advance_the_plant(setup: Setup) -> None:
    simulator = Simulator(Plant(setup), options("max", steps=1))
    await simulator.run(lambda: None)
    write = simulator.plan.clock.table.encode_advance(1)
    with pytest.raises(RefusalError):
        simulator.site.clock.write(write.address, write.data)


async def test_what_registers_command_is_what_the_plant_does(setup: Setup) -> None:
    simulator = Simulator(Plant(setup), options("max", steps=1))
    image = simulator.site.devices["ess1"]
    for write in image.table.encode_setpoint(Setpoint(0.25, -0.05)):
        image.write(write.address, write.data)
    await simulator.run(lambda: None)
    assert simulator.plant.measurements.setpoints["ess1"] == Setpoint(0.25, -0.05)
    shown = image.table.decode_reading(image.words)
    assert shown["p_mw"] == pytest.approx(0.25, abs=1e-4)


async def test_a_restart_begins_with_idle_devices(setup: Setup) -> None:
    plant = Plant(setup)
    first = Simulator(plant, options("max", steps=1))
    image = first.site.devices["ess1"]
    for write in image.table.encode_setpoint(Setpoint(0.25)):
        image.write(write.address, write.data)
    await first.run(lambda: None)
    again = Simulator(plant, options("max", steps=1))
    assert again.site.setpoints()["ess1"] == Setpoint(0.0)
    assert (
        again.site.devices["ess1"].table.decode_setpoint(again.site.devices["ess1"].words) is None
    )
    assert plant.measurements.step == 0


async def test_plant_time_follows_the_wall_at_the_rate_asked_for(setup: Setup) -> None:
    simulator = Simulator(Plant(setup), options("x1000", steps=20, step_s=10.0))
    began = asyncio.get_running_loop().time()
    await simulator.run(lambda: None)
    wall_s = asyncio.get_running_loop().time() - began
    plant_s = simulator.plant.measurements.time_s - START_S
    assert plant_s == pytest.approx((20 + simulator.counters.overruns) * 10.0)
    assert wall_s >= 0.2
    assert simulator.counters.steps == 20


class Collapsing(Plant):
    """A plant whose network has no solution in its second step."""

    collapsed = False

    def step(
        self,
        setpoints: Mapping[str, Setpoint],
        dt_s: float,
        functions: Mapping[str, InverterFunctions] | None = None,
    ) -> Measurements:
        if self.measurements.step == 1 and not self.collapsed:
            self.collapsed = True
            raise PowerFlowDiverged("voltage collapse", step=2)
        return super().step(setpoints, dt_s, functions)


async def test_a_step_without_solution_shows_no_old_values_and_raises_an_alarm(
    setup: Setup,
) -> None:
    hub = MemoryHub()
    plant = Collapsing(setup)
    simulator = Simulator(plant, options("max", steps=2), InMemoryBus(hub))
    ear = await run(simulator, hub)
    assert (simulator.counters.steps, simulator.counters.failed) == (2, 1)
    for unit in (*simulator.site.devices.values(), *simulator.site.meters.values()):
        assert unit.table.decode_reading(unit.words)["p_mw"] is None
    assert simulator.site.clock.value("failed") == 1
    (alarm,) = ear.of("alarm")
    assert "voltage collapse" in alarm.text  # type: ignore[attr-defined]
    assert plant.measurements.step == 1


async def test_when_it_solves_again_values_come_back_and_the_alarm_ends(setup: Setup) -> None:
    hub = MemoryHub()
    simulator = Simulator(Collapsing(setup), options("max", steps=3), InMemoryBus(hub))
    ear = await run(simulator, hub)
    image = simulator.site.devices["gen1"]
    assert image.table.decode_reading(image.words)["p_mw"] is not None
    assert simulator.site.clock.value("failed") == 0
    assert [a.active for a in ear.of("alarm")] == [True, False]  # type: ignore[attr-defined]
    assert [a.step for a in ear.of("account")] == [0, 2]  # type: ignore[attr-defined]

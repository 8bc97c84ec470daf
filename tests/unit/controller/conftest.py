"""Plant and edge in one for the controller's tests, and a controller over a bus in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from controller.minds import build_minds
from controller.runtime import ControllerRuntime, birth
from heron.messaging.bus import InMemoryBus, MemoryHub
from heron.messaging.topics import STATUS, TELEMETRY
from heron.messaging.wire import Command, PlantClock, Point, Telemetry
from heron.powergrid.agents import build_agents, scheme_of
from heron.powergrid.quantities import DeviceReading, Measurements, MeterReading, Setpoint
from heron.powergrid.setups import Setup, read_setup
from simulator import Plant

STEP_S = 900.0
DAY = 40


@pytest.fixture(scope="module")
def setup() -> Setup:
    return read_setup("ieee34_ieee13")


def telemetry(
    agent: str, reading: DeviceReading | MeterReading, step: int, time_s: float, sequence: int
) -> Telemetry:
    names = ("p_mw", "q_mvar", "v_pu", "v_min_pu", "v_max_pu", "soc")
    values = {n: getattr(reading, n, None) for n in names}
    values["connected"] = float(getattr(reading, "connected", True))
    points = {n: Point(value=v) for n, v in values.items() if v is not None}
    return Telemetry(agent=agent, sequence=sequence, step=step, time_s=time_s, points=points)


@dataclass
class Field:
    """Plant and edge in one: publishes clock and telemetry, takes commands, admits, steps."""

    setup: Setup
    bus: InMemoryBus
    pace: str = "lockstep"
    sequence: int = 0
    day: int = DAY
    hour: int = 0

    def __post_init__(self) -> None:
        self.plant = Plant(self.setup)
        self.plant.reset(seed=0, start_s=self.day * 86_400.0 + self.hour * 3600.0)
        self.dso = build_agents(self.setup)

    @property
    def now(self) -> Measurements:
        return self.plant.measurements

    def clock(self, *, finished: bool = False, epoch: int = 1) -> PlantClock:
        return PlantClock(
            epoch=epoch,
            step=self.now.step,
            time_s=self.now.time_s,
            step_s=STEP_S,
            pace=self.pace,
            finished=finished,
        )

    async def report(self, *but: str) -> None:
        self.sequence += 1
        now = self.now
        step = now.step if self.pace == "lockstep" else -1
        readings: Mapping[str, DeviceReading | MeterReading] = {**now.devices, **now.meters}
        for agent, reading in readings.items():
            if agent not in but:
                message = telemetry(agent, reading, step, now.time_s, self.sequence)
                await self.bus.publish(TELEMETRY, message, agent=agent)

    def act(self, commands: Mapping[str, Command]) -> None:
        setpoints: dict[str, Setpoint] = {}
        for microgrid in self.dso.microgrids.values():
            for name, device in microgrid.devices.items():
                device.take_reading(self.now.devices[name])
                device.command(Setpoint(commands[name].p_mw, commands[name].q_mvar))
                setpoints[name] = device.setpoint
        self.plant.step(setpoints, STEP_S)


@asynccontextmanager
async def _controlled(
    setup: Setup,
    policy: str = "rule",
    pace: str = "lockstep",
    *,
    protocol: str = "setpoint",
    agents: tuple[str, ...] | None = None,
    hub: MemoryHub | None = None,
    day: int = DAY,
    hour: int = 0,
    **options: Any,
) -> AsyncIterator[tuple[Field, ControllerRuntime]]:
    hub, scheme = hub or MemoryHub(), scheme_of(protocol)
    async with (
        asyncio.timeout(60),
        InMemoryBus(hub, status=birth()) as own,
        InMemoryBus(hub) as outer,
        asyncio.TaskGroup() as group,
    ):
        minds = build_minds(setup, [policy], scheme)
        minds = [m for m in minds if agents is None or m.agent_id in agents]
        runtime = ControllerRuntime(setup, minds, own, scheme=scheme, **options)
        running = group.create_task(runtime.run())
        async with outer.subscribe(STATUS) as statuses:
            async for agent, status in statuses:
                last = "DSO" if options.get("system", True) else minds[-1].agent_id
                if agent == last and status.online:
                    break
        yield Field(setup, outer, pace, day=day, hour=hour), runtime
        running.cancel()


@pytest.fixture
def controlled() -> Callable[..., AbstractAsyncContextManager[tuple[Field, ControllerRuntime]]]:
    """Run a controller: ``async with controlled(setup, policy) as (field, runtime)``."""
    return _controlled


@pytest.fixture
def make_field() -> type[Field]:
    """Return the plant and edge in one: ``make_field(setup, bus)``."""
    return Field

"""The simulator as a process: plant, registers and clock.

One plant step is: the set-points that the registers hold go to the plant, the measurements come
back to all registers in one slice, the account and the clock go out. In lock-step the next one
waits until every edge has acted on the clock's step; else the wall clock, or nothing, sets the
pace.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from heron.errors import PowerFlowDiverged
from heron.messaging.bus import Bus, Subscription
from heron.messaging.topics import ACCOUNT, ACTED, ALARM, CLOCK, STATUS
from heron.messaging.wire import Acted, PlantClock, Status
from heron.powergrid.accounting import Accountant
from heron.powergrid.registers import SitePlan, site_plan
from heron.powergrid.registers.clock import PACE_LOCKSTEP, PACE_RATED, ClockReading
from heron.powergrid.registers.custom import MapConfig
from simulator.messages import plant_alarm, step_account
from simulator.modbus.security import ServerTls
from simulator.modbus.server import ModbusServer
from simulator.modbus.site import EmulatedSite
from simulator.pace import Gate, Pace
from simulator.plant import Plant

logger = logging.getLogger(__name__)

NAME = "simulator"
_REPEAT_CLOCK_S = 1.0
"""Wall seconds after which the clock is sent again while the plant waits in lock-step."""
_COMPLAIN_EVERY = 10
"""Repetitions between two log lines about who has not acted."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run.

    Attributes:
        pace: How plant time goes by.
        steps: Plant steps until ``finished``; None for no end.
        step_s: Plant seconds a step.
        start_s: Plant time of the reset.
        seed: Seed of the reset.
        host: Address of the Modbus server.
        port: Its first port; 0 takes free ones.
        wait_for: Edge processes that lock-step waits for.
        min_step_wall_s: Least wall seconds between two steps of lock-step or ``max``.
        exit_when_finished: End when all steps are done; else go on serving.
        models: SunSpec models that every device serves behind the usual ones.
        maps: Custom register maps, by device, in the place of SunSpec.
        tls: Certificates for Modbus/TCP Security; None for plain Modbus/TCP.
    """

    pace: Pace
    steps: int | None
    step_s: float
    start_s: float = 0.0
    seed: int | None = None
    host: str = "127.0.0.1"
    port: int = 5020
    wait_for: tuple[str, ...] = ()
    min_step_wall_s: float = 0.0
    exit_when_finished: bool = False
    models: tuple[int, ...] = ()
    maps: Mapping[str, MapConfig] = field(default_factory=dict)
    tls: ServerTls | None = None


@dataclass(slots=True)
class RunCounters:
    """What has happened since the start: steps done, failed, and begun too late."""

    steps: int = 0
    failed: int = 0
    overruns: int = 0
    slowest_step_ms: float = 0.0


@dataclass
class Simulator:
    """Runs a plant behind a Modbus server, and tells a bus about it.

    Attributes:
        plant: The plant; the simulator resets it.
        options: How to run.
        bus: Where clock and account go; None without MQTT.
        epoch: Tells restarts apart; grows with each.
    """

    plant: Plant
    options: RunOptions
    bus: Bus | None = None
    epoch: int = field(default_factory=lambda: int(time.time()))
    counters: RunCounters = field(default_factory=RunCounters)

    def __post_init__(self) -> None:
        self._accountant = Accountant(self.plant.setup)
        self._gate = Gate(self.options.wait_for)
        self._failed = self._finished = False
        self._online: set[str] = set()
        self._news = asyncio.Event()
        measured = self.plant.reset(self.options.seed, self.options.start_s)
        plan = site_plan(self.plant.setup.config, self.options.models)
        self.site = EmulatedSite(plan, measured.setpoints, self._gate.advance, self.options.maps)
        host, port, tls = self.options.host, self.options.port, self.options.tls
        self.server = ModbusServer(self.site.units, host, port, tls)
        self.site.show_measurements(measured, self._clock())

    @property
    def plan(self) -> SitePlan:
        """Who is where."""
        return self.site.plan

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until all steps are done, or until cancelled.

        Args:
            ready: Called once, when the ports are open and the bus is there.

        Raises:
            TransportError: A port is taken, or no broker answers.
        """
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.server)
            # One thread: an engine has one owner, and masters are answered while it solves.
            solver = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="plant"))
            if self.bus is not None:
                await stack.enter_async_context(self.bus)
                await stack.enter_async_context(self._listening(self.bus))
            ready()
            await self._go(solver)
            if not self.options.exit_when_finished:
                await asyncio.get_running_loop().create_future()

    @asynccontextmanager
    async def _listening(self, bus: Bus) -> AsyncIterator[None]:
        async with (
            bus.subscribe(ACTED) as acted,
            bus.subscribe(STATUS) as statuses,
            asyncio.TaskGroup() as group,
        ):
            tasks = [
                group.create_task(self._hear_acted(acted)),
                group.create_task(self._hear_status(statuses)),
            ]
            yield
            for task in tasks:
                task.cancel()

    async def _hear_acted(self, messages: Subscription[Acted]) -> None:
        async for agent, message in messages:
            self._gate.acted(agent, message.step)

    async def _hear_status(self, messages: Subscription[Status]) -> None:
        async for agent, message in messages:
            (self._online.add if message.online else self._online.discard)(agent)
            self._news.set()

    # --- pacing ---

    async def _go(self, solver: ThreadPoolExecutor) -> None:
        options = self.options
        if options.pace.code == PACE_LOCKSTEP:
            await self._wait_for_edges()
        self._hold()
        began = time.monotonic()
        slot = 0
        while options.steps is None or self.counters.steps < options.steps:
            await self._publish_clock()
            step_s = options.step_s
            if options.pace.code == PACE_RATED:
                late = await self._sleep_until_slot(began, slot + 1)
                slot += 1 + late
                # Plant time keeps up with the wall: what was missed is in a longer step.
                step_s = min((1 + late) * step_s, self.plant.setup.config.step_s)
            else:
                not_before = time.monotonic() + options.min_step_wall_s
                if options.pace.code == PACE_LOCKSTEP:
                    await self._wait_until_acted()
                await asyncio.sleep(max(0.0, not_before - time.monotonic()))
            await self._step(step_s, solver)
        self._finished = True
        self._gate.lock()
        self.site.clock.show(self._clock())
        await self._publish_clock()
        logger.info("finished steps=%d", self.counters.steps)

    async def _sleep_until_slot(self, began: float, slot: int) -> int:
        """Sleep until a slot begins; return how many slots were missed already."""
        period = self.options.step_s / self.options.pace.rate
        wait = began + slot * period - time.monotonic()
        await asyncio.sleep(max(0.0, wait))
        late = max(0, int(-wait // period)) if wait < 0.0 else 0
        self.counters.overruns += late
        return late

    async def _wait_for_edges(self) -> None:
        """Wait until every edge says that it is there."""
        wanted = self._gate.wait_for
        while self.bus is not None and not wanted <= self._online:
            self._news.clear()
            try:
                async with asyncio.timeout(_COMPLAIN_EVERY * _REPEAT_CLOCK_S):
                    await self._news.wait()
            except TimeoutError:
                logger.warning("waiting_for_edges missing=%s", sorted(wanted - self._online))

    async def _wait_until_acted(self) -> None:
        """Wait for everyone, saying the time again now and then for those who came late."""
        repeats = 0
        while not await self._gate.passed(_REPEAT_CLOCK_S):
            repeats += 1
            if repeats % _COMPLAIN_EVERY == 0:
                logger.warning(
                    "waiting_for_acted step=%d missing=%s", self.counters.steps, self._gate.missing
                )
            await self._publish_clock()
        self._gate.lock()

    # --- one step ---

    async def _step(self, step_s: float, solver: ThreadPoolExecutor) -> None:
        before = self.plant.measurements
        setpoints, functions = self.site.setpoints(), self.site.functions()
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        try:
            after = await loop.run_in_executor(
                solver, self.plant.step, setpoints, step_s, functions
            )
        except PowerFlowDiverged as error:
            await self._fail(error, step_s)
            return
        self.counters.slowest_step_ms = max(
            self.counters.slowest_step_ms, 1e3 * (time.monotonic() - began)
        )
        step = self.counters.steps
        self.counters.steps += 1
        recovered, self._failed = self._failed, False
        self._hold()
        self.site.show_measurements(after, self._clock())
        if self.bus is not None:
            await self.bus.publish(
                ACCOUNT, step_account(step, self._accountant.account(before, after), after)
            )
            if recovered:
                await self.bus.publish(
                    ALARM, plant_alarm(NAME, "power flow solves again", False), agent=NAME
                )

    async def _fail(self, error: PowerFlowDiverged, step_s: float) -> None:
        """Mark everything bad; the plant stays where it was, the devices' timers run on."""
        first, self._failed = not self._failed, True
        self.counters.steps += 1
        self.counters.failed += 1
        self._hold()
        self.site.fail(str(error), self._clock(), step_s)
        if first:
            logger.error("plant_failed cause=%s", error)
            if self.bus is not None:
                await self.bus.publish(ALARM, plant_alarm(NAME, str(error), True), agent=NAME)

    # --- the clock ---

    def _clock(self) -> ClockReading:
        options = self.options
        return ClockReading(
            epoch=self.epoch,
            step=self.counters.steps,
            time_s=self.plant.measurements.time_s,
            step_s=options.step_s,
            rate=options.pace.rate,
            pace=options.pace.code,
            finished=self._finished,
            failed=self._failed,
        )

    def _hold(self) -> None:
        """Wait for everyone from now on, before anyone can see that the step has come."""
        if self.options.pace.code == PACE_LOCKSTEP:
            self._gate.close(self.counters.steps)

    async def _publish_clock(self) -> None:
        if self.bus is None:
            return
        clock = PlantClock(
            epoch=self.epoch,
            step=self.counters.steps,
            time_s=self.plant.measurements.time_s,
            step_s=self.options.step_s,
            pace=self.options.pace.name,
            finished=self._finished,
        )
        await self.bus.publish(CLOCK, clock)

"""One edge process: many devices and meters, one bus, one event loop.

In lock-step, at step k: read everything, publish telemetry, wait for the commands of step k,
admit, write, read back, report, say acted. Free-running, each device and meter has its own slot
of the period.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass

from edge.commands import CommandFate
from edge.cycle import DeviceCycle
from edge.links.connection import ModbusConnection
from edge.modes import Changed, Kept, Mode, Refused, authority_of
from edge.reports import EdgeCounters, Reporter
from edge.sensor import Sensor
from edge.timing import PlantTime, stagger, ticks
from heron import __version__
from heron.messaging.bus import Bus, Subscription
from heron.messaging.topics import CLOCK, COMMAND, MODE
from heron.messaging.wire import Command, ModeRequest, PlantClock
from heron.powergrid.link import Quality

logger = logging.getLogger(__name__)

EVERYONE = "all"
"""Agent of a mode request that is meant for every device of every edge process."""
SHORTEST_WAIT_S = 1e-3
"""No event loop sleeps much more exactly than this."""
RETRY_S = 0.1
"""Lock-step: pause between two tries to read the same device."""


def rate_of(pace: str) -> float | None:
    """Return plant seconds a wall second, or None where the pace does not say.

    ``real`` is 1, ``x60`` is 60; ``max`` and ``lockstep`` have no fixed rate.
    """
    if pace == "real":
        return 1.0
    found = re.fullmatch(r"x(\d+(?:\.\d+)?)", pace)
    return None if found is None else float(found[1]) or None


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """How an edge process keeps time.

    Attributes:
        edge_id: Its name; `wire.Acted` carries it.
        lockstep: Act when the plant's clock says so, else on an own period.
        period_s: Wall seconds between two cycles of one device when free-running.
        command_wait_s: Lock-step: wall seconds to wait for commands before falling back.
        fallback_wait_s: The same while every device that waits is in fallback.
        read_patience_s: Lock-step: wall seconds for which reads are tried again.
        repeat_s: Lock-step: wall seconds after which telemetry is sent again while waiting.
    """

    edge_id: str
    lockstep: bool
    period_s: float
    command_wait_s: float = 30.0
    fallback_wait_s: float = 1.0
    read_patience_s: float = 5.0
    repeat_s: float = 1.0


PlantClockReader = Callable[[], Awaitable[PlantClock | None]]
"""Asks the plant itself for its clock; None when it does not answer."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What one edge process looks after.

    Attributes:
        devices: By device id.
        meters: By meter id.
        connections: Opened and closed with the runtime.
        read_clock: Asks the plant for its clock, where it has one.
    """

    devices: Mapping[str, DeviceCycle]
    meters: Mapping[str, Sensor]
    connections: Sequence[ModbusConnection] = ()
    read_clock: PlantClockReader | None = None


class EdgeRuntime:
    """Runs the cycles of all devices and meters of one process.

    Args:
        settings: How it keeps time.
        bus: Entered already.
        time: Clocks, shared with the cycles.
        parts: What it looks after.
    """

    def __init__(self, settings: EdgeSettings, bus: Bus, time: PlantTime, parts: Parts) -> None:
        self.settings = settings
        self.parts = parts
        self.devices = parts.devices
        self.meters = parts.meters
        self.counters = EdgeCounters()
        self._bus = bus
        self._time = time
        self._report = Reporter(bus, time, settings.edge_id)
        self._news = asyncio.Event()
        self._clock: PlantClock | None = None
        self._acted: tuple[int, int] | None = None

    def summary(self) -> dict[str, object]:
        """Return what it did since its start, as plain data."""
        links = [c.counters for c in self.parts.connections]
        modbus = {
            "reads": sum(c.reads for c in links),
            "writes": sum(c.writes for c in links),
            "errors": sum(c.timeouts + c.rejected for c in links),
            "timeouts": sum(c.timeouts for c in links),
            "rejected": sum(c.rejected for c in links),
            "connects": sum(c.connects for c in links),
            "lost": sum(c.lost for c in links),
        }
        return {
            "edge": self.settings.edge_id,
            "version": __version__,
            "devices": {name: str(c.modes.mode) for name, c in self.devices.items()},
            "meters": list(self.meters),
            **self.counters.summary(),
            "modbus": modbus,
            "mqtt": asdict(self._bus.counters),
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop`` is set, then leave every driven device at its safe set-point."""
        async with AsyncExitStack() as stack:
            for connection in self.parts.connections:
                await stack.enter_async_context(connection)
            commands = await stack.enter_async_context(self._bus.subscribe(COMMAND))
            modes = await stack.enter_async_context(self._bus.subscribe(MODE))
            clocks = await stack.enter_async_context(self._bus.subscribe(CLOCK))
            await self._announce(online=True)
            await self._bus.announce()
            try:
                async with asyncio.TaskGroup() as group:
                    jobs = [
                        group.create_task(self._take_commands(commands), name="commands"),
                        group.create_task(self._take_modes(modes), name="modes"),
                        group.create_task(self._take_clock(clocks), name="clock"),
                        *(group.create_task(job, name="cycle") for job in self._cycles()),
                    ]
                    await stop.wait()
                    for job in jobs:
                        job.cancel()
            finally:
                await asyncio.shield(self._leave())

    async def _announce(self, *, online: bool) -> None:
        """Say which devices are looked after. A meter is no agent: its telemetry says enough,
        and a microgrid's coordinator, of the same name, says its own status.
        """
        for device_id, cycle in self.devices.items():
            mode = cycle.modes.mode if online else None
            await self._report.status(device_id, "device", mode=mode, online=online)

    async def _leave(self) -> None:
        await asyncio.gather(*(cycle.leave() for cycle in self.devices.values()))
        await self._announce(online=False)

    @property
    def _units(self) -> list[DeviceCycle | Sensor]:
        return [*self.devices.values(), *self.meters.values()]

    def _cycles(self) -> list[Coroutine[None, None, None]]:
        if self.settings.lockstep:
            return [self._lockstep()]
        units = self._units
        period_s = self.settings.period_s
        return [
            self._free_run(unit, stagger(i, len(units), period_s)) for i, unit in enumerate(units)
        ]

    # --- what comes in ---

    async def _take_commands(self, commands: Subscription[Command]) -> None:
        async for agent, command in commands:
            cycle = self.devices.get(agent)
            if cycle is None or command.agent != agent:
                continue
            step = self._clock.step if self.settings.lockstep and self._clock else -1
            fate = cycle.inbox.offer(command, step=step)
            if fate is not CommandFate.TAKEN:
                self.counters.refused_commands += 1
                logger.debug("command_refused device=%s why=%s", agent, fate)
            self._news.set()

    async def _take_modes(self, requests: Subscription[ModeRequest]) -> None:
        async for agent, request in requests:
            everyone = agent in (EVERYONE, self.settings.edge_id)
            for device_id in self.devices if everyone else (agent,):
                if device_id in self.devices:
                    await self._change_mode(device_id, request)
            self._news.set()

    async def _change_mode(self, device_id: str, request: ModeRequest) -> None:
        modes = self.devices[device_id].modes
        outcome = modes.request(
            Mode(request.mode), authority_of(request.issuer), request.reason or request.issuer
        )
        match outcome:
            case Changed():
                logger.warning(
                    "mode device=%s before=%s after=%s issuer=%s reason=%s",
                    device_id,
                    outcome.before,
                    outcome.after,
                    request.issuer,
                    outcome.reason,
                )
            case Refused():
                logger.warning("mode_refused device=%s why=%s", device_id, outcome.why)
            case Kept():
                pass
        await self._report.mode(device_id, modes.mode, modes.reason)

    async def _take_clock(self, clocks: Subscription[PlantClock]) -> None:
        async for _, clock in clocks:
            await self._follow(clock)

    async def _follow(self, clock: PlantClock) -> None:
        if self._clock is not None and clock.epoch != self._clock.epoch:
            logger.warning("plant_restarted epoch=%d", clock.epoch)
            for cycle in self.devices.values():
                cycle.inbox.clear()
        self._time.follow(clock.time_s, rate=rate_of(clock.pace))
        self._clock = clock
        if self._acted == (clock.epoch, clock.step) and not clock.finished:
            # The plant asks again, so it did not hear us.
            await self._report.acted(clock.step)
        self._news.set()

    # --- free-running ---

    async def _free_run(self, unit: DeviceCycle | Sensor, phase_s: float) -> None:
        async for tick in ticks(self.settings.period_s, phase_s=phase_s, now=self._time.now):
            self.counters.overruns += tick.missed
            await self._sense(unit, -1)
            if isinstance(unit, DeviceCycle):
                await self._act(unit, self.settings.period_s * self._time.rate, -1)

    # --- lock-step ---

    async def _lockstep(self) -> None:
        while True:
            clock = self._clock
            if clock is None or clock.finished or self._acted == (clock.epoch, clock.step):
                if not await self._wait_for_news(self.settings.repeat_s):
                    await self._ask_for_clock()
            else:
                await self._step(clock)

    async def _ask_for_clock(self) -> None:
        """Ask the plant itself: its message may have been sent before we listened."""
        if self.parts.read_clock is None:
            return
        clock = await self.parts.read_clock()
        if clock is not None and clock.pace == "lockstep":
            await self._follow(clock)

    async def _step(self, clock: PlantClock) -> None:
        await asyncio.gather(*(self._sense_patiently(unit) for unit in self._units))
        await self._tell(clock.step)
        await self._wait_for_commands(clock)
        if self._superseded(clock):
            return
        cycles = self.devices.values()
        await asyncio.gather(*(self._act(cycle, clock.step_s, clock.step) for cycle in cycles))
        self._acted = (clock.epoch, clock.step)
        await self._report.acted(clock.step)

    async def _sense_patiently(self, unit: DeviceCycle | Sensor) -> None:
        """Read until it is good: plant time stands still, so a later read is as fresh."""
        until = self._time.now() + self.settings.read_patience_s
        while True:
            snapshot = await unit.sense()
            if snapshot.quality is Quality.GOOD or self._time.now() >= until:
                return
            await asyncio.sleep(RETRY_S)

    async def _tell(self, step: int) -> None:
        for cycle in self.devices.values():
            await self._report.telemetry(cycle.sensor.snapshot, cycle.modes.mode, step)
        for sensor in self.meters.values():
            await self._report.telemetry(sensor.snapshot, None, step)

    async def _wait_for_commands(self, clock: PlantClock) -> None:
        """Wait for each device's command of this step, saying again what was measured."""
        began = self._time.now()
        tell_at = began + self.settings.repeat_s
        while not self._superseded(clock):
            waiting = [c for c in self.devices.values() if c.waits_for_command]
            waiting = [c for c in waiting if not c.inbox.has_for(clock.step)]
            if not waiting:
                return
            hopeful = any(c.modes.mode is not Mode.FALLBACK for c in waiting)
            patience_s = self.settings.command_wait_s if hopeful else self.settings.fallback_wait_s
            now = self._time.now()
            if now >= began + patience_s:
                return
            if now >= tell_at:
                await self._tell(clock.step)
                tell_at = now + self.settings.repeat_s
            await self._wait_for_news(max(SHORTEST_WAIT_S, min(tell_at, began + patience_s) - now))

    def _superseded(self, clock: PlantClock) -> bool:
        latest = self._clock
        return latest is None or (latest.epoch, latest.step) != (clock.epoch, clock.step)

    async def _wait_for_news(self, timeout_s: float) -> bool:
        self._news.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        except TimeoutError:
            return False
        return True

    # --- one unit ---

    async def _sense(self, unit: DeviceCycle | Sensor, step: int) -> None:
        snapshot = await unit.sense()
        mode = unit.modes.mode if isinstance(unit, DeviceCycle) else None
        await self._report.telemetry(snapshot, mode, step)

    async def _act(self, cycle: DeviceCycle, dt_s: float, step: int) -> None:
        before = cycle.modes.mode
        report = await cycle.act(dt_s)
        busy_s = cycle.sensor.busy_s + report.busy_s
        self.counters.count(report, bool(cycle.sensor.error), busy_s)
        if report.mode is not before:
            await self._report.mode(report.device_id, report.mode, cycle.modes.reason)
        await self._report.result(report, step, busy_s)

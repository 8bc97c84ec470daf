"""One edge process: many devices and meters, one bus, one event loop."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field

from edge.commands import CommandFate
from edge.cycle import DeviceCycle
from edge.links.connection import ModbusConnection
from edge.lockstep import Lockstep, Patience, PlantClockReader
from edge.reports import Reporter, TelemetrySink
from edge.sensor import Sensor
from edge.timing import ClockName, PlantTime, stagger, ticks
from edge.units import Unit, Units
from heron import __version__
from heron.errors import HeronError
from heron.messaging.bus import Bus, Subscription
from heron.messaging.presence import NOTICED_S, require_alone
from heron.messaging.topics import CLOCK, COMMAND, MODE, POLICY
from heron.messaging.wire import Command, ModeRequest, PlantClock, PolicyRequest
from heron.powergrid.kept_orders import KeptOrders
from heron.powergrid.modes import Changed, Kept, Mode, Refused, authority_of
from heron.powergrid.policy_requests import obey

logger = logging.getLogger(__name__)

Job = Callable[[], Coroutine[None, None, None]]
"""Something to be run beside the cycles."""

LEAVE_S_PER_DEVICE = 0.01
ANSWER_S = 2.0 * NOTICED_S
"""Wall seconds within which a broker says who looks after devices that are to be added."""
EVERYONE = "all"
"""Agent of a mode request that is meant for every device of every edge process."""


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
        period_s: Wall seconds between two cycles of one device when free-running.
        patience: How long lock-step waits.
        clock: ``plant`` follows the clock of an emulated plant; ``wall``, beside real devices,
            hears no clock but its own: whoever can publish must not set its time or its rate.
    """

    edge_id: str
    period_s: float = 1.0
    patience: Patience = field(default_factory=Patience)
    clock: ClockName = "plant"


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
        time: Clocks, shared with the cycles; they say whether it runs in lock-step.
        parts: What it looks after.
        send: Takes the telemetry in the bus's place.
        orders: Where operators' orders outlive the process; None to forget them.
    """

    def __init__(
        self,
        settings: EdgeSettings,
        bus: Bus,
        time: PlantTime,
        parts: Parts,
        send: TelemetrySink | None = None,
        *,
        orders: KeptOrders | None = None,
    ) -> None:
        self.settings = settings
        self._orders = orders
        for name, cycle in parts.devices.items():
            self._recall(name, cycle)
        report = Reporter(bus, time, settings.edge_id, send)
        self.units = Units(parts.devices, parts.meters, report)
        self.connections = list(parts.connections)
        self._bus = bus
        self._time = time
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._added = 0
        self._lockstep = (
            Lockstep(self.units, time, settings.patience, parts.read_clock)
            if time.lockstep
            else None
        )

    async def run(self, stop: asyncio.Event, *beside: Job) -> None:
        """Run until ``stop`` is set, then leave every driven device at its safe set-point.

        Args:
            stop: Ends it.
            beside: Called and run as long as it does.
        """
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._close_connections)
            for connection in self.connections:
                await connection.__aenter__()
            commands = await stack.enter_async_context(self._bus.subscribe(COMMAND))
            modes = await stack.enter_async_context(self._bus.subscribe(MODE))
            policies = await stack.enter_async_context(self._bus.subscribe(POLICY))
            clocks = None
            if self.settings.clock == "plant":
                clocks = await stack.enter_async_context(self._bus.subscribe(CLOCK))
            # Whoever waits for this process may start now: it hears everything.
            await self._bus.announce()
            await self.units.announce(online=True)
            try:
                async with asyncio.TaskGroup() as self._group:
                    others = [
                        self._group.create_task(self._take_commands(commands), name="commands"),
                        self._group.create_task(self._take_modes(modes), name="modes"),
                        self._group.create_task(self._take_policies(policies), name="policies"),
                        *(self._group.create_task(job()) for job in beside),
                    ]
                    if clocks is not None:
                        others.append(self._group.create_task(self._take_clock(clocks)))
                    if self._lockstep is not None:
                        others.append(self._group.create_task(self._lockstep.run()))
                    else:
                        for name, unit in self.units.by_name.items():
                            self._start(name, unit)
                    await stop.wait()
                    for job in (*others, *self._jobs.values()):
                        job.cancel()
            finally:
                await asyncio.shield(self._leave())

    async def _close_connections(self) -> None:
        for connection in self.connections:
            await connection.__aexit__(None, None, None)

    async def _leave(self) -> None:
        cycles = self.units.devices.values()
        # Many devices share a link, and each needs its turn.
        timeout_s = max(1.0, LEAVE_S_PER_DEVICE * len(cycles))
        await asyncio.gather(*(cycle.leave(timeout_s) for cycle in cycles))
        await self.units.announce(online=False)

    # --- changes while it runs (free-running only) ---

    async def open(self, connection: ModbusConnection) -> None:
        """Take in one more connection."""
        await connection.__aenter__()
        self.connections.append(connection)

    async def close(self, connection: ModbusConnection) -> None:
        """Close a connection that no unit uses any more."""
        self.connections.remove(connection)
        await connection.__aexit__(None, None, None)

    async def require_alone(self, devices: Sequence[str]) -> None:
        """Ask the broker whether anybody else looks after devices that are to be added.

        Raises:
            HeronError: Somebody does, or the broker does not answer.
        """
        asked = require_alone(self._bus, self.settings.edge_id, devices, announced=True)
        try:
            async with asyncio.timeout(ANSWER_S):
                await asked
        except TimeoutError:
            raise HeronError(
                f"{', '.join(devices)}: the broker does not say whether another process looks "
                "after them; they are added once it does"
            ) from None

    async def add(self, name: str, unit: Unit) -> None:
        """Look after one more device or meter."""
        self.units.add(name, unit)
        if isinstance(unit, DeviceCycle):
            self._recall(name, unit)
            await self.units.report.status(name, unit.modes.mode)
        self._start(name, unit)

    async def remove(self, name: str) -> None:
        """Look after a device or meter no more; a driven device gets its safe set-point."""
        job = self._jobs.pop(name)
        job.cancel()
        await asyncio.wait([job])
        unit = self.units.remove(name)
        if isinstance(unit, DeviceCycle):
            await unit.leave()
            await self.units.report.status(name, unit.modes.mode, online=False)

    def _recall(self, name: str, cycle: DeviceCycle) -> None:
        if self._orders is not None:
            self._orders.recall(name, cycle.modes)

    def _start(self, name: str, unit: Unit) -> None:
        assert self._group is not None, "only a running edge can be changed"
        phase_s = stagger(self._added, self.settings.period_s)
        self._added += 1
        self._jobs[name] = self._group.create_task(self._free_run(unit, phase_s), name=name)

    @property
    def broker_connected(self) -> bool:
        """Whether messages reach the broker now."""
        return self._bus.connected

    def summary(self) -> dict[str, object]:
        """Return what it did since its start, as plain data."""
        links = [connection.counters for connection in self.connections]
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
            "devices": {name: str(c.modes.mode) for name, c in self.units.devices.items()},
            "meters": list(self.units.meters),
            **self.units.counters.summary(),
            "modbus": modbus,
            "mqtt": asdict(self._bus.counters),
        }

    # --- timing ---

    async def _free_run(self, unit: Unit, phase_s: float) -> None:
        """Give one unit its own slot of the period."""
        period_s = self.settings.period_s
        async for tick in ticks(period_s, phase_s=phase_s, now=self._time.now):
            self.units.counters.overruns += tick.missed
            await unit.sense()
            await self.units.tell(unit)
            if isinstance(unit, DeviceCycle):
                await self.units.act(unit, period_s * self._time.rate)

    # --- what comes in ---

    def _wake(self) -> None:
        if self._lockstep is not None:
            self._lockstep.wake()

    async def _take_commands(self, commands: Subscription[Command]) -> None:
        async for agent, command in commands:
            cycle = self.units.devices.get(agent)
            if cycle is None or command.agent != agent:
                continue
            step = -1 if self._lockstep is None else self._lockstep.step
            fate = cycle.inbox.offer(command, step=step)
            if fate is not CommandFate.TAKEN:
                self.units.counters.refused_commands += 1
                logger.debug("command_refused device=%s why=%s", agent, fate)
            self._wake()

    async def _take_modes(self, requests: Subscription[ModeRequest]) -> None:
        async for agent, request in requests:
            for device_id in self._meant_by(agent):
                await self._change_mode(device_id, request)
            self._wake()

    def _meant_by(self, agent: str) -> tuple[str, ...]:
        if agent in (EVERYONE, self.settings.edge_id):
            return tuple(self.units.devices)
        return (agent,) if agent in self.units.devices else ()

    async def _take_policies(self, requests: Subscription[PolicyRequest]) -> None:
        async for agent, request in requests:
            for device_id in self._meant_by(agent):
                policy = self.units.devices[device_id].policy
                if policy is None and device_id != agent:
                    continue
                report = obey(device_id, policy, request)
                logger.warning(
                    "policy_request device=%s action=%s issuer=%s refused=%s",
                    device_id,
                    request.action,
                    request.issuer,
                    report.refused or "no",
                )
                await self.units.report.policy(report)

    async def _change_mode(self, device_id: str, request: ModeRequest) -> None:
        cycle = self.units.devices[device_id]
        modes, drove = cycle.modes, cycle.modes.writes
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
                if drove and not modes.writes:
                    await cycle.release()
            case Refused():
                logger.warning("mode_refused device=%s why=%s", device_id, outcome.why)
            case Kept():
                pass
        if self._orders is not None:
            self._orders.note_mode(device_id, modes)
        await self.units.report.status(device_id, modes.mode, reason=modes.reason)

    async def _take_clock(self, clocks: Subscription[PlantClock]) -> None:
        async for _, clock in clocks:
            self._time.follow(clock.time_s, rate=rate_of(clock.pace))
            if self._lockstep is not None:
                await self._lockstep.follow(clock)

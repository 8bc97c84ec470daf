"""The controller's process: the DSO and the microgrids' coordinators on one bus.

One task group holds everything: two tasks that fill the fleet, the DSO's beat and desk, what
operators ask for, and one task a coordinator. Whatever ends one of them ends them all. A process
may run the DSO alone, or some coordinators without it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Literal

from controller.allocation import Decided, Held, Mind, Outcome
from controller.cycle import ANSWER_S, CoordinatorCycle
from controller.fleet import Fleet
from controller.market import OperatorDesk
from controller.meeting import Meeting
from controller.requests import ModeRequests, take_limits, take_policies
from controller.system import StandIn, SystemCycle
from heron.messaging.bus import Bus, Subscription
from heron.messaging.topics import (
    CLOCK,
    COORDINATED,
    LIMITS,
    MODE,
    POLICY,
    REPORT,
    SIGNAL,
    STATUS,
    TELEMETRY,
)
from heron.messaging.wire import (
    AgentReport,
    Coordinated,
    ModeName,
    PlantClock,
    Status,
    SystemSignal,
    Telemetry,
)
from heron.powergrid.agents import Scheme, scheme_of
from heron.powergrid.kept_orders import KeptOrders
from heron.powergrid.setups import Setup

logger = logging.getLogger(__name__)

PROCESS = "controller"
"""Agent name of the process in status messages, birth and will."""
CLOCK_MISSED_S = 10.0
"""Wall seconds without a clock after which the log says so."""
NO_CLOCK = "no clock: no emulated plant is heard; beside real devices start with --clock wall"


def birth(*, online: bool = True, detail: str = "", process: str = PROCESS) -> Status:
    """Return the process's own status."""
    return status_of(process, "system", online=online, detail=detail)


def status_of(
    agent: str,
    role: Literal["coordinator", "system"],
    *,
    online: bool = True,
    detail: str = "",
    mode: ModeName | None = None,
    process: str = "",
) -> Status:
    """Return a status of this version, now."""
    from heron import __version__

    return Status(
        agent=agent,
        online=online,
        role=role,
        mode=mode,
        version=__version__,
        detail=detail,
        process=process,
        sent_s=time.time(),
    )


@dataclass(slots=True)
class Tally:
    """What the coordinators did.

    Attributes:
        decided: Cycles that sent commands, per coordinator.
        held: Cycles that sent none.
    """

    decided: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)

    def count(self, agent: str, outcome: Outcome) -> None:
        """Add one cycle."""
        into = self.decided if isinstance(outcome, Decided) else self.held
        into[agent] = into.get(agent, 0) + 1


class Beat:
    """What makes a coordinator act: the newest signal of the DSO.

    Attributes:
        due: Set when there is something to do.
        held: Whether it could not decide on this signal yet.
        silent: Why the signal is not the DSO's own; empty when it is.
    """

    def __init__(self) -> None:
        self.due = asyncio.Event()
        self.held = False
        self.silent = ""
        self._signal: SystemSignal | None = None

    @property
    def step(self) -> int:
        """Step of the newest signal; -1 without one, or without a common clock."""
        return -1 if self._signal is None else self._signal.step

    def take(self, signal: SystemSignal, silent: str = "") -> None:
        """Take a signal; the one before is forgotten."""
        self._signal, self.silent = signal, silent
        self.held = False
        self.due.set()

    async def next(self) -> SystemSignal:
        """Wait until there is something to do."""
        while True:
            await self.due.wait()
            self.due.clear()
            if self._signal is not None:
                return self._signal


class ControllerRuntime:
    """Runs the DSO and the coordinators until the plant's clock says finished, or cancelled.

    Args:
        setup: Gives prices, names and the control interval.
        minds: One a coordinator that runs here.
        bus: Connected; with `birth` as its status.
        interval_s: Plant seconds between two decisions; None for the setup's ``step_s``.
        scheme: How the site coordinates; as the setup says if not given.
        system: Whether the DSO runs here.
        answer_s: Wall seconds that a coordinator waits for the DSO's answer; the DSO waits half
            of them for the coordinators' reports.
        orders: Where operators' orders outlive the process; None to forget them.
        beats: What makes them decide beside real devices, where no plant has a clock; None: the
            clock of an emulated plant, on the bus.
        process: Name of this process in status messages.
    """

    def __init__(
        self,
        setup: Setup,
        minds: Sequence[Mind],
        bus: Bus,
        *,
        fleet: Fleet | None = None,
        interval_s: float | None = None,
        scheme: Scheme | None = None,
        system: bool = True,
        answer_s: float = ANSWER_S,
        orders: KeptOrders | None = None,
        beats: AsyncIterator[tuple[str, PlantClock]] | None = None,
        process: str = PROCESS,
    ) -> None:
        self._process = process
        self._orders = orders
        self._own_beats = beats
        self._has_a_clock = False
        self.fleet = fleet or Fleet()
        self.tally = Tally()
        self._bus = bus
        self._interval_s = setup.config.step_s if interval_s is None else interval_s
        self._dso = setup.config.dso_config.name
        self._minds = tuple(minds)
        self._desk: OperatorDesk | None = None
        self._system: SystemCycle | None = None
        if system:
            scheme = scheme or scheme_of(setup.config.protocol)
            if scheme.negotiates:
                agents = scheme.build(setup)
                self._desk = OperatorDesk(agents, bus, self.fleet, scheme.name, answer_s / 2.0)
            everyone = setup.config.microgrid_ids
            self._system = SystemCycle(setup, bus, everyone, self._interval_s, self._desk)
            if orders is not None:
                self._system.limits |= orders.limits()
        self._stand_in = StandIn(self._interval_s)
        meeting = Meeting(mind.agent_id for mind in minds if mind.proposes)
        self._cycles = {
            mind.agent_id: CoordinatorCycle(
                mind,
                self.fleet,
                bus,
                interval_s=self._interval_s,
                answer_s=answer_s,
                meeting=meeting,
            )
            for mind in minds
        }
        self._beats = {agent: Beat() for agent in self._cycles}
        modes = {agent: cycle.modes for agent, cycle in self._cycles.items()}
        self._requests = ModeRequests(minds, modes, bus, self._mode_was_asked_for, orders)
        self._coordinator_of = {
            agent: mind.agent_id for mind in minds for agent in (mind.agent_id, *mind.device_ids)
        }

    def held(self) -> dict[str, str]:
        """Return the coordinators that cannot decide, each with the reason."""
        held = {agent: cycle.held for agent, cycle in self._cycles.items() if cycle.held}
        return held if self._has_a_clock else {self._dso: NO_CLOCK, **held}

    async def run(self) -> None:
        """Run until the plant has finished.

        Raises:
            ExceptionGroup: A part failed.
        """
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            statuses = await enter(self._bus.subscribe(STATUS))
            telemetry = await enter(self._bus.subscribe(TELEMETRY))
            beats = self._own_beats
            if beats is None:
                beats = await enter(self._bus.subscribe(CLOCK, capacity=1))
            jobs = [
                self._miss_clock(),
                self._note(statuses),
                self._hear(telemetry),
                self._take(await enter(self._bus.subscribe(SIGNAL))),
                self._requests.take_modes(await enter(self._bus.subscribe(MODE))),
                take_policies(await enter(self._bus.subscribe(POLICY)), self._minds, self._bus),
                *(self._coordinate(agent) for agent in self._cycles),
            ]
            if self._system is not None:
                limits = await enter(self._bus.subscribe(LIMITS))
                jobs.append(take_limits(limits, self._system, self._say_of_dso, self._orders))
            if self._desk is not None:
                reports = await enter(self._bus.subscribe(REPORT))
                jobs += [self._desk.run(), self._take_reports(reports, self._desk)]
            if any(mind.negotiates for mind in self._minds):
                jobs.append(self._take_answers(await enter(self._bus.subscribe(COORDINATED))))
            await self._announce(online=True)
            try:
                async with asyncio.TaskGroup() as group:
                    background = [group.create_task(job) for job in jobs]
                    await self._beat(beats)
                    for task in background:
                        task.cancel()
            finally:
                await self._announce(online=False)

    async def _announce(self, *, online: bool) -> None:
        """Say who is here: after the subscriptions, so that whoever waits for it can speak."""
        if online:
            await self._bus.announce()
        for mind in self._minds:
            await self._say_status(mind, online=online)
        if self._system is not None:
            await self._say_of_dso(online=online)

    async def _say_of_dso(self, detail: str = "", *, online: bool = True) -> None:
        status = status_of(self._dso, "system", online=online, detail=detail, process=self._process)
        await self._bus.publish(STATUS, status, agent=self._dso)

    async def _say_status(self, mind: Mind, *, online: bool = True) -> None:
        mode: ModeName = self._cycles[mind.agent_id].modes.mode.value
        status = status_of(
            mind.agent_id,
            "coordinator",
            online=online,
            detail=mind.policy_name,
            mode=mode,
            process=self._process,
        )
        await self._bus.publish(STATUS, status, agent=mind.agent_id)

    async def _mode_was_asked_for(self, mind: Mind, changed: bool) -> None:
        if changed:
            self._beats[mind.agent_id].due.set()
        await self._say_status(mind)

    async def _note(self, statuses: Subscription[Status]) -> None:
        async for agent, status in statuses:
            await self.fleet.note(agent, status)

    async def _hear(self, telemetry: Subscription[Telemetry]) -> None:
        async for agent, message in telemetry:
            repeated = await self.fleet.hear(agent, message)
            beat = self._beats.get(self._coordinator_of.get(agent, ""))
            if beat is None:
                continue
            # An edge that repeats itself within a step has not heard the commands.
            if beat.held or (repeated and beat.step == message.step):
                beat.due.set()

    async def _take(self, signals: Subscription[SystemSignal]) -> None:
        async for agent, signal in signals:
            if agent in self._beats:
                self._stand_in.hear(agent, signal)
                self._beats[agent].take(signal)

    async def _take_answers(self, answers: Subscription[Coordinated]) -> None:
        async for agent, letter in answers:
            if agent in self._cycles:
                self._cycles[agent].mailbox.put(letter)

    async def _take_reports(self, reports: Subscription[AgentReport], desk: OperatorDesk) -> None:
        async for agent, report in reports:
            await desk.hear(agent, report)

    async def _miss_clock(self) -> None:
        """Say once that nothing is decided because there is no clock."""
        await asyncio.sleep(CLOCK_MISSED_S)
        if not self._has_a_clock:
            logger.warning("no_clock after_s=%g why=%s", CLOCK_MISSED_S, NO_CLOCK)

    async def _beat(self, beats: AsyncIterator[tuple[str, PlantClock]]) -> None:
        """Signal the coordinators at each step of the plant, or each control interval."""
        epoch = -1
        due_s, own = float("-inf"), self._own_beats is not None
        async for _, tick in beats:
            self._has_a_clock = True
            if tick.finished:
                logger.info("plant_finished step=%d", tick.step)
                return
            if tick.epoch != epoch:
                logger.info("plant_started epoch=%d pace=%s", tick.epoch, tick.pace)
                if epoch >= 0:
                    await self.fleet.forget()
                epoch, due_s = tick.epoch, float("-inf")
            if self._system is None:
                for agent, signal in self._stand_in.needed(tick).items():
                    self._beats[agent].take(signal, f"{self._dso} is silent")
            elif own or tick.pace == "lockstep" or tick.time_s >= due_s - 1e-6:
                due_s = tick.time_s + self._interval_s
                await self._system.run(tick)

    async def _coordinate(self, agent: str) -> None:
        cycle, beat = self._cycles[agent], self._beats[agent]
        while True:
            signal = await beat.next()
            outcome = await cycle.run(signal, beat.silent)
            if not (beat.held and isinstance(outcome, Held)):
                self.tally.count(agent, outcome)
            # Without a common clock it tries again as soon as there is news.
            beat.held = isinstance(outcome, Held) and signal.step < 0

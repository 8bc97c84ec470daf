"""The controller's process: the DSO and the microgrids' coordinators on one bus.

One task group holds everything: two tasks that fill the fleet, the DSO's beat, and one task a
coordinator. Whatever ends one of them ends them all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Literal

from controller.allocation import Decided, Held, Outcome
from controller.cycle import CoordinatorCycle, Mind, SystemCycle
from controller.fleet import Fleet
from heron.messaging.bus import Bus, Subscription
from heron.messaging.topics import CLOCK, SIGNAL, STATUS, TELEMETRY
from heron.messaging.wire import PlantClock, Status, SystemSignal, Telemetry
from heron.powergrid.setups import Setup

logger = logging.getLogger(__name__)

PROCESS = "controller"
"""Agent name of the process in status messages, birth and will."""


def birth(*, online: bool = True, detail: str = "") -> Status:
    """Return the process's own status."""
    return status_of(PROCESS, "system", online=online, detail=detail)


def status_of(
    agent: str,
    role: Literal["coordinator", "system"],
    *,
    online: bool = True,
    detail: str = "",
) -> Status:
    """Return a status of this version, now."""
    from heron import __version__

    return Status(
        agent=agent,
        online=online,
        role=role,
        version=__version__,
        detail=detail,
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
    """

    def __init__(self) -> None:
        self.due = asyncio.Event()
        self.held = False
        self._signal: SystemSignal | None = None

    @property
    def step(self) -> int:
        """Step of the newest signal; -1 without one, or without a common clock."""
        return -1 if self._signal is None else self._signal.step

    def take(self, signal: SystemSignal) -> None:
        """Take a signal; the one before is forgotten."""
        self._signal = signal
        self.held = False
        self.due.set()

    async def next(self) -> SystemSignal:
        """Wait until there is something to do."""
        while self._signal is None or not self.due.is_set():
            await self.due.wait()
        self.due.clear()
        return self._signal


class ControllerRuntime:
    """Runs the DSO and the coordinators until the plant's clock says finished, or cancelled.

    Args:
        setup: Gives prices, names and the control interval.
        minds: One a microgrid.
        bus: Connected; with `birth` as its status.
        interval_s: Plant seconds between two decisions; None for the setup's ``step_s``.
    """

    def __init__(
        self,
        setup: Setup,
        minds: Sequence[Mind],
        bus: Bus,
        *,
        fleet: Fleet | None = None,
        interval_s: float | None = None,
    ) -> None:
        self.fleet = fleet or Fleet()
        self.tally = Tally()
        self._bus = bus
        self._interval_s = setup.config.step_s if interval_s is None else interval_s
        self._dso = setup.config.dso_config.name
        self._minds = tuple(minds)
        self._system = SystemCycle(setup, bus, tuple(m.agent_id for m in minds), self._interval_s)
        self._cycles = {
            mind.agent_id: CoordinatorCycle(mind, self.fleet, bus, interval_s=self._interval_s)
            for mind in minds
        }
        self._beats = {agent: Beat() for agent in self._cycles}
        self._coordinator_of = {
            agent: mind.agent_id for mind in minds for agent in (mind.agent_id, *mind.device_ids)
        }

    def held(self) -> dict[str, str]:
        """Return the coordinators that cannot decide, each with the reason."""
        return {agent: cycle.held for agent, cycle in self._cycles.items() if cycle.held}

    async def run(self) -> None:
        """Run until the plant has finished.

        Raises:
            ExceptionGroup: A part failed.
        """
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            statuses = await enter(self._bus.subscribe(STATUS))
            telemetry = await enter(self._bus.subscribe(TELEMETRY))
            clock = await enter(self._bus.subscribe(CLOCK, capacity=1))
            signals = await enter(self._bus.subscribe(SIGNAL))
            await self._announce(online=True)
            try:
                async with asyncio.TaskGroup() as group:
                    background = [
                        group.create_task(self._note(statuses)),
                        group.create_task(self._hear(telemetry)),
                        group.create_task(self._take(signals)),
                        *(group.create_task(self._coordinate(agent)) for agent in self._cycles),
                    ]
                    await self._beat(clock)
                    for task in background:
                        task.cancel()
            finally:
                await self._announce(online=False)

    async def _announce(self, *, online: bool) -> None:
        """Say who is here: after the subscriptions, so that whoever waits for it can speak."""
        for mind in self._minds:
            status = status_of(mind.agent_id, "coordinator", online=online, detail=mind.policy_name)
            await self._bus.publish(STATUS, status, agent=mind.agent_id)
        await self._bus.publish(
            STATUS, status_of(self._dso, "system", online=online), agent=self._dso
        )

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
                self._beats[agent].take(signal)

    async def _beat(self, clock: Subscription[PlantClock]) -> None:
        """Signal the coordinators at each step of the plant, or each control interval."""
        epoch = -1
        due_s = float("-inf")
        async for _, tick in clock:
            if tick.finished:
                logger.info("plant_finished step=%d", tick.step)
                return
            if tick.epoch != epoch:
                logger.info("plant_started epoch=%d pace=%s", tick.epoch, tick.pace)
                if epoch >= 0:
                    await self.fleet.forget()
                epoch, due_s = tick.epoch, float("-inf")
            if tick.pace == "lockstep" or tick.time_s >= due_s - 1e-6:
                due_s = tick.time_s + self._interval_s
                await self._system.run(tick)

    async def _coordinate(self, agent: str) -> None:
        cycle, beat = self._cycles[agent], self._beats[agent]
        while True:
            signal = await beat.next()
            outcome = await cycle.run(signal)
            if not (beat.held and isinstance(outcome, Held)):
                self.tally.count(agent, outcome)
            # Without a common clock it tries again as soon as there is news.
            beat.held = isinstance(outcome, Held) and signal.step < 0

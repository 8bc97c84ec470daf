"""Acting with the plant's clock: nobody is late, because plant time waits.

At step k: read everything, publish telemetry, wait for the commands of step k, admit, write, read
back, report, say acted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from edge.cycle import DeviceCycle
from edge.timing import PlantTime
from edge.units import Unit, Units
from heron.messaging.wire import PlantClock
from heron.powergrid.link import Quality
from heron.powergrid.modes import Mode

logger = logging.getLogger(__name__)

RETRY_S = 0.1
"""Pause between two tries to read the same device."""
SHORTEST_WAIT_S = 1e-3
"""No event loop sleeps much more exactly than this."""

PlantClockReader = Callable[[], Awaitable[PlantClock | None]]
"""Asks the plant itself for its clock; None when it does not answer."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long lock-step waits, in wall seconds.

    Attributes:
        command_s: For commands, before falling back.
        fallback_s: For commands, while every device that waits is in fallback already.
        read_s: For a device that does not answer, per step.
        repeat_s: Before telemetry is said again, or the plant is asked for its clock.
    """

    command_s: float = 30.0
    fallback_s: float = 1.0
    read_s: float = 5.0
    repeat_s: float = 1.0


class Lockstep:
    """Does one step of all units for each step of the plant's clock."""

    def __init__(
        self,
        units: Units,
        time: PlantTime,
        patience: Patience,
        read_clock: PlantClockReader | None = None,
    ) -> None:
        self._units = units
        self._time = time
        self._patience = patience
        self._read_clock = read_clock
        self._news = asyncio.Event()
        self._clock: PlantClock | None = None
        self._acted: tuple[int, int] | None = None

    @property
    def step(self) -> int:
        """The plant's step; -1 before its first message."""
        return -1 if self._clock is None else self._clock.step

    def wake(self) -> None:
        """Look again: a command came, or a mode was changed."""
        self._news.set()

    async def follow(self, clock: PlantClock) -> None:
        """Take a message of the plant's clock."""
        if self._clock is not None and self._clock.epoch != clock.epoch:
            logger.warning("plant_restarted epoch=%d", clock.epoch)
            for cycle in self._units.devices.values():
                cycle.inbox.clear()
        self._clock = clock
        if self._acted == (clock.epoch, clock.step) and not clock.finished:
            # The plant asks again, so it did not hear us.
            await self._units.report.acted(clock.step)
        self.wake()

    async def run(self) -> None:
        """Do steps until cancelled."""
        while True:
            clock = self._clock
            if clock is not None and not clock.finished and not self._has_acted(clock):
                await self._do(clock)
            elif not await self._hears_news(self._patience.repeat_s):
                await self._ask_for_clock()

    def _has_acted(self, clock: PlantClock) -> bool:
        return self._acted == (clock.epoch, clock.step)

    async def _ask_for_clock(self) -> None:
        """Ask the plant itself: its message may have been sent before we listened."""
        if self._read_clock is None:
            return
        clock = await self._read_clock()
        if clock is not None and clock.pace == "lockstep":
            self._time.follow(clock.time_s)
            await self.follow(clock)

    async def _do(self, clock: PlantClock) -> None:
        await asyncio.gather(*(self._sense(unit) for unit in self._units.all))
        await self._tell(clock.step)
        await self._wait_for_commands(clock)
        if self._superseded(clock):
            return
        cycles = self._units.devices.values()
        await asyncio.gather(*(self._units.act(c, clock.step_s, clock.step) for c in cycles))
        self._acted = (clock.epoch, clock.step)
        await self._units.report.acted(clock.step)

    async def _sense(self, unit: Unit) -> None:
        """Read until it is good: plant time stands still, so a later read is as fresh."""
        until = self._time.now() + self._patience.read_s
        while True:
            snapshot = await unit.sense()
            if snapshot.quality is Quality.GOOD or self._time.now() >= until:
                return
            await asyncio.sleep(RETRY_S)

    async def _tell(self, step: int) -> None:
        for unit in self._units.all:
            await self._units.tell(unit, step)

    async def _wait_for_commands(self, clock: PlantClock) -> None:
        """Wait for each device's command of this step, saying again what was measured."""
        began = self._time.now()
        tell_at = began + self._patience.repeat_s
        while not self._superseded(clock):
            waiting = self._waiting(clock.step)
            if not waiting:
                return
            hopeful = any(cycle.modes.mode is not Mode.FALLBACK for cycle in waiting)
            give_up = began + (self._patience.command_s if hopeful else self._patience.fallback_s)
            now = self._time.now()
            if now >= give_up:
                return
            if now >= tell_at:
                await self._tell(clock.step)
                tell_at = now + self._patience.repeat_s
            await self._hears_news(max(SHORTEST_WAIT_S, min(tell_at, give_up) - now))

    def _waiting(self, step: int) -> list[DeviceCycle]:
        cycles = self._units.devices.values()
        return [c for c in cycles if c.waits_for_command and not c.inbox.has_for(step)]

    def _superseded(self, clock: PlantClock) -> bool:
        latest = self._clock
        return latest is None or (latest.epoch, latest.step) != (clock.epoch, clock.step)

    async def _hears_news(self, timeout_s: float) -> bool:
        self._news.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        except TimeoutError:
            return False
        return True

"""Clocks: plant seconds, mapped to wall seconds by a rate, and injected everywhere.

Intervals of agents are plant seconds; time-outs of links are wall seconds (`Clock.monotonic`).
"""

from __future__ import annotations

import asyncio
import heapq
import math
import time
from typing import Protocol

from heron.errors import ConfigError


class Clock(Protocol):
    """What tells the time and waits for it."""

    @property
    def rate(self) -> float:
        """Return plant seconds per wall second; infinity if nothing waits for the wall."""
        ...

    def now(self) -> float:
        """Return plant seconds."""
        ...

    def monotonic(self) -> float:
        """Return this host's own wall seconds, never stepping back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for plant seconds."""
        ...

    async def sleep_until(self, time_s: float) -> None:
        """Wait until a plant time; return at once if it has passed."""
        ...


def _wall() -> float:
    # the loop's own clock, so that a virtual-time loop moves this clock too
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()


class ScaledClock:
    """Plant time that runs ``rate`` times as fast as the wall.

    Args:
        rate: Plant seconds per wall second, above 0.
        start_s: Plant time now.
    """

    def __init__(self, rate: float, start_s: float = 0.0) -> None:
        if not (rate > 0 and math.isfinite(rate)):
            raise ConfigError(f"clock: rate = {rate}: a finite number above 0")
        self._rate = rate
        self._start_s = start_s
        self._wall_start = _wall()

    @property
    def rate(self) -> float:
        """Return plant seconds per wall second."""
        return self._rate

    def now(self) -> float:
        """Return plant seconds."""
        return self._start_s + (_wall() - self._wall_start) * self._rate

    def monotonic(self) -> float:
        """Return wall seconds."""
        return _wall()

    def set_time(self, time_s: float) -> None:
        """Set the plant time, e.g. to follow the simulator's clock."""
        self._start_s, self._wall_start = time_s, _wall()

    async def sleep(self, seconds: float) -> None:
        """Wait for plant seconds."""
        await asyncio.sleep(max(0.0, seconds / self._rate))

    async def sleep_until(self, time_s: float) -> None:
        """Wait until a plant time; return at once if it has passed."""
        await self.sleep(time_s - self.now())


class RealClock(ScaledClock):
    """Plant time that runs with the wall."""

    def __init__(self, start_s: float = 0.0) -> None:
        super().__init__(1.0, start_s)


class ManualClock:
    """Plant time that moves only when told to: lock-step and tests.

    Args:
        start_s: Plant time now.
    """

    def __init__(self, start_s: float = 0.0) -> None:
        self._now = start_s
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    @property
    def rate(self) -> float:
        """Return infinity: nothing waits for the wall."""
        return math.inf

    def now(self) -> float:
        """Return plant seconds."""
        return self._now

    def monotonic(self) -> float:
        """Return wall seconds."""
        return _wall()

    def advance(self, seconds: float) -> None:
        """Move time on and wake whoever waited for it."""
        self.set_time(self._now + seconds)

    def set_time(self, time_s: float) -> None:
        """Set the plant time and wake whoever waited for it.

        Raises:
            ValueError: Time would go back.
        """
        if not time_s >= self._now:
            raise ValueError(f"clock: {time_s} s lies before {self._now} s")
        self._now = time_s
        while self._waiting and self._waiting[0][0] <= time_s:
            future = heapq.heappop(self._waiting)[2]
            if not future.done():
                future.set_result(None)

    async def sleep(self, seconds: float) -> None:
        """Wait for plant seconds."""
        await self.sleep_until(self._now + seconds)

    async def sleep_until(self, time_s: float) -> None:
        """Wait until a plant time; return at once if it has passed."""
        if time_s <= self._now:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._waiting, (time_s, self._count, future))
        await future

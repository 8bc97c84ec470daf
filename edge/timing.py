"""Two clocks: the wall's, for deadlines, and the plant's, for intervals of agents.

Both stand on one monotonic clock that is injected, so a test runs an hour in a second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Literal

MonotonicClock = Callable[[], float]
"""Returns wall seconds since some fixed instant; never goes back."""

ClockName = Literal["plant", "wall"]
"""Whose clock counts: an emulated plant's on the broker, or the machine's own."""

GOLDEN_RATIO = 0.6180339887498949
CLOSE_ENOUGH_S = 2e-6
"""A deadline this near is reached: no event loop sleeps for less."""


class PlantTime:
    """How plant time passes, as far as this process knows.

    Free-running, plant seconds are wall seconds times the rate. In lock-step plant time
    stands still between two messages of the plant's clock. `elapsed_s` never goes back, so
    lives of commands and reversion timers are counted on it. Beside real devices ``calendar_s``
    says what time it is; lives are counted as ever.
    """

    def __init__(
        self,
        now: MonotonicClock = time.monotonic,
        *,
        rate: float = 1.0,
        time_s: float = 0.0,
        lockstep: bool = False,
        calendar_s: Callable[[], float] | None = None,
    ) -> None:
        if rate <= 0:
            raise ValueError(f"rate {rate}: expected > 0 plant seconds a wall second")
        self.now = now
        self._rate = rate
        self._lockstep = lockstep
        self._calendar_s = calendar_s
        self._anchor_wall_s = now()
        self._anchor_time_s = time_s
        self._elapsed_at_anchor_s = 0.0

    @property
    def rate(self) -> float:
        """Plant seconds a wall second; meaningless in lock-step."""
        return self._rate

    @property
    def lockstep(self) -> bool:
        """Whether plant time only moves with messages of the plant's clock."""
        return self._lockstep

    def _since_anchor_s(self) -> float:
        return 0.0 if self._lockstep else (self.now() - self._anchor_wall_s) * self._rate

    def time_s(self) -> float:
        """Return the plant time, in seconds since the start of the data year."""
        if self._calendar_s is not None:
            return self._calendar_s()
        return self._anchor_time_s + self._since_anchor_s()

    def elapsed_s(self) -> float:
        """Return plant seconds since this object was made; never goes back."""
        return self._elapsed_at_anchor_s + self._since_anchor_s()

    def follow(self, time_s: float, *, rate: float | None = None) -> None:
        """Take over what the plant's clock says: its time and, if known, its rate."""
        passed = self._since_anchor_s()
        if self._lockstep:
            passed = max(0.0, time_s - self._anchor_time_s)
        self._elapsed_at_anchor_s += passed
        self._anchor_wall_s = self.now()
        self._anchor_time_s = time_s
        if rate is not None and rate > 0:
            self._rate = rate


@dataclass(frozen=True, slots=True)
class Tick:
    """One turn of a periodic task.

    Attributes:
        index: Number of the slot since the start; skipped slots leave a gap.
        due_s: When it was due, on the monotonic clock.
        late_s: How late it started.
        missed: Slots skipped just before this one because a turn took too long.
    """

    index: int
    due_s: float
    late_s: float
    missed: int


async def ticks(
    period_s: float, *, phase_s: float = 0.0, now: MonotonicClock = time.monotonic
) -> AsyncIterator[Tick]:
    """Yield at absolute deadlines ``start + phase + k * period``.

    A turn that overruns its slot skips to the next slot and keeps the phase: missed ticks
    are counted, never caught up in a burst.

    Args:
        period_s: Wall seconds between two ticks.
        phase_s: Wall seconds by which the first tick is shifted.
        now: Monotonic clock.
    """
    start = now() + phase_s
    index = 0
    while True:
        due = start + index * period_s
        await _sleep_until(due, now)
        late = max(0.0, now() - due)
        skipped = int(late // period_s)
        index += skipped
        yield Tick(index, due + skipped * period_s, late - skipped * period_s, skipped)
        index += 1


async def _sleep_until(due_s: float, now: MonotonicClock) -> None:
    wait_s = due_s - now()
    if wait_s > CLOSE_ENOUGH_S:
        await asyncio.sleep(wait_s)
        # The loop's clock may be coarser than ours and wake us a moment early.
        await _sleep_until(due_s, now)


def stagger(index: int, period_s: float) -> float:
    """Return the phase of one of any number of tasks, spread evenly over a period.

    Multiples of the golden ratio stay spread however many there are, so a task can be added
    without moving the others.
    """
    return period_s * (index * GOLDEN_RATIO % 1.0)

"""Where the beats of coordinators come from beside real devices: the calendar."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from heron.messaging.wire import PlantClock
from heron.powergrid.data_year import plant_time_now_s

SHORTEST = 0.25
"""Part of an interval below which the next beat is left out, so that none follows too closely."""


async def calendar_beats(
    interval_s: float, calendar_s: Callable[[], float] = plant_time_now_s
) -> AsyncIterator[tuple[str, PlantClock]]:
    """Yield a beat at once, then at each whole interval of the day.

    Args:
        interval_s: Seconds between two beats.
        calendar_s: Says what plant time it is.
    """
    step = 0
    while True:
        now_s = calendar_s()
        yield "", PlantClock(epoch=0, step=step, time_s=now_s, step_s=interval_s, pace="real")
        step += 1
        # the time that has been spent on this beat counts
        wait_s = interval_s - (calendar_s() % interval_s)
        if wait_s < SHORTEST * interval_s:
            wait_s += interval_s
        await asyncio.sleep(wait_s)

"""An observer that is asked whether it has caught up has taken what came in before."""

from __future__ import annotations

import asyncio

from heron.messaging.bus import InMemoryBus
from heron.messaging.observer import Observer
from heron.messaging.tally import Tally
from heron.messaging.topics import CLOCK, TELEMETRY
from heron.messaging.wire import Message, PlantClock, Telemetry


class Notes:
    """Counts what was written, topic by topic."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def write(self, topic: str, agent: str, message: Message, at_s: float) -> None:
        del agent, message, at_s
        self.counts[topic] = self.counts.get(topic, 0) + 1


async def test_the_last_clock_does_not_hide_telemetry_that_came_before_it() -> None:
    notes, tally = Notes(), Tally()
    async with InMemoryBus() as bus:
        observer = Observer(bus, tally, notes)
        listening = asyncio.Event()
        job = asyncio.create_task(observer.run(listening))
        await listening.wait()
        last = PlantClock(epoch=1, step=500, time_s=0.0, step_s=1.0, pace="max", finished=True)
        # Whoever takes a message waits for its turn to tell so, as under load.
        async with observer._changed:
            for step in range(500):
                report = Telemetry(agent="pv1", sequence=step, step=step, time_s=0.0, points={})
                await bus.publish(TELEMETRY, report, agent="pv1")
            await bus.publish(CLOCK, last)
            await asyncio.sleep(0)
        await observer.until(lambda t: t.clock is not None and t.clock.finished)
        await observer.caught_up()
        assert notes.counts[TELEMETRY.name] == 500
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)

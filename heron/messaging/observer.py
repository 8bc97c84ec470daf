"""Listens to every topic of a site: for the live table, the report and a recording."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

from heron.messaging.bus import Bus, Subscription
from heron.messaging.tally import Tally
from heron.messaging.topics import ALARM, TOPICS
from heron.messaging.wire import Alarm, Message, Status


class Sink(Protocol):
    """Takes every message that an observer hears."""

    def write(self, topic: str, agent: str, message: Message, at_s: float) -> None:
        """Take one message; never waits."""
        ...


class Recorder:
    """Writes each message as one JSON line: ``{"at_s", "topic", "agent", "message"}``.

    ``at_s`` is the observer's monotonic clock, so differences between lines are real delays.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        """Open the file, replacing what it held."""
        self._file = self._path.open("w", buffering=1, encoding="utf-8")
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def write(self, topic: str, agent: str, message: Message, at_s: float) -> None:
        """Add one line."""
        if self._file is not None:
            head = json.dumps({"at_s": round(at_s, 6), "topic": topic, "agent": agent})
            self._file.write(f'{head[:-1]}, "message": {message.model_dump_json()}}}\n')


class Observer:
    """Takes every message of a site.

    Args:
        bus: Connected.
        tally: Counts.
        sink: Takes every message too, if given.
        now: Monotonic clock.
    """

    def __init__(
        self,
        bus: Bus,
        tally: Tally,
        sink: Sink | None = None,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tally = tally
        self._bus = bus
        self._sink = sink
        self._now = now
        self._changed = asyncio.Condition()
        self._heard: list[Subscription[Any]] = []

    async def run(self, listening: asyncio.Event) -> None:
        """Listen until cancelled; ``listening`` is set when every topic is subscribed."""
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            for topic in TOPICS:
                messages = await stack.enter_async_context(
                    self._bus.subscribe(topic, capacity=16_384)
                )
                self._heard.append(messages)
                group.create_task(self._take(topic.name, messages))
            listening.set()

    async def until(self, condition: Callable[[Tally], bool]) -> None:
        """Wait until the tally fulfils a condition."""
        async with self._changed:
            await self._changed.wait_for(lambda: condition(self.tally))

    async def caught_up(self) -> None:
        """Wait until everything that has come in is taken.

        Each topic has a queue of its own, so the last message of one may be taken long before
        earlier ones of another.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: not any(m.waiting for m in self._heard))

    async def roll_call(self, caller: str) -> dict[str, Status]:
        """Return the newest status of everybody who has said one, by agent.

        What is retained comes before what is sent after it, so the answer to our own message
        is the sign that every status has come.
        """
        hello = Alarm(agent=caller, severity="info", text=f"{caller} is here", active=False)
        await self._bus.publish(ALARM, hello, agent=caller)
        await self.until(lambda tally: hello in tally.alarms)
        await self.caught_up()
        return dict(self.tally.statuses)

    async def _take(self, topic: str, messages: Subscription[Any]) -> None:
        async for agent, message in messages:
            at_s = self._now()
            self.tally.take(topic, agent, message, at_s)
            if self._sink is not None:
                self._sink.write(topic, agent, message, at_s)
            async with self._changed:
                self._changed.notify_all()

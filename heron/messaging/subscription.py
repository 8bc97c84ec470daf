"""One consumer's messages of one topic, in a bounded queue."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, Self, TypeVar

from heron.messaging.topics import Topic
from heron.messaging.wire import Message

M = TypeVar("M", bound=Message)

DEFAULT_CAPACITY = 1024


class Subscription(Generic[M]):
    """Messages of one topic: iterate over it to get (agent, message).

    The queue is bounded. When it is full the newest message wins: the oldest of the same
    agent goes, or the oldest of all. One consumer only.
    """

    def __init__(self, topic: Topic[M], site: str, agent: str | None, capacity: int) -> None:
        self.topic = topic
        self.site = site
        self.agent = agent
        self.dropped = 0
        self._capacity = capacity
        self._pending: deque[tuple[str, M]] = deque()
        self._arrived = asyncio.Event()
        self._closed = False
        self._error: BaseException | None = None

    @property
    def filter(self) -> str:
        """The MQTT topic filter of this subscription."""
        if self.agent is None:
            return self.topic.wildcard(self.site)
        return self.topic.path(self.site, self.agent)

    @property
    def waiting(self) -> int:
        """How many messages are in the queue."""
        return len(self._pending)

    def matches(self, path: str) -> bool:
        """Tell whether a full topic belongs here."""
        agent = self.topic.agent_of(path)
        if agent is None or path.split("/", 2)[1] != self.site:
            return False
        return self.agent is None or agent == self.agent

    def offer(self, agent: str, message: M) -> None:
        """Put a message in the queue; never waits."""
        if len(self._pending) >= self._capacity:
            self._drop_oldest(agent)
        self._pending.append((agent, message))
        self._arrived.set()

    def _drop_oldest(self, agent: str) -> None:
        self.dropped += 1
        for index, (other, _) in enumerate(self._pending):
            if other == agent:
                del self._pending[index]
                return
        self._pending.popleft()

    def close(self, error: BaseException | None = None) -> None:
        """End the iteration, after what is queued; with ``error``, by raising it."""
        self._closed = True
        self._error = error
        self._arrived.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[str, M]:
        while not self._pending:
            if self._closed:
                raise StopAsyncIteration if self._error is None else self._error
            self._arrived.clear()
            await self._arrived.wait()
        return self._pending.popleft()

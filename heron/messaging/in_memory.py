"""The broker that stays inside one process."""

from __future__ import annotations

from collections import deque

from heron.errors import BrokerUnavailable
from heron.messaging.base import BROADCAST, Broker, Callback, Message, require_channel


class _Channel:
    """What waits on one channel."""

    __slots__ = ("broadcasts", "callbacks", "direct", "read_up_to")

    def __init__(self) -> None:
        self.direct: dict[tuple[str, str], deque[tuple[int, Message]]] = {}
        self.broadcasts: dict[str, deque[tuple[int, Message]]] = {}
        self.read_up_to: dict[tuple[str, str], int] = {}
        self.callbacks: list[Callback] = []


class InMemoryBroker(Broker):
    """Keeps messages in bounded queues.

    Args:
        capacity: Messages that may wait per recipient and channel; the oldest is dropped for a
            new one.

    Attributes:
        published: Messages sent so far.
        dropped: Messages that left a full queue; of those to all also what everybody had read.
    """

    def __init__(self, capacity: int = 1000) -> None:
        if capacity < 1:
            raise ValueError(f"capacity = {capacity}: at least 1")
        self.published = 0
        self.dropped = 0
        self._capacity = capacity
        self._channels: dict[str, _Channel] = {}
        self._closed = False

    def create_channel(self, channel: str) -> None:
        """Make a channel; one that exists stays as it is."""
        self._require(channel)

    def publish(self, channel: str, message: Message) -> None:
        """Put a message into its recipient's queue and call the channel's subscribers."""
        where = self._require(channel)
        if message.recipient_id == BROADCAST:
            queue = where.broadcasts.setdefault(message.env_id, deque())
        else:
            queue = where.direct.setdefault((message.env_id, message.recipient_id), deque())
        if len(queue) >= self._capacity:
            queue.popleft()
            self.dropped += 1
        self.published += 1
        queue.append((self.published, message))
        for callback in tuple(where.callbacks):
            callback(message)

    def consume(
        self, channel: str, recipient_id: str, env_id: str, clear: bool = True
    ) -> list[Message]:
        """Return a recipient's messages, oldest first."""
        self._check_open()
        where = self._channels.get(channel)
        if where is None:
            require_channel(channel)
            return []
        key = (env_id, recipient_id)
        direct = where.direct.get(key)
        found = list(direct) if direct else []
        broadcasts = where.broadcasts.get(env_id)
        if broadcasts:
            read = where.read_up_to.get(key, 0)
            found += [entry for entry in broadcasts if entry[0] > read]
            found.sort(key=lambda entry: entry[0])
        if clear and found:
            if direct:
                direct.clear()
            if broadcasts:
                where.read_up_to[key] = found[-1][0]
        return [message for _, message in found]

    def subscribe(self, channel: str, callback: Callback) -> None:
        """Call ``callback`` from within `publish` with every message on a channel."""
        self._require(channel).callbacks.append(callback)

    def clear_environment(self, env_id: str) -> None:
        """Drop what waits for the agents of one environment."""
        self._check_open()
        for channel in self._channels.values():
            channel.broadcasts.pop(env_id, None)
            for key in [key for key in channel.direct if key[0] == env_id]:
                del channel.direct[key]

    def close(self) -> None:
        """Drop everything and refuse further use."""
        self._channels.clear()
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise BrokerUnavailable("in memory", "it is closed")

    def _require(self, channel: str) -> _Channel:
        self._check_open()
        found = self._channels.get(channel)
        if found is None:
            require_channel(channel)
            found = self._channels[channel] = _Channel()
        return found

"""The typed message bus of the runtimes, and its in-memory form.

A `Bus` speaks the rows of `heron.messaging.topics` and the models of `heron.messaging.wire`;
nobody above it sees a topic string or a byte. `InMemoryBus` runs in one process and in virtual
time; `heron.messaging.mqtt.MqttBus` is the same over a broker. One contract suite tests both.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from pydantic import ValidationError

from heron.errors import BrokerUnavailable, ConfigError, ConfigProblem
from heron.messaging.subscription import DEFAULT_CAPACITY, Subscription
from heron.messaging.topics import STATUS, Topic, WhileDown
from heron.messaging.wire import Message, Status, one_line

__all__ = ["Bus", "BusCounters", "InMemoryBus", "MemoryHub", "Subscription"]

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)

MOST_MALFORMED = 1000
"""Topics with malformed payloads that are told apart in the log."""


@dataclass(slots=True)
class BusCounters:
    """What went over a bus since it was opened.

    Attributes:
        published: Messages handed to the broker.
        received: Messages that a subscription took.
        dropped: Messages lost because the connection was down or a queue was full.
        invalid: Payloads that do not fit their topic's model.
        out_of_time: Messages that the broker had kept although their topic is not retained.
        connections: Times that the connection was made.
    """

    published: int = 0
    received: int = 0
    dropped: int = 0
    invalid: int = 0
    out_of_time: int = 0
    connections: int = 0


class Bus(ABC):
    """Publishes and subscribes typed messages. An async context manager.

    Args:
        site: Site of the process; the default of `publish` and `subscribe`.
        status: Birth of the process that owns the bus: published (retained) at each
            connection, and its last will with ``online=False``. On leaving the context the
            same is published, so that a clean end and a crash look alike to others.
        announce: Publish the birth on entering the context. With False the owner calls
            `announce` when it is ready, e.g. after its subscriptions.

    Raises:
        ConfigError: The site cannot stand in a topic.
    """

    def __init__(self, site: str, status: Status | None = None, *, announce: bool = True) -> None:
        try:
            STATUS.wildcard(site)
        except ValueError as error:
            expected = "expected a name without /, + and #"
            raise ConfigError([ConfigProblem("site", site, expected)]) from error
        self.site = site
        self.status = status
        self._announced = announce
        self.counters = BusCounters()
        self._subscriptions: list[Subscription[Any]] = []
        self._kept: dict[str, tuple[Topic[Any], bytes]] = {}
        self._malformed: set[str] = set()
        self._online, self._offline = asyncio.Event(), asyncio.Event()
        self._offline.set()

    @property
    def connected(self) -> bool:
        """Whether messages reach the broker, as far as is known: silence takes a while."""
        return self._online.is_set()

    async def wait_connected(self) -> None:
        """Wait until messages reach the broker."""
        await self._online.wait()

    async def wait_lost(self) -> None:
        """Wait until the connection is known to be lost."""
        await self._offline.wait()

    def _set_connected(self, connected: bool) -> None:
        if connected:
            self._offline.clear()
            self._online.set()
        else:
            self._online.clear()
            self._offline.set()

    async def publish(
        self, topic: Topic[M], message: M, *, agent: str = "", site: str | None = None
    ) -> None:
        """Send a message; at QoS 1 return when the broker has it.

        Without a connection the topic's ``while_down`` says what happens.

        Raises:
            BrokerUnavailable: No connection, and the topic says `WhileDown.RAISE`.
            TypeError: The message is not of the topic's model.
        """
        path = topic.path(site or self.site, agent)
        payload = self._encode(topic, message)
        if topic.retain:
            self._kept[path] = (topic, payload)
        if self.connected and await self._send(topic, path, payload):
            self.counters.published += 1
            return
        match topic.while_down:
            case WhileDown.RAISE:
                raise BrokerUnavailable(self.address, f"not connected, {path} was not sent")
            case WhileDown.KEEP:
                self._kept[path] = (topic, payload)
            case WhileDown.DROP:
                self.counters.dropped += 1

    @property
    @abstractmethod
    def address(self) -> str:
        """Where the broker is, for people; never with a password."""

    @abstractmethod
    async def _send(self, topic: Topic[Any], path: str, payload: bytes) -> bool:
        """Hand a message to the broker; False when the connection was lost meanwhile."""

    async def announce(self) -> None:
        """Say that the owner is there, now and after each reconnection."""
        self._announced = True
        if self.status is not None:
            await self.publish(STATUS, self.status, agent=self.status.agent)

    async def _resume(self) -> None:
        """After a connection: say who is alive, and send what was kept meanwhile."""
        if self.status is not None and self._announced:
            path = STATUS.path(self.site, self.status.agent)
            self._kept[path] = (STATUS, self._encode(STATUS, self.status))
        for path, (topic, payload) in list(self._kept.items()):
            if not await self._send(topic, path, payload):
                return
            self.counters.published += 1
            # Who is alive is said again at the next connection: the broker may have lost it.
            if not topic.retain and self._kept.get(path) == (topic, payload):
                del self._kept[path]

    def _will(self) -> Status | None:
        return None if self.status is None else self.status.model_copy(update={"online": False})

    @abstractmethod
    def subscribe(
        self,
        topic: Topic[M],
        site: str | None = None,
        agent: str | None = None,
        *,
        capacity: int = DEFAULT_CAPACITY,
    ) -> AbstractAsyncContextManager[Subscription[M]]:
        """Take a topic from one agent, or from all; retained messages come first.

        The subscription is in force when the context is entered, and is renewed by itself
        after each reconnection.
        """

    @abstractmethod
    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            BrokerUnavailable: No broker answers.
        """

    @abstractmethod
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Say offline, disconnect and end every subscription."""

    def _encode(self, topic: Topic[M], message: M) -> bytes:
        if not isinstance(message, topic.model):
            raise TypeError(
                f"topic {topic.name} carries {topic.model.__name__}, not {type(message).__name__}"
            )
        return message.model_dump_json().encode()

    def _deliver(self, path: str, payload: bytes, to: Iterable[Subscription[Any]]) -> None:
        """Decode a payload once and offer it to each subscription that matches its topic."""
        decoded: Message | None = None
        for subscription in to:
            if not subscription.matches(path):
                continue
            if decoded is None:
                try:
                    decoded = subscription.topic.model.model_validate_json(payload)
                except ValidationError as error:
                    self._note_malformed(path, error)
                    return
                self._malformed.discard(path)
                self.counters.received += 1
            before = subscription.dropped
            subscription.offer(subscription.topic.agent_of(path) or "", decoded)
            self.counters.dropped += subscription.dropped - before

    def _note_malformed(self, path: str, error: ValidationError) -> None:
        """Count a payload that does not fit; say so once, until one of its topic fits again."""
        self.counters.invalid += 1
        if path in self._malformed or len(self._malformed) >= MOST_MALFORMED:
            return
        self._malformed.add(path)
        first = error.errors()[0]
        logger.warning(
            "message_invalid topic=%s at=%s reason=%s", one_line(path), first["loc"], first["msg"]
        )


class MemoryHub:
    """What stands in for a broker: connects the `InMemoryBus`es that share it."""

    def __init__(self) -> None:
        self._buses: list[InMemoryBus] = []
        self._retained: dict[str, bytes] = {}

    def attach(self, bus: InMemoryBus) -> None:
        """Let a bus hear and be heard."""
        self._buses.append(bus)

    def detach(self, bus: InMemoryBus) -> None:
        """Forget a bus; it need not be known."""
        if bus in self._buses:
            self._buses.remove(bus)

    def route(self, path: str, payload: bytes, *, retain: bool) -> None:
        """Give a message to every bus, and keep it if it is retained."""
        if retain:
            self._retained[path] = payload
        for bus in self._buses:
            bus.take(path, payload)

    def retained(self) -> dict[str, bytes]:
        """Return what is retained: payload by full topic."""
        return dict(self._retained)


class InMemoryBus(Bus):
    """A bus inside one process; messages pass through JSON, as on the wire.

    Args:
        hub: Shared by the buses that should hear each other; None makes a private one.
    """

    def __init__(
        self,
        hub: MemoryHub | None = None,
        *,
        site: str = "site",
        status: Status | None = None,
        announce: bool = True,
    ) -> None:
        super().__init__(site, status, announce=announce)
        self.hub = MemoryHub() if hub is None else hub

    @property
    def address(self) -> str:
        """There is only one place in memory."""
        return "memory"

    async def __aenter__(self) -> Self:
        """Join the hub."""
        await self.restore()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Say offline, leave the hub and end every subscription."""
        self.lose()
        for subscription in self._subscriptions:
            subscription.close()

    def lose(self) -> None:
        """Lose the connection, as a crash would: the last will is published."""
        if not self.connected:
            return
        self.hub.detach(self)
        self._set_connected(False)
        will = self._will()
        if will is not None:
            payload = self._encode(STATUS, will)
            self.hub.route(STATUS.path(self.site, will.agent), payload, retain=True)

    async def restore(self) -> None:
        """Connect (again)."""
        self.hub.attach(self)
        self._set_connected(True)
        self.counters.connections += 1
        for path, payload in self.hub.retained().items():
            self.take(path, payload)
        await self._resume()

    def take(self, path: str, payload: bytes) -> None:
        """Give a message of the hub to the subscriptions that it matches."""
        self._deliver(path, payload, self._subscriptions)

    async def _send(self, topic: Topic[Any], path: str, payload: bytes) -> bool:
        self.hub.route(path, payload, retain=topic.retain)
        # A broker would answer over the network: let the others run, as it would.
        await asyncio.sleep(0)
        return True

    @asynccontextmanager
    async def subscribe(
        self,
        topic: Topic[M],
        site: str | None = None,
        agent: str | None = None,
        *,
        capacity: int = DEFAULT_CAPACITY,
    ) -> AsyncIterator[Subscription[M]]:
        """Take a topic from one agent, or from all; retained messages come first."""
        subscription = Subscription(topic, site or self.site, agent, capacity)
        if self.connected:
            for path, payload in self.hub.retained().items():
                self._deliver(path, payload, [subscription])
        self._subscriptions.append(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.remove(subscription)
            subscription.close()

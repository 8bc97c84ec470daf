"""The bus over an MQTT broker: the only file that knows aiomqtt.

One task owns the connection. It makes a new client for each connection (a client that is
entered a second time answers before the broker has), waits between attempts with a capped,
jittered backoff, renews the subscriptions, says who is alive, and reads.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import aiomqtt
from paho.mqtt.reasoncodes import ReasonCode

from heron.errors import BrokerUnavailable
from heron.messaging.address import BrokerAddress
from heron.messaging.bus import MOST_MALFORMED, Bus
from heron.messaging.subscription import DEFAULT_CAPACITY, Subscription
from heron.messaging.topics import STATUS, TOPICS, Topic
from heron.messaging.wire import Message, Status, one_line

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)

_FOR_EVER = float("inf")
_LOST = (aiomqtt.MqttError, TimeoutError, OSError)
_NO_DELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the bus waits for a broker.

    Attributes:
        first_s: Wall seconds to find the broker at start; after them: `BrokerUnavailable`.
        answer_s: Wall seconds for the answer to one request.
        keepalive_s: A silent broker is noticed after twice this time.
        backoff_s: Longest wait between two attempts to reconnect.
    """

    first_s: float = 5.0
    answer_s: float = 5.0
    keepalive_s: int = 5
    backoff_s: float = 5.0


class MqttBus(Bus):
    """A bus over a broker; see `Bus`.

    Args:
        address: The broker.
        client_id: MQTT client identifier; None makes a unique one from the status' agent. Two
            clients with one identifier push each other off the broker for ever.
        rng: Source of the jitter.
    """

    def __init__(
        self,
        address: BrokerAddress | str,
        *,
        site: str = "site",
        status: Status | None = None,
        announce: bool = True,
        client_id: str | None = None,
        patience: Patience | None = None,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(site, status, announce=announce)
        self._address = BrokerAddress.parse(address) if isinstance(address, str) else address
        self._patience = patience or Patience()
        self._rng = rng or random.Random()
        owner = "client" if status is None else status.agent
        self._client_id = client_id or f"heron-{owner}-{self._rng.getrandbits(48):012x}"
        self._client: aiomqtt.Client | None = None
        self._filters: set[str] = set()
        self._retained: dict[str, bytes] = {}
        self._out_of_time: set[str] = set()
        self._filters_lock = asyncio.Lock()
        self._waits: set[asyncio.Timeout] = set()
        self._task: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """The broker's address, without the password."""
        return str(self._address)

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            BrokerUnavailable: No broker answered within ``patience.first_s``.
        """
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._stay_connected(first), name=f"mqtt {self.address}")
        try:
            await first
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Say offline, disconnect and end every subscription."""
        will = self._will()
        if will is not None and self._announced and self.connected:
            # A clean disconnect makes the broker forget the will, so it is said aloud.
            await self.publish(STATUS, will, agent=will.agent)
        await self._stop()
        for subscription in self._subscriptions:
            subscription.close()

    async def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _stay_connected(self, first: asyncio.Future[None]) -> None:
        """Own the connection until cancelled; a bug in here ends every subscription with it."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._patience.first_s
        backoff_s = 0.05
        try:
            while True:
                try:
                    async with self._new_client() as client:
                        await self._come_online(client)
                        backoff_s = 0.05
                        if not first.done():
                            first.set_result(None)
                        await self._read(client)
                except _LOST as error:
                    if first.done():
                        self._go_offline(error)
                    elif loop.time() >= give_up:
                        first.set_exception(BrokerUnavailable(self.address, _reason(error)))
                        return
                await asyncio.sleep(backoff_s * self._rng.uniform(0.5, 1.0))
                backoff_s = min(2 * backoff_s, self._patience.backoff_s)
        except Exception as error:
            if not first.done():
                first.set_exception(error)
                return
            for subscription in self._subscriptions:
                subscription.close(error)
            raise
        finally:
            self._go_offline(None)

    def _new_client(self) -> aiomqtt.Client:
        will = self._will()
        address = self._address
        return aiomqtt.Client(
            address.host,
            address.port,
            username=address.username,
            password=address.password,
            identifier=self._client_id,
            will=None
            if will is None
            else aiomqtt.Will(
                STATUS.path(self.site, will.agent),
                self._encode(STATUS, will),
                STATUS.qos,
                STATUS.retain,
            ),
            timeout=self._patience.answer_s,
            keepalive=self._patience.keepalive_s,
            tls_context=address.tls_context(),
            socket_options=[_NO_DELAY],
        )

    async def _come_online(self, client: aiomqtt.Client) -> None:
        self._filters.clear()
        self._client = client
        await self._renew_filters()
        self._set_connected(True)
        self.counters.connections += 1
        logger.info(
            "broker_connected address=%s connection=%d", self.address, self.counters.connections
        )
        await self._resume()

    def _go_offline(self, error: BaseException | None) -> None:
        if self.connected and error is not None:
            logger.warning("broker_lost address=%s reason=%s", self.address, _reason(error))
        self._set_connected(False)
        self._client = None
        now = asyncio.get_running_loop().time()
        for wait in self._waits:
            if not wait.expired():
                wait.reschedule(now)

    async def _read(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            path = str(message.topic)
            if not isinstance(message.payload, bytes):
                self.counters.invalid += 1
                continue
            if message.retain and not _may_be_retained(path):
                self._note_out_of_time(path)
                continue
            if STATUS.agent_of(path) is not None:
                self._retained[path] = message.payload
            self._deliver(path, message.payload, self._subscriptions)

    def _note_out_of_time(self, path: str) -> None:
        """Drop what a broker gave out again: nobody knows when it was meant."""
        self.counters.out_of_time += 1
        if path in self._out_of_time or len(self._out_of_time) >= MOST_MALFORMED:
            return
        self._out_of_time.add(path)
        logger.warning(
            "message_retained topic=%s reason=dropped, it may be of any age: an empty retained "
            "message removes it from the broker",
            one_line(path),
        )

    async def _send(self, topic: Topic[Any], path: str, payload: bytes) -> bool:
        client = self._client
        if client is None:
            return False
        try:
            async with self._answer():
                await client.publish(path, payload, topic.qos, topic.retain, timeout=_FOR_EVER)
        except _LOST as error:
            logger.debug("publish_failed topic=%s reason=%s", path, _reason(error))
            return False
        return True

    @asynccontextmanager
    async def _answer(self) -> AsyncIterator[None]:
        """Wait for the broker's answer, but not after the connection is known to be lost."""
        wait = asyncio.timeout(self._patience.answer_s)
        self._waits.add(wait)
        try:
            async with wait:
                yield
        finally:
            self._waits.discard(wait)

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
        if subscription.filter in self._filters or topic.wildcard(subscription.site) in (
            self._filters
        ):
            for path, payload in self._retained.items():
                self._deliver(path, payload, [subscription])
        self._subscriptions.append(subscription)
        try:
            await self._renew_filters_or_wait()
            yield subscription
        finally:
            self._subscriptions.remove(subscription)
            subscription.close()
            await self._renew_filters_or_wait()

    async def _renew_filters_or_wait(self) -> None:
        """Tell the broker what is wanted; without a connection the next one does it."""
        try:
            await self._renew_filters()
        except _LOST as error:
            logger.debug("subscribe_failed reason=%s", _reason(error))

    async def _renew_filters(self) -> None:
        """Subscribe to what is wanted and not held yet, then leave what is no longer wanted.

        Raises:
            BrokerUnavailable: The broker refuses a subscription.
        """
        async with self._filters_lock:
            client = self._client
            if client is None:
                return
            wanted = self._wanted_filters()
            for name in wanted.keys() - self._filters:
                async with self._answer():
                    granted = await client.subscribe(name, wanted[name], timeout=_FOR_EVER)
                if not _all_granted(granted):
                    raise BrokerUnavailable(self.address, f"subscription to {name} was refused")
                self._filters.add(name)
            for name in self._filters - wanted.keys():
                self._filters.discard(name)
                async with self._answer():
                    await client.unsubscribe(name, timeout=_FOR_EVER)

    def _wanted_filters(self) -> dict[str, int]:
        """Return topic filter to QoS.

        A wildcard stands for its single topics too: where filters overlap, a broker may
        deliver a message twice.
        """
        wildcards = {s.filter for s in self._subscriptions if s.agent is None}
        return {
            s.filter: s.topic.qos
            for s in self._subscriptions
            if s.filter in wildcards or s.topic.wildcard(s.site) not in wildcards
        }


def _may_be_retained(path: str) -> bool:
    return any(topic.retain and topic.agent_of(path) is not None for topic in TOPICS)


def _all_granted(codes: Sequence[int | ReasonCode]) -> bool:
    """Tell whether a SUBACK accepts every filter; 0x80 and above refuse."""
    return all((code if isinstance(code, int) else code.value) < 0x80 for code in codes)


def _reason(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return text.splitlines()[0]

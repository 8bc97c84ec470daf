"""The agents' synchronous broker over MQTT: the only file that knows paho.

A thread of paho's reads; what comes in waits in an `InMemoryBroker`, from which `consume`
takes it. Every message comes back to its sender as well, which is how `consume` knows that what
was published before has arrived.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from heron.errors import BrokerUnavailable
from heron.messaging.address import BrokerAddress
from heron.messaging.base import Broker, Callback, Message, MessageType, require_channel
from heron.messaging.in_memory import InMemoryBroker

logger = logging.getLogger(__name__)

_QOS = 1
_REFUSED = 0x80


class MqttBroker(Broker):
    """Carries agents' messages over an MQTT broker; see `Broker`.

    Brokers on the same address with the same ``root`` hear each other. A broker object hears a
    channel from its first use on: create or consume a channel before others publish on it.

    Args:
        address: ``mqtt://host:port``.
        root: First levels of every topic.
        capacity: Messages that may wait per recipient and channel.
        timeout_s: Wall seconds to connect, and for a message to come back.

    Raises:
        BrokerUnavailable: No broker answers.
    """

    def __init__(
        self,
        address: BrokerAddress | str,
        *,
        root: str = "heron-agents",
        capacity: int = 1000,
        timeout_s: float = 5.0,
    ) -> None:
        self._address = BrokerAddress.parse(address) if isinstance(address, str) else address
        self._root = root
        self._timeout_s = timeout_s
        self._origin = uuid.uuid4().hex
        self._mailbox = InMemoryBroker(capacity)
        self._news = threading.Condition()
        self._sent: dict[str, int] = {}
        self._seen: dict[tuple[str, str], int] = {}
        self._granted: dict[str, bool] = {}
        self._asked: dict[int, str] = {}
        self._online = False
        self._closed = False
        self._failure: Exception | None = None
        self._client = self._connect()

    @property
    def dropped(self) -> int:
        """Messages lost because a queue was full."""
        return self._mailbox.dropped

    def create_channel(self, channel: str) -> None:
        """Hear a channel from now on."""
        with self._news:
            self._require_open()
            if channel in self._granted:
                return
            require_channel(channel)
            self._granted[channel] = False
            self._subscribe(self._client, channel)
            self._wait(lambda: self._granted[channel], f"channel {channel}: no answer")

    def publish(self, channel: str, message: Message) -> None:
        """Send a message; it is with the MQTT broker, or on its way again, on return."""
        self.create_channel(channel)
        with self._news:
            number = self._sent[channel] = self._sent.get(channel, 0) + 1
            payload = _encode(message, self._origin, number)
            sent = self._client.publish(f"{self._root}/{channel}", payload, _QOS)
            if sent.rc not in (paho.MQTT_ERR_SUCCESS, paho.MQTT_ERR_NO_CONN):
                raise BrokerUnavailable(str(self._address), paho.error_string(sent.rc))

    def consume(
        self, channel: str, recipient_id: str, env_id: str, clear: bool = True
    ) -> list[Message]:
        """Return a recipient's messages, once everything sent from here has come back."""
        self.create_channel(channel)
        with self._news:
            self._wait_for_own(channel)
            return self._mailbox.consume(channel, recipient_id, env_id, clear)

    def subscribe(self, channel: str, callback: Callback) -> None:
        """Call ``callback``, from the network's thread, with every message on a channel.

        A callback may publish on channels that were used before; a new one would wait for an
        answer that only the network's thread can take.
        """
        self.create_channel(channel)
        with self._news:
            self._mailbox.subscribe(channel, callback)

    def clear_environment(self, env_id: str) -> None:
        """Drop what waits for the agents of one environment, what is under way from here too."""
        with self._news:
            self._require_open()
            for channel in self._sent:
                self._wait_for_own(channel)
            self._mailbox.clear_environment(env_id)

    def close(self) -> None:
        """Disconnect. A second call does nothing."""
        with self._news:
            if self._closed:
                return
            self._closed = True
            self._news.notify_all()
        self._client.disconnect()
        self._client.loop_stop()
        self._mailbox.close()

    # --- the connection; callbacks come from paho's thread -------------------------------

    def _connect(self) -> paho.Client:
        address = self._address
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"heron-{self._origin[:16]}")
        if address.username is not None:
            client.username_pw_set(address.username, address.password)
        if address.tls:
            client.tls_set_context(address.tls_context())
        client.connect_timeout = self._timeout_s
        client.reconnect_delay_set(min_delay=1, max_delay=5)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        try:
            client.connect(address.host, address.port, keepalive=10)
        except OSError as error:
            raise BrokerUnavailable(str(address), str(error)) from error
        client.loop_start()
        try:
            with self._news:
                self._wait(lambda: self._online, "no answer")
        except BrokerUnavailable:
            client.disconnect()
            client.loop_stop()
            raise
        return client

    def _on_connect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Any,
    ) -> None:
        with self._news:
            if reason.is_failure:
                logger.warning("broker_refused address=%s reason=%s", self._address, reason)
                return
            self._online = True
            for channel in self._granted:
                self._subscribe(client, channel)
            self._news.notify_all()

    def _on_disconnect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.DisconnectFlags,
        reason: ReasonCode,
        properties: Any,
    ) -> None:
        with self._news:
            self._online = False
            if not self._closed:
                logger.warning("broker_lost address=%s reason=%s", self._address, reason)

    def _subscribe(self, client: paho.Client, channel: str) -> None:
        _, number = client.subscribe(f"{self._root}/{channel}", _QOS)
        if number is not None:
            self._asked[number] = channel

    def _on_subscribe(
        self, client: paho.Client, userdata: Any, number: int, codes: list[ReasonCode], more: Any
    ) -> None:
        with self._news:
            channel = self._asked.pop(number, None)
            if channel is not None and all(code.value < _REFUSED for code in codes):
                self._granted[channel] = True
            self._news.notify_all()

    def _on_message(self, client: paho.Client, userdata: Any, got: paho.MQTTMessage) -> None:
        channel = got.topic.removeprefix(f"{self._root}/")
        if got.retain:
            # Nothing here is sent to be retained: it may be of any age.
            logger.warning("message_retained topic=%s reason=dropped, it may be old", got.topic)
            return
        try:
            message, origin, number = _decode(got.payload)
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("message_invalid topic=%s reason=%s", got.topic, error)
            return
        with self._news:
            # At QoS 1 a broker may deliver twice, after a lost connection.
            if self._closed or number <= self._seen.get((channel, origin), 0):
                return
            self._seen[channel, origin] = number
            try:
                self._mailbox.publish(channel, message)
            except Exception as error:  # noqa: BLE001 - of a subscriber; this thread must go on
                self._failure = error
            self._news.notify_all()

    def _require_open(self) -> None:
        if self._closed:
            raise BrokerUnavailable(str(self._address), "it is closed")
        self._tell_failure()

    def _tell_failure(self) -> None:
        """Raise what a subscriber raised, once."""
        if self._failure is not None:
            error, self._failure = self._failure, None
            raise error

    def _wait_for_own(self, channel: str) -> None:
        sent = self._sent.get(channel, 0)
        key = channel, self._origin
        self._wait(lambda: self._seen.get(key, 0) >= sent, f"channel {channel}: nothing came back")

    def _wait(self, condition: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + self._timeout_s
        while not condition():
            self._require_open()
            left = deadline - time.monotonic()
            if left <= 0.0:
                text = f"{complaint} within {self._timeout_s:g} s"
                raise BrokerUnavailable(str(self._address), text)
            self._news.wait(left)
        self._tell_failure()


def _encode(message: Message, origin: str, number: int) -> bytes:
    plain = {
        "origin": origin,
        "number": number,
        "env_id": message.env_id,
        "sender_id": message.sender_id,
        "recipient_id": message.recipient_id,
        "message_type": message.message_type.value,
        "payload": _thaw(message.payload),
        "timestamp": message.timestamp,
    }
    return json.dumps(plain).encode()


def _decode(payload: bytes | bytearray) -> tuple[Message, str, int]:
    plain = json.loads(payload)
    message = Message(
        env_id=plain["env_id"],
        sender_id=plain["sender_id"],
        recipient_id=plain["recipient_id"],
        message_type=MessageType(plain["message_type"]),
        payload=plain["payload"],
        timestamp=float(plain["timestamp"]),
    )
    return message, str(plain["origin"]), int(plain["number"])


def _thaw(value: Any) -> Any:
    """Return what `heron.messaging.base.freeze` made immutable as JSON can carry it."""
    if isinstance(value, Mapping):
        return {key: _thaw(inner) for key, inner in value.items()}
    return [_thaw(inner) for inner in value] if isinstance(value, tuple) else value

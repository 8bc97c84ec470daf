"""The synchronous message contract between agents: channels, messages, and a broker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType, TracebackType
from typing import Any, Self

import numpy as np

BROADCAST = "*"
"""Recipient id that stands for everybody on the channel."""


class MessageType(StrEnum):
    """What a message is for."""

    ACTION = "action"
    SIGNAL = "signal"
    STATE = "state"
    CUSTOM = "custom"


@dataclass(frozen=True, slots=True)
class Message:
    """One message between agents of one environment.

    Attributes:
        env_id: Environments that share a broker never see each other's messages.
        sender_id: Who says it.
        recipient_id: To whom, or `BROADCAST`.
        message_type: What for.
        payload: Numbers, strings, None, and sequences and mappings of them; made immutable.
        timestamp: Plant seconds at sending.

    Raises:
        ValueError: An id is empty, or the payload holds something that cannot be sent.
    """

    env_id: str
    sender_id: str
    recipient_id: str
    message_type: MessageType = MessageType.CUSTOM
    payload: Mapping[str, Any] = field(default_factory=dict)
    timestamp: float = 0.0

    def __post_init__(self) -> None:
        if not self.sender_id or not self.recipient_id:
            raise ValueError("message: sender_id and recipient_id must not be empty")
        object.__setattr__(self, "payload", freeze(self.payload))


def freeze(value: Any, where: str = "payload") -> Any:
    """Return an immutable copy made of what JSON can carry; arrays become tuples.

    Raises:
        ValueError: Something in it cannot be sent; the message names its key.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (np.bool_, np.integer, np.floating)):
        return value.item()
    if isinstance(value, np.ndarray):
        return freeze(value.tolist(), where)
    if isinstance(value, Mapping):
        return MappingProxyType(
            {str(key): freeze(inner, f"{where}.{key}") for key, inner in value.items()}
        )
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return tuple(freeze(inner, f"{where}[{i}]") for i, inner in enumerate(value))
    raise ValueError(f"message: {where} of type {type(value).__name__} cannot be sent")


Callback = Callable[[Message], None]


class Broker(ABC):
    """Carries messages on named channels; one contract for every transport.

    Messages of one sender on one channel arrive in order. A broadcast reaches every recipient
    that asks, each once. What was published through one broker object is there when the same
    object consumes: a networked broker waits for it. Every method raises
    `heron.errors.BrokerUnavailable` after `close`.
    """

    @abstractmethod
    def create_channel(self, channel: str) -> None:
        """Make a channel; one that exists stays as it is. `publish` makes it too.

        Raises:
            ValueError: No channel can have this name; see `require_channel`.
        """

    @abstractmethod
    def publish(self, channel: str, message: Message) -> None:
        """Send a message on a channel."""

    @abstractmethod
    def consume(
        self, channel: str, recipient_id: str, env_id: str, clear: bool = True
    ) -> list[Message]:
        """Return a recipient's messages, oldest first.

        Args:
            channel: Where from; a channel that nobody made is empty.
            recipient_id: Who asks; gets what is addressed to exactly this id or to all.
            env_id: Whose messages.
            clear: Whether they count as read. False leaves them for the next call.
        """

    @abstractmethod
    def subscribe(self, channel: str, callback: Callback) -> None:
        """Call ``callback`` with every message on a channel from now on.

        The call comes from within `publish` in memory, from the network's thread otherwise. What
        it raises comes out of `publish`, or of the next call of this broker.
        """

    @abstractmethod
    def clear_environment(self, env_id: str) -> None:
        """Drop what waits for the agents of one environment."""

    @abstractmethod
    def close(self) -> None:
        """Drop everything and refuse further use. A second call does nothing."""

    def __enter__(self) -> Self:
        """Return the broker; leaving the block closes it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def require_channel(name: str) -> None:
    """Check that a channel of this name can be carried by every broker.

    Raises:
        ValueError: It is empty, or holds a character that MQTT keeps for itself.
    """
    if not name or set("+#\0") & set(name):
        raise ValueError(f"{name!r} cannot be a channel")


def agent_channel(agent_id: str) -> str:
    """Return the name of the channel on which an agent is commanded, told and reported to."""
    return f"agent/{agent_id}"


def mail_channel(agent_id: str) -> str:
    """Return the name of the channel of what agents send each other beside that.

    It is apart from `agent_channel`, so that neither is taken for the other, or read with it.
    """
    return f"mail/{agent_id}"

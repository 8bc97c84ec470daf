"""How an agent says something to another, beside the commands and reports of its protocol."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import merge
from typing import TYPE_CHECKING, Any

from heron.core.features import Vector
from heron.errors import ConfigError
from heron.messaging.base import BROADCAST, Broker, Message, MessageType, mail_channel
from heron.scheduling.dispatch import Dispatch

if TYPE_CHECKING:
    from heron.agents.construction import Registrar
    from heron.agents.proxy import ProxyAgent


class Mailing:
    """The part of an agent that talks through the broker and asks the proxy."""

    agent_id: str
    env_id: str
    time_s: float
    registrar: Registrar | None
    message_broker: Broker | None
    virtual_time: Dispatch | None = None
    """Where messages wait out their delay; set while the environment runs in event-driven time."""

    def use_broker(self, broker: Broker) -> None:
        """Send and receive over a broker, and hear what is sent to it from now on."""
        self.message_broker = broker
        for recipient in (self.agent_id, BROADCAST):
            broker.create_channel(mail_channel(recipient))

    def message_delay(self, recipient_id: str, now_s: float) -> float:
        """Return how long a message sent now takes to a recipient, in plant seconds."""
        return 0.0

    def send_message(
        self,
        recipient_id: str,
        payload: Mapping[str, Any],
        message_type: MessageType = MessageType.CUSTOM,
    ) -> None:
        """Send a message through the broker; its recipient gets it with `receive_messages`.

        In event-driven time it arrives after this agent's message delay, behind what it sent
        the same agent before; otherwise at once.

        Args:
            recipient_id: An agent of the same environment, or `BROADCAST` for all of them.
            payload: Numbers, strings, None, and sequences and mappings of them.
            message_type: For whoever reads it: what is sent so commands nobody.

        Raises:
            ConfigError: The agent has no broker.
            ValueError: The payload cannot be sent.
        """
        self._require_broker()
        scheduler = self.virtual_time
        now_s = self.time_s if self.registrar is None else self.registrar.time_s
        message = Message(self.env_id, self.agent_id, recipient_id, message_type, payload, now_s)
        if scheduler is None:
            self.hand_over(message)
        else:
            delay = self.message_delay(recipient_id, now_s)
            scheduler.schedule_message_delivery(recipient_id, message, delay)

    def hand_over(self, message: Message) -> None:
        """Publish a message of this agent whose time to arrive has come."""
        self._require_broker().publish(mail_channel(message.recipient_id), message)

    def receive_messages(self, clear: bool = True) -> list[Message]:
        """Return what other agents sent this one or all, as far as it has arrived.

        Args:
            clear: Whether they count as read. False leaves them for the next call.

        Returns:
            Messages, oldest first: of one sender as it sent them.

        Raises:
            ConfigError: The agent has no broker.
        """
        broker = self._require_broker()
        own, for_all = (
            broker.consume(mail_channel(recipient), self.agent_id, self.env_id, clear)
            for recipient in (self.agent_id, BROADCAST)
        )
        of_others = (message for message in for_all if message.sender_id != self.agent_id)
        return list(merge(own, of_others, key=lambda message: message.timestamp))

    def _require_broker(self) -> Broker:
        if self.message_broker is None:
            raise ConfigError(
                f"{self.agent_id!r} has no message broker; give it one, or call "
                "configure_agents_for_distributed() of its environment"
            )
        return self.message_broker

    def request_state_from_proxy(
        self, proxy: ProxyAgent, owner_id: str, at_time: float | None = None
    ) -> Mapping[str, Vector]:
        """Return what this agent may see of another's state, by feature name.

        Args:
            proxy: Whom to ask.
            owner_id: Whose state.
            at_time: As it was known at this plant time; None: the latest.
        """
        return proxy.get_state(self.agent_id, owner_id, at_time)

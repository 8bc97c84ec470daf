"""How an agent says something to another, beside the commands and reports of its protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from heron.core.features import Vector
from heron.errors import ConfigError
from heron.messaging.base import Broker, Message, MessageType, agent_channel

if TYPE_CHECKING:
    from heron.agents.proxy import ProxyAgent


class Mailing:
    """The part of an agent that talks through the broker and asks the proxy."""

    agent_id: str
    env_id: str
    time_s: float
    message_broker: Broker | None

    def send_message(
        self,
        recipient_id: str,
        payload: Mapping[str, Any],
        message_type: MessageType = MessageType.CUSTOM,
    ) -> None:
        """Send a message through the broker.

        Raises:
            ConfigError: The agent has no broker.
            ValueError: The payload cannot be sent.
        """
        self._require_broker().publish(
            agent_channel(recipient_id),
            Message(self.env_id, self.agent_id, recipient_id, message_type, payload, self.time_s),
        )

    def receive_messages(self, clear: bool = True) -> list[Message]:
        """Return the messages that have arrived, oldest first.

        Raises:
            ConfigError: The agent has no broker.
        """
        broker = self._require_broker()
        return broker.consume(agent_channel(self.agent_id), self.agent_id, self.env_id, clear)

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

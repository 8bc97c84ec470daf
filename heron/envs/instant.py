"""The synchronous step: everything is delivered and decided within one instant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heron.agents.base import Agent
from heron.messaging.base import Broker, Message, MessageType, agent_channel

_CONTENT = "content"


class Instant:
    """Delivers messages at once and keeps field agents' actions until all have decided.

    It stands where the scheduler stands in event-driven mode; delays are not waited for.
    """

    def __init__(self, agents: Mapping[str, Agent], time_s: float) -> None:
        self._agents = agents
        self._effects: list[tuple[Agent, Any]] = []
        self.current_time = time_s

    def schedule_message_delivery(
        self, recipient_id: str, message: Any, delay: float = 0.0
    ) -> None:
        """Deliver a message now; one to nobody is lost."""
        recipient = self._agents.get(recipient_id)
        if recipient is not None:
            kind, sender, content = message
            recipient.on_message(kind, sender, content, self)

    def schedule_action_effect(
        self, agent_id: str, action: Any, delay: float = 0.0, *, priority: int | None = None
    ) -> None:
        """Coordinate now; keep a field agent's action for `take_effect`."""
        agent = self._agents[agent_id]
        if priority is None:
            self._effects.append((agent, action))
        else:
            own, observation = action
            agent.carry_out(own, observation, self)

    def take_effect(self) -> None:
        """Let the field agents' actions happen, in the order in which they were decided."""
        effects, self._effects = self._effects, []
        for agent, action in effects:
            agent.take_action(action)


class BrokerInstant(Instant):
    """The same over a broker: every message is published, consumed, and only then obeyed."""

    def __init__(
        self, agents: Mapping[str, Agent], time_s: float, broker: Broker, env_id: str
    ) -> None:
        super().__init__(agents, time_s)
        self._broker = broker
        self._env_id = env_id

    def schedule_message_delivery(
        self, recipient_id: str, message: Any, delay: float = 0.0
    ) -> None:
        """Send a message and let its recipient take what has arrived."""
        recipient = self._agents.get(recipient_id)
        time_s = self.current_time
        for kind, sender, content in carry(
            self._broker, self._env_id, recipient_id, message, time_s
        ):
            if recipient is not None:
                recipient.on_message(kind, sender, content, self)


def carry(
    broker: Broker, env_id: str, recipient_id: str, message: Any, time_s: float
) -> Iterator[tuple[MessageType, str, Any]]:
    """Send a message over a broker and yield what has arrived for its recipient by then.

    What agents send each other by themselves goes another way, and waits until it is read.

    Args:
        broker: Which carries it.
        env_id: Environment of both agents.
        recipient_id: To whom.
        message: Kind, sender and content, as agents hand them to their scheduler.
        time_s: Plant time of the sending.
    """
    kind, sender, content = message
    channel = agent_channel(recipient_id)
    sent = Message(env_id, sender, recipient_id, kind, {_CONTENT: content}, time_s)
    broker.publish(channel, sent)
    for got in broker.consume(channel, recipient_id, env_id):
        if _CONTENT in got.payload:
            yield got.message_type, got.sender_id, got.payload[_CONTENT]

"""Messages between agents: the synchronous broker contract and its in-memory form.

The typed topics, wire models and the asynchronous bus of the runtimes are modules beside
these; they are not imported here, because they need more than the standard library.
"""

from heron.messaging.base import (
    BROADCAST,
    Broker,
    Message,
    MessageType,
    agent_channel,
    mail_channel,
)
from heron.messaging.in_memory import InMemoryBroker

__all__ = [
    "BROADCAST",
    "Broker",
    "InMemoryBroker",
    "Message",
    "MessageType",
    "agent_channel",
    "mail_channel",
]

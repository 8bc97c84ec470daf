"""Events of the virtual time, and the order of those that fall on one instant."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final


class EventType(IntEnum):
    """What happens."""

    AGENT_TICK = 0
    ACTION_EFFECT = 1
    MESSAGE_DELIVERY = 2
    OBSERVATION_READY = 3
    ENV_UPDATE = 4
    CUSTOM = 5


ENV_UPDATE_PRIORITY: Final = 0
CUSTOM_PRIORITY: Final = 10
MESSAGE_PRIORITY: Final = 20
TICK_PRIORITY: Final = 30
SEND_PRIORITY: Final = 40
OBSERVATION_PRIORITY: Final = 50
EFFECT_PRIORITY: Final = 60

PRIORITIES: Final[tuple[int, ...]] = (
    TICK_PRIORITY,
    EFFECT_PRIORITY,
    MESSAGE_PRIORITY,
    OBSERVATION_PRIORITY,
    ENV_UPDATE_PRIORITY,
    CUSTOM_PRIORITY,
)
"""Default priority of each event type; the lower one comes first within an instant.

The order makes one instant read as a control cycle does: the plant is brought up to now, what
was planned for now happens, messages arrive, agents measure and report from the devices up
(tick priority + level), they decide from the system operator down (observation priority - level)
with coordinators' sending in between, and last the devices' set-points take effect. With all
delays at zero this is the synchronous step.
"""


class Event:
    """One thing that happens at one time.

    Attributes:
        timestamp: Plant seconds.
        event_type: What happens.
        agent_id: To whom; "" if to nobody in particular.
        payload: What the handler needs.
        priority: Order within an instant, lower first.
        sequence: Order of scheduling, set by the scheduler.
        cancelled: Set to drop the event when its time comes.
    """

    __slots__ = (
        "agent_id",
        "cancelled",
        "event_type",
        "payload",
        "priority",
        "sequence",
        "timestamp",
    )

    def __init__(
        self,
        timestamp: float,
        event_type: EventType,
        agent_id: str = "",
        payload: Any = None,
        *,
        priority: int | None = None,
    ) -> None:
        self.timestamp = timestamp
        self.event_type = event_type
        self.agent_id = agent_id
        self.payload = payload
        self.priority = PRIORITIES[event_type] if priority is None else priority
        self.sequence = -1
        self.cancelled = False

    def __repr__(self) -> str:
        return (
            f"Event({self.timestamp} s, {self.event_type.name}, {self.agent_id!r}, "
            f"priority={self.priority})"
        )

"""Time: clocks, agents' timing, and the event scheduler of the virtual time."""

from heron.scheduling.clock import Clock, ManualClock, RealClock, ScaledClock
from heron.scheduling.disturbances import (
    Condition,
    Disturbance,
    Occurrence,
    poisson_disturbances,
)
from heron.scheduling.events import Event, EventType
from heron.scheduling.scheduler import EventScheduler
from heron.scheduling.tick import JitterType, TickConfig

__all__ = [
    "Clock",
    "Condition",
    "Disturbance",
    "Event",
    "EventScheduler",
    "EventType",
    "JitterType",
    "ManualClock",
    "Occurrence",
    "RealClock",
    "ScaledClock",
    "TickConfig",
    "poisson_disturbances",
]

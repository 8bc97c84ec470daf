"""Time: clocks, agents' timing, and the event scheduler of the virtual time."""

from heron.scheduling.clock import Clock, ManualClock, RealClock, ScaledClock
from heron.scheduling.events import Event, EventType
from heron.scheduling.scheduler import EventScheduler
from heron.scheduling.tick import JitterType, TickConfig

__all__ = [
    "Clock",
    "Event",
    "EventScheduler",
    "EventType",
    "JitterType",
    "ManualClock",
    "RealClock",
    "ScaledClock",
    "TickConfig",
]

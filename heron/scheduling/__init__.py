"""Time: clocks, agents' timing, and the event scheduler of the virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heron.scheduling.disturbances import (
    Condition,
    Disturbance,
    Occurrence,
    poisson_disturbances,
)
from heron.scheduling.events import Event, EventType
from heron.scheduling.scheduler import EventScheduler
from heron.scheduling.tick import JitterType, TickConfig

if TYPE_CHECKING:
    from heron.scheduling.clock import Clock, ManualClock, RealClock, ScaledClock

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


def __getattr__(name: str) -> Any:
    """Import the clocks when they are asked for: only they need asyncio, which is slow to load."""
    if name in ("Clock", "ManualClock", "RealClock", "ScaledClock"):
        from heron.scheduling import clock

        return getattr(clock, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

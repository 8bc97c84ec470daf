"""Disturbances, conditions and custom events of an environment in event-driven time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from heron.agents.base import Agent
from heron.errors import ConfigError, ConfigProblem
from heron.scheduling.disturbances import Condition, Disturbance, Occurrence
from heron.scheduling.events import Event, EventType
from heron.scheduling.scheduler import EventScheduler

OccurrenceHandler = Callable[[float, Mapping[str, Any]], None]


class _Watched:
    """A condition and when it fired."""

    __slots__ = ("condition", "fired_s", "held")

    def __init__(self, condition: Condition, held: bool) -> None:
        self.condition = condition
        self.held = held
        self.fired_s = -math.inf


class Occurrences:
    """The part of an environment that makes named things happen.

    Attributes:
        event_log: What happened, in order, since `setup_event_driven`.
    """

    _known: dict[str, Agent]

    def __init__(self) -> None:
        super().__init__()
        self._scheduler: EventScheduler | None = None
        self.event_log: list[Occurrence] = []
        self._handlers: dict[str, OccurrenceHandler] = {}
        self._watched: list[_Watched] = []

    @property
    def scheduler(self) -> EventScheduler:
        """The event scheduler.

        Raises:
            ConfigError: `setup_event_driven` has not been called.
        """
        if self._scheduler is None:
            raise ConfigError("event-driven mode: call setup_event_driven() first")
        return self._scheduler

    def on_occurrence(self, name: str, handler: OccurrenceHandler) -> None:
        """Call ``handler(time_s, payload)`` when a disturbance or condition of a name occurs.

        A disturbance happens after the plant was advanced to its time and before anyone measures
        at that time.
        """
        self._handlers[name] = handler

    def schedule_disturbances(self, disturbances: Iterable[Disturbance]) -> None:
        """Let disturbances happen at their times.

        Raises:
            ConfigError: No handler was set for a name, or a time lies in the past. None is
                scheduled then.
        """
        given = tuple(disturbances)
        now = self.scheduler.current_time
        problems = [
            ConfigProblem(
                "disturbance", d.name, f"a name with a handler: {', '.join(self._handlers)}"
            )
            for d in given
            if d.name not in self._handlers
        ]
        problems += [
            ConfigProblem(f"disturbance {d.name}: time_s", d.time_s, f"at least {now} s, now")
            for d in given
            if d.time_s < now
        ]
        if problems:
            raise ConfigError(problems)
        for d in given:
            self.scheduler.schedule(Event(d.time_s, EventType.CUSTOM, payload=d))

    def watch_condition(self, condition: Condition) -> None:
        """Watch for a condition from now on; what holds already does not fire.

        Raises:
            ConfigError: It does nothing, or wakes an agent that does not exist.
        """
        unknown = [name for name in condition.wake if name not in self._known]
        if unknown or not (condition.wake or condition.name in self._handlers):
            raise ConfigError(
                [
                    ConfigProblem(
                        f"condition {condition.name!r}",
                        condition.wake,
                        "a handler of its name, or agents of this environment to wake",
                    )
                ]
            )
        self._watched.append(_Watched(condition, bool(condition.holds())))

    def _check_conditions(self, time_s: float) -> None:
        for watched in self._watched:
            condition = watched.condition
            held, watched.held = watched.held, bool(condition.holds())
            quiet = time_s - watched.fired_s < condition.cooldown_s
            if watched.held and not held and not quiet:
                watched.fired_s = time_s
                scheduler = self.scheduler
                scheduler.schedule(
                    Event(
                        max(time_s, scheduler.current_time),
                        EventType.CUSTOM,
                        payload=Disturbance(time_s, condition.name),
                    )
                )
                for name in condition.wake:
                    scheduler.schedule_agent_tick(name, max(time_s, scheduler.current_time))

    def _occur(self, event: Event) -> None:
        payload = event.payload
        if isinstance(payload, Disturbance):
            self.event_log.append(Occurrence(event.timestamp, payload.name, payload.payload))
            handler = self._handlers.get(payload.name)
            if handler is not None:
                handler(event.timestamp, payload.payload)
        elif callable(payload):
            payload()

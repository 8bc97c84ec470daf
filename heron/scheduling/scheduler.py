"""The event scheduler: virtual time that jumps from event to event."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from heron.errors import ConfigError, ConfigProblem
from heron.scheduling.events import TICK_PRIORITY, Event, EventType
from heron.scheduling.tick import TickConfig

Handler = Callable[[Event, "EventScheduler"], None]


class _Ticker:
    """Where one agent stands on its own time grid."""

    __slots__ = ("config", "count", "next_tick", "origin", "priority")

    def __init__(self, config: TickConfig, origin: float, priority: int) -> None:
        self.config = config
        self.origin = origin
        self.count = 0
        self.next_tick = origin
        self.priority = priority

    def advance(self, config: TickConfig | None) -> float:
        if config is not None and config is not self.config:
            # retimed: a new grid starts at the present tick
            self.config, self.origin, self.count = config, self.next_tick, 0
        # on a grid without jitter, time is a product and not a sum: no drift after a million
        if self.config.rng is None and not self.config.measured:
            self.count += 1
            self.next_tick = self.origin + self.count * self.config.tick_interval
        else:
            self.next_tick += self.config.next_tick_interval()
        return self.next_tick


class EventScheduler:
    """Runs events in the order of time, priority, sequence.

    Attributes:
        current_time: Plant seconds; never goes back.
        processed: Events run so far.
        before_event: If set, called with each event before its handler.
    """

    def __init__(self, start_time: float = 0.0) -> None:
        self.current_time: float = start_time
        self.processed = 0
        self.before_event: Callable[[Event], None] | None = None
        self._heap: list[tuple[float, int, int, Event]] = []
        self._sequence = 0
        self._handlers: list[Handler | None] = [None] * len(EventType)
        self._tickers: dict[str, _Ticker] = {}

    def __len__(self) -> int:
        """Return the number of events that wait, cancelled ones included."""
        return len(self._heap)

    def register_agent(
        self,
        agent_id: str,
        tick_config: TickConfig | None = None,
        *,
        level: int = 0,
        first_tick: float | None = None,
    ) -> None:
        """Give an agent its ticks and schedule the first.

        Args:
            agent_id: Whose.
            tick_config: Its timing; the defaults of `TickConfig` if not given.
            level: Within an instant lower levels tick first, so that reports travel up.
            first_tick: Time of the first tick; now if not given.

        Raises:
            ConfigError: The id is registered already.
        """
        if agent_id in self._tickers:
            raise ConfigError([ConfigProblem("agent_id", agent_id, "an id that is not taken yet")])
        origin = self.current_time if first_tick is None else first_tick
        ticker = _Ticker(tick_config or TickConfig(), origin, TICK_PRIORITY + level)
        self._tickers[agent_id] = ticker
        self.schedule(Event(origin, EventType.AGENT_TICK, agent_id, priority=ticker.priority))

    def set_handler(self, event_type: EventType, handler: Handler | None) -> None:
        """Set what is called as ``handler(event, scheduler)``; one handler a type."""
        self._handlers[event_type] = handler

    def schedule(self, event: Event) -> Event:
        """Schedule an event and return it (set its ``cancelled`` to drop it).

        Raises:
            ValueError: Its time lies in the past or is not a number.
        """
        timestamp = event.timestamp
        if not timestamp >= self.current_time:
            raise ValueError(f"{event!r} lies before the current time {self.current_time} s")
        sequence = self._sequence
        event.sequence = sequence
        self._sequence = sequence + 1
        heapq.heappush(self._heap, (timestamp, event.priority, sequence, event))
        return event

    def schedule_agent_tick(
        self,
        agent_id: str,
        timestamp: float | None = None,
        *,
        tick_config: TickConfig | None = None,
    ) -> Event:
        """Schedule an agent's next tick on its own grid, or an extra one at ``timestamp``.

        An extra tick carries a payload, so that whoever handles it does not go on from it.

        Args:
            agent_id: Whose.
            timestamp: Of an extra tick.
            tick_config: Its timing from now on; the one that it was registered with if not given.

        Raises:
            ConfigError: The agent is not registered.
        """
        ticker = self._tickers.get(agent_id)
        if ticker is None:
            raise ConfigError([ConfigProblem("agent_id", agent_id, "a registered agent")])
        extra = timestamp is not None
        when = ticker.advance(tick_config) if timestamp is None else timestamp
        return self.schedule(
            Event(
                when,
                EventType.AGENT_TICK,
                agent_id,
                "extra" if extra else None,
                priority=ticker.priority,
            )
        )

    def schedule_action_effect(
        self, agent_id: str, action: Any, delay: float = 0.0, *, priority: int | None = None
    ) -> Event:
        """Schedule an action to take effect after ``delay`` seconds; zero is later this instant."""
        return self.schedule(
            Event(
                self.current_time + delay,
                EventType.ACTION_EFFECT,
                agent_id,
                action,
                priority=priority,
            )
        )

    def schedule_message_delivery(
        self, recipient_id: str, message: Any, delay: float = 0.0
    ) -> Event:
        """Schedule a message to arrive after ``delay`` seconds."""
        return self.schedule(
            Event(self.current_time + delay, EventType.MESSAGE_DELIVERY, recipient_id, message)
        )

    def run_until(
        self, t_end: float, max_events: int | None = None, *, include_end: bool = True
    ) -> int:
        """Run events up to ``t_end`` and return how many ran.

        Args:
            t_end: Plant seconds.
            max_events: Stop after so many. Time then stays at the last one.
            include_end: Whether events at ``t_end`` itself run. Without them consecutive calls
                tile time into [start, end) steps.

        Raises:
            ValueError: ``t_end`` lies in the past.
        """
        if not t_end >= self.current_time:
            raise ValueError(
                f"t_end = {t_end} s lies before the current time {self.current_time} s"
            )
        heap, handlers, pop = self._heap, self._handlers, heapq.heappop
        before = self.before_event
        count = 0
        while heap:
            head = heap[0]
            if head[0] > t_end or (head[0] == t_end and not include_end):
                break
            if max_events is not None and count >= max_events:
                return count
            pop(heap)
            event = head[3]
            if event.cancelled:
                continue
            self.current_time = head[0]
            if before is not None:
                before(event)
            handler = handlers[event.event_type]
            if handler is not None:
                handler(event, self)
            count += 1
            self.processed += 1
        self.current_time = t_end
        return count

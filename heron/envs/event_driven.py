"""Event-driven mode: agents tick at their own rates in virtual time, with delays.

The plant is advanced over the time that really passes between events, so a storage device's
charge does not depend on how often anyone looks or acts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heron.agents.base import Agent
from heron.agents.hierarchical import HierarchicalAgent
from heron.agents.proxy import ProxyAgent
from heron.core.observation import Observation
from heron.envs.instant import carry
from heron.envs.occurrences import Occurrences
from heron.errors import ConfigError, ConfigProblem
from heron.messaging.base import Broker, Message, MessageType
from heron.scheduling.events import SEND_PRIORITY, Event, EventType
from heron.scheduling.scheduler import EventScheduler

GlobalStateFn = Callable[[], Mapping[str, Any]]
OnActionEffect = Callable[[str, NDArray[np.float64]], None]
OnEnvUpdate = Callable[[float, float], None]


class EventDriven(Occurrences):
    """The part of an environment that runs it in event-driven time.

    Attributes:
        scheduler: The virtual time; set by `setup_event_driven`.
        event_driven: Whether that has been called.
    """

    _known: dict[str, Agent]
    env_id: str
    centralized: bool
    message_broker: Broker | None
    proxy: ProxyAgent | None

    def __init__(self) -> None:
        super().__init__()
        self.event_driven = False
        self._time_s = 0.0
        self._plant_time_s = self._start_time_s = 0.0
        self._global_state_fn: GlobalStateFn | None = None
        self._on_action_effect: OnActionEffect | None = None
        self._on_env_update: OnEnvUpdate | None = None
        self._env_update_interval_s: float | None = None

    @property
    def time_s(self) -> float:
        """Plant seconds: the scheduler's in event-driven time, else what was last set."""
        return self._time_s if self._scheduler is None else self._scheduler.current_time

    @time_s.setter
    def time_s(self, time_s: float) -> None:
        self._time_s = time_s

    def setup_event_driven(
        self,
        start_time: float = 0.0,
        seed: int | None = None,
        env_update_interval: float | None = None,
    ) -> EventScheduler:
        """Make a scheduler and give every agent its ticks, the first now.

        Conditions and disturbances of an earlier run are forgotten; their handlers stay.

        Args:
            start_time: Plant seconds now.
            seed: Each agent takes its own stream of jitter from it; None: they run on.
            env_update_interval: Advance the plant at least this often, in plant seconds; None:
                only when an agent measures or acts.

        Raises:
            ConfigError: The interval is not above 0.
        """
        if env_update_interval is not None and not env_update_interval > 0:
            raise ConfigError(
                [ConfigProblem("env_update_interval", env_update_interval, "above 0 s")]
            )
        self.event_driven = True
        self.event_log = []
        self._watched = []
        self._env_update_interval_s = env_update_interval
        scheduler = self._scheduler = EventScheduler(start_time)
        self._plant_time_s = self._start_time_s = start_time
        for agent in self._known.values():
            if seed is not None:
                agent.tick_config = agent.tick_config.for_agent(agent.agent_id, seed)
            self._start_ticking(agent, scheduler)
        if self.proxy is not None:
            self.proxy.clear()
            for agent in self._known.values():
                self.proxy.store(agent.state, start_time)
        if env_update_interval is not None:
            first = Event(start_time + env_update_interval, EventType.ENV_UPDATE, payload=1)
            scheduler.schedule(first)
        self.setup_default_handlers(
            self._global_state_fn, self._on_action_effect, self._on_env_update
        )
        return scheduler

    def _start_ticking(self, agent: Agent, scheduler: EventScheduler) -> None:
        agent.start_ticking(scheduler.current_time)
        agent.virtual_time = scheduler
        scheduler.register_agent(agent.agent_id, agent.tick_config, level=agent.level)
        if isinstance(agent, HierarchicalAgent):
            agent.listen()

    def setup_default_handlers(
        self,
        global_state_fn: GlobalStateFn | None = None,
        on_action_effect: OnActionEffect | None = None,
        on_env_update: OnEnvUpdate | None = None,
    ) -> None:
        """Connect the scheduler with the agents and the plant.

        Args:
            global_state_fn: Returns the public numbers that agents see when they measure.
            on_action_effect: Called as ``(agent_id, action)`` when a field agent's action takes
                effect, clipped to its bounds; its ``apply_action(action)`` if not given.
            on_env_update: Called as ``(time_from, time_to)``, in plant seconds, to advance the
                plant with the set-points in force and to fill the agents' features (or see
                `refresh`); before anyone measures or any set-point changes.
        """
        self._global_state_fn = global_state_fn
        self._on_action_effect = on_action_effect
        self._on_env_update = on_env_update
        scheduler = self.scheduler
        scheduler.set_handler(EventType.AGENT_TICK, self._handle_tick)
        scheduler.set_handler(EventType.OBSERVATION_READY, self._handle_observation)
        scheduler.set_handler(EventType.MESSAGE_DELIVERY, self._handle_message)
        scheduler.set_handler(EventType.ACTION_EFFECT, self._handle_effect)
        scheduler.set_handler(EventType.ENV_UPDATE, self._handle_env_update)
        scheduler.set_handler(EventType.CUSTOM, self._handle_custom)

    def stop_event_driven(self) -> None:
        """Return to synchronous steps at the present plant time; what was planned is dropped."""
        self._time_s = self.time_s
        self.event_driven = False
        self._scheduler = None
        for agent in self._known.values():
            agent.pending_action = None
            agent.virtual_time = None
            if self.centralized and isinstance(agent, HierarchicalAgent):
                agent.watch()

    def submit_actions(self, actions: Mapping[str, ArrayLike]) -> None:
        """Give agents the actions that they take at their next ticks, until others are given.

        Raises:
            ConfigError: An agent is unknown.
            ValueError: An action has the wrong shape or is not finite; none is given then.
        """
        checked = {}
        for name, action in actions.items():
            if name not in self._known:
                raise ConfigError([ConfigProblem("agent_id", name, "an agent of this environment")])
            checked[name] = self._known[name].checked_action(action)
        for name, action in checked.items():
            self._known[name].pending_action = action

    def run_event_driven(
        self, t_end: float, max_events: int | None = None, *, include_end: bool = False
    ) -> int:
        """Run events and return how many ran.

        Args:
            t_end: Plant seconds. Events at ``t_end`` itself belong to the next call, so that
                calls tile time into [start, end) steps; the plant is advanced to ``t_end``.
            max_events: Stop after so many.
            include_end: Run the events at ``t_end``, too.
        """
        scheduler = self.scheduler
        count = scheduler.run_until(t_end, max_events, include_end=include_end)
        if scheduler.current_time == t_end:
            self.advance_plant(t_end)
        self.refresh()
        return count

    def advance_plant(self, time_s: float) -> None:
        """Bring the plant up to a time; nothing happens if it is there already.

        A plant that raises stays where it was.
        """
        start = self._plant_time_s
        if time_s > start:
            if self._on_env_update is not None:
                self._on_env_update(start, time_s)
            self._plant_time_s = time_s
            if self._watched:
                self.refresh()
                self._check_conditions(time_s)

    def refresh(self, agent_id: str | None = None) -> None:
        """Fill features from the plant, where an environment does so only when they are needed.

        Called before an agent takes part in an event, and for all before anything else may look.
        Does nothing here: `on_env_update` is expected to fill them.

        Args:
            agent_id: Whose features are about to be used; None: anybody's.
        """

    # --- handlers -----------------------------------------------------------------------

    def _global_state(self) -> Mapping[str, Any] | None:
        return None if self._global_state_fn is None else self._global_state_fn()

    def _handle_tick(self, event: Event, scheduler: EventScheduler) -> None:
        time_s = event.timestamp
        agent = self._known[event.agent_id]
        if event.payload is None:  # one that a condition woke ticks beside its grid
            scheduler.schedule_agent_tick(event.agent_id, tick_config=agent.tick_config)
        if time_s > self._plant_time_s:
            self.advance_plant(time_s)
        self.refresh(event.agent_id)
        if self.proxy is not None:
            delay = agent.message_delay(self.proxy.agent_id, time_s)
            picture = agent.state.snapshot(time_s)
            scheduler.schedule_message_delivery(self.proxy.agent_id, picture, delay)
        agent.tick(scheduler, time_s, self._global_state(), self.proxy)

    def _handle_observation(self, event: Event, scheduler: EventScheduler) -> None:
        agent = self._known[event.agent_id]
        self.refresh(event.agent_id)
        observation: Observation | None = event.payload
        if observation is None:
            observation = agent.observe(self._global_state(), self.proxy)
        agent.decide(scheduler, observation)

    def _handle_message(self, event: Event, scheduler: EventScheduler) -> None:
        recipient = self._known.get(event.agent_id)
        if self.proxy is not None and event.agent_id == self.proxy.agent_id:
            self.proxy.receive(event.payload)
        elif isinstance(event.payload, Message):
            self._known[event.payload.sender_id].hand_over(event.payload)
        elif recipient is not None:
            self.refresh(event.agent_id)
            for kind, sender, content in self._carried(event):
                recipient.on_message(kind, sender, content, scheduler)

    def _carried(self, event: Event) -> Iterable[tuple[MessageType, str, Any]]:
        """Return what arrives; a distributed environment lets the broker carry it."""
        if self.centralized or self.message_broker is None:
            return (event.payload,)
        return carry(
            self.message_broker, self.env_id, event.agent_id, event.payload, event.timestamp
        )

    def _handle_effect(self, event: Event, scheduler: EventScheduler) -> None:
        agent = self._known[event.agent_id]
        if event.priority == SEND_PRIORITY:
            self.refresh(event.agent_id)
            action, observation = event.payload
            agent.carry_out(action, observation, scheduler)
            return
        if event.timestamp > self._plant_time_s:
            self.advance_plant(event.timestamp)
        self.refresh(event.agent_id)
        if self._on_action_effect is None:
            agent.take_action(event.payload)
        else:
            agent.action.set_valid(event.payload)
            self._on_action_effect(event.agent_id, agent.action.values())

    def _handle_env_update(self, event: Event, scheduler: EventScheduler) -> None:
        self.advance_plant(event.timestamp)
        self.refresh()
        interval = self._env_update_interval_s
        if interval is not None:
            # a product and not a sum: the millionth update is still on the grid
            number = event.payload + 1
            when = self._start_time_s + number * interval
            scheduler.schedule(Event(when, EventType.ENV_UPDATE, payload=number))

    def _handle_custom(self, event: Event, scheduler: EventScheduler) -> None:
        self.advance_plant(event.timestamp)
        self.refresh()
        self._occur(event)

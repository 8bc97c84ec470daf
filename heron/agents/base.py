"""The base of all agents: who it is, how it observes, decides and acts."""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heron.agents.construction import Built
from heron.agents.mailing import Mailing
from heron.core.features import Vector
from heron.core.observation import Observation
from heron.core.policy import Policy
from heron.core.spaces import Space
from heron.errors import ConfigError, ConfigProblem
from heron.messaging.base import Broker, MessageType
from heron.protocols.base import NoProtocol, Protocol, Signal
from heron.scheduling.dispatch import Dispatch
from heron.scheduling.events import OBSERVATION_PRIORITY, Event, EventType
from heron.scheduling.scheduler import EventScheduler
from heron.scheduling.tick import JitterType, TickConfig

if TYPE_CHECKING:
    from heron.agents.proxy import ProxyAgent

DEFAULT_ENV_ID = "default"


class Agent(Built, Mailing):
    """Something that observes, decides and acts at its own rate.

    Override what is needed of ``set_state``, ``set_action``, ``apply_action``, ``update_state``,
    ``update_cost_safety`` and ``reset_agent``.

    Args:
        agent_id: Unique within its environment.
        policy: Decides; without one the agent does what its upstream says.
        protocol: How it coordinates subordinates.
        upstream_id: Whom it reports to.
        env_id: Environment that it belongs to.
        config: Anything the subclass wants; a subclass may replace ``self.config``.
        tick_config: Timing in event-driven mode; a default for its level if not given.
        message_broker: Carries messages when the environment is distributed.

    Attributes:
        cost: In $, as `update_cost_safety` last found it.
        safety: Violation measure, as `update_cost_safety` last found it.
        signal: The numbers that its upstream last told it.
        upstream_action: What its upstream last commanded; None before the first command.
        pending_action: What the environment was given for it in event-driven mode.
        time_s: Plant time of its last tick or observation.
    """

    level: int = 0
    default_tick_s: float = 1.0

    def __init__(  # noqa: PLR0917 - the guide's order
        self,
        agent_id: str,
        policy: Policy | None = None,
        protocol: Protocol | None = None,
        upstream_id: str | None = None,
        env_id: str | None = None,
        config: Any = None,
        tick_config: TickConfig | None = None,
        message_broker: Broker | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(agent_id, str) or not agent_id:
            raise ConfigError([ConfigProblem("agent_id", agent_id, "a name that is not empty")])
        if not (protocol is None or isinstance(protocol, Protocol)):
            problem = ConfigProblem(f"{agent_id}: protocol", protocol, "an instance of a Protocol")
            raise ConfigError([problem])
        if not (tick_config is None or isinstance(tick_config, TickConfig)):
            expected = "a TickConfig, e.g. TickConfig(tick_interval=1.0, msg_delay=0.5)"
            raise ConfigError([ConfigProblem(f"{agent_id}: tick_config", tick_config, expected)])
        self.agent_id = agent_id
        self.policy = policy
        self.protocol = protocol or NoProtocol()
        self.upstream_id = upstream_id
        self.env_id = env_id or DEFAULT_ENV_ID
        self.config = {} if config is None else config
        timing = tick_config or TickConfig(tick_interval=self.default_tick_s)
        self.tick_config = timing.for_agent(agent_id)
        self.message_broker = message_broker
        self.cost = 0.0
        self.safety = 0.0
        self.signal: dict[str, float] = {}
        self.upstream_level = self.level + 1
        self.upstream_action: NDArray[np.float64] | None = None
        self.pending_action: NDArray[np.float64] | None = None
        self.time_s = 0.0
        self._last_arrival: dict[str, float] = {}
        self._prepare()

    # --- the hierarchy -------------------------------------------------------------------

    def _prepare(self) -> None:
        """Set what a kind of agent keeps beside the constructor's arguments."""

    @property
    def subordinates(self) -> Mapping[str, Agent]:
        """Agents that this one coordinates, by id; none unless it is hierarchical."""
        return {}

    upstream: Agent | None = None
    """Who holds it as a subordinate; None where nobody does, or it is known by its id alone."""

    def refuse_second_parent(self, upstream: Agent) -> None:
        """Refuse to become a subordinate of two.

        Raises:
            ConfigError: The agent reports to another already.
        """
        if self.upstream_id not in (None, upstream.agent_id):
            raise ConfigError(
                [
                    ConfigProblem(
                        f"{upstream.agent_id}: subordinate",
                        self.agent_id,
                        f"an agent with one parent only; it reports to {self.upstream_id!r}",
                    )
                ]
            )

    def join(self, upstream: Agent) -> None:
        """Become a subordinate.

        Raises:
            ConfigError: The agent reports to another already.
        """
        self.refuse_second_parent(upstream)
        self.upstream = upstream
        self.upstream_id = upstream.agent_id
        self.upstream_level = upstream.level
        for member in self.family():
            member.env_id = upstream.env_id
        self.state.upstream_id = upstream.agent_id

    def family(self) -> Iterator[Agent]:
        """Yield the agent and all below it, from the top down."""
        yield self
        for agent in self.subordinates.values():
            yield from agent.family()

    @property
    def action_size(self) -> int:
        """Number of elements of its action vector."""
        return self.action.size

    def action_mask(self) -> NDArray[np.bool_]:
        """Return which categories of the discrete part may be chosen now, shape (sum(ncats),).

        Override it in an agent that cannot always do everything; actions that choose what it
        excludes are refused.
        """
        return np.ones(sum(self.action.ncats), dtype=bool)

    def get_action_space(self) -> Space:
        """Return what its action may be."""
        return self.action.space

    # --- an episode ---------------------------------------------------------------------

    def reset(self, seed: int | None = None, **kwargs: Any) -> None:
        """Return to the start of an episode.

        Args:
            seed: Restarts the agent's own stream of jitter; None lets it run on.
            kwargs: Passed to `reset_agent`.
        """
        self.state.reset()
        self.action.reset()
        self.cost = self.safety = self.time_s = 0.0
        self._last_arrival.clear()
        self.signal = {}
        self.upstream_action = self.pending_action = None
        self.protocol.reset()
        if seed is not None:
            self.tick_config = self.tick_config.for_agent(self.agent_id, seed)
        reset_policy = getattr(self.policy, "reset", None)
        if callable(reset_policy):
            reset_policy()
        self.reset_agent(**kwargs)

    def reset_agent(self, **kwargs: Any) -> None:
        """Reset what a subclass keeps."""

    def update_state(self, **kwargs: Any) -> None:
        """Take feedback from the environment into the state."""

    def update_cost_safety(self) -> None:
        """Compute ``cost`` and ``safety`` from the state."""

    # --- observe, act -------------------------------------------------------------------

    def observe(
        self, global_state: Mapping[str, Any] | None = None, proxy: ProxyAgent | None = None
    ) -> Observation:
        """Return what the agent sees now.

        Args:
            global_state: Public numbers from the environment.
            proxy: Where others' states are asked for, if not directly.
        """
        return Observation(
            local=self.state.observed_by(self.agent_id, self.level),
            global_info={} if global_state is None else dict(global_state),
            timestamp=self.time_s,
        )

    def get_observation(self, global_state: Mapping[str, Any] | None = None) -> Vector:
        """Return the vector of `observe`."""
        return self.observe(global_state).vector()

    def act(
        self, observation: Observation | None, upstream_action: ArrayLike | None = None
    ) -> NDArray[np.float64] | None:
        """Decide: do what upstream commands; without a command ask the policy.

        Returns:
            The checked action vector, shape (dim_c + dim_d,); None if there is nothing to do.

        Raises:
            ValueError: The action has the wrong shape or is not finite.
        """
        if upstream_action is not None:
            return self.checked_action(upstream_action)
        if self.policy is None:
            return None
        return self.checked_action(self.policy.forward(observation))

    def checked_action(self, action: Any) -> NDArray[np.float64]:
        """Return an action as a vector of the agent's own shape.

        Raises:
            ValueError: It is none; the message names the agent.
        """
        try:
            vector = self.action.validate(action)
            if self.action.dim_d:
                self._refuse_masked(vector[self.action.dim_c :])
        except ValueError as error:
            raise ValueError(f"{self.agent_id}: {error}") from error
        return vector

    def _refuse_masked(self, categories: NDArray[np.float64]) -> None:
        masks = self.action.split_mask(self.action_mask())
        for mask, category in zip(masks, categories.astype(int), strict=True):
            if not mask[category]:
                raise ValueError(
                    f"category {category} is masked now; {np.flatnonzero(mask).tolist()} are not"
                )

    @abstractmethod
    def take_action(
        self,
        action: NDArray[np.float64],
        observation: Observation | None = None,
        scheduler: Dispatch | None = None,
    ) -> None:
        """Carry out a checked action: a field agent applies it, a coordinator coordinates.

        Args:
            action: From `checked_action`.
            observation: On which it was decided, if there was one.
            scheduler: Where messages go; without one they are delivered at once.
        """

    def carry_out(
        self,
        action: NDArray[np.float64],
        observation: Observation | None = None,
        scheduler: Dispatch | None = None,
    ) -> None:
        """Do as `take_action`: what an environment calls, in every clock."""
        self.take_action(action, observation, scheduler)

    def receive_signal(self, signal: Signal) -> None:
        """Take what upstream tells: kept in ``self.signal``."""
        self.signal = {**self.signal, **signal}

    # --- event-driven mode --------------------------------------------------------------

    def start_ticking(self, time_s: float) -> None:
        """Begin event-driven time: nothing is under way."""
        self.time_s = time_s
        self._last_arrival.clear()

    def tick(
        self,
        scheduler: EventScheduler,
        current_time: float,
        global_state: Mapping[str, Any] | None = None,
        proxy: ProxyAgent | None = None,
    ) -> None:
        """Measure, report upstream, and start a decision.

        The observation is what was measured now; it is ready after the observation delay.
        Without a delay it is taken when it is ready, later in this instant, when signals from
        above have arrived.
        """
        self.time_s = current_time
        self.report(scheduler)
        if not self.decides:
            return
        delay = self.in_order("observation", current_time, self.tick_config.next_obs_delay())
        observation = None if delay == 0.0 else self.observe(global_state, proxy)
        scheduler.schedule(
            Event(
                current_time + delay,
                EventType.OBSERVATION_READY,
                self.agent_id,
                observation,
                priority=OBSERVATION_PRIORITY - self.level,
            )
        )

    @property
    def decides(self) -> bool:
        """Whether a tick leads to a decision."""
        return self.policy is not None or self.pending_action is not None

    def report(self, scheduler: Dispatch) -> None:
        """Send upstream what it may see of the state."""
        if self.upstream_id is not None:
            self.post(self.upstream_id, MessageType.STATE, self.shown_upstream(), scheduler)

    def post(self, recipient_id: str, kind: MessageType, content: Any, scheduler: Dispatch) -> None:
        """Send a command, a signal or a report; it arrives after the message delay."""
        delay = self.message_delay(recipient_id, scheduler.current_time)
        scheduler.schedule_message_delivery(recipient_id, (kind, self.agent_id, content), delay)

    def message_delay(self, recipient_id: str, now_s: float) -> float:
        """Draw how long a message sent now takes to a recipient, after those before it."""
        return self.in_order(recipient_id, now_s, self.tick_config.next_msg_delay())

    def in_order(self, way: str, now_s: float, delay_s: float) -> float:
        """Return a delay with which nothing overtakes what went the same way before.

        Args:
            way: The recipient, or ``observation`` or ``effect``.
            now_s: Plant seconds.
            delay_s: As drawn; lengthened if jitter would let it arrive too early. A delay of
                zero waits, too, for what is still under way.
        """
        if delay_s == 0.0 and not self._last_arrival:
            return delay_s  # nothing is under way: where nothing is late, all events come by here
        arrival = now_s + delay_s
        last = self._last_arrival.get(way, arrival)
        while arrival < last:
            delay_s = math.nextafter(max(delay_s, last - now_s), math.inf)
            arrival = now_s + delay_s
        if delay_s > 0.0:  # what arrives at once cannot be overtaken
            self._last_arrival[way] = arrival
        return delay_s

    def shown_upstream(self) -> dict[str, Vector]:
        """Return what the agent above may see of the state, by feature name."""
        if self.upstream_id is None:
            return {}
        return self.state.observed_by(self.upstream_id, self.upstream_level)

    def decide(self, scheduler: Dispatch, observation: Observation) -> None:
        """Act on an observation that is ready; the action takes effect after its delay.

        A command from upstream holds until the next; then what the environment was given for
        this agent; then the agent's own policy.
        """
        command = self.pending_action if self.upstream_action is None else self.upstream_action
        action = self.act(observation, command)
        if action is not None:
            self.schedule_effect(action, observation, scheduler)

    @abstractmethod
    def schedule_effect(
        self,
        action: NDArray[np.float64],
        observation: Observation | None,
        scheduler: Dispatch | None,
    ) -> None:
        """Take an action after the action delay; at once without a scheduler."""

    def on_message(
        self, kind: MessageType, sender_id: str, content: Any, scheduler: Dispatch | None = None
    ) -> None:
        """Take a message that has arrived: a command, a signal or a report.

        Args:
            kind: What it is.
            sender_id: Who sent it.
            content: Action vector, signal, or visible features by name.
            scheduler: Where what follows goes; without one it follows at once.
        """
        if kind is MessageType.ACTION:
            action = self.checked_action(content)
            self.upstream_action = action
            self.schedule_effect(action, None, scheduler)
        elif kind is MessageType.SIGNAL:
            self.receive_signal(content)

    def enable_jitter(
        self,
        jitter_type: JitterType = JitterType.GAUSSIAN,
        jitter_ratio: float = 0.1,
        seed: int | None = None,
    ) -> None:
        """Let ticks and delays scatter, from the agent's own stream."""
        self.tick_config = dataclasses.replace(
            self.tick_config, jitter_type=jitter_type, jitter_ratio=jitter_ratio, rng=None
        ).for_agent(self.agent_id, seed)

    def disable_jitter(self) -> None:
        """Let ticks and delays take their nominal values."""
        self.tick_config = dataclasses.replace(
            self.tick_config, jitter_type=JitterType.NONE, jitter_ratio=0.0, rng=None
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.agent_id!r})"

"""The base of all agents.

Construction has two phases, so that a subclass may set its attributes before or after
``super().__init__()``. The constructors only store what they are given. State, action and
subordinates are built by ``set_state``, ``set_action`` and ``_build_subordinates`` when they are
first used, and at the latest when the constructor has returned (`_TwoPhase`). Whoever holds an
agent therefore holds a complete and checked one.
"""

from __future__ import annotations

import dataclasses
import inspect
from abc import ABCMeta, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heron.core.action import Action
from heron.core.features import Vector, check_visibility
from heron.core.observation import Observation
from heron.core.policy import Policy
from heron.core.spaces import Space
from heron.core.state import State
from heron.errors import ConfigError, ConfigProblem
from heron.messaging.base import Broker, Message, MessageType, agent_channel
from heron.protocols.base import NoProtocol, Protocol, Signal
from heron.scheduling.dispatch import Dispatch
from heron.scheduling.events import OBSERVATION_PRIORITY, Event, EventType
from heron.scheduling.scheduler import EventScheduler
from heron.scheduling.tick import JitterType, TickConfig

if TYPE_CHECKING:
    from heron.agents.proxy import ProxyAgent

DEFAULT_ENV_ID = "default"


class _TwoPhase(ABCMeta):
    """Completes an agent when its whole constructor has run."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        agent = super().__call__(*args, **kwargs)
        agent.complete()
        return agent

    @property
    def __signature__(cls) -> inspect.Signature:
        # __call__ above would hide the constructor's parameters from help() and inspect
        parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]  # type: ignore[misc]
        return inspect.Signature(parameters)


class Agent(metaclass=_TwoPhase):
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
        if not isinstance(agent_id, str) or not agent_id:
            raise ConfigError([ConfigProblem("agent_id", agent_id, "a name that is not empty")])
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
        self._state: State | None = None
        self._action: Action | None = None
        self._prepare()

    # --- construction -------------------------------------------------------------------

    def _prepare(self) -> None:
        """Set what a kind of agent keeps beside the constructor's arguments."""

    def complete(self) -> None:
        """Build and check what has not been built yet; called after the constructor."""
        self.state.check()
        for name, feature in self.state.items():
            check_visibility(feature.visibility, f"{self.agent_id}: {name}")
        self.action  # noqa: B018 - builds it

    @property
    def state(self) -> State:
        """The agent's state; built by `set_state` when first used."""
        if self._state is None:
            self._build("set_state", self.set_state)
            if self._state is None:
                raise ConfigError(f"{self._name()}: set_state() did not set self.state")
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        if state.upstream_id is None:
            state.upstream_id = self.upstream_id
        self._state = state

    @property
    def action(self) -> Action:
        """The agent's action; `set_action` gives it its specs when first used."""
        if self._action is None:
            self._action = Action()
            try:
                self._build("set_action", self.set_action)
            except BaseException:
                self._action = None
                raise
        return self._action

    @action.setter
    def action(self, action: Action) -> None:
        self._action = action

    def _build(self, hook: str, build: Any) -> None:
        try:
            build()
        except AttributeError as error:
            if error.obj is not self:
                raise
            raise ConfigError(
                f"{self._name()}: {hook}() needs self.{error.name}, which is not set yet; set it "
                "in __init__ before anything uses the agent's state, action or subordinates"
            ) from error

    def _name(self) -> str:
        return f"{type(self).__name__} {self.agent_id!r}"

    @abstractmethod
    def set_state(self) -> None:
        """Set ``self.state`` and append its features."""

    def set_action(self) -> None:
        """Declare the action with ``self.action.set_specs(...)``; none if not overridden."""

    @property
    def subordinates(self) -> Mapping[str, Agent]:
        """Agents that this one coordinates, by id; none unless it is hierarchical."""
        return {}

    def join(self, upstream: Agent) -> None:
        """Become a subordinate.

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
        self.upstream_id = upstream.agent_id
        self.upstream_level = upstream.level
        self.env_id = upstream.env_id
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

    def receive_signal(self, signal: Signal) -> None:
        """Take what upstream tells: kept in ``self.signal``."""
        self.signal = {**self.signal, **signal}

    # --- event-driven mode --------------------------------------------------------------

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
        delay = self.tick_config.next_obs_delay()
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
            scheduler.schedule_message_delivery(
                self.upstream_id,
                (MessageType.STATE, self.agent_id, self.shown_upstream()),
                self.tick_config.next_msg_delay(),
            )

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
            # within a process the sender has checked it; off a broker it comes as numbers
            checked = isinstance(content, np.ndarray)
            action = content if checked else self.checked_action(content)
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

    # --- messages -----------------------------------------------------------------------

    def send_message(
        self,
        recipient_id: str,
        payload: Mapping[str, Any],
        message_type: MessageType = MessageType.CUSTOM,
    ) -> None:
        """Send a message through the broker.

        Raises:
            ConfigError: The agent has no broker.
            ValueError: The payload cannot be sent.
        """
        self._require_broker().publish(
            agent_channel(recipient_id),
            Message(self.env_id, self.agent_id, recipient_id, message_type, payload, self.time_s),
        )

    def receive_messages(self, clear: bool = True) -> list[Message]:
        """Return the messages that have arrived, oldest first.

        Raises:
            ConfigError: The agent has no broker.
        """
        broker = self._require_broker()
        return broker.consume(agent_channel(self.agent_id), self.agent_id, self.env_id, clear)

    def _require_broker(self) -> Broker:
        if self.message_broker is None:
            raise ConfigError(
                f"{self._name()} has no message broker; give it one, or call "
                "configure_agents_for_distributed() of its environment"
            )
        return self.message_broker

    def request_state_from_proxy(
        self, proxy: ProxyAgent, owner_id: str, at_time: float | None = None
    ) -> Mapping[str, Vector]:
        """Return what this agent may see of another's state, by feature name.

        Args:
            proxy: Whom to ask.
            owner_id: Whose state.
            at_time: As it was known at this plant time; None: the latest.
        """
        return proxy.get_state(self.agent_id, owner_id, at_time)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.agent_id!r})"

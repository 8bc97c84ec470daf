"""What coordinators and system operators share: subordinates."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heron.agents.base import Agent
from heron.core.features import Vector
from heron.core.observation import Observation
from heron.errors import ConfigError, ConfigProblem
from heron.messaging.base import MessageType
from heron.protocols.base import Coordination, run_protocol
from heron.scheduling.dispatch import Dispatch
from heron.scheduling.events import SEND_PRIORITY

if TYPE_CHECKING:
    from heron.agents.proxy import ProxyAgent


class HierarchicalAgent(Agent):
    """An agent that coordinates others.

    ``config["agents"]`` goes to `_build_subordinates`. Its observation is its own features, then
    those of its subordinates that it may see, in their order.

    Attributes:
        coordination: What its protocol decided last.
    """

    config_keys: Sequence[str] = ("agents",)

    def _prepare(self) -> None:
        self.coordination = Coordination()
        given = self.config if isinstance(self.config, Mapping) else {}
        self._subordinate_configs = [
            entry for key in self.config_keys for entry in given.get(key) or ()
        ]
        self._subordinates: dict[str, Agent] | None = None
        self._reports: dict[str, Mapping[str, Vector]] | None = None
        self._complete = False

    # --- construction -------------------------------------------------------------------

    @property
    def subordinates(self) -> Mapping[str, Agent]:
        """Agents that this one coordinates, by id, in order."""
        if self._subordinates is None:
            self._build("_build_subordinates", self._build_all)
        return self._subordinates or {}

    def _build_all(self) -> None:
        built = self._build_subordinates(self._subordinate_configs, self.env_id, self.agent_id)
        self._subordinates = {}
        for key, agent in built.items():
            if key != agent.agent_id:
                raise ConfigError(
                    [ConfigProblem(f"{self.agent_id}: subordinates[{key!r}]", agent.agent_id, key)]
                )
            self.add_subordinate(agent)

    def _build_subordinates(
        self, configs: Sequence[Any], env_id: str, upstream_id: str
    ) -> Mapping[str, Agent]:
        """Return the subordinates by id; override it to build them from their configs.

        Args:
            configs: ``config["agents"]``.
            env_id: Environment of this agent.
            upstream_id: Id of this agent.

        Raises:
            ConfigError: A config is not an agent already, and this is not overridden.
        """
        wrong = [c for c in configs if not isinstance(c, Agent)]
        if wrong:
            raise ConfigError(
                f"{self._name()}: override _build_subordinates() to build an agent from "
                f"{wrong[0]!r}, or give agents"
            )
        counts = Counter(agent.agent_id for agent in configs)
        self._refuse_duplicates(counts)
        return {agent.agent_id: agent for agent in configs}

    def add_subordinate(self, agent: Agent) -> None:
        """Take an agent as the last subordinate, and into the environment, if this one is in one.

        After construction the action is declared anew; spaces that an environment has taken
        from it are to be set up again.

        Raises:
            ConfigError: Its id is taken, it has another parent, its level is not below this
                one's, it is above this one already, or a protocol cannot carry its action
                beside the others'. Nothing has changed then.
        """
        where = f"{self.agent_id}: subordinate"
        if any(below is self for below in agent.family()):
            raise ConfigError([ConfigProblem(where, agent.agent_id, "an agent not above itself")])
        if not agent.level < self.level:
            raise ConfigError(
                [ConfigProblem(where, agent.agent_id, f"an agent of a level below {self.level}")]
            )
        ids = Counter(a.agent_id for a in self.family())
        ids.update(a.agent_id for a in agent.family())
        self._refuse_duplicates(ids)
        if self.registrar is not None:
            self.registrar.refuse_unfit(agent)
        agent.refuse_second_parent(self)
        if self._subordinates is None:
            self._subordinates = {}
        self._subordinates[agent.agent_id] = agent
        if self._complete:
            try:
                self._declare_anew()
            except ConfigError:
                del self._subordinates[agent.agent_id]
                raise
        agent.join(self)
        if self._reports is not None:
            self._reports[agent.agent_id] = agent.shown_upstream()
        if self.registrar is not None:
            self.registrar.take_in(agent)

    def _declare_anew(self) -> None:
        """Declare its action, and those of all above, which may be made of it; or leave all be."""
        before = self._action, self.upstream_action, self.pending_action
        # commands of the former size cannot hold any longer
        self._action = self.upstream_action = self.pending_action = None
        try:
            self.action  # noqa: B018 - builds it
            if isinstance(self.upstream, HierarchicalAgent) and self.upstream._complete:
                self.upstream._declare_anew()
        except ConfigError:
            self._action, self.upstream_action, self.pending_action = before
            raise

    def _refuse_duplicates(self, ids: Counter[str]) -> None:
        problems = [
            ConfigProblem(f"{self.agent_id}: agent_id", name, "an id that no other agent has")
            for name, count in ids.items()
            if count > 1
        ]
        if problems:
            raise ConfigError(problems)

    def complete(self) -> None:
        """Build and check subordinates, state and action."""
        self.subordinates  # noqa: B018 - builds them
        super().complete()
        self._complete = True

    def set_action(self) -> None:
        """Declare the action that the protocol carries."""
        self.protocol.declare_action(self.action, self.subordinates)

    def action_mask(self) -> NDArray[np.bool_]:
        """Concatenate the subordinates' masks, if its action is theirs concatenated."""
        own = sum(self.action.ncats)
        parts = [agent.action_mask() for agent in self.subordinates.values()]
        joined = np.concatenate(parts) if parts else np.ones(0, dtype=bool)
        return joined if joined.size == own else np.ones(own, dtype=bool)

    # --- an episode ---------------------------------------------------------------------

    def reset(self, seed: int | None = None, **kwargs: Any) -> None:
        """Reset the agent, then its subordinates."""
        super().reset(seed, **kwargs)
        self.coordination = Coordination()
        for agent in self.subordinates.values():
            agent.reset(seed)
        if self._reports is not None:
            self.listen()

    def update_cost_safety(self) -> None:
        """Add up the subordinates' cost and safety."""
        self.cost = self.safety = 0.0
        for agent in self.subordinates.values():
            agent.update_cost_safety()
            self.cost += agent.cost
            self.safety += agent.safety

    # --- observe ------------------------------------------------------------------------

    def listen(self) -> None:
        """See subordinates by their reports from now on, not directly.

        What is visible of them now stands for the reports that have not come yet.
        """
        self._reports = {name: agent.shown_upstream() for name, agent in self.subordinates.items()}

    def watch(self) -> None:
        """See subordinates directly: the synchronous, centralised mode."""
        self._reports = None

    def observe(
        self, global_state: Mapping[str, Any] | None = None, proxy: ProxyAgent | None = None
    ) -> Observation:
        """Return own features, then what is visible of each subordinate.

        Args:
            global_state: Public numbers from the environment.
            proxy: If given, subordinates' states come from it.
        """
        local: dict[str, Any] = self.state.observed_by(self.agent_id, self.level)
        if self.subordinates:
            local["subordinates"] = {
                name: self._seen(agent, proxy) for name, agent in self.subordinates.items()
            }
        return Observation(local, {} if global_state is None else dict(global_state), self.time_s)

    def _seen(self, agent: Agent, proxy: ProxyAgent | None) -> Mapping[str, Vector]:
        if proxy is not None:
            return proxy.get_state(self.agent_id, agent.agent_id)
        if self._reports is not None:
            return self._reports[agent.agent_id]
        return agent.state.observed_by(self.agent_id, self.level)

    # --- act ----------------------------------------------------------------------------

    @property
    def decides(self) -> bool:
        """Whether a tick leads to a decision."""
        return super().decides or not self.protocol.needs_action

    def decide(self, scheduler: Dispatch, observation: Observation) -> None:
        """Act on an observation; a protocol that needs no action runs without one."""
        command = self.pending_action if self.upstream_action is None else self.upstream_action
        action = self.act(observation, command)
        if action is not None or not self.protocol.needs_action:
            self.schedule_effect(action, observation, scheduler)

    def schedule_effect(
        self,
        action: NDArray[np.float64] | None,
        observation: Observation | None,
        scheduler: Dispatch | None,
    ) -> None:
        """Coordinate after the action delay."""
        if scheduler is None:
            self.carry_out(action, observation)
            return
        now_s = scheduler.current_time
        delay = self.in_order("effect", now_s, self.tick_config.next_act_delay())
        if delay == 0.0 and self._last_arrival.get("effect", -math.inf) < now_s:
            self.carry_out(action, observation, scheduler)
        else:  # later; or now, behind one that is due now
            scheduler.schedule_action_effect(
                self.agent_id, (action, observation), delay, priority=SEND_PRIORITY
            )

    def take_action(
        self,
        action: NDArray[np.float64] | None,
        observation: Observation | None = None,
        scheduler: Dispatch | None = None,
    ) -> None:
        """Keep the action and coordinate the subordinates."""
        if action is not None:
            self.action.set_valid(action)
        self.coordinate_subordinates(observation, action, scheduler)

    _circumstances: tuple[Observation | None, Dispatch | None] = (None, None)

    def carry_out(
        self,
        action: NDArray[np.float64] | None,
        observation: Observation | None = None,
        scheduler: Dispatch | None = None,
    ) -> None:
        """Take an action, by way of `apply_action` where a class has one of its own."""
        if action is None or type(self).apply_action is HierarchicalAgent.apply_action:
            self.take_action(action, observation, scheduler)
            return
        self._circumstances = observation, scheduler
        try:
            self.apply_action(action)
        finally:
            self._circumstances = None, None

    def apply_action(self, action: ArrayLike) -> None:
        """Carry out an action now: check it and coordinate.

        A class that changes actions may do so here or in `take_action`: every clock passes both.

        Raises:
            ValueError: It has the wrong shape or is not finite.
        """
        self.take_action(self.checked_action(action), *self._circumstances)

    def protocol_context(self) -> Mapping[str, Any]:
        """Return what the protocol may know beside the observation; override to add to it."""
        return {"time_s": self.time_s}

    def coordinate_subordinates(
        self,
        observation: Observation | None,
        action: ArrayLike | None,
        scheduler: Dispatch | None = None,
    ) -> Coordination:
        """Run the protocol and tell each subordinate its part.

        Args:
            observation: What it was decided on; taken now if the protocol needs it.
            action: Own action vector, or None.
            scheduler: Where messages go; without one they are obeyed at once.

        Raises:
            ValueError: An action has the wrong shape or is not finite; nobody is told anything.
        """
        if observation is None and self.protocol.needs_observation:
            observation = self.observe(
                proxy=None if self.registrar is None else self.registrar.proxy
            )
        subordinates = self.subordinates
        result = run_protocol(
            self.protocol, action, subordinates, observation, self.protocol_context()
        )
        actions = {n: subordinates[n].checked_action(a) for n, a in result.actions.items()}
        self.coordination = result
        for name, signal in result.signals.items():
            self._tell(subordinates[name], MessageType.SIGNAL, signal, scheduler)
        for name, part in actions.items():
            self._tell(subordinates[name], MessageType.ACTION, part, scheduler)
        return result

    def _tell(
        self, agent: Agent, kind: MessageType, content: Any, scheduler: Dispatch | None
    ) -> None:
        if scheduler is None:
            agent.on_message(kind, self.agent_id, content)
        else:
            self.post(agent.agent_id, kind, content, scheduler)

    def on_message(
        self, kind: MessageType, sender_id: str, content: Any, scheduler: Dispatch | None = None
    ) -> None:
        """Keep a subordinate's report; obey a command; keep a signal."""
        if kind is MessageType.STATE:
            if self._reports is not None and sender_id in self._reports:
                self._reports[sender_id] = {
                    name: np.asarray(vector, dtype=np.float32) for name, vector in content.items()
                }
        else:
            super().on_message(kind, sender_id, content, scheduler)

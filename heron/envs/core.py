"""What an environment of hierarchical agents has, whatever interface it shows outside."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heron.agents.base import DEFAULT_ENV_ID, Agent
from heron.agents.hierarchical import HierarchicalAgent
from heron.agents.proxy import ProxyAgent
from heron.core.observation import Observation
from heron.core.spaces import Box
from heron.envs.event_driven import EventDriven
from heron.envs.instant import BrokerInstant, Instant
from heron.errors import ConfigError, ConfigProblem
from heron.messaging.base import Broker
from heron.messaging.in_memory import InMemoryBroker


def unique_env_id(prefix: str = DEFAULT_ENV_ID) -> str:
    """Return an id that no other environment has, in whatever process it runs."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


class HeronEnvCore(EventDriven):
    """Holds agents, lets them observe and act, in one instant or in event-driven time.

    A mixin: a class that also is a `PettingZooParallelEnv` or the like adds reset and step.

    Args:
        env_id: Name; environments of different names that share a broker never see each other's
            messages. One that no other has, if it is not given.
        message_broker: Carries commands, signals and reports when `centralized` is False, and
            what agents send each other by themselves in any case.

    Attributes:
        env_id: As given, or made.
        message_broker: As given, or as `configure_agents_for_distributed` made it.
        centralized: True: agents are reached directly. False: over the broker.
        proxy: Keeps states if `use_proxy` was called; else None.
    """

    def __init__(self, env_id: str | None = None, message_broker: Broker | None = None) -> None:
        super().__init__()
        self.env_id = env_id or unique_env_id()
        self.message_broker = message_broker
        self.centralized = True
        self.proxy: ProxyAgent | None = None
        self._registered: dict[str, Agent] = {}
        self._known: dict[str, Agent] = {}

    # --- who is there -------------------------------------------------------------------

    def register_agent(self, agent: Agent) -> None:
        """Take an agent and all below it into the environment.

        The agent itself observes and acts through `get_observations` and `apply_actions`;
        those below it can be found with `get_heron_agent` and tick in event-driven mode.

        Raises:
            ConfigError: Another agent has one of the ids, or an agent would report to itself,
                directly or through those it names.
        """
        self.refuse_unfit(agent)
        self._registered[agent.agent_id] = agent
        self.take_in(agent)

    def refuse_unfit(self, agent: Agent) -> None:
        """Refuse an agent if its id, or that of one below it, is another's, or reports in a circle.

        Raises:
            ConfigError: With all problems.
        """
        problems = [
            ConfigProblem(f"{self.env_id}: agent_id", a.agent_id, "an id that no other agent has")
            for a in agent.family()
            if self._known.get(a.agent_id, a) is not a
        ]
        problems += self._circles(agent)
        if problems:
            raise ConfigError(problems)

    def take_in(self, agent: Agent) -> None:
        """Hold an agent and all below it: they are found, talk as the others do, and tick."""
        for member in agent.family():
            new = member.agent_id not in self._known
            member.env_id = self.env_id
            member.registrar = self
            self._known[member.agent_id] = member
            if new:
                self._join_broker(member)
            if self.proxy is not None:
                self.proxy.register(member)
                if new:  # what it is now stands for the reports that have not come yet
                    self.proxy.store(member.state, self.time_s)
            if new and self._scheduler is not None:
                self._start_ticking(member, self._scheduler)

    def _join_broker(self, agent: Agent) -> None:
        """Let a newcomer talk as the others do."""
        broker = self.message_broker
        if broker is not None and (agent.message_broker is None or not self.centralized):
            agent.use_broker(broker)
        if not self.centralized and isinstance(agent, HierarchicalAgent):
            agent.listen()

    def _circles(self, newcomer: Agent) -> Iterator[ConfigProblem]:
        """Yield the members of a family that would report to themselves.

        Coordinators refuse a circle among those they hold; one made of ``upstream_id`` names
        alone shows only here, where the agents meet.
        """
        family = {agent.agent_id: agent for agent in newcomer.family()}
        for name, member in family.items():
            path = [name]
            above = member.upstream_id
            while above is not None and above not in path:
                path.append(above)
                agent = family.get(above) or self._known.get(above)
                above = None if agent is None else agent.upstream_id
            if above == name:
                circle = " -> ".join([*path, name])
                expected = f"an agent that does not report to it ({circle})"
                yield ConfigProblem(f"{name}: upstream_id", member.upstream_id, expected)

    def get_heron_agent(self, agent_id: str) -> Agent | None:
        """Return an agent at any level, or None."""
        return self._known.get(agent_id)

    @property
    def heron_agents(self) -> Mapping[str, Agent]:
        """All agents at all levels by id."""
        return dict(self._known)

    def _require(self, agent_id: str) -> Agent:
        agent = self._known.get(agent_id)
        if agent is None:
            raise ConfigError(
                [ConfigProblem("agent_id", agent_id, f"one of {', '.join(self._known)}")]
            )
        return agent

    def _top_down(self) -> Iterator[Agent]:
        """Yield all agents, the higher levels first, in order of registration."""
        yield from sorted(self._known.values(), key=lambda agent: -agent.level)

    # --- one instant --------------------------------------------------------------------

    def reset_agents(self, seed: int | None = None) -> None:
        """Reset all agents, and forget messages and the proxy's history.

        Args:
            seed: Each agent takes its own stream of jitter from it.
        """
        below = {a.agent_id for agent in self._known.values() for a in agent.subordinates.values()}
        for name, agent in self._known.items():
            if name not in below:
                agent.reset(seed)
        if self.proxy is not None:
            self.proxy.clear()
            for agent in self._known.values():
                self.proxy.store(agent.state)
        if self.message_broker is not None:
            self.message_broker.clear_environment(self.env_id)

    def get_observations(
        self, global_state: Mapping[str, Any] | None = None
    ) -> dict[str, Observation]:
        """Return what each registered agent sees now, by id.

        Args:
            global_state: Public numbers that every agent may see.
        """
        self.share_states()
        return {
            name: agent.observe(global_state, self.proxy)
            for name, agent in self._registered.items()
        }

    def share_states(self) -> None:
        """Let reports travel up at once: over the broker when distributed, and to the proxy.

        In event-driven time they travel by themselves, and this does nothing.
        """
        if self._scheduler is not None:
            return
        if not self.centralized:
            instant = self._instant()
            for agent in sorted(self._known.values(), key=lambda agent: agent.level):
                if agent.upstream_id in self._known:
                    agent.report(instant)
        if self.proxy is not None:
            for agent in self._known.values():
                self.proxy.store(agent.state, self.time_s)

    def apply_actions(self, actions: Mapping[str, ArrayLike]) -> None:
        """Let agents carry out their actions, each down to its devices.

        Every action is checked before any is carried out.

        Raises:
            ConfigError: An agent is unknown.
            ValueError: An action has the wrong shape or is not finite.
        """
        checked: dict[str, NDArray[np.float64]] = {}
        for name, action in actions.items():
            checked[name] = self._require(name).checked_action(action)
        instant = self._instant()
        for name, action in checked.items():
            self._known[name].carry_out(action, None, instant)
        instant.take_effect()

    def decide(self, global_state: Mapping[str, Any] | None = None) -> None:
        """Let all agents that have a policy or a protocol act in this instant.

        All observe before anything takes effect; the higher levels decide first, so that the
        lower know their signals. This is what event-driven mode does when nothing is delayed.
        """
        self.share_states()
        instant = self._instant()
        for agent in self._top_down():
            agent.time_s = self.time_s
        for agent in self._top_down():
            if agent.decides:
                agent.decide(instant, agent.observe(global_state, self.proxy))
        instant.take_effect()

    def _instant(self) -> Instant:
        if self.centralized:
            return Instant(self._known, self.time_s)
        if self.message_broker is None:
            raise ConfigError(f"{self.env_id}: distributed without a broker")
        return BrokerInstant(self._known, self.time_s, self.message_broker, self.env_id)

    def action_masks(self) -> dict[str, NDArray[np.bool_]]:
        """Return each registered agent's mask of its discrete categories, for infos."""
        return {name: agent.action_mask() for name, agent in self._registered.items()}

    # --- spaces -------------------------------------------------------------------------

    def observation_box(self, agent_id: str, global_state: Mapping[str, Any] | None = None) -> Box:
        """Return the space of an agent's observation vector, from what it sees now."""
        agent = self._require(agent_id)
        self.share_states()
        size = agent.observe(global_state, self.proxy).vector().size
        unbounded = np.full(size, np.inf, dtype=np.float32)
        return Box(-unbounded, unbounded)

    # --- message path and proxy ---------------------------------------------------------

    def configure_agents_for_distributed(self, message_broker: Broker | None = None) -> None:
        """Let agents reach each other over a broker only, also those that are registered later.

        Args:
            message_broker: Which; the environment's own, or a new one in memory, if not given.
        """
        self.message_broker = message_broker or self.message_broker or InMemoryBroker()
        self.centralized = False
        for agent in self._known.values():
            agent.use_broker(self.message_broker)
            if self._scheduler is None and isinstance(agent, HierarchicalAgent):
                agent.listen()

    def configure_agents_for_centralized(self) -> None:
        """Let agents be reached directly again; in event-driven time they report as before."""
        self.centralized = True
        for agent in self._known.values():
            if self._scheduler is None and isinstance(agent, HierarchicalAgent):
                agent.watch()

    def use_proxy(
        self,
        visibility_rules: Mapping[str, list[str]] | None = None,
        history_length: int = 100,
    ) -> ProxyAgent:
        """Let coordinators see their subordinates through a proxy, and return it."""
        self.proxy = ProxyAgent(
            f"{self.env_id}.proxy",
            self.env_id,
            self._known.values(),
            visibility_rules,
            history_length,
        )
        for agent in self._known.values():
            self.proxy.store(agent.state, self.time_s)
        return self.proxy

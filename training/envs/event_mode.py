"""The event-driven clock of a grid environment.

Same agents, same policies, same plant as in the synchronous step; but each agent acts in its own
time, what it sees is as old as its reports, and what it says takes effect later. The plant is
solved over the time that really passes between two events, so nothing is integrated twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heron.agents import Agent, HierarchicalAgent
from heron.core import Policy
from heron.envs.instant import Instant
from heron.policy import PolicyCodec
from heron.policy.codec import FloatArray
from heron.powergrid.accounting import AgentAccounts, StepAccounts
from heron.powergrid.agents import DeviceAgent
from heron.powergrid.quantities import Measurements, Setpoint
from training.envs.timing import Timing

if TYPE_CHECKING:
    from training.envs.networked_grid_env import NetworkedGridEnv


class ActingPolicy(Protocol):
    """Anything that decides for one coordinator on its encoded observation."""

    def act(self, obs: Any) -> FloatArray:
        """Return the normalised action, (act_dim,)."""
        ...


class ObservedPolicy(Policy):
    """Lets a policy decide on an `Observation`, as old as it was delivered."""

    def __init__(self, policy: ActingPolicy, codec: PolicyCodec) -> None:
        self._policy = policy
        self._codec = codec

    def forward(self, observation: Any) -> FloatArray:
        """Return the action for what the agent sees."""
        return self._policy.act(self._codec.encode_observation(observation))


def set_timing(agents: Mapping[str, Agent], timing: Timing, step_s: float, seed: int) -> None:
    """Give every agent of a tree its tick and its delays."""
    for name, agent in agents.items():
        if isinstance(agent, HierarchicalAgent):
            config = timing.coordinator(step_s, seed, name)
        else:
            config = timing.device(step_s, seed, name)
        agent.tick_config = config.for_agent(name, seed)


class SetpointsInForce:
    """The set-points that the devices follow, each from the moment at which it takes effect."""

    def __init__(self, find: Callable[[str], Agent | None]) -> None:
        self._find = find
        self._of: dict[str, Setpoint] = {}

    def clear(self) -> None:
        """Forget all: the plant is as after a reset."""
        self._of.clear()

    def take_effect(self, device_id: str, action: NDArray[np.float64]) -> None:
        """Let a device's action pass its envelope, on what the device measures now."""
        device = self._find(device_id)
        if isinstance(device, DeviceAgent):
            device.take_action(action)
            self._of[device_id] = device.setpoint

    def all(self) -> dict[str, Setpoint]:
        """Return them by device; a device that was told nothing yet is not among them."""
        return dict(self._of)


def sum_accounts(parts: list[StepAccounts]) -> StepAccounts:
    """Return the account of several intervals as one.

    Costs, safety and rewards add up; voltages are the extremes; the violation is the mean over
    the parts' own, for figures only.
    """
    first, *others = parts
    agents: dict[str, AgentAccounts] = {}
    for name, a in first.agents.items():
        rest = [p.agents[name] for p in others]
        agents[name] = AgentAccounts(
            a.reward + sum(r.reward for r in rest),
            a.cost_usd + sum(r.cost_usd for r in rest),
            a.safety + sum(r.safety for r in rest),
            min([a.v_min_pu, *(r.v_min_pu for r in rest)]),
            max([a.v_max_pu, *(r.v_max_pu for r in rest)]),
            {d: c + sum(r.device_cost_usd[d] for r in rest) for d, c in a.device_cost_usd.items()},
        )
    return StepAccounts(
        agents,
        sum(p.reward for p in parts),
        sum(p.cost_usd for p in parts),
        sum(p.safety for p in parts),
        sum(p.violation_pu for p in parts) / len(parts),
    )


class EventMode:
    """Runs a grid environment's steps in event-driven time.

    Args:
        env: The environment; its agents, plant and accountant are used.
        timing: Delays, jitter and ticks.

    Attributes:
        timing: As given.
        events: Events that ran since the start of the episode.
    """

    def __init__(self, env: NetworkedGridEnv, timing: Timing) -> None:
        timing.refuse_strangers(env.heron_agents)
        self.timing = timing
        self.events = 0
        self._env = env
        self._in_force = SetpointsInForce(env.get_heron_agent)
        self._parts: list[StepAccounts] = []
        self._history: deque[Measurements] = deque()

    def start(self, start_s: float, seed: int) -> None:
        """Begin an episode at a plant time; every agent's first tick is then."""
        env = self._env
        self.events = 0
        self._in_force.clear()
        self._history = deque([env.net.measurements])
        set_timing(env.heron_agents, self.timing, env.setup.config.step_s, seed)
        env.setup_event_driven(start_time=start_s, seed=seed)
        env.setup_default_handlers(
            on_action_effect=self._in_force.take_effect, on_env_update=self._advance
        )

    def step(self, actions: Mapping[str, ArrayLike]) -> StepAccounts:
        """Run one control interval.

        Args:
            actions: Taken by the coordinators at their next ticks, and held; coordinators that
                have a policy and no action here decide by themselves.

        Raises:
            PowerFlowDiverged: At the instant at which no solution was found.
        """
        env = self._env
        self._parts = []
        env.submit_actions(actions)
        self.events += env.run_event_driven(env.scheduler.current_time + env.setup.config.step_s)
        return sum_accounts(self._parts)

    def remember(self, measurements: Measurements) -> None:
        """Keep what the plant measured until it has been reported."""
        history, latest_s = self._history, measurements.time_s - self.timing.age_s
        history.append(measurements)
        while len(history) > 1 and history[1].time_s <= latest_s:
            history.popleft()

    def reported(self) -> Measurements:
        """Return the newest measurements whose report has reached the coordinators by now."""
        return self._history[0]

    def deliver_what_is_not_late(self) -> None:
        """Let reports arrive that are due in this very instant.

        A step ends before the events at its end. What a coordinator will see there at its tick
        is what a policy outside of it must be shown.
        """
        if self.timing.age_s or self.timing.jitter_ratio:
            return
        agents = self._env.heron_agents
        instant = Instant(agents, self._env.scheduler.current_time)
        for agent in agents.values():
            if agent.upstream_id in agents:
                agent.report(instant)

    def _advance(self, time_from: float, time_to: float) -> None:
        self._parts.append(self._env.advance(self._in_force.all(), time_to - time_from))

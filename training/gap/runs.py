"""Runs a policy over days under a timing, in event-driven time or in the synchronous step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heron.errors import ConfigError
from heron.policy.codec import View
from heron.policy.together import begin, decide
from heron.powergrid.setups import Setup
from training.envs import MultiAgentMicrogrids
from training.envs.event_mode import ActingPolicy, ObservedPolicy
from training.envs.timing import Timing


@dataclass(frozen=True, slots=True)
class TimedFigures:
    """What a policy got under one timing, per day.

    Attributes:
        timing: The timing; None: the synchronous step.
        cost_usd: (n_days,) cost.
        safety: (n_days,) violation and overload, pu node hours.
        penalty: $ per pu node hour.
        events: Events that ran, over all days.
    """

    timing: Timing | None
    cost_usd: tuple[float, ...]
    safety: tuple[float, ...]
    penalty: float
    events: int = 0

    @property
    def returns(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """(n_days,) ``-cost - penalty * safety``."""
        return -np.array(self.cost_usd) - self.penalty * np.array(self.safety)

    @property
    def mean_return(self) -> float:
        """Mean over the days."""
        return float(self.returns.mean())


def gap(synchronous: float, timed: float) -> float:
    """Return what is lost, as a share of the synchronous return; below 0 it is a gain.

    Divided by the magnitude: returns are negative here, and the sign must not flip with them.
    """
    return (synchronous - timed) / abs(synchronous) if synchronous else 0.0


def run_days_timed(
    setup: Setup,
    policies: Mapping[str, ActingPolicy],
    days: Sequence[int],
    timing: Timing | None,
    seed: int = 0,
    *,
    protocol: str | None = None,
    view: View = "upper_level",
) -> TimedFigures:
    """Run one episode a day.

    Args:
        setup: Names the plant, the agents and the episode's length.
        policies: One per coordinator, acting on the encoded observation.
        days: Days of the data year.
        timing: None: the synchronous step.
        protocol: How the agents coordinate; None: as the setup says.
        view: Whose view the observations are built for, as the policies were trained.
        seed: Of the jitter; a day's jitter does not depend on the other days.

    Raises:
        ConfigError: No days were given.
        PowerFlowDiverged: A day could not be solved to its end.
    """
    if not days:
        raise ConfigError("no days to run")
    config: dict[str, Any] = {"protocol": protocol, "visibility_level": view}
    if timing is not None:
        config |= {"event_driven": True, "timing": timing}
    env = MultiAgentMicrogrids(setup, **config)
    costs, safeties, events = [], [], 0
    for day in days:
        cost, safety = _run_day(env, policies, day, seed + 100_003 * day)
        costs.append(cost)
        safeties.append(safety)
        events += env.event_mode.events if env.event_mode is not None else 0
    return TimedFigures(timing, tuple(costs), tuple(safeties), env.penalty, events)


def _run_day(
    env: MultiAgentMicrogrids, policies: Mapping[str, ActingPolicy], day: int, seed: int
) -> tuple[float, float]:
    observations, _ = env.reset(seed=seed, options={"day": day})
    begin(policies)
    timed = env.event_mode is not None
    for agent_id, agent in env.agent_dict.items():
        policy = ObservedPolicy(policies[agent_id], env.codecs[agent_id])
        agent.policy = policy if timed else None
    cost = safety = 0.0
    while env.agents:
        seen = {a: observations[a] for a in env.agents}
        actions = {} if timed else decide(policies, seen)
        observations, _, terminated, _, infos = env.step(actions)
        if any(terminated.values()):
            raise ConfigError(f"day {day}: {next(iter(infos.values()))['power_flow_diverged']}")
        accounts = env.accounts
        assert accounts is not None
        cost += accounts.cost_usd
        safety += accounts.safety
    return cost, safety

"""What a policy loses where messages are late or lost, sensors wrong, loads and lines others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heron.powergrid.baselines import ActingPolicy
from training.envs import MultiAgentMicrogrids
from training.envs.robustness import ROBUSTNESS, Robustness
from training.envs.vector_env import VectorMicrogrids

DISTURBANCES: Mapping[str, Robustness] = {
    "nothing": Robustness(),
    "scada": ROBUSTNESS["scada"],
    "half a step late": Robustness(obs_delay_s=(450.0, 450.0)),
    "a step late": Robustness(obs_delay_s=(900.0, 900.0)),
    "acts 5 min late": Robustness(act_delay_s=(300.0, 300.0)),
    "20 % lost": Robustness(dropout=(0.2, 0.2)),
    "sensors off": Robustness(sensor_bias_pu=0.005, sensor_gain=0.03, soc_bias=0.03),
    "other loads and sun": Robustness(profile_spread=0.15),
    "other lines": Robustness(line_spread=0.2),
    "field": ROBUSTNESS["field"],
}
"""What is tried, one after the other; each sensor's and each series' error lasts an episode."""


@dataclass(frozen=True, slots=True)
class DisturbedRow:
    """One disturbance and what came of it, means over days.

    Attributes:
        name: Of the disturbance.
        objective_usd: Cost and penalty, $ an episode.
        safety: Violation, pu node hours an episode.
        idle_usd: Objective of doing nothing in the same world.
    """

    name: str
    objective_usd: float
    safety: float
    idle_usd: float


def disturbed(
    env: MultiAgentMicrogrids,
    policies: Mapping[str, ActingPolicy],
    idle: Mapping[str, ActingPolicy],
    days: Sequence[int],
    *,
    disturbances: Mapping[str, Robustness] = DISTURBANCES,
    seed: int = 0,
) -> Iterator[DisturbedRow]:
    """Run policies under each disturbance; yield a row as it is there.

    The same seed draws the same world for every policy.

    Args:
        env: A single environment of the setup.
        policies: One per coordinator.
        idle: Policies that do nothing.
        days: One episode each.
        disturbances: By name.
        seed: Of what is drawn.

    Raises:
        ConfigError: The setup holds what the batched environment does not cover.
    """
    for name, robustness in disturbances.items():
        objective, safety = _run(env, policies, days, robustness, seed)
        nothing, _ = _run(env, idle, days, robustness, seed)
        yield DisturbedRow(name, objective, safety, nothing)


def _run(
    env: MultiAgentMicrogrids,
    policies: Mapping[str, ActingPolicy],
    days: Sequence[int],
    robustness: Robustness,
    seed: int,
) -> tuple[float, float]:
    vector = VectorMicrogrids(env, len(days), seed, robustness)
    obs = vector.reset(days)
    cost, safety = np.zeros(len(days)), np.zeros(len(days))
    for _ in range(vector.max_episode_steps):
        actions = {a: np.stack([p.act(row) for row in obs[a]]) for a, p in policies.items()}
        step = vector.step(actions)
        obs = step.obs
        cost += np.where(step.alive, step.cost_usd, 0.0)
        safety += np.where(step.alive, step.safety, 0.0)
    return float((cost + env.penalty * safety).mean()), float(safety.mean())

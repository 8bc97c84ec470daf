"""Any PettingZoo parallel environment as RLlib wants it.

RLlib's own wrapper keeps its agents in a set, so that their order changes from run to run, and
misses episodes that end in mixed ways.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from pettingzoo import ParallelEnv
from ray.rllib.env.multi_agent_env import MultiAgentEnv


class ParallelForRllib(MultiAgentEnv):
    """Agents in order; the episode is over when the inner environment has no agents left."""

    def __init__(self, inner: ParallelEnv) -> None:
        super().__init__()
        self.inner = inner
        self.possible_agents = list(inner.possible_agents)
        self.agents = list(self.possible_agents)
        self.observation_spaces = {a: inner.observation_space(a) for a in self.possible_agents}
        self.action_spaces = {a: inner.action_space(a) for a in self.possible_agents}
        self.observation_space = gym.spaces.Dict(self.observation_spaces)
        self.action_space = gym.spaces.Dict(self.action_spaces)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode."""
        obs, infos = self.inner.reset(seed=seed, options=options)
        self.agents = list(self.inner.agents)
        return obs, infos

    def step(self, action_dict: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        """Advance by one step; ``__all__`` says whether the episode is over, and how."""
        obs, rewards, terminated, truncated, infos = self.inner.step(action_dict)
        self.agents = list(self.inner.agents)
        over, failed = not self.agents, any(terminated.values())
        return (
            obs,
            rewards,
            {**terminated, "__all__": over and failed},
            {**truncated, "__all__": over and not failed},
            infos,
        )

    def close(self) -> None:
        """Close the inner environment."""
        self.inner.close()

"""The environment as RLlib wants it: agents in order, scaled rewards, padding if shared.

RLlib's own PettingZoo wrapper keeps its agents in a set, so that their order changes from run
to run, and misses episodes that end in mixed ways.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from training.envs import MultiAgentMicrogrids, make_env
from training.rllib.layout import Layout


def layout_of(env: MultiAgentMicrogrids) -> Layout:
    """Return the layout by which the environment's agents share a network."""
    config = env.setup.config
    return Layout.of(env.codecs, {d: config.device(d).type for d in config.device_ids})


class RllibMicrogrids(MultiAgentEnv):
    """`MultiAgentMicrogrids` for RLlib.

    Args:
        config: ``setup`` (name or path), ``overrides`` (keys of the setup), ``padded`` (one
            network for all agents), ``reward_scale`` (rewards are divided by it).
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.inner = make_env(config["setup"], dict(config.get("overrides", {})))
        self.layout = layout_of(self.inner) if config.get("padded") else None
        self.reward_scale = float(config.get("reward_scale", 1.0))
        self.possible_agents = list(self.inner.possible_agents)
        self.agents = list(self.possible_agents)
        self.observation_spaces = {a: self._obs_space(a) for a in self.possible_agents}
        self.action_spaces = {a: self._act_space(a) for a in self.possible_agents}
        self.observation_space = gym.spaces.Dict(self.observation_spaces)
        self.action_space = gym.spaces.Dict(self.action_spaces)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode."""
        obs, infos = self.inner.reset(seed=seed, options=options)
        self.agents = list(self.inner.agents)
        return self._pad(obs), infos

    def step(self, action_dict: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        """Advance by one step; ``__all__`` says whether the episode is over, and how."""
        if self.layout is not None:
            action_dict = {a: self.layout.unpad(a, u) for a, u in action_dict.items()}
        obs, rewards, terminated, truncated, infos = self.inner.step(action_dict)
        self.agents = list(self.inner.agents)
        over = not self.agents
        failed = any(terminated.values())
        scaled = {a: r / self.reward_scale for a, r in rewards.items()}
        return (
            self._pad(obs),
            scaled,
            {**terminated, "__all__": over and failed},
            {**truncated, "__all__": over and not failed},
            infos,
        )

    def close(self) -> None:
        """Close the inner environment."""
        self.inner.close()

    def _pad(self, obs: dict[str, Any]) -> dict[str, Any]:
        if self.layout is None:
            return obs
        return {a: self.layout.pad(a, o) for a, o in obs.items()}

    def _obs_space(self, agent: str) -> gym.spaces.Box:
        if self.layout is None:
            return self.inner.observation_space(agent)
        return gym.spaces.Box(-np.inf, np.inf, (self.layout.obs_dim,), np.float32)

    def _act_space(self, agent: str) -> gym.spaces.Box:
        if self.layout is None:
            return self.inner.action_space(agent)
        return gym.spaces.Box(-1.0, 1.0, (self.layout.n_actions,), np.float32)

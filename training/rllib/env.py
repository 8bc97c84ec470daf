"""The environment as RLlib wants it: agents in order, scaled rewards, padding if shared."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from training.envs import MultiAgentMicrogrids, make_env
from training.rllib.layout import Layout
from training.rllib.parallel import ParallelForRllib


def layout_of(env: MultiAgentMicrogrids) -> Layout:
    """Return the layout by which the environment's agents share a network."""
    config = env.setup.config
    return Layout.of(env.codecs, {d: config.device(d).type for d in config.device_ids})


class RllibMicrogrids(ParallelForRllib):
    """`MultiAgentMicrogrids` for RLlib.

    Args:
        config: ``setup`` (name or path), ``overrides`` (keys of the setup), ``padded`` (one
            network for all agents), ``reward_scale`` (rewards are divided by it).
    """

    inner: MultiAgentMicrogrids

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(make_env(config["setup"], dict(config.get("overrides", {}))))
        self.layout = layout_of(self.inner) if config.get("padded") else None
        self.reward_scale = float(config.get("reward_scale", 1.0))
        if self.layout is not None:
            obs = gym.spaces.Box(-np.inf, np.inf, (self.layout.obs_dim,), np.float32)
            act = gym.spaces.Box(-1.0, 1.0, (self.layout.n_actions,), np.float32)
            self.observation_spaces = dict.fromkeys(self.possible_agents, obs)
            self.action_spaces = dict.fromkeys(self.possible_agents, act)
            self.observation_space = gym.spaces.Dict(self.observation_spaces)
            self.action_space = gym.spaces.Dict(self.action_spaces)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode."""
        obs, infos = super().reset(seed=seed, options=options)
        return self._pad(obs), infos

    def step(self, action_dict: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        """Advance by one step; ``__all__`` says whether the episode is over, and how."""
        if self.layout is not None:
            action_dict = {a: self.layout.unpad(a, u) for a, u in action_dict.items()}
        obs, rewards, terminated, truncated, infos = super().step(action_dict)
        scaled = {a: r / self.reward_scale for a, r in rewards.items()}
        return self._pad(obs), scaled, terminated, truncated, infos

    def _pad(self, obs: dict[str, Any]) -> dict[str, Any]:
        if self.layout is None:
            return obs
        return {a: self.layout.pad(a, o) for a, o in obs.items()}

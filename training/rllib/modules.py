"""The network: an actor of local observations and a critic of local or global ones.

The normaliser is part of the module: its statistics travel with the weights to every runner,
are checkpointed and are exported. Each agent that shares the network has statistics of its own,
because a slot may hold different things for different agents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, ValueFunctionAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import nn

GLOBAL_STATE = "global_state"
"""Batch column that holds the observations of all agents, for a central critic."""

OBS_CLIP = 10.0
STD_FLOOR = 0.01
"""Smallest standard deviation of a scaled observation that the normaliser divides by. Without a
floor a feature that never varied in training turns a sensor's offset into a large action."""


class RunningNorm(nn.Module):
    """Mean and variance of what was seen, one set a group.

    Args:
        n_groups: Groups (agents) with statistics of their own.
        size: Numbers in an observation.
    """

    def __init__(self, n_groups: int, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_groups, size))
        self.register_buffer("var", torch.ones(n_groups, size))
        self.register_buffer("count", torch.zeros(n_groups, dtype=torch.float64))

    @property
    def std(self) -> torch.Tensor:
        """(n_groups, size) what an observation is divided by."""
        return torch.clamp(torch.sqrt(self.var), min=STD_FLOOR)

    def forward(self, x: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
        """Normalise ``x`` (n, size) with the statistics of ``group`` (n,)."""
        z = (x - self.mean[group]) / self.std[group]
        return torch.clamp(z, -OBS_CLIP, OBS_CLIP)

    @torch.no_grad()
    def update(self, x: torch.Tensor, group: torch.Tensor) -> None:
        """Take a batch into the statistics.

        Source: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing
        sample variances" (1979).
        """
        for g in torch.unique(group).tolist():
            rows = x[group == g].double()
            n, old = float(len(rows)), float(self.count[g])
            total = n + old
            mean, var = rows.mean(0), rows.var(0, unbiased=False)
            delta = mean - self.mean[g].double()
            m2 = self.var[g].double() * old + var * n + delta**2 * (old * n / total)
            self.mean[g] = (self.mean[g].double() + delta * (n / total)).float()
            self.var[g] = (m2 / total).float()
            self.count[g] = total


def perceptron(size_in: int, hiddens: Sequence[int], size_out: int, gain: float) -> nn.Sequential:
    """Return layers with tanh between them, initialised orthogonally; ``gain`` is the last's."""
    layers: list[nn.Module] = []
    size = size_in
    for width in hiddens:
        layers += [_linear(size, width, 2.0**0.5), nn.Tanh()]
        size = width
    return nn.Sequential(*layers, _linear(size, size_out, gain))


class ActorCritic(TorchRLModule, ValueFunctionAPI, InferenceOnlyAPI):
    """A Gaussian actor and a critic.

    ``model_config``: ``hiddens`` (widths), ``std`` and ``std_end`` (standard deviation at the
    start and after ``total_steps``; None: it is learned), ``std_shares`` ((act_dim,) by what it is
    multiplied for each action; None: by 1), ``action_masks`` ((n_agents, act_dim); the observation
    ends in the agent's one-hot code) or None, ``state_dim`` (length of the global state that the
    critic sees; 0: the observation).
    """

    def setup(self) -> None:
        """Build the layers."""
        config: dict[str, Any] = dict(self.model_config)
        hiddens = list(config["hiddens"])
        self.obs_dim = int(self.observation_space.shape[0])
        act_dim = int(self.action_space.shape[0])
        masks = config.get("action_masks")
        self.n_groups = 1 if masks is None else len(masks)
        mask = torch.ones(1, act_dim) if masks is None else torch.tensor(masks)
        self.register_buffer("action_mask", mask.float(), persistent=False)
        self.state_dim = int(config.get("state_dim", 0))
        self.n_code = 0 if masks is None else self.n_groups
        self.obs_norm = RunningNorm(self.n_groups, self.obs_dim - self.n_code)
        self.actor = perceptron(self.obs_dim, hiddens, act_dim, 0.01)
        self._std = (config["std"], config["std_end"])
        self._total_steps = int(config["total_steps"])
        shares = torch.tensor(config.get("std_shares") or [1.0] * act_dim)
        self.register_buffer("log_shares", torch.log(shares), persistent=False)
        log_std = math.log(config["std"]) + self.log_shares
        if config["std_end"] is None:
            self.log_std = nn.Parameter(log_std)
        else:
            self.register_buffer("log_std", log_std)
        if not self.inference_only:
            if self.state_dim:
                self.state_norm = RunningNorm(1, self.state_dim)
            size = (self.state_dim or self.obs_dim) + (self.n_groups if self.state_dim else 0)
            self.critic = perceptron(size, hiddens, 1, 1.0)

    def get_non_inference_attributes(self) -> list[str]:
        """Name what runners and exports never hold."""
        return ["critic", "state_norm"] if self.state_dim else ["critic"]

    def group(self, obs: torch.Tensor) -> torch.Tensor:
        """Return which agent each observation is of, (n,)."""
        if self.n_groups == 1:
            return torch.zeros(len(obs), dtype=torch.int64, device=obs.device)
        return torch.argmax(obs[:, -self.n_groups :], dim=1)

    def _normalised(self, obs: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
        """Normalise all but the agent's code."""
        n = self.obs_dim - self.n_code
        return torch.cat([self.obs_norm(obs[:, :n], group), obs[:, n:]], dim=-1)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        obs = batch[Columns.OBS]
        group = self.group(obs)
        mask = self.action_mask[group]
        mean = self.actor(self._normalised(obs, group)) * mask
        # An action that the agent does not have is drawn from N(0, 1) whatever the weights
        # are: its probability ratio is one and its gradient zero.
        log_std = self.log_std * mask
        return {Columns.ACTION_DIST_INPUTS: torch.cat([mean, log_std], dim=-1)}

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> torch.Tensor:
        """Return the critic's values, (n,)."""
        obs = batch[Columns.OBS]
        group = self.group(obs)
        if not self.state_dim:
            return self.critic(self._normalised(obs, group)).squeeze(-1)
        x = self.state_norm(batch[GLOBAL_STATE], torch.zeros_like(group))
        code = nn.functional.one_hot(group, self.n_groups).to(x.dtype)
        return self.critic(torch.cat([x, code], dim=-1)).squeeze(-1)

    def set_progress(self, steps: int) -> None:
        """Let the noise fall with the steps that were trained for, unless it is learned."""
        start, end = self._std
        if end is None:
            return
        share = min(1.0, steps / self._total_steps)
        self.log_std.copy_(math.log(start + share * (end - start)) + self.log_shares)

    def update_normaliser(self, obs: torch.Tensor, state: torch.Tensor | None) -> None:
        """Take a batch of observations (and global states) into the statistics."""
        group = self.group(obs)
        self.obs_norm.update(obs[:, : self.obs_dim - self.n_code], group)
        if state is not None and self.state_dim:
            self.state_norm.update(state, torch.zeros_like(group))


def _linear(size_in: int, size_out: int, gain: float) -> nn.Linear:
    layer = nn.Linear(size_in, size_out)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer

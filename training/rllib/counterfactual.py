"""Each action's advantage by itself: what it alone would have changed, tried in the plant.

A joint action holds a dozen numbers whose noise is worth dollars a step, while the few hundredths
of a Mvar that save losses are worth cents: neither a critic nor many samples finds the one under
the other. But the plant that is trained on can be asked. At every step each number of the joint
action is moved from its mean by the noise that was drawn for it, and as far the other way, while
all others stay at their means; half the difference of the two outcomes is its advantage. An outcome
is the whole site's cost and penalty in that step, with what the stores' charge will earn later
taken off, so that nobody is selfish; PPO's clipped surrogate takes it from there, number by number.

What it needs is a plant that can be looked ahead in, and nothing put off to later steps: a discount
of 0. The critic is not asked then, and does not learn. The actors see what they always see.

Source: Foerster et al., "Counterfactual multi-agent policy gradients", AAAI 2018 (an advantage
against what the others' actions bring anyway; theirs is by a critic); Schulman et al., "Trust
region policy optimization", ICML 2015 (several actions tried from one state, "vine").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from ray.rllib.core.columns import Columns

from training.envs import MultiAgentMicrogrids
from training.envs.vector_env import VectorMicrogrids
from training.envs.vector_worth import StoragePotential
from training.rllib.layout import Layout

FloatArray = npt.NDArray[np.float32]

ACTION_GAINS = "action_gains"
"""Batch column: what the noise of each action by itself earned, $, (n, act_dim)."""
ACTION_ADVANTAGES = "action_advantages"
EVENNESS = 0.5
"""How far advantages are brought to one size: 0 leaves dollars as they are, 1 measures each action
by its own. Between, cents are heard and their errors do not drown what matters."""


class Trials:
    """Tries every number of the joint action by itself."""

    def __init__(self, env: MultiAgentMicrogrids, layout: Layout | None) -> None:
        self._agents = list(env.codecs)
        self._sizes = [codec.act_dim for codec in env.codecs.values()]
        self._slots = [
            np.arange(size) if layout is None else layout.act_index[agent]
            for agent, size in zip(self._agents, self._sizes, strict=True)
        ]

    def __call__(
        self,
        vector: VectorMicrogrids,
        means: Sequence[FloatArray],
        drawn: Sequence[FloatArray],
        potential: StoragePotential | None,
        *,
        day_is_over: bool,
    ) -> list[FloatArray]:
        """Return what the noise of each action earned, $, (N, act_dim) an agent.

        Args:
            vector: Scenarios that have not stepped yet.
            means: Of the actions, (N, act_dim) an agent.
            drawn: The actions.
            potential: What the stores' charge will earn later.
            day_is_over: Whether the episodes end with this step.
        """
        n, count = vector.n, sum(self._sizes)
        tried: dict[str, FloatArray] = {}
        first = 0
        for agent, size, slots, mean, action in zip(
            self._agents, self._sizes, self._slots, means, drawn, strict=True
        ):
            centre = np.clip(mean[:, slots], -1.0, 1.0)
            noise = action[:, slots] - mean[:, slots]
            copies = np.repeat(centre[:, None, :], 2 * count, axis=1)
            own = np.arange(size)
            copies[:, first + own, own] = centre + noise
            copies[:, count + first + own, own] = centre - noise
            tried[agent] = np.clip(copies, -1.0, 1.0).reshape(n * 2 * count, size)
            first += size
        seen = vector.look_ahead(np.repeat(np.arange(n), 2 * count), tried)
        outcome = -seen.objective_usd
        if potential is not None:
            later = potential(seen.after, day_is_over=day_is_over).sum(axis=1)
            outcome = outcome + np.where(seen.after.solved, later, 0.0)
        by_trial = outcome.reshape(n, 2, count)
        gain = 0.5 * (by_trial[:, 0] - by_trial[:, 1])
        out, first = [], 0
        for size, slots, mean in zip(self._sizes, self._slots, means, strict=True):
            padded = np.zeros_like(mean)
            padded[:, slots] = gain[:, first : first + size]
            out.append(padded)
            first += size
        return out


def add_advantages(module: Any, batch: dict[str, Any]) -> None:
    """Add each action's advantage to a module's batch.

    A mean beyond [-1, 1], where actions are clipped, is not pushed farther out.

    Args:
        module: An `ActorCritic`.
        batch: Its part of the train batch, with `ACTION_GAINS`.
    """
    gains, actions = batch[ACTION_GAINS], batch[Columns.ACTIONS]
    mean, _ = batch[Columns.ACTION_DIST_INPUTS].chunk(2, dim=-1)
    valid = batch.get(Columns.LOSS_MASK)
    outward = (mean.abs() > 1.0) & (gains * (actions - mean) * mean > 0.0)
    gains = torch.where(outward, torch.zeros_like(gains), gains)
    group = module.group(batch[Columns.OBS])
    has = module.action_mask[group]
    counted = has if valid is None else has * valid[:, None].to(has.dtype)
    size = torch.zeros_like(module.action_mask)
    count = torch.zeros_like(module.action_mask)
    size.index_add_(0, group, gains.pow(2) * counted)
    count.index_add_(0, group, counted)
    there = count > 0.0
    size = (size / count.clamp(min=1.0)).sqrt()
    whole = (size.pow(2).sum() / there.sum().clamp(min=1)).sqrt()
    measure = size.pow(EVENNESS) * whole.pow(1.0 - EVENNESS)
    batch[ACTION_ADVANTAGES] = gains * has / measure.clamp(min=1e-6)[group]


def action_loss(module: Any, config: Any, batch: dict[str, Any], inputs: torch.Tensor) -> Any:
    """Return PPO's loss with a ratio and an advantage an action.

    Args:
        module: An `ActorCritic`.
        config: Of the algorithm.
        batch: With what `add_advantages` added.
        inputs: (n, 2 act_dim) means and logarithms of standard deviations now.
    """
    has = module.action_mask[module.group(batch[Columns.OBS])]
    actions = batch[Columns.ACTIONS]
    now, before = _log_prob(inputs, actions), _log_prob(batch[Columns.ACTION_DIST_INPUTS], actions)
    ratio = torch.exp(now - before)
    advantage = batch[ACTION_ADVANTAGES]
    clipped = torch.clamp(ratio, 1.0 - config.clip_param, 1.0 + config.clip_param)
    mean, _ = inputs.chunk(2, dim=-1)
    # Beyond [-1, 1] an action is clipped and feels nothing: its mean is pulled back.
    beyond = torch.clamp(mean.abs() - 1.0, min=0.0) ** 2
    loss = ((beyond - torch.min(advantage * ratio, advantage * clipped)) * has).sum(dim=1)
    valid = batch.get(Columns.LOSS_MASK)
    return loss.mean() if valid is None else loss[valid].mean()


def _log_prob(inputs: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    mean, log_std = inputs.chunk(2, dim=-1)
    return -0.5 * ((actions - mean) / log_std.exp()) ** 2 - log_std

"""Credit for each action by itself, where part of what an action earns is known to be its own.

What a device's active power earns (energy at the price, less fuel, plus what is stored) follows
from that action alone. To an agent's other actions it is noise, many times what they earn: losses
that a little reactive power saves are cents beside the dollars of a generator. So every action
has an advantage and a critic's output of its own, from which the others' own gains are left out.
That changes no gradient's mean, only its scatter.

Source: Wu et al., "Variance reduction for policy gradient with action-dependent factorized
baselines", ICLR 2018.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from ray.rllib.core.columns import Columns

from training.envs import MultiAgentMicrogrids
from training.rllib.layout import Layout

FloatArray = npt.NDArray[np.float32]

ACTION_GAINS = "action_gains"
"""Batch column: what each action earned by itself, (n, act_dim)."""
ACTION_ADVANTAGES = "action_advantages"
ACTION_TARGETS = "action_targets"


class ActionGains:
    """Puts the gains of devices where the actions of their active power are."""

    def __init__(self, env: MultiAgentMicrogrids, layout: Layout | None) -> None:
        devices = env.setup.config.device_ids
        self._maps: list[npt.NDArray[np.float64]] = []
        for agent, codec in env.codecs.items():
            slots = range(codec.act_dim) if layout is None else layout.act_index[agent].tolist()
            size = codec.act_dim if layout is None else layout.n_actions
            places = np.zeros((len(devices), size))
            for slot, spec in zip(slots, codec.setpoints, strict=True):
                if spec.quantity == "p_mw":
                    places[devices.index(spec.agent), slot] = 1.0
            self._maps.append(places)

    def __call__(self, device_gain: npt.NDArray[np.float64]) -> list[FloatArray]:
        """Return each agent's, (N, act_dim) each.

        Args:
            device_gain: (N, n_devices).
        """
        return [(device_gain @ places).astype(np.float32) for places in self._maps]


def add_advantages(module: Any, batch: dict[str, Any]) -> None:
    """Add each action's advantage and the target of its critic to a module's batch.

    Args:
        module: An `ActorCritic` with a critic's output an action.
        batch: Its part of the train batch; rewards without discount are what is credited.
    """
    gains = batch[ACTION_GAINS]
    valid = batch.get(Columns.LOSS_MASK)
    rows = slice(None) if valid is None else valid
    target = batch[Columns.REWARDS][:, None] - gains.sum(dim=1, keepdim=True) + gains
    with torch.no_grad():
        has = module.action_mask[module.group(batch[Columns.OBS])]
        advantage = (target - module.action_values(batch)) * has
        count = has[rows].sum(dim=0).clamp(min=1.0)
        mean = advantage[rows].sum(dim=0) / count
        centred = (advantage - mean) * has
        # One measure for all: each by its own would blow up the noise of those that matter least.
        spread = (centred[rows].pow(2).sum() / count.sum()).sqrt().clamp(min=1e-6)
    batch[ACTION_TARGETS] = target
    batch[ACTION_ADVANTAGES] = centred / spread


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
    surrogate = torch.min(advantage * ratio, advantage * clipped) * has
    error = (module.action_values(batch) - batch[ACTION_TARGETS]).pow(2) * has
    loss = (config.vf_loss_coeff * error - surrogate).sum(dim=1)
    valid = batch.get(Columns.LOSS_MASK)
    return loss.mean() if valid is None else loss[valid].mean()


def _log_prob(inputs: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    mean, log_std = inputs.chunk(2, dim=-1)
    return -0.5 * ((actions - mean) / log_std.exp()) ** 2 - log_std

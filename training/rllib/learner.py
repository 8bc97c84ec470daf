"""The learner: RLlib's PPO with a normaliser, a central critic and a stop at the first NaN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

from training.errors import TrainingDiverged
from training.rllib.counterfactual import (
    ACTION_ADVANTAGES,
    ACTION_GAINS,
    action_loss,
    add_advantages,
)
from training.rllib.modules import GLOBAL_STATE

BOUND_WEIGHT = 0.1
"""Weight of the pull that keeps an actor's mean within [-1, 1], where it is clipped: beyond, it
would no longer feel a gradient."""


class GlobalState(ConnectorV2):
    """Adds the observations of all agents to each agent's batch, for a central critic.

    A user's learner connector runs after RLlib's extra step at each episode's end is added, so
    that the bootstrap value is covered.
    """

    def __init__(
        self,
        input_observation_space: Any = None,
        input_action_space: Any = None,
        *,
        agents: Sequence[str],
    ) -> None:
        super().__init__(input_observation_space, input_action_space)
        self.agents = list(agents)

    def __call__(
        self,
        *,
        rl_module: Any,
        batch: dict[str, Any],
        episodes: Sequence[Any],
        explore: bool | None = None,
        shared_data: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Concatenate and add.

        Raises:
            TrainingDiverged: Agents of one episode have not stepped together.
        """
        for episode in episodes:
            parts = [episode.agent_episodes[agent] for agent in self.agents]
            n = len(parts[0])
            if any(len(p) != n for p in parts):
                raise TrainingDiverged("agents of one episode have not stepped together")
            state = np.concatenate(
                [np.asarray(p.get_observations(slice(0, n)), dtype=np.float32) for p in parts],
                axis=-1,
            )
            for part in parts:
                self.add_n_batch_items(batch, GLOBAL_STATE, state, n, part)
        return batch


class NormalisingPPOLearner(PPOTorchLearner):
    """PPO whose modules learn their normaliser after each update.

    The statistics change only between updates, so that sampling and learning of one batch see
    the same normaliser.
    """

    def _make_batch_if_necessary(self, training_data: Any) -> Any:
        batch = super()._make_batch_if_necessary(training_data)
        for module_id, part in batch.policy_batches.items():
            if ACTION_GAINS in part:
                add_advantages(self.module[module_id].unwrapped(), part)
        self._seen = {
            module_id: (part[Columns.OBS], part.get(GLOBAL_STATE), part.get(Columns.LOSS_MASK))
            for module_id, part in batch.policy_batches.items()
        }
        return batch

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> torch.Tensor:
        """Return PPO's loss and the pull on the actor's mean.

        Raises:
            TrainingDiverged: The loss is not finite.
        """
        if ACTION_ADVANTAGES in batch:
            module = self.module[module_id].unwrapped()
            loss = action_loss(module, config, batch, fwd_out[Columns.ACTION_DIST_INPUTS])
        else:
            loss = super().compute_loss_for_module(
                module_id=module_id, config=config, batch=batch, fwd_out=fwd_out
            )
            mean, _ = fwd_out[Columns.ACTION_DIST_INPUTS].chunk(2, dim=-1)
            loss = loss + BOUND_WEIGHT * (torch.clamp(mean.abs() - 1.0, min=0.0) ** 2).mean()
        if not torch.isfinite(loss):
            raise TrainingDiverged(f"the loss of module {module_id} is {loss.item()}")
        return loss

    def postprocess_gradients_for_module(
        self, *, module_id: str, config: Any, module_gradients_dict: dict[Any, torch.Tensor]
    ) -> dict[Any, torch.Tensor]:
        """Clip the actor's gradient and the critic's each for itself.

        Under one clip a critic that is far off would leave the actor next to nothing.
        """
        critic = {
            self.get_param_ref(p) for p in self.module[module_id].unwrapped().critic.parameters()
        }
        parts: tuple[dict[Any, torch.Tensor], ...] = ({}, {})
        for ref, gradient in module_gradients_dict.items():
            parts[ref in critic][ref] = gradient
        clipped: dict[Any, torch.Tensor] = {}
        for part in parts:
            clipped |= super().postprocess_gradients_for_module(
                module_id=module_id, config=config, module_gradients_dict=part
            )
        return clipped

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Update the normalisers with the batch that was just learned from, and the noise."""
        super().after_gradient_based_update(timesteps=timesteps)
        steps = int(timesteps[NUM_ENV_STEPS_SAMPLED_LIFETIME])
        for module_id, (obs, state, mask) in self._seen.items():
            module = self.module[module_id].unwrapped()
            valid = slice(None) if mask is None else mask
            module.update_normaliser(obs[valid], None if state is None else state[valid])
            module.set_progress(steps)
        self._seen = {}

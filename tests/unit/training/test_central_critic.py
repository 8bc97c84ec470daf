"""The critic of MAPPO sees all agents; the actor, which is deployed, sees its own."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from training.options import make_options
from training.rllib.config import build_config, env_config
from training.rllib.env import RllibMicrogrids
from training.rllib.modules import GLOBAL_STATE, ActorCritic


@pytest.fixture
def module() -> ActorCritic:
    torch.manual_seed(0)
    return ActorCritic(
        observation_space=gym.spaces.Box(-np.inf, np.inf, (4,), np.float32),
        action_space=gym.spaces.Box(-1, 1, (1,), np.float32),
        model_config={
            "hiddens": [8],
            "std": 0.5,
            "std_end": None,
            "total_steps": 1000,
            "action_masks": [[1.0], [1.0]],
            "state_dim": 8,
        },
    )


def batch(of_the_other: float) -> dict[str, torch.Tensor]:
    """The first of two agents sees two numbers and its code; the other's differ."""
    own = [0.3, -0.2, 1.0, 0.0]
    other = [of_the_other, of_the_other, 0.0, 1.0]
    return {Columns.OBS: torch.tensor([own]), GLOBAL_STATE: torch.tensor([own + other])}


def test_a_central_critic_values_what_another_agent_observes(module: ActorCritic) -> None:
    one, two = (module.compute_values(batch(x)) for x in (0.1, 0.9))
    assert not torch.allclose(one, two)


def test_the_actor_beside_a_central_critic_acts_on_its_own_observation(
    module: ActorCritic,
) -> None:
    one, two = (module.forward_inference(batch(x)) for x in (0.1, 0.9))
    assert torch.equal(one[Columns.ACTION_DIST_INPUTS], two[Columns.ACTION_DIST_INPUTS])
    assert module.get_non_inference_attributes() == ["critic", "state_norm"]


@pytest.mark.parametrize(("algorithm", "central"), [("mappo", True), ("ippo", False)])
def test_a_run_with_mappo_gets_a_critic_of_all_agents(algorithm: str, central: bool) -> None:
    options = make_options({"algorithm": algorithm, "setup": "ieee34_ieee13"})
    env = RllibMicrogrids(env_config(options))
    spec = build_config(options, env).rl_module_spec
    seen = {m: s.model_config["state_dim"] for m, s in spec.rl_module_specs.items()}
    observed = sum(int(space.shape[0]) for space in env.observation_spaces.values())
    assert len(env.observation_spaces) == 3
    assert set(seen.values()) == {observed if central else 0}

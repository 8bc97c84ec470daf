from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from training.export.export import agent_network, module_actions
from training.rllib.layout import Layout
from training.rllib.modules import STD_FLOOR, ActorCritic, RunningNorm


def module(
    masks: list[list[float]] | None, obs_dim: int, act_dim: int, std_end: float | None = None
) -> ActorCritic:
    torch.manual_seed(0)
    return ActorCritic(
        observation_space=gym.spaces.Box(-np.inf, np.inf, (obs_dim,), np.float32),
        action_space=gym.spaces.Box(-1, 1, (act_dim,), np.float32),
        model_config={
            "hiddens": [8],
            "std": 0.5,
            "std_end": std_end,
            "total_steps": 1000,
            "action_masks": masks,
            "state_dim": 0,
        },
    )


def test_normaliser_gathers_the_mean_and_variance_of_all_batches() -> None:
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(50.0, 3.0, (1000, 4)), dtype=torch.float32)
    norm = RunningNorm(2, 4)
    group = torch.arange(1000) % 2
    for part in range(0, 1000, 100):
        rows = slice(part, part + 100)
        norm.update(x[rows], group[rows])
    for g in (0, 1):
        assert torch.allclose(norm.mean[g], x[group == g].mean(0), atol=1e-3)
        assert torch.allclose(norm.std[g], x[group == g].std(0, unbiased=False), atol=1e-3)


def test_feature_that_never_varies_does_not_blow_up_a_small_offset() -> None:
    norm = RunningNorm(1, 1)
    group = torch.zeros(500, dtype=torch.int64)
    norm.update(torch.ones(500, 1), group)
    moved = norm(torch.tensor([[1.0 + 1e-6]]), group[:1])
    assert moved.item() == pytest.approx(1e-6 / STD_FLOOR, rel=0.5)


def test_actions_that_an_agent_lacks_take_no_part_in_its_probability() -> None:
    net = module([[1.0, 0.0], [1.0, 1.0]], 5, 2)
    obs = torch.randn(3, 5)
    obs[:, 3:] = torch.tensor([1.0, 0.0])
    out = net.forward_exploration({Columns.OBS: obs})[Columns.ACTION_DIST_INPUTS]
    mean, log_std = out.chunk(2, dim=-1)
    assert (mean[:, 1] == 0.0).all()
    assert (log_std[:, 1] == 0.0).all()
    assert log_std[0, 0].item() == pytest.approx(np.log(0.5))


def test_exported_network_without_padding_equals_the_padded_module() -> None:
    index = {"A": np.array([0, 2]), "B": np.array([1, 2])}
    acts = {"A": np.array([0]), "B": np.array([1, 0])}
    layout = Layout(("A", "B"), 3, 2, index, acts)
    net = module([[1.0, 0.0], [1.0, 1.0]], layout.obs_dim, 2)
    rng = np.random.default_rng(0)
    padded = torch.tensor(layout.pad("B", rng.normal(3, 2, (200, 2)).astype(np.float32)))
    net.update_normaliser(padded, None)
    torch.nn.init.normal_(net.actor[-1].weight)
    for agent in ("A", "B"):
        obs = rng.normal(size=(50, 2)).astype(np.float32)
        exported = agent_network(net, agent, layout).forward(obs)
        assert exported == pytest.approx(module_actions(net, agent, layout, obs), abs=1e-6)


def test_critic_stays_out_of_what_runners_hold() -> None:
    net = module(None, 3, 2)
    assert net.get_non_inference_attributes() == ["critic"]


def test_noise_falls_linearly_with_the_steps() -> None:
    net = module(None, 3, 2, std_end=0.1)
    for steps, std in ((0, 0.5), (500, 0.3), (1000, 0.1), (5000, 0.1)):
        net.set_progress(steps)
        assert net.log_std.exp().tolist() == pytest.approx([std, std])


def test_noise_is_learned_where_no_end_is_given() -> None:
    net = module(None, 3, 2)
    assert net.log_std.requires_grad
    net.set_progress(1000)
    assert net.log_std.exp().tolist() == pytest.approx([0.5, 0.5])

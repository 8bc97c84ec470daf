from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from training.envs import make_env
from training.envs.vector_env import VectorMicrogrids
from training.envs.vector_worth import StoragePotential
from training.options import make_options
from training.rllib.action_credit import (
    ACTION_ADVANTAGES,
    ACTION_GAINS,
    ACTION_TARGETS,
    ActionGains,
    action_loss,
    add_advantages,
)
from training.rllib.env import layout_of

DAYS = [10, 180]


class Critic:
    """Two actions for agent 0, one for agent 1; its values are all zero."""

    action_mask = torch.tensor([[1.0, 1.0], [1.0, 0.0]])

    def group(self, obs: torch.Tensor) -> torch.Tensor:
        return obs[:, 0].long()

    def action_values(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.zeros(len(batch[Columns.OBS]), 2)


def test_an_action_is_not_credited_with_what_another_earns_by_itself() -> None:
    batch = {
        Columns.OBS: torch.tensor([[0.0], [0.0], [1.0], [1.0]]),
        Columns.REWARDS: torch.tensor([10.0, 12.0, 5.0, 7.0]),
        ACTION_GAINS: torch.tensor([[8.0, 0.0], [11.0, 0.0], [4.0, 0.0], [4.0, 0.0]]),
    }
    add_advantages(Critic(), batch)
    assert batch[ACTION_TARGETS].tolist() == [[10.0, 2.0], [12.0, 1.0], [5.0, 1.0], [7.0, 3.0]]
    advantage = batch[ACTION_ADVANTAGES]
    # centred action by action, divided by the spread of all six: 29 and 0.5 of squares
    half = 0.5 / (29.5 / 6) ** 0.5
    assert advantage[:2, 1].tolist() == pytest.approx([half, -half])
    assert (advantage[2:, 1] == 0.0).all()


def test_padded_rows_and_missing_actions_take_no_part_in_the_loss() -> None:
    rows = 5
    batch = {
        Columns.OBS: torch.tensor([[0.0], [0.0], [1.0], [1.0], [0.0]]),
        Columns.REWARDS: torch.tensor([1.0, 2.0, 3.0, 4.0, 1e9]),
        Columns.LOSS_MASK: torch.tensor([True, True, True, True, False]),
        Columns.ACTIONS: torch.zeros(rows, 2),
        Columns.ACTION_DIST_INPUTS: torch.zeros(rows, 4),
        ACTION_GAINS: torch.zeros(rows, 2),
    }
    add_advantages(Critic(), batch)
    inputs = torch.full((rows, 4), 0.1, requires_grad=True)
    config = SimpleNamespace(clip_param=0.2, vf_loss_coeff=0.5)
    action_loss(Critic(), config, batch, inputs).backward()
    assert inputs.grad is not None
    assert torch.isfinite(inputs.grad).all()
    assert (inputs.grad[4] == 0.0).all()
    assert (inputs.grad[2:4, 1] == 0.0).all()
    assert (inputs.grad[:2, :2] != 0.0).any()


def test_gains_and_what_all_actions_share_add_up_to_the_credit() -> None:
    env = make_env("ieee34_ieee13", {"max_episode_steps": 8})
    vector = VectorMicrogrids(env, len(DAYS), seed=0)
    vector.reset(DAYS)
    layout = layout_of(env)
    gains = ActionGains(env, layout)
    rng = np.random.default_rng(0)
    base = {
        a: rng.uniform(-0.5, 0.5, (2, env.codecs[a].act_dim)).astype(np.float32)
        for a in vector.agents
    }
    done = vector.step(base)
    parts = gains(done.device_gain_usd)
    devices = env.setup.config.device_ids
    for i, agent in enumerate(vector.agents):
        for slot, spec in zip(layout.act_index[agent], env.codecs[agent].setpoints, strict=True):
            at = devices.index(spec.agent)
            expected = done.device_gain_usd[:, at] if spec.quantity == "p_mw" else np.zeros(2)
            assert parts[i][:, slot] == pytest.approx(expected, rel=1e-5)
    total = done.credit + done.cost_usd[:, None] + env.penalty * done.safety[:, None]
    # What is left is what the other microgrids pay.
    assert total.shape == (2, 3)
    assert total.sum(axis=1) == pytest.approx(
        2.0 * (done.cost_usd - feeder_cost(env, vector, done)), abs=1e-6
    )


def feeder_cost(env: object, vector: VectorMicrogrids, done: object) -> np.ndarray:
    m = vector.measurements
    return m.price_usd_per_mwh * m.meter_p_mw.sum(axis=1) * 0.25


def test_the_potential_adds_up_to_a_constant_over_a_day() -> None:
    env = make_env("ieee34_ieee13", {})
    vector = VectorMicrogrids(env, len(DAYS), seed=0)
    potential = StoragePotential(env.setup)
    rng = np.random.default_rng(0)
    sums = []
    for _ in range(2):
        vector.reset(DAYS)
        total = np.zeros((2, len(env.setup.config.device_ids)))
        over = False
        while not over:
            before = potential(vector.measurements)
            actions = {
                a: rng.uniform(-1.0, 1.0, (2, env.codecs[a].act_dim)).astype(np.float32)
                for a in vector.agents
            }
            over = vector.step(actions).truncated
            total += potential(vector.measurements, day_is_over=over) - before
        sums.append(total)
    assert sums[0] == pytest.approx(sums[1], abs=1e-6)
    assert (sums[0] <= 0.0).all()
    assert sums[0].min() < -20.0


def test_actions_are_credited_only_where_nothing_is_put_off() -> None:
    wanted = {"action_credit": True}
    assert make_options(wanted).credits_actions
    assert not make_options({}).credits_actions
    assert not make_options({**wanted, "gamma": 0.9}).credits_actions
    assert not make_options({**wanted, "batched": False}).credits_actions
    assert not make_options({**wanted, "storage_shaping": False}).credits_actions
    assert make_options({"batched": False}).discount == 0.99

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from training.envs import MultiAgentMicrogrids, make_env
from training.envs.vector_env import VectorMicrogrids
from training.options import SAMPLED_DEFAULTS, make_options
from training.rllib.counterfactual import (
    ACTION_ADVANTAGES,
    ACTION_GAINS,
    Trials,
    action_loss,
    add_advantages,
)
from training.rllib.env import layout_of

DAYS = [10, 180]


class Actor:
    """Two actions for agent 0, one for agent 1."""

    action_mask = torch.tensor([[1.0, 1.0], [1.0, 0.0]])

    def group(self, obs: torch.Tensor) -> torch.Tensor:
        return obs[:, 0].long()


def batch_of(gains: list[list[float]], mean: float = 0.0) -> dict[str, torch.Tensor]:
    rows = len(gains)
    return {
        Columns.OBS: torch.tensor([[0.0], [0.0], [1.0], [1.0]])[:rows],
        Columns.ACTIONS: torch.full((rows, 2), mean + 0.1),
        Columns.ACTION_DIST_INPUTS: torch.tensor([[mean, mean, -2.0, -2.0]] * rows),
        ACTION_GAINS: torch.tensor(gains),
    }


@pytest.fixture(scope="module")
def env() -> MultiAgentMicrogrids:
    return make_env("ieee34_ieee13", {"max_episode_steps": 8})


def some_actions(
    env: MultiAgentMicrogrids, rng: np.random.Generator, n: int
) -> dict[str, np.ndarray]:
    return {
        a: rng.uniform(-0.5, 0.5, (n, codec.act_dim)).astype(np.float32)
        for a, codec in env.codecs.items()
    }


def test_looking_ahead_says_what_the_step_then_costs_and_takes_none(
    env: MultiAgentMicrogrids,
) -> None:
    vector = VectorMicrogrids(env, len(DAYS), seed=0)
    vector.reset(DAYS)
    rng = np.random.default_rng(0)
    vector.step(some_actions(env, rng, 2))
    actions, others = some_actions(env, rng, 2), some_actions(env, rng, 2)
    before = vector.measurements
    rows = np.array([1, 0, 1])
    vector.look_ahead(rows, {a: x[rows] for a, x in others.items()})
    seen = vector.look_ahead(rows, {a: x[rows] for a, x in actions.items()})
    assert vector.measurements is before
    done = vector.step(actions)
    objective = done.cost_usd + env.penalty * done.safety
    assert seen.objective_usd == pytest.approx(objective[rows], abs=1e-9)
    assert seen.after.soc == pytest.approx(vector.measurements.soc[rows], abs=1e-12, nan_ok=True)


def test_a_gain_is_half_the_difference_that_one_action_makes(env: MultiAgentMicrogrids) -> None:
    vector = VectorMicrogrids(env, len(DAYS), seed=0)
    vector.reset(DAYS)
    layout = layout_of(env)
    rng = np.random.default_rng(1)
    shape = (2, layout.n_actions)
    means = [rng.uniform(-0.5, 0.5, shape).astype(np.float32) for _ in vector.agents]
    drawn = [m + rng.normal(0.0, 0.1, shape).astype(np.float32) for m in means]
    gains = Trials(env, layout)(vector, means, drawn, None, day_is_over=False)
    rows = np.arange(2)

    def outcome(i: int, slot: int, sign: float) -> np.ndarray:
        moved = [m.copy() for m in means]
        moved[i][:, slot] += sign * (drawn[i] - means[i])[:, slot]
        own = {a: layout.unpad(a, m) for a, m in zip(vector.agents, moved, strict=True)}
        return vector.look_ahead(rows, own).objective_usd

    for i, slot in ((0, 0), (1, int(layout.act_index["MG2"][1])), (2, 3)):
        expected = 0.5 * (outcome(i, slot, -1.0) - outcome(i, slot, 1.0))
        assert gains[i][:, slot] == pytest.approx(expected, abs=1e-5)
        assert (expected != 0.0).all()
    lacking = np.flatnonzero(layout.action_masks[1] == 0.0)
    assert (gains[1][:, lacking] == 0.0).all()


def test_small_gains_are_heard_beside_large_ones_and_keep_their_sign() -> None:
    batch = batch_of([[4.0, 0.04], [-4.0, -0.04], [1.0, 0.0], [-1.0, 0.0]])
    add_advantages(Actor(), batch)
    advantage = batch[ACTION_ADVANTAGES]
    assert (advantage[2:, 1] == 0.0).all()
    large, small = advantage[0].tolist()
    assert large / small == pytest.approx(10.0)  # a hundred to one before
    assert advantage[1].tolist() == pytest.approx([-large, -small])


def test_a_mean_out_of_range_is_not_pushed_farther_out() -> None:
    batch = batch_of([[1.0, -1.0]], mean=1.2)
    add_advantages(Actor(), batch)
    outward, inward = batch[ACTION_ADVANTAGES][0].tolist()
    assert outward == 0.0
    assert inward < 0.0


def test_padded_rows_and_missing_actions_take_no_part_in_the_loss() -> None:
    batch = batch_of([[1.0, 2.0], [3.0, 1.0], [2.0, 0.0], [1e9, 0.0]])
    batch[Columns.LOSS_MASK] = torch.tensor([True, True, True, False])
    add_advantages(Actor(), batch)
    inputs = batch[Columns.ACTION_DIST_INPUTS].clone().requires_grad_()
    action_loss(Actor(), SimpleNamespace(clip_param=0.2), batch, inputs).backward()
    gradient = inputs.grad
    assert gradient is not None
    assert torch.isfinite(gradient).all()
    assert (gradient[3] == 0.0).all()
    assert gradient[2, 1] == 0.0
    assert (gradient[:2, :2] < 0.0).all()  # what was drawn above the mean and was good


def test_actions_are_tried_only_where_nothing_is_put_off() -> None:
    assert make_options({}).tries_actions
    for other in (
        {"counterfactual": False},
        {"gamma": 0.9},
        {"batched": False},
        {"storage_shaping": False},
        {"protocol": "price"},
    ):
        options = make_options(other)
        assert not options.tries_actions
        assert options.lr == SAMPLED_DEFAULTS["lr"]
    assert make_options({"batched": False}).discount == 0.99

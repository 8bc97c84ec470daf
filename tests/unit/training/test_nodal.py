from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from heron.policy.baselines import IdlePolicy
from training.envs import MultiAgentMicrogrids, make_env
from training.envs.nodal import deliveries
from training.envs.vector_env import VectorMicrogrids
from training.envs.vector_worth import StoragePotential

DAYS = [10, 180]


def idle(env: MultiAgentMicrogrids, obs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        a: np.repeat(IdlePolicy(codec).act([])[None, :], len(obs[a]), axis=0)
        for a, codec in env.codecs.items()
    }


def test_far_stores_save_more_than_they_give_and_less_the_more_they_give() -> None:
    env = make_env("ieee34_ieee13", {})
    found = deliveries(env, lambda obs: idle(env, obs))
    train, test = env.setup.profiles.train_days, env.setup.profiles.test_days
    assert set(found) == {"ess1", "ess3"}
    for delivery in found.values():
        assert delivery.share.shape == (env.setup.profiles.n_days, 96)
        assert 1.0 < delivery.share[train].mean() < 1.2
        assert 0.0 < delivery.loss_per_mw[train].mean() < 0.3
        assert (delivery.share[test] == 1.0).all()
        # at the evening peak a MWh saves more than when the sun is highest in summer
        summer = train[(train > 150) & (train < 240)]
        by_step = delivery.share[summer].mean(axis=0)
        assert by_step[76] > by_step[52] + 0.05


def test_episodes_that_are_no_whole_days_have_no_deliveries() -> None:
    env = make_env("ieee34_ieee13", {"max_episode_steps": 8})
    assert deliveries(env, lambda obs: idle(env, obs)) == {}


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

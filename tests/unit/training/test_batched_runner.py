from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.options import make_options
from training.rllib.config import build_config, env_config
from training.rllib.env import RllibMicrogrids

pytestmark = pytest.mark.usefixtures("ray_session")

N, LENGTH, EXTRA = 3, 6, 4


@pytest.fixture(scope="module")
def sampled(ray_session: None) -> Iterator[tuple[Any, RllibMicrogrids, np.ndarray]]:
    """Episodes of one call that covers a whole episode and the start of the next."""
    options = make_options(
        {
            "batched": True,
            "idle_baseline": False,
            "local_credit": False,
            "storage_shaping": False,
            "num_envs_per_worker": N,
            "hidden": (8,),
            "std": 0.5,
            "checkpoint_dir": Path("unused"),
        }
    )
    inner = env_config(options)
    inner["overrides"] = {**inner["overrides"], "max_episode_steps": LENGTH}
    env = RllibMicrogrids(inner)
    algo = build_config(options, env).environment(env_config=inner).build_algo()
    runner = algo.env_runner_group.local_env_runner
    runner._started()
    first_days = runner._vector.days.copy()
    yield runner.sample(num_timesteps=N * (LENGTH + EXTRA)), env, first_days
    algo.stop()


def test_fragments_are_cut_at_resets_and_carry_how_they_ended(sampled: Any) -> None:
    episodes, _, _ = sampled
    assert [len(e) for e in episodes] == [LENGTH] * N + [EXTRA] * N
    assert [e.is_truncated for e in episodes] == [True] * N + [False] * N
    assert not any(e.is_terminated for e in episodes)
    assert len({e.id_ for e in episodes}) == 2 * N


def test_single_environment_replays_an_episode_to_the_same_figures(sampled: Any) -> None:
    episodes, env, days = sampled
    for episode, day in zip(episodes[:N], days, strict=True):
        obs, _ = env.reset(options={"day": int(day)})
        parts = episode.agent_episodes
        for t in range(LENGTH):
            for agent, part in parts.items():
                assert part.get_observations(t) == pytest.approx(obs[agent], abs=2e-6)
            actions = {a: np.clip(p.get_actions(t), -1.0, 1.0) for a, p in parts.items()}
            obs, rewards, _, truncated, _ = env.step(actions)
            for agent, part in parts.items():
                assert part.get_rewards(t) == pytest.approx(rewards[agent], abs=1e-5)
        assert truncated["__all__"]
        for agent, part in parts.items():
            assert part.get_observations(-1) == pytest.approx(obs[agent], abs=2e-6)


def test_log_probabilities_belong_to_the_actions(sampled: Any) -> None:
    from scipy.stats import norm

    episodes, env, _ = sampled
    part = episodes[0].agent_episodes["MG2"]
    inputs = part.get_extra_model_outputs("action_dist_inputs", slice(0, LENGTH))
    mean, log_std = np.split(inputs, 2, axis=-1)
    actions = np.asarray(part.get_actions(slice(0, LENGTH)))
    expected = norm.logpdf(actions, mean, np.exp(log_std)).sum(axis=-1)
    got = part.get_extra_model_outputs("action_logp", slice(0, LENGTH))
    assert got == pytest.approx(expected, abs=1e-4)
    lacking = np.flatnonzero(env.layout.action_masks[1] == 0.0)
    assert (mean[:, lacking] == 0.0).all()
    assert (log_std[:, lacking] == 0.0).all()

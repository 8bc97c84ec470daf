from __future__ import annotations

import numpy as np
import pytest

from training.envs import make_env
from training.envs.step_return import DIVERGED_PENALTY
from training.envs.vector_env import VectorMicrogrids

DAYS = [10, 100, 180, 255]


@pytest.mark.parametrize(
    ("share_reward", "forecast"), [(True, True), (False, False), (False, "typical")]
)
def test_vector_environment_equals_single_environments(
    share_reward: bool, forecast: bool | str
) -> None:
    overrides = {"max_episode_steps": 40, "share_reward": share_reward, "forecast": forecast}
    env = make_env("ieee34_ieee13", overrides)
    vector = VectorMicrogrids(env, len(DAYS), seed=0)
    obs = vector.reset(DAYS)
    rng = np.random.default_rng(1)
    singles = [make_env("ieee34_ieee13", overrides) for _ in DAYS]
    own_obs = [e.reset(options={"day": d})[0] for e, d in zip(singles, DAYS, strict=True)]
    for step in range(40):
        actions = {
            a: rng.uniform(-1.1, 1.1, (len(DAYS), env.codecs[a].act_dim)).astype(np.float32)
            for a in vector.agents
        }
        actions = {a: np.clip(u, -1.0, 1.0) for a, u in actions.items()}
        for i in range(len(DAYS)):
            for a in vector.agents:
                assert obs[a][i] == pytest.approx(own_obs[i][a], abs=2e-6), (step, a)
        done = vector.step(actions)
        obs = done.obs
        for i, single in enumerate(singles):
            own = {a: u[i] for a, u in actions.items()}
            own_obs[i], rewards, _, truncated, infos = single.step(own)
            assert done.rewards[i] == pytest.approx([rewards[a] for a in vector.agents], abs=1e-7)
            assert done.cost_usd[i] == pytest.approx(infos["MG1"]["total_cost_usd"], abs=1e-7)
            assert done.safety[i] == pytest.approx(infos["MG1"]["total_safety"], abs=1e-9)
            assert truncated["MG1"] == done.truncated
    assert done.truncated


def test_charge_that_is_carried_over_midnight_is_valued_the_same_in_both() -> None:
    overrides = {"max_episode_steps": 98}
    env = make_env("ieee34_ieee13", overrides)
    vector = VectorMicrogrids(env, 2, seed=0)
    vector.reset([10, 100])
    single = make_env("ieee34_ieee13", overrides)
    single.reset(options={"day": 100})
    charge = {a: np.full((2, c.act_dim), -0.2, np.float32) for a, c in env.codecs.items()}
    for _ in range(98):
        done = vector.step(charge)
        *_, infos = single.step({a: u[1] for a, u in charge.items()})
        assert done.cost_usd[1] == pytest.approx(infos["MG1"]["total_cost_usd"], abs=1e-7)


def test_same_seed_draws_the_same_days() -> None:
    env = make_env("ieee34_ieee13", {})
    one, two = (VectorMicrogrids(env, 3, seed=5).reset() for _ in range(2))
    assert all(np.array_equal(one[a], two[a]) for a in one)


def test_scenario_that_fails_is_over_and_leaves_the_others_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from dataclasses import replace

    env = make_env("ieee34_ieee13", {})
    vector = VectorMicrogrids(env, 3, seed=0)
    vector.reset(DAYS[:3])
    idle = {a: np.zeros((3, env.codecs[a].act_dim), np.float32) for a in vector.agents}
    solve = vector._plant.step

    def fail_second(*args: object) -> object:
        measured = solve(*args)  # type: ignore[arg-type]
        solved = np.array([True, False, True])
        meter = measured.meter_p_mw.copy()
        meter[1] = np.nan
        return replace(measured, solved=solved, meter_p_mw=meter)

    monkeypatch.setattr(vector._plant, "step", fail_second)
    first = vector.step(idle)
    assert first.terminated.tolist() == [False, True, False]
    assert first.rewards[1].tolist() == [-DIVERGED_PENALTY] * 3
    assert all(np.isfinite(o).all() for o in first.obs.values())
    second = vector.step(idle)
    assert second.alive.tolist() == [True, False, True]
    assert not second.terminated.any()

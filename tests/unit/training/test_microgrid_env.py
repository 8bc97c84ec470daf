from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test, parallel_seed_test

from heron.errors import ConfigError, PowerFlowDiverged
from heron.powergrid.quantities import Measurements, Setpoint
from heron.powergrid.setups import load_setup
from training.envs import MultiAgentMicrogrids, NetworkedGridEnv
from training.envs.step_return import DIVERGED_PENALTY

DAY_S = 86_400.0


def make(**overrides: Any) -> MultiAgentMicrogrids:
    config = load_setup("ieee34_ieee13")
    config.update({"max_episode_steps": 6, **overrides})
    return MultiAgentMicrogrids(config)


@pytest.fixture(scope="module")
def env() -> MultiAgentMicrogrids:
    return make()


def actions_of(env: NetworkedGridEnv, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        a: rng.uniform(-1, 1, env.codecs[a].act_dim).astype(np.float32) for a in env.possible_agents
    }


def episode(env: NetworkedGridEnv, seed: int, action_seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(action_seed)
    obs, _ = env.reset(seed=seed)
    seen: list[Any] = [obs]
    while env.agents:
        seen.append(env.step(actions_of(env, rng)))
    return seen


def test_environment_passes_pettingzoos_api_test(env: MultiAgentMicrogrids) -> None:
    parallel_api_test(env, num_cycles=30)


def test_environment_passes_pettingzoos_seed_test() -> None:
    parallel_seed_test(make)


def test_same_seed_gives_the_same_episode(env: MultiAgentMicrogrids) -> None:
    one, two = episode(env, 7), episode(env, 7)
    for (o1, r1, *_), (o2, r2, *_) in zip(one[1:], two[1:], strict=True):
        assert r1 == r2
        assert all(np.array_equal(o1[a], o2[a]) for a in o1)


@pytest.mark.parametrize("event_driven", [False, True])
def test_infos_name_the_day_on_which_an_episode_starts_however_it_was_asked_for(
    event_driven: bool,
) -> None:
    env = make(event_driven=event_driven)
    for options, day in (({"start_s": 50 * DAY_S + 3600.0}, 50), ({"day": 7}, 7), ({}, None)):
        _, infos = env.reset(seed=5, options=options)
        started = int(env.measurements.time_s // DAY_S)
        assert {info["day"] for info in infos.values()} == {started if day is None else day}
        assert started == (started if day is None else day)
    _, infos = env.reset(seed=5, options={"start_s": (366 + 3) * DAY_S})
    assert infos["MG1"]["day"] == 3  # the data repeat after their 366 days


@pytest.mark.parametrize(
    "options",
    [{"start_s": s} for s in ("noon", float("nan"), float("inf"), -900.0)]
    + [{"start_s": 0.0, "day": 3}],
)
def test_a_start_that_is_no_time_or_stands_beside_a_day_is_refused(
    env: MultiAgentMicrogrids, options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=r"options\.start_s = .*at least 0, and no day"):
        env.reset(options=options)


def test_another_seed_starts_on_another_day(env: MultiAgentMicrogrids) -> None:
    days = {env.reset(seed=seed)[1]["MG1"]["day"] for seed in range(8)}
    assert len(days) > 4


def test_episodes_start_at_midnight_of_a_day_of_the_split() -> None:
    for train in (True, False):
        env = make(train=train)
        split = env.setup.profiles.train_days if train else env.setup.profiles.test_days
        for seed in range(5):
            day = env.reset(seed=seed)[1]["MG1"]["day"]
            assert day in split
            assert env.measurements.time_s == day * DAY_S


def test_option_chooses_the_day(env: MultiAgentMicrogrids) -> None:
    env.reset(options={"day": 200})
    assert env.measurements.time_s == 200 * DAY_S
    with pytest.raises(ConfigError, match="0 to 365"):
        env.reset(options={"day": 366})


def test_time_moves_on_and_the_episode_is_truncated_never_terminated(
    env: MultiAgentMicrogrids,
) -> None:
    steps = episode(env, 1)[1:]
    assert len(steps) == 6
    for k, (_, _, terminated, truncated, _) in enumerate(steps):
        assert not any(terminated.values())
        assert set(truncated.values()) == {k == 5}
        assert set(terminated) == set(env.possible_agents)
    start = env.measurements.time_s - 6 * 900
    assert start % DAY_S == 0.0


def test_reward_is_minus_cost_minus_penalty_times_safety(env: MultiAgentMicrogrids) -> None:
    for share in (True, False):
        env.share_reward = share
        for _, rewards, _, _, infos in episode(env, 3)[1:]:
            accounts = {a: i["total_reward"] for a, i in infos.items()}
            total = accounts["MG1"]
            info = infos["MG1"]
            assert total == pytest.approx(
                -info["total_cost_usd"] - env.penalty * info["total_safety"]
            )
            if share:
                assert rewards == {a: pytest.approx(total / 3) for a in rewards}
    env.share_reward = True


def test_environments_reward_is_the_accounts_reward() -> None:
    for share in (True, False):
        env = make(share_reward=share)
        rng = np.random.default_rng(0)
        env.reset(seed=2)
        while env.agents:
            _, rewards, *_ = env.step(actions_of(env, rng))
            assert env.accounts is not None
            for agent, reward in rewards.items():
                assert reward == pytest.approx(env.accounts.agents[agent].reward, abs=1e-9)


def test_a_users_reward_hook_is_used() -> None:
    class Bonus(MultiAgentMicrogrids):
        def _reward_and_safety(self) -> tuple[dict[str, float], dict[str, float]]:
            rewards, safety = super()._reward_and_safety()
            rewards["MG1"] += 100.0
            return rewards, safety

    config = load_setup("ieee34_ieee13")
    config.update({"share_reward": False, "max_episode_steps": 1})
    plain, changed = MultiAgentMicrogrids(config), Bonus(config)
    a, b = episode(plain, 1)[1][1], episode(changed, 1)[1][1]
    assert b["MG1"] - a["MG1"] == pytest.approx(100.0)
    assert b["MG2"] == a["MG2"]


def test_failed_power_flow_ends_the_episode_with_its_penalty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env = make()
    env.reset(seed=0)

    def fail(setpoints: Mapping[str, Setpoint], dt_s: float) -> Measurements:
        raise PowerFlowDiverged("no solution", step=1)

    monkeypatch.setattr(env.net, "step", fail)
    obs, rewards, terminated, truncated, infos = env.step(actions_of(env, np.random.default_rng(0)))
    assert set(rewards.values()) == {-DIVERGED_PENALTY}
    assert all(terminated.values())
    assert not any(truncated.values())
    assert "no solution" in infos["MG1"]["power_flow_diverged"]
    assert env.agents == []
    assert all(np.isfinite(o).all() for o in obs.values())
    monkeypatch.undo()
    assert env.reset(seed=0)[0].keys() == obs.keys()
    assert env.agents == env.possible_agents


def test_wrong_actions_are_refused_all_at_once(env: MultiAgentMicrogrids) -> None:
    env.reset(seed=0)
    actions = actions_of(env, np.random.default_rng(0))
    actions["MG9"] = actions.pop("MG2")
    actions["MG3"] = np.zeros(99, np.float32)
    with pytest.raises(ConfigError) as caught:
        env.step(actions)
    assert {p.where for p in caught.value.problems} == {
        "actions",
        "actions[MG3]",
    }
    assert len(caught.value.problems) == 3


def test_unknown_key_of_the_setup_is_refused() -> None:
    with pytest.raises(ConfigError, match="pennalty"):
        make(pennalty=3.0)


def test_visibility_narrows_the_observation() -> None:
    sizes = [
        make(visibility_level=level).codecs["MG1"].obs_dim
        for level in ("public", "owner", "upper_level")
    ]
    assert sizes == sorted(set(sizes))


def test_own_cost_only_rewards_differ_between_agents() -> None:
    env = make(share_reward=False)
    rewards = episode(env, 1)[1][1]
    assert len(set(rewards.values())) == 3

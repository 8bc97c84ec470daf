from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from heron.errors import ConfigError
from heron.powergrid.baselines import Baselines
from heron.powergrid.networks import compose
from training.cli.train import options_from
from training.envs import MultiAgentMicrogrids, make_env
from training.envs.disturb import Disturber
from training.envs.other_worlds import OtherWorlds, scattered_lines
from training.envs.robustness import (
    ROBUSTNESS,
    Robustness,
    parse_robustness,
    robustness_of,
    words_of,
)
from training.envs.vector_env import VectorMicrogrids
from training.gap.disturbed import disturbed

STEP_S = 900.0
N = 4


@pytest.fixture(scope="module")
def env() -> MultiAgentMicrogrids:
    return make_env("ieee34_ieee13", {"max_episode_steps": 6})


def disturber(env: MultiAgentMicrogrids, **draws: Any) -> Disturber:
    return Disturber(Robustness(**draws), env.codecs, N, STEP_S, seed=1)


def flat(env: MultiAgentMicrogrids, value: float) -> dict[str, np.ndarray]:
    return {a: np.full((N, c.obs_dim), value, np.float32) for a, c in env.codecs.items()}


def test_nothing_drawn_changes_nothing(env: MultiAgentMicrogrids) -> None:
    policies = Baselines(env.setup, env.codecs).policies("droop")
    rewards = []
    for robustness in (None, Robustness()):
        vector = VectorMicrogrids(env, 2, 0, robustness)
        obs = vector.reset([10, 200])
        for _ in range(6):
            step = vector.step({a: p.act(obs[a]) for a, p in policies.items()})
            obs = step.obs
            rewards.append(step.rewards)
    assert np.array_equal(np.array(rewards[:6]), np.array(rewards[6:]))


def test_a_measurement_half_a_step_late_lies_between_two(env: MultiAgentMicrogrids) -> None:
    late = disturber(env, obs_delay_s=(450.0, 450.0))
    late.reset(flat(env, 1.0))
    shown = late.show(flat(env, 2.0))["MG1"]
    fields = env.codecs["MG1"].fields
    timed = np.array([f.feature in ("MarketSignal", "TimeOfDay") for f in fields])
    assert shown[:, ~timed] == pytest.approx(1.5)
    assert shown[:, timed] == pytest.approx(1.0)


def test_a_measurement_two_steps_late_is_that_of_two_steps_ago(env: MultiAgentMicrogrids) -> None:
    late = disturber(env, obs_delay_s=(1800.0, 1800.0))
    late.reset(flat(env, 1.0))
    for value in (2.0, 3.0, 4.0):
        shown = late.show(flat(env, value))
    assert shown["MG2"] == pytest.approx(2.0)


def test_what_is_lost_leaves_the_last_that_arrived(env: MultiAgentMicrogrids) -> None:
    lossy = disturber(env, dropout=(0.5, 0.5))
    lossy.reset(flat(env, 1.0))
    shown = np.concatenate([lossy.show(flat(env, 2.0))[a][:, 0] for a in env.codecs])
    assert set(shown.tolist()) == {1.0, 2.0}


def test_a_late_command_leaves_the_one_before_in_force(env: MultiAgentMicrogrids) -> None:
    late = disturber(env, act_delay_s=(300.0, 300.0))
    late.reset(flat(env, 1.0))
    owner = np.array([0, 0, 1])
    before, now = np.zeros((N, 3)), np.full((N, 3), 0.9)
    late.carry(before, before, owner)
    p_mw, q_mvar = late.carry(now, -now, owner)
    assert p_mw == pytest.approx(0.6)
    assert q_mvar == pytest.approx(-0.6)


def test_a_lost_command_holds_for_all_devices_of_its_coordinator(
    env: MultiAgentMicrogrids,
) -> None:
    lossy = disturber(env, dropout=(0.5, 0.5))
    lossy.reset(flat(env, 1.0))
    owner = np.array([0, 0, 1])
    lossy.carry(np.zeros((N, 3)), np.zeros((N, 3)), owner)
    p_mw, _ = lossy.carry(np.ones((N, 3)), np.ones((N, 3)), owner)
    assert np.array_equal(p_mw[:, 0], p_mw[:, 1])
    assert set(p_mw.ravel().tolist()) == {0.0, 1.0}


def test_a_sensor_errs_alike_for_an_episode_and_only_where_it_measures(
    env: MultiAgentMicrogrids,
) -> None:
    wrong = disturber(env, sensor_bias_pu=0.01)
    first = wrong.reset(flat(env, 1.0))["MG1"]
    assert np.array_equal(first, wrong.show(flat(env, 1.0))["MG1"])
    codec = env.codecs["MG1"]
    low, high = (codec.index("MG1", "BusVoltages", n) for n in ("v_min", "v_max"))
    assert np.array_equal(first[:, low], first[:, high])
    assert (first[:, low] != 1.0).all()
    assert (first[:, codec.index("MG1", "MarketSignal", "price")] == 1.0).all()
    assert not np.array_equal(first, wrong.reset(flat(env, 1.0))["MG1"])


def test_lines_keep_their_shape_and_differ_from_each_other(env: MultiAgentMicrogrids) -> None:
    grid = compose(env.setup.config)
    other = scattered_lines(grid, 0.2, np.random.default_rng(0))
    factors = []
    for new, old in zip(other.lines, grid.lines, strict=True):
        if not np.max(old.x_ohm):
            continue
        factors.append(np.max(new.x_ohm) / np.max(old.x_ohm))
        for name in ("r_ohm", "x_ohm"):
            expected = factors[-1] * np.array(getattr(old, name))
            assert np.array(getattr(new, name)) == pytest.approx(expected)
    assert np.std(np.log(factors)) == pytest.approx(0.2, rel=0.4)


def test_loads_differ_between_scenarios_and_episodes_but_prices_do_not(
    env: MultiAgentMicrogrids,
) -> None:
    worlds = OtherWorlds(env.setup, 3, Robustness(profile_spread=0.2), seed=0)
    seen = []
    for _ in range(2):
        plant = worlds.next()
        plant.reset(np.full(3, 40 * 86_400.0))
        rest = np.zeros((3, 7))
        seen.append(plant.step(rest, rest, STEP_S))
    loads = np.stack([m.areas.load_mw.sum(axis=1) for m in seen])
    assert len(np.unique(loads.round(9))) == 6
    assert len(np.unique(np.stack([m.price_usd_per_mwh for m in seen]))) == 1


def test_study_of_disturbances_covers_the_policy_and_doing_nothing(
    env: MultiAgentMicrogrids,
) -> None:
    makers = Baselines(env.setup, env.codecs)
    cases = {"nothing": Robustness(), "late": Robustness(obs_delay_s=(900.0, 900.0))}
    droop, idle = makers.policies("droop"), makers.policies("none")
    rows = list(disturbed(env, droop, idle, [10, 200], disturbances=cases))
    assert [row.name for row in rows] == ["nothing", "late"]
    assert rows[0].idle_usd == pytest.approx(rows[1].idle_usd)
    assert rows[0].objective_usd != rows[1].objective_usd


def test_words_of_a_command_line_and_back() -> None:
    words = ["field", "dropout=0.3", "obs_delay_s=60:1200", "networks=2"]
    chosen = robustness_of(parse_robustness(words))
    assert chosen is not None
    assert chosen.dropout == (0.0, 0.3)
    assert chosen.obs_delay_s == (60.0, 1200.0)
    assert chosen.line_spread == ROBUSTNESS["field"].line_spread
    assert robustness_of(parse_robustness(words_of(chosen))) == chosen
    assert words_of(ROBUSTNESS["scada"]) == ["scada"]


@pytest.mark.parametrize(
    "words", [["nowhere"], ["dropout"], ["dropout=much"], ["dropout=0.99"], ["act_delay_s=9:1"]]
)
def test_bad_words_are_refused(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="robust"):
        robustness_of(parse_robustness(words))


def test_training_options_take_it_and_say_that_it_needs_batches() -> None:
    options, _ = options_from(["--robust", "scada"])
    assert options.robust == ROBUSTNESS["scada"]
    assert options.command_line() == "heron train --robust scada"
    with pytest.raises(ConfigError, match="--no-batched"):
        options_from(["--robust", "scada", "--no-batched"])

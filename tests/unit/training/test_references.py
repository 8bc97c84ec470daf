from __future__ import annotations

import numpy as np
import pytest

from heron.errors import ConfigError
from training.envs import MultiAgentMicrogrids, make_env
from training.evaluation.comparison import Comparison
from training.evaluation.episodes import run_day
from training.evaluation.references import run_optimum, scores
from training.evaluation.sources import policies_named

DAY = 199


@pytest.fixture(scope="module")
def env() -> MultiAgentMicrogrids:
    return make_env("ieee34_ieee13", {"max_episode_steps": 12})


def test_optimum_costs_less_than_nothing_and_the_rule_and_keeps_above_its_bound(
    env: MultiAgentMicrogrids,
) -> None:
    best, bound = run_optimum(env, DAY)
    figures = {name: [run_day(env, policies_named(name, env), DAY)] for name in ("none", "rule")}
    figures["optimum"] = [best]
    score = scores(Comparison((DAY,), figures).summary())
    assert score["none"] == 0.0
    assert score["optimum"] == 1.0
    assert score["rule"] < 1.0
    assert bound < best.objective_usd


def test_plan_that_does_not_fit_the_control_step_is_refused(env: MultiAgentMicrogrids) -> None:
    for step_s in (600.0, 1000.0, 0.0, 4500.0):
        with pytest.raises(ConfigError, match="multiple of 900 s"):
            run_optimum(env, DAY, step_s)


def test_no_score_without_an_optimum(env: MultiAgentMicrogrids) -> None:
    days = [run_day(env, policies_named("none", env), DAY)]
    assert scores(Comparison((DAY,), {"none": days}).summary()) == {}


def test_shield_leaves_a_policy_alone_where_voltages_are_fine(env: MultiAgentMicrogrids) -> None:
    plain, shielded = policies_named("none", env), policies_named("shield:none", env)
    for agent, codec in env.codecs.items():
        nominal = {"v_pu", "v_min", "v_max"}
        obs = np.array([1.0 if f.field in nominal else 0.0 for f in codec.fields], np.float32)
        assert shielded[agent].act(obs) == pytest.approx(plain[agent].act(obs))


def test_mpc_runs_in_the_environment(env: MultiAgentMicrogrids) -> None:
    day = run_day(env, policies_named("mpc", env), DAY)
    nothing = run_day(env, policies_named("none", env), DAY)
    assert day.cost_usd < nothing.cost_usd

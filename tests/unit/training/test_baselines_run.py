"""Every baseline in the environment and in event-driven time, under one interface."""

from __future__ import annotations

import pytest

from heron.errors import ConfigError
from heron.powergrid.baselines import BASELINES, Baselines, is_baseline
from heron.powergrid.setups import Setup, as_setup, load_setup
from training.envs import MultiAgentMicrogrids
from training.envs.timing import PRESETS
from training.evaluation.episodes import run_day
from training.evaluation.sources import policies_named
from training.gap.runs import run_days_timed

DAY = 17
"""A test day whose optimum ships."""


@pytest.fixture(scope="module")
def setup() -> Setup:
    return as_setup(load_setup("ieee34_ieee13"))


@pytest.fixture(scope="module")
def short() -> Setup:
    return as_setup(load_setup("ieee34_ieee13") | {"max_episode_steps": 8})


@pytest.mark.parametrize("name", [n for n in BASELINES if n != "optimum"])
def test_baseline_runs_in_the_environment_and_again_gives_the_same(short: Setup, name: str) -> None:
    env = MultiAgentMicrogrids(short)
    first, again = (run_day(env, policies_named(name, env), DAY) for _ in range(2))
    assert not first.diverged
    assert first == again


@pytest.mark.parametrize("name", ["voltvar", "droop", "qp", "mpc", "mpc-network", "shield:qp"])
def test_baseline_where_nothing_is_late_is_the_synchronous_step(short: Setup, name: str) -> None:
    policies = policies_named(name, MultiAgentMicrogrids(short))
    synchronous = run_days_timed(short, policies, [DAY], None)
    policies = policies_named(name, MultiAgentMicrogrids(short))
    timed = run_days_timed(short, policies, [DAY], PRESETS["training"])
    assert timed.cost_usd == synchronous.cost_usd
    assert timed.safety == synchronous.safety


@pytest.mark.parametrize("name", ["voltvar", "droop", "qp", "mpc-network"])
def test_baseline_runs_under_the_delays_of_scada(short: Setup, name: str) -> None:
    policies = policies_named(name, MultiAgentMicrogrids(short))
    timed = run_days_timed(short, policies, [DAY], PRESETS["scada"])
    assert timed.events > 0


def test_optimum_is_carried_out_in_both_clocks(setup: Setup) -> None:
    env = MultiAgentMicrogrids(setup)
    synchronous = run_days_timed(setup, policies_named("optimum", env), [DAY], None)
    timed = run_days_timed(setup, policies_named("optimum", env), [DAY], PRESETS["training"])
    assert timed.cost_usd == synchronous.cost_usd


def test_order_in_which_coordinators_ask_a_shared_plan_does_not_matter(short: Setup) -> None:
    env = MultiAgentMicrogrids(short)
    forward, backward = (Baselines(short, env.codecs).policies("mpc-network") for _ in range(2))
    observations, _ = env.reset(seed=0, options={"day": DAY})
    while env.agents:
        actions = {a: forward[a].act(observations[a]) for a in env.agents}
        others = {a: backward[a].act(observations[a]) for a in reversed(env.agents)}
        assert all((actions[a] == others[a]).all() for a in actions)
        observations, *_ = env.step(actions)


def test_tuned_droop_and_qp_beat_the_rule_and_the_qp_keeps_the_band(setup: Setup) -> None:
    env = MultiAgentMicrogrids(setup)
    rule, droop, qp = (
        run_day(env, policies_named(name, env), DAY) for name in ("rule", "droop", "qp")
    )
    assert droop.objective_usd < rule.objective_usd
    assert qp.objective_usd < rule.objective_usd
    assert qp.safety < rule.safety


def test_names_are_known_with_and_without_the_shield() -> None:
    assert is_baseline("droop")
    assert is_baseline("shield:qp")
    assert not is_baseline("shield:somewhere")


def test_planner_without_prices_in_the_observation_is_refused_with_the_reason() -> None:
    blind = MultiAgentMicrogrids(load_setup("ieee34_ieee13") | {"forecast": False})
    with pytest.raises(ConfigError, match="forecast: true"):
        policies_named("mpc", blind)


def test_optimum_of_a_setup_without_one_says_how_to_find_it() -> None:
    env = MultiAgentMicrogrids(load_setup("ieee123_microgrids"))
    with pytest.raises(ConfigError, match="heron evaluate optimum --plans"):
        policies_named("optimum", env)

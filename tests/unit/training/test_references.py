from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from heron.errors import ConfigError, PolicyError
from heron.powergrid.observed_time import DAY_S, ObservedTime
from heron.powergrid.plans import PlanBook, PlanPolicy, fingerprint
from training.envs import MultiAgentMicrogrids, make_env
from training.evaluation.episodes import run_day
from training.evaluation.references import known_optima, measure, plan_day, plan_policies, scores
from training.evaluation.sources import policies_named

DAY = 199


@pytest.fixture(scope="module")
def env() -> MultiAgentMicrogrids:
    return make_env("ieee34_ieee13", {"max_episode_steps": 12})


@pytest.fixture(scope="module")
def book(env: MultiAgentMicrogrids) -> PlanBook:
    found = PlanBook.empty(env.setup)
    found.plans[DAY] = plan_day(env, DAY)
    return found


def test_optimum_lies_between_its_bound_and_every_other_policy(
    env: MultiAgentMicrogrids, book: PlanBook
) -> None:
    figures = {
        name: [run_day(env, policies_named(name, env), DAY)]
        for name in ("none", "rule", "voltvar", "droop", "qp", "mpc")
    }
    yardstick = measure(env, book, figures, [DAY])
    best = yardstick.facts["objective_usd"]
    found = {name: score.value for name, score in yardstick.scores.items()}
    assert found["none"] == 0.0
    assert found["optimum"] == 1.0
    assert all(score < 1.0 for name, score in found.items() if name != "optimum")
    assert yardstick.facts["free_bound_usd"] <= yardstick.facts["bound_usd"] < best
    assert yardstick.facts["gap"] < 0.05


def test_plan_comes_in_the_environment_to_what_its_search_found(
    env: MultiAgentMicrogrids, book: PlanBook
) -> None:
    ran = run_day(env, plan_policies(env, book), DAY)
    assert ran.objective_usd == pytest.approx(book.plans[DAY].objective_usd, rel=1e-3)


def test_book_is_the_same_after_writing_and_reading(
    env: MultiAgentMicrogrids, book: PlanBook, tmp_path: Path
) -> None:
    book.save(tmp_path / "plans")
    again = known_optima(env.setup, tmp_path / "plans")
    assert again.missing([DAY, 5]) == [5]
    for name in ("p_mw", "q_mvar"):
        kept, given = getattr(again.plans[DAY], name), getattr(book.plans[DAY], name)
        assert kept == pytest.approx(given, abs=1e-5)
    assert again.plans[DAY].bound_usd == pytest.approx(book.plans[DAY].bound_usd, abs=1e-3)


def test_plans_of_another_penalty_or_a_damaged_book_are_refused(
    env: MultiAgentMicrogrids, book: PlanBook, tmp_path: Path
) -> None:
    book.save(tmp_path)
    dearer = make_env("ieee34_ieee13", {"max_episode_steps": 12, "penalty": 2000.0})
    with pytest.raises(ConfigError, match="another setup or penalty"):
        PlanBook.load(tmp_path, dearer.setup)
    (tmp_path / "optimum.json").write_text("{}")
    with pytest.raises(ConfigError, match="not a book of plans"):
        PlanBook.load(tmp_path, env.setup)
    with pytest.raises(ConfigError, match="No such file"):
        PlanBook.load(tmp_path / "nowhere", env.setup)


def test_what_is_seen_does_not_change_what_is_optimal(env: MultiAgentMicrogrids) -> None:
    for changes in ({"forecast": False}, {"share_reward": False}, {"train": False}):
        other = make_env("ieee34_ieee13", {"max_episode_steps": 12, **changes})
        assert fingerprint(other.setup) == fingerprint(env.setup)


def test_book_that_ships_holds_for_the_setup_as_it_is() -> None:
    least = {"ieee34_ieee13": 13, "single_microgrid": 13, "ieee34_ieee13_hard": 7}
    for name, expected in least.items():
        assert len(known_optima(make_env(name, {}).setup).plans) >= expected


def test_no_score_without_an_optimum(env: MultiAgentMicrogrids) -> None:
    days = {"none": [run_day(env, policies_named("none", env), DAY)]}
    assert scores({"none": np.array([100.0])}) == {}
    assert scores({"none": np.array([100.0]), "optimum": np.array([101.0])}) == {}
    assert measure(env, PlanBook.empty(env.setup), days, [DAY]).facts == {"days": 0}


def test_score_has_an_interval_over_days_that_are_drawn_for_all_alike() -> None:
    nothing = np.array([100.0, 300.0, 200.0, 120.0])
    optimum = nothing - np.array([20.0, 80.0, 40.0, 30.0])
    halfway = (nothing + optimum) / 2.0
    found = scores({"none": nothing, "optimum": optimum, "half": halfway, "odd": optimum + 5.0})
    assert (found["half"].low, found["half"].value, found["half"].high) == (0.5, 0.5, 0.5)
    odd = found["odd"]
    assert odd.value == pytest.approx(1.0 - 5.0 / 42.5)
    assert odd.low < odd.value < odd.high


def test_plan_policy_tells_the_time_from_what_it_observes(env: MultiAgentMicrogrids) -> None:
    codec = env.codecs["MG2"]
    time = ObservedTime(codec, env.setup)
    for day in (0, 9, 100, 172, 182, 270, 355, 365):
        observations, _ = env.reset(seed=0, options={"day": day})
        assert time.read(observations["MG2"]) == day * DAY_S
        for agent_step in range(1, 4):
            actions = {a: np.zeros(c.act_dim, np.float32) for a, c in env.codecs.items()}
            observations, *_ = env.step(actions)
            assert time.read(observations["MG2"]) == day * DAY_S + agent_step * 900.0


def test_policy_without_a_plan_for_the_day_says_so(
    env: MultiAgentMicrogrids, book: PlanBook
) -> None:
    observations, _ = env.reset(seed=0, options={"day": 7})
    policy = PlanPolicy(env.codecs["MG1"], book, env.setup)
    with pytest.raises(PolicyError, match="no plan for day 7"):
        policy.act(observations["MG1"])


def test_plan_of_several_days_goes_on_where_another_begins(book: PlanBook) -> None:
    plan = book.plans[DAY]
    long = dataclasses.replace(plan, p_mw=np.zeros((192, 7)), q_mvar=np.zeros((192, 7)))
    both = PlanBook(book.fingerprint, 900.0, book.device_ids)
    both.plans.update({DAY: long, DAY + 1: dataclasses.replace(long, day=DAY + 1)})
    noon = (DAY + 1.5) * DAY_S
    assert both.find(noon)[0].day == DAY + 1
    going_on, step = both.find(noon, active=both.plans[DAY])
    assert (going_on.day, step) == (DAY, 144)


def test_shield_leaves_a_policy_alone_where_voltages_are_fine(env: MultiAgentMicrogrids) -> None:
    plain, shielded = policies_named("none", env), policies_named("shield:none", env)
    for agent, codec in env.codecs.items():
        nominal = {"v_pu", "v_min", "v_max"}
        obs = np.array([1.0 if f.field in nominal else 0.0 for f in codec.fields], np.float32)
        assert shielded[agent].act(obs) == pytest.approx(plain[agent].act(obs))

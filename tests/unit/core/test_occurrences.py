"""Disturbances, conditions, episodes and environments by name."""

import sys

import numpy as np
import pytest

import heron
from heron.envs import EpisodeStatistics, TerminationConfig
from heron.errors import ConfigError
from heron.scheduling import Condition, Disturbance, EventType, poisson_disturbances


def test_a_disturbance_happens_at_its_time_on_an_advanced_plant_before_anyone_measures(toy):
    env = toy.Env(toy.build(toy.every(900.0)))
    env.start_event_driven()

    def sunset(time_s, payload):
        assert env.updates[-1][1] == time_s
        for battery in env.batteries:
            battery.state.update_feature("Charge", soc=payload["soc"])

    env.on_occurrence("sunset", sunset)
    env.schedule_disturbances([Disturbance(1800.0, "sunset", {"soc": 0.2})])
    env.run_event_driven(1801.0)
    assert env.sites[0].policy.seen[-1] == (1800.0, (pytest.approx(0.2), pytest.approx(0.2)))
    assert [(o.time_s, o.name) for o in env.event_log] == [(1800.0, "sunset")]


def test_a_disturbance_nobody_handles_or_in_the_past_is_refused_and_none_is_scheduled(toy):
    env = toy.Env(toy.build(toy.every(900.0)))
    scheduler = env.start_event_driven(start_time=100.0)
    env.on_occurrence("known", lambda time_s, payload: None)
    waiting = len(scheduler)
    with pytest.raises(ConfigError) as raised:
        env.schedule_disturbances(
            [Disturbance(200.0, "known"), Disturbance(50.0, "known"), Disturbance(200.0, "new")]
        )
    assert len(raised.value.problems) == 2
    assert len(scheduler) == waiting
    with pytest.raises(ConfigError, match="finite"):
        Disturbance(float("nan"), "known")


def test_poisson_disturbances_come_at_their_mean_rate_independently_and_repeatably():
    draws = poisson_disturbances("trip", 2.0, start_s=1000.0, end_s=3.6e6 + 1000.0, seed=3)
    times = np.array([d.time_s for d in draws])
    assert len(draws) == pytest.approx(2000, rel=0.1)
    assert np.all((times >= 1000.0) & (times < 3.6e6 + 1000.0))
    gaps = np.diff(times)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.1)
    again = {"per_hour": 2.0, "start_s": 1000.0, "end_s": 3.6e6 + 1000.0}
    assert poisson_disturbances("trip", seed=3, **again) == draws
    assert poisson_disturbances("trip", seed=4, **again)[0] != draws[0]
    assert poisson_disturbances("cloud", seed=3, **again)[0].time_s != draws[0].time_s
    assert poisson_disturbances("trip", 0.0, start_s=0.0, end_s=1e9) == ()
    with pytest.raises(ConfigError) as raised:
        poisson_disturbances("trip", -1.0, start_s=5.0, end_s=1.0)
    assert len(raised.value.problems) == 2


def test_a_condition_fires_when_it_becomes_true_and_not_while_it_stays_so(toy):
    env = toy.Env(toy.Battery("b", tick_config=toy.every(60.0)))
    battery = env.batteries[0]
    env.start_event_driven()
    fired = []
    env.on_occurrence("low", lambda time_s, payload: fired.append(time_s))
    env.watch_condition(Condition("low", lambda: battery.state.charge.soc < 0.399))
    env.submit_actions({"b": [2.0]})
    env.run_event_driven(3600.0)
    assert fired == [1860.0]  # 0.4 is reached at 1800 s, and the next look is at 1860 s
    env.submit_actions({"b": [-2.0]})
    env.run_event_driven(7200.0)
    env.submit_actions({"b": [2.0]})
    env.run_event_driven(3 * 3600.0)
    assert len(fired) == 2


def test_a_condition_wakes_an_agent_beside_its_own_ticks(toy):
    ticks = {1: toy.every(60.0), 2: toy.every(3600.0), 3: toy.every(1e6)}
    env = toy.Env(toy.build(ticks, n_sites=1, n_batteries=1))
    site, battery = env.sites[0], env.batteries[0]
    scheduler = env.start_event_driven()
    env.watch_condition(
        Condition("moved", lambda: battery.state.charge.soc != 0.35, wake=("MG1",), cooldown_s=60)
    )
    ticked = []
    scheduler.before_event = lambda e: (
        ticked.append(e.timestamp)
        if e.event_type is EventType.AGENT_TICK and e.agent_id == "MG1"
        else None
    )
    env.run_event_driven(7201.0)
    assert ticked == [0.0, 60.0, 3600.0, 7200.0]
    assert [t for t, _ in site.policy.seen] == ticked


def test_a_condition_in_cooldown_is_silent(toy):
    env = toy.Env(toy.Battery("b", tick_config=toy.every(10.0)))
    env.start_event_driven()
    fired = []
    env.on_occurrence("odd", lambda time_s, payload: fired.append(time_s))
    env.watch_condition(Condition("odd", lambda: len(env.updates) % 2 == 1, cooldown_s=100.0))
    env.run_event_driven(300.0)
    assert fired == [10.0, 110.0, 210.0]


def test_a_condition_that_does_nothing_or_wakes_a_stranger_is_refused(toy):
    env = toy.Env(toy.Battery("b"))
    env.start_event_driven()
    for wake in ((), ("c",)):
        with pytest.raises(ConfigError, match="'low'"):
            env.watch_condition(Condition("low", lambda: True, wake=wake))
    with pytest.raises(ConfigError, match="cooldown_s"):
        Condition("low", lambda: True, cooldown_s=-1.0)


# --- episodes -------------------------------------------------------------------------------


def test_an_episode_is_never_both_terminated_and_truncated():
    config = TerminationConfig(max_steps=3, max_time_s=10.0, terminal={"blackout": lambda: dark})
    dark = False
    assert not config.check(2, 9.0).over
    assert config.check(3, 0.0).reason == "max_steps"
    assert config.check(0, 10.0).reason == "max_time_s"
    dark = True
    ending = config.check(3, 10.0)
    assert (ending.terminated, ending.truncated, ending.reason) == (True, False, "blackout")


def test_a_limit_that_is_none_is_refused():
    with pytest.raises(ConfigError) as raised:
        TerminationConfig(max_steps=0, max_time_s=0.0)
    assert len(raised.value.problems) == 2


def test_statistics_add_up_an_episode():
    statistics = EpisodeStatistics()
    for reward in (1.0, 3.0):
        statistics.record(
            {"MG1": reward, "MG2": -1.0}, {"MG1": {"cost": -reward, "note": "x", "on": True}}
        )
    summary = statistics.summary()
    assert summary["n_steps"] == 2
    assert summary["total_reward"] == statistics.total_reward() == 2.0
    assert summary["agents"]["MG1"]["reward"] == {"sum": 4.0, "mean": 2.0, "min": 1.0, "max": 3.0}
    assert set(summary["agents"]["MG1"]) == {"reward", "cost"}
    assert statistics.total_reward("MG2") == -2.0
    statistics.reset()
    assert statistics.summary() == {"n_steps": 0, "total_reward": 0, "agents": {}}


# --- by name --------------------------------------------------------------------------------


def test_an_environment_is_made_by_its_name():
    heron.register("Toy-test-v0", "heron.envs:HeronEnvCore")
    assert heron.make("Toy-test-v0", env_id="made").env_id == "made"
    assert "Toy-test-v0" in heron.registered()
    heron.register("Toy-test-v0", "heron.envs:HeronEnvCore")
    with pytest.raises(ConfigError, match="taken"):
        heron.register("Toy-test-v0", "somewhere:Else")
    with pytest.raises(ConfigError, match=r"'Toy-v9'.*Toy-test-v0"):
        heron.make("Toy-v9")


def test_an_installed_package_offers_its_environments_without_being_imported(tmp_path, monkeypatch):
    info = tmp_path / "offers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: offers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[heron.environments]\nOffered-v0 = offers:Env\n")
    (tmp_path / "offers.py").write_text("class Env:\n    def __init__(self, n=1): self.n = n\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "Offered-v0" in heron.registered()
    assert "offers" not in sys.modules
    assert heron.make("Offered-v0", n=3).n == 3


def test_disturbances_without_an_end_are_refused():
    with pytest.raises(ConfigError, match="end_s = inf"):
        poisson_disturbances("trip", 2.0, start_s=0.0, end_s=float("inf"))

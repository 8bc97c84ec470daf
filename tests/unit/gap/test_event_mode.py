"""Event-driven time: the same as the synchronous step where nothing is late, and only there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from heron.errors import ConfigError
from heron.powergrid.quantities import Measurements
from heron.powergrid.setups import load_setup, read_setup
from training.envs import MultiAgentMicrogrids
from training.envs.event_mode import ObservedPolicy
from training.envs.timing import PRESETS, Timing, timing_of
from training.evaluation.sources import policies_of
from training.gap.runs import gap, run_days_timed
from training.gap.sweep import GapStudy, study

SETUP = {**load_setup("ieee34_ieee13"), "max_episode_steps": 24}
RULE, _ = policies_of("rule", read_setup("ieee34_ieee13"))


def run(options: dict[str, Any], *, own_policies: bool = False) -> tuple[list[Any], list[float]]:
    env = MultiAgentMicrogrids(SETUP, **options)
    observations, _ = env.reset(seed=3, options={"day": 100})
    if own_policies:
        for agent_id, agent in env.agent_dict.items():
            agent.policy = ObservedPolicy(RULE[agent_id], env.codecs[agent_id])
    trajectory: list[Measurements] = []
    rewards = []
    while env.agents:
        actions = {a: RULE[a].act(observations[a]) for a in env.agents}
        observations, reward, *_ = env.step({} if own_policies else actions)
        trajectory.append(env.measurements)
        rewards.append(reward["MG1"])
    return [(m.devices, m.meters, m.areas) for m in trajectory], rewards


@pytest.mark.parametrize("own_policies", [False, True])
def test_without_delays_it_equals_the_synchronous_step_exactly(own_policies: bool) -> None:
    synchronous = run({})
    timed = run({"event_driven": True, "timing": "training"}, own_policies=own_policies)
    assert timed == synchronous


def test_a_late_set_point_takes_effect_late_and_charge_is_counted_over_time() -> None:
    env = MultiAgentMicrogrids(
        SETUP, event_driven=True, timing={"act_delay_s": 450.0, "device_tick_s": 900.0}
    )
    env.reset(seed=0, options={"day": 100})
    full = {a: np.zeros(env.action_spaces[a].shape, np.float32) for a in env.agents}
    full["MG1"][2] = -1.0
    env.step(full)
    soc = env.measurements.devices["ess1"].soc
    assert soc is not None
    half_a_step_of_charging = 0.5 * 0.95 * 450.0 / 3600.0 / 2.0
    assert soc - 0.5 == pytest.approx(half_a_step_of_charging, rel=1e-9)


def test_the_same_seed_gives_the_same_jitter_and_another_seed_another() -> None:
    setup = read_setup("ieee34_ieee13")
    timing = Timing("x", 30.0, 30.0, 10.0, jitter_ratio=0.3)
    one, again, other = (run_days_timed(setup, RULE, [100], timing, seed) for seed in (1, 1, 2))
    assert one == again
    assert one.mean_return != other.mean_return


def test_gap_keeps_its_sign_for_negative_returns() -> None:
    assert gap(-100.0, -110.0) == pytest.approx(0.1)
    assert gap(-100.0, -90.0) == pytest.approx(-0.1)


def test_study_yields_presets_and_ends_with_the_whole() -> None:
    setup = read_setup("ieee34_ieee13")
    rows = list(study(setup, RULE, [100], sweep=False, presets=("training",)))
    result = rows[-1]
    assert isinstance(result, GapStudy)
    assert [row.label for row in result.rows] == ["training"]
    assert result.rows[0].gap == 0.0


@pytest.mark.parametrize(
    ("value", "names"),
    [("fast", "timing"), ({"delay": 1}, "timing.delay"), ({"act_delay_s": -1.0}, "act_delay")],
)
def test_wrong_timing_is_named(value: Any, names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        timing_of(value, None)


def test_unknown_option_is_named() -> None:
    with pytest.raises(ConfigError, match="event_drivn"):
        MultiAgentMicrogrids(SETUP, event_drivn=True)


def test_presets_are_the_guides() -> None:
    assert PRESETS["training"].ideal
    assert PRESETS["scada"].obs_delay_s == 2.0
    assert not PRESETS["testing"].ideal


def test_a_coordinator_knows_its_meter_by_reports_and_the_price_at_once() -> None:
    env = MultiAgentMicrogrids(
        SETUP, event_driven=True, timing={"report_delay_s": 1200.0, "device_tick_s": 300.0}
    )
    env.reset(seed=0, options={"day": 100})
    full = {a: np.zeros(env.action_spaces[a].shape, np.float32) for a in env.agents}
    full["MG1"][0] = 1.0
    env.step(full)
    coordinator, now = env.agent_dict["MG1"], env.measurements
    assert coordinator.state.network_metrics.p_MW != now.meters["MG1"].p_mw
    gen1 = coordinator.devices["gen1"]
    assert gen1.state.electrical_base_ph.p_MW == now.devices["gen1"].p_mw  # at its own terminals
    market = coordinator.state.market_signal
    row = int(now.time_s % 86_400.0 // 900.0)
    assert market.price == env.setup.profiles.day_ahead(now.time_s)[row]


def test_agents_that_do_not_act_are_told_by_the_end_of_a_step() -> None:
    env = MultiAgentMicrogrids(SETUP, event_driven=True, timing="scada")
    env.reset(seed=0, options={"day": 100})
    env.step({a: np.zeros(env.action_spaces[a].shape, np.float32) for a in env.agents})
    for agent in env.agent_dict.values():
        for device_id, device in agent.devices.items():
            assert device.reading == env.measurements.devices[device_id]


@pytest.mark.parametrize(
    ("timing", "told"),
    [
        ({"tick_ratio": "a"}, r"timing\.tick_ratio = 'a'"),
        ({"act_delay_s": float("nan")}, r"timing\.act_delay_s = nan"),
        ({"msg_delay_s": True}, r"timing\.msg_delay_s = True"),
        ({"intervals_s": 3}, r"timing\.intervals_s = 3: numbers by agent"),
        ({"intervals_s": {"MG1": 900.0}}, r"timing\.intervals_s\[MG1\] = 900\.0: a list"),
        ({"act_delays_s": {"gen9": (1.0,)}}, r"timing\.act_delays_s = 'gen9': one of .*gen1"),
    ],
)
def test_timing_of_the_wrong_kind_is_refused_by_name(timing: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        MultiAgentMicrogrids(SETUP, event_driven=True, timing=timing)


@pytest.mark.parametrize(
    "config",
    [
        {"event_driven": True, "timing_jitter": 0.2, "max_episode_steps": 24},
        {"centralized": False, "message_broker": "in_memory", "max_episode_steps": 24},
    ],
)
def test_a_mapping_without_microgrids_is_the_guides_case(config: dict[str, Any]) -> None:
    env = MultiAgentMicrogrids(config)
    assert env.possible_agents == ["MG1", "MG2", "MG3"]
    assert env.max_episode_steps == 24
    assert (
        env.setup.config.model_dump()
        == read_setup("ieee34_ieee13")
        .config.model_copy(update={"max_episode_steps": 24})
        .model_dump()
    )

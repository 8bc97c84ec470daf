"""A tap changer in the synchronous step and in event-driven time: the same, and late when late."""

from __future__ import annotations

from typing import Any

import numpy as np

from heron.policy.baselines import RulePolicy
from heron.powergrid.setups import load_setup
from training.envs import MultiAgentMicrogrids

OLTC = {"element": "head", "tap_time_s": 100.0, "max_tap_moves": 6, "tap_moves_interval_s": 7200.0}


def environment(**options: Any) -> MultiAgentMicrogrids:
    plain = load_setup("single_microgrid")
    plain["microgrid_configs"][0]["devices"].append(
        {"type": "Transformer", "name": "oltc", "device_state_config": OLTC}
    )
    return MultiAgentMicrogrids(plain, **options)


def test_without_delays_taps_move_as_in_the_synchronous_step() -> None:
    seen = []
    for options in ({}, {"event_driven": True, "timing": "training"}, {"centralized": False}):
        env = environment(**options)
        rule = RulePolicy(env.codecs["MG1"], {"gen1": (12.0, 32.0)}, v_dead_pu=0.004)
        observations, _ = env.reset(seed=0, options={"day": 100})
        trajectory = []
        while env.agents:
            observations, *_ = env.step({"MG1": rule.act(observations["MG1"])})
            trajectory.append((env.measurements.devices, env.measurements.meters))
        seen.append(trajectory)
    taps = [devices["oltc"].tap for devices, _ in seen[0]]
    assert len(set(taps)) > 2
    assert seen[1] == seen[0]
    assert seen[2] == seen[0]


def test_a_late_tap_moves_late_and_its_time_is_counted_by_the_plant() -> None:
    env = environment(event_driven=True, timing={"act_delay_s": 450.0, "device_tick_s": 900.0})
    env.reset(seed=0, options={"day": 100})
    up = np.zeros(env.action_spaces["MG1"].shape, np.float32)
    up[-1] = 1.0
    env.step({"MG1": up})
    assert env.agent_dict["MG1"].devices["oltc"].setpoint.tap == 6
    assert env.measurements.devices["oltc"].tap == 4


def test_the_observation_and_the_space_hold_the_tap() -> None:
    env = environment()
    codec = env.codecs["MG1"]
    assert codec.setpoints[-1].quantity == "tap"
    observations, _ = env.reset(seed=0, options={"day": 100})
    stay = {"MG1": np.zeros(codec.act_dim, np.float32)}
    stay["MG1"][-1] = 5 / 16
    observations, *_ = env.step(stay)
    at = codec.index("oltc", "TapChangerPh", "tap_position")
    assert observations["MG1"][at] * codec.fields[at].scale == 5.0
    loading = codec.index("oltc", "ThermalLoading", "loading_pct")
    assert observations["MG1"][loading] > 0.0

"""The vector form with every type of device and every rule of the envelope, against the single."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from heron.errors import ConfigError
from heron.powergrid.agents import DEVICE_REGISTRY, Generator
from heron.powergrid.device_configs import GeneratorConfig
from heron.powergrid.setups import load_setup
from heron.powergrid.setups.models import _extra_types
from training.envs import MultiAgentMicrogrids
from training.envs.vector_env import VectorMicrogrids

DAYS = [10, 100, 180]
STEPS = 96


def device(kind: str, name: str, **config: Any) -> dict[str, Any]:
    return {"type": kind, "name": name, "device_state_config": config}


ZOO = [
    device("PV", "roof", bus="Bus 671", phases=["b"], p_rated_MW=0.1, profile="PV1"),
    device(
        "WindTurbine", "wind", bus="Bus 680", p_rated_MW=0.3, ramp_mw_per_min=0.01, safe_p_mw=0.3
    ),
    device(
        "ControllableLoad", "pump", bus="Bus 633", p_rated_MW=0.2, profile="mv_comm", sheddable=0.7
    ),
    device("EVCharger", "ev", bus="Bus 671", phases=["a"], v2g=True, departure_hour=6.25),
    device("EVCharger", "plain", bus="Bus 675", p_max_charge_MW=0.05, e_capacity_MWh=0.1),
    device(
        "Generator",
        "peaker",
        bus="Bus 633",
        p_max_MW=0.3,
        p_min_MW=0.1,
        q_max_MVAr=0.1,
        q_min_MVAr=-0.1,
        s_rated_MVA=0.31,
        cost_curve_coefs=(12.0, 40.0, 2.0),
        unit_commitment=True,
        startup_time_hr=0.5,
        shutdown_time_hr=0.25,
        startup_cost_usd=7.0,
    ),
    device(
        "Generator",
        "slow",
        bus="Bus 675",
        p_max_MW=0.4,
        p_min_MW=0.05,
        q_max_MVAr=0.1,
        q_min_MVAr=-0.1,
        s_rated_MVA=0.45,
        ramp_mw_per_min=0.005,
        envelope_v_pu=(0.99, 1.01),
    ),
    device(
        "ESS",
        "tapered",
        bus="Bus 675",
        e_capacity_MWh=1.0,
        p_max_MW=0.4,
        p_min_MW=-0.4,
        s_rated_MVA=0.45,
        q_max_MVAr=0.2,
        q_min_MVAr=-0.2,
        self_discharge_per_h=0.01,
        degradation_usd_per_mwh=3.0,
        charge_taper=[(0.5, 1.0), (0.9, 0.1)],
        discharge_taper=[(0.1, 0.1), (0.4, 1.0)],
        envelope_v_pu=(0.98, 1.03),
    ),
    device(
        "Transformer",
        "oltc",
        element="head",
        tap_time_s=120.0,
        max_tap_moves=9,
        tap_moves_interval_s=3600.0,
        tap_min=-12,
        tap_cost_usd=0.4,
        envelope_v_pu=(0.95, 1.05),
    ),
    device("Transformer", "own", element="reg650", local_control={"v_set_pu": 1.01}),
]


def make(**options: Any) -> MultiAgentMicrogrids:
    plain = load_setup("single_microgrid")
    plain |= {"engine": "balanced", "max_episode_steps": STEPS}
    plain["microgrid_configs"][0]["devices"] += ZOO
    return MultiAgentMicrogrids(plain, **options)


def test_vector_form_equals_single_environments_with_every_device() -> None:
    env = make()
    vector = VectorMicrogrids(env, len(DAYS), seed=0)
    obs = vector.reset(DAYS)
    singles = [make() for _ in DAYS]
    own_obs = [e.reset(options={"day": d})[0] for e, d in zip(singles, DAYS, strict=True)]
    rng = np.random.default_rng(1)
    limited: set[str] = set()
    ids = list(singles[0].measurements.devices)
    codec = env.codecs["MG1"]
    for step in range(STEPS):
        # what is asked lasts for some steps, so that commitments come to their end
        if step % 5 == 0:
            actions = rng.uniform(-1.0, 1.0, (len(DAYS), codec.act_dim)).astype(np.float32)
        for i in range(len(DAYS)):
            away = np.abs(obs["MG1"][i] - own_obs[i]["MG1"])
            worst = int(np.argmax(away))
            assert away[worst] <= 2e-6, (step, codec.fields[worst].path)
        done = vector.step({"MG1": actions})
        obs = done.obs
        for i, single in enumerate(singles):
            own_obs[i], rewards, _, truncated, infos = single.step({"MG1": actions[i]})
            seen, devices = vector.measurements, single.measurements.devices
            for name, k in zip(ids, range(len(ids)), strict=True):
                shown = devices[name]
                agent = single.agent_dict["MG1"].devices[name]
                limited |= {str(r) for r in (agent.result.reasons if agent.result else ())}
                assert seen.p_mw[i, k] == pytest.approx(shown.p_mw, abs=1e-9), (step, name)
                assert seen.q_mvar[i, k] == pytest.approx(shown.q_mvar, abs=1e-9), (step, name)
                assert seen.v_pu[i, k, 0] == pytest.approx(shown.v_pu, abs=1e-9), (step, name)
                assert bool(seen.connected[i, k]) == shown.connected
                if shown.soc is not None:
                    assert seen.soc[i, k] == pytest.approx(shown.soc, abs=1e-9)
                if shown.tap is not None:
                    assert seen.tap[i, k] == shown.tap
            assert done.rewards[i, 0] == pytest.approx(rewards["MG1"], abs=1e-7)
            assert done.cost_usd[i] == pytest.approx(infos["MG1"]["total_cost_usd"], abs=1e-7)
            assert done.safety[i] == pytest.approx(infos["MG1"]["total_safety"], abs=1e-9)
            assert truncated["MG1"] == done.truncated
    assert limited >= {"ramp", "state_of_charge", "voltage", "tap_moves", "disconnected"}


def test_a_users_own_type_is_refused_with_the_way_out() -> None:
    class MyConfig(GeneratorConfig):
        """A generator with a rule of its own."""

    class Mine(Generator):
        """Its agent."""

        config_model = MyConfig

    DEVICE_REGISTRY["MyGenerator"] = Mine
    try:
        plain = load_setup("single_microgrid")
        plain["microgrid_configs"][0]["devices"].append(
            device("MyGenerator", "mine", bus="Bus 633", s_rated_MVA=12.0)
        )
        with pytest.raises(ConfigError, match=r"MG1.mine.*--no-batched"):
            VectorMicrogrids(MultiAgentMicrogrids(plain), 2, seed=0)
    finally:
        del DEVICE_REGISTRY["MyGenerator"]
        del _extra_types["MyGenerator"]

"""What the operator allows at a connection, in the synchronous step and in event-driven time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heron.errors import ConfigError
from heron.powergrid.connection import ConnectionLimits, Kind, Part, within_connection
from heron.powergrid.setups import load_setup
from training.envs import MultiAgentMicrogrids
from training.envs.vector_agents import require_supported

GENERATOR = Part("gen", Kind.GENERATOR, 1.0, 1.0, 0.1, 1.5)
STORE = Part("ess", Kind.STORE, 0.3, 0.3, -0.5, 0.5)
SUN = Part("pv", Kind.SOURCE, 0.8, 0.4, 0.0, 0.8)
LOAD = Part("cold", Kind.LOAD, -0.4, -0.4, -0.4, 0.0)


def test_without_limits_nothing_gives_way() -> None:
    assert within_connection([GENERATOR, STORE, SUN], 0.2, ConnectionLimits()) == {}


@pytest.mark.parametrize("limit", [float("nan"), float("inf"), -0.1])
def test_a_limit_that_would_hold_nothing_is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match="p_export_max_mw"):
        ConnectionLimits(limit)
    with pytest.raises(ValueError, match="p_import_max_mw"):
        ConnectionLimits(None, limit)


def test_too_much_export_moves_the_generator_first_then_the_store() -> None:
    parts = [GENERATOR, STORE]
    # 1.3 MW injected, 0.2 MW of load: 1.1 MW would be exported
    assert within_connection(parts, 0.2, ConnectionLimits(0.5)) == {"gen": pytest.approx(0.4)}
    told = within_connection(parts, 0.2, ConnectionLimits(0.0))
    assert told == {"gen": pytest.approx(0.1), "ess": pytest.approx(0.1)}


def test_the_ceilings_of_sources_fit_under_the_limit_even_when_the_sun_comes_out() -> None:
    told = within_connection([SUN], 0.1, ConnectionLimits(0.5))
    assert told == {"pv": pytest.approx(0.6)}
    # there is room for all that it may do
    assert within_connection([SUN], 0.4, ConnectionLimits(0.5)) == {}


def test_too_much_import_stops_charging_then_runs_generators_then_sheds() -> None:
    charging = Part("ess", Kind.STORE, -0.3, -0.3, -0.5, 0.0)
    idle = Part("gen", Kind.GENERATOR, 0.1, 0.1, 0.1, 0.5)
    # 0.6 MW drawn beside 0.2 MW of load
    assert within_connection([charging, idle, LOAD], 0.2, ConnectionLimits(None, 0.6)) == {
        "ess": pytest.approx(-0.1)
    }
    told = within_connection([charging, idle, LOAD], 0.2, ConnectionLimits(None, 0.0))
    assert told == {"ess": 0.0, "gen": pytest.approx(0.5), "cold": pytest.approx(-0.3)}


@given(
    load=st.floats(0.0, 3.0),
    export=st.floats(0.0, 2.0),
    imports=st.floats(0.0, 2.0),
    gen=st.floats(0.1, 1.5),
    ess=st.floats(-0.5, 0.5),
    sun=st.floats(0.0, 0.8),
)
def test_the_connection_is_held_wherever_the_devices_can(
    load: float, export: float, imports: float, gen: float, ess: float, sun: float
) -> None:
    parts = [
        Part("gen", Kind.GENERATOR, gen, gen, 0.1, 1.5),
        Part("ess", Kind.STORE, ess, ess, -0.5, 0.5),
        Part("pv", Kind.SOURCE, 0.8, sun, 0.0, 0.8),
    ]
    told = within_connection(parts, load, ConnectionLimits(export, imports))
    after = {p.name: told.get(p.name, p.p_mw) for p in parts}
    assert all(p.lowest_mw - 1e-9 <= after[p.name] <= p.highest_mw + 1e-9 for p in parts)
    flow = after["gen"] + after["ess"] + min(sun, after["pv"]) - load
    could_export_less = 0.1 - 0.5 - load <= export
    could_import_less = 1.5 + 0.5 - load >= -imports
    if could_export_less and could_import_less:
        assert flow <= export + 1e-6
        # whatever the sun does until the next decision
        assert after["gen"] + after["ess"] + after["pv"] - load <= export + 1e-6
        assert flow >= -imports - 1e-6


def run(protocol: str, limited: bool, **options: Any) -> tuple[list[float], list[float]]:
    """Return MG2's exports and its load, step by step, over one afternoon and evening."""
    config: dict[str, Any] = {**load_setup("ieee34_ieee13"), "protocol": protocol, **options}
    if limited:
        config["microgrid_configs"][1] |= {"p_export_max_mw": 0.10, "p_import_max_mw": 0.30}
    env = MultiAgentMicrogrids(config)
    env.reset(seed=3, options={"start_s": 110 * 86_400.0 + 9 * 3600.0})
    exports, loads = [], []
    for _ in range(48):
        env.step({a: np.full(env.codecs[a].act_dim, 0.4, np.float32) for a in env.agents})
        exports.append(env.measurements.meters["MG2"].p_mw)
        loads.append(env.agent_dict["MG2"].other_load_mw())
    return exports, loads


@pytest.mark.parametrize("options", [{}, {"event_driven": True}], ids=["sync", "events"])
@pytest.mark.parametrize("protocol", ["setpoint", "price", "p2p"])
def test_a_coordinator_holds_its_connection_whatever_its_protocol(
    protocol: str, options: dict[str, Any]
) -> None:
    free, _ = run(protocol, limited=False, **options)
    held, loads = run(protocol, limited=True, **options)
    assert max(free) > 0.15 or min(free) < -0.35, "the limits matter on this day"
    # what is left is what the load did after the decision
    slack = np.abs(np.diff(loads, prepend=loads[0])).max() + 0.01
    assert max(held) <= 0.10 + slack
    assert min(held) >= -0.30 - slack


def test_events_and_steps_hold_it_the_same_way() -> None:
    steps, _ = run("setpoint", limited=True)
    events, _ = run("setpoint", limited=True, event_driven=True)
    assert events == pytest.approx(steps, abs=1e-9)


def test_a_limit_below_zero_is_refused() -> None:
    config = load_setup("ieee34_ieee13")
    config["microgrid_configs"][0]["p_export_max_mw"] = -1.0
    with pytest.raises(ConfigError, match="p_export_max_mw"):
        MultiAgentMicrogrids(config)


def test_the_batched_environment_says_that_it_does_not_know_limits() -> None:
    config = load_setup("ieee34_ieee13")
    config["microgrid_configs"][0]["p_export_max_mw"] = 1.0
    with pytest.raises(ConfigError, match="train with --no-batched"):
        require_supported(MultiAgentMicrogrids(config).setup)

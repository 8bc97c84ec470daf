"""Device agents: what an action means, what the envelope lets pass, what is seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from heron.errors import ConfigError
from heron.powergrid.agents import (
    ESS,
    PV,
    ControllableLoad,
    DeviceAgent,
    EVCharger,
    Generator,
    Transformer,
    WindTurbine,
)
from heron.powergrid.envelope import Admitted, Limited, Refused
from heron.powergrid.features import ThermalLoading
from heron.powergrid.quantities import ClipReason, DeviceReading, Setpoint

READING = DeviceReading(0.2, 0.05, 1.01, 1.0, 1.02, soc=0.5)
GENERATOR = {"bus": "Bus 633", "p_max_MW": 1.0, "p_min_MW": 0.2, "q_max_MVAr": 0.5}
GENERATOR |= {"q_min_MVAr": -0.1, "s_rated_MVA": 1.25, "cost_curve_coefs": (10.0, 30.0, 0.0)}
STORE = {"bus": "Bus 671", "e_capacity_MWh": 2.0, "p_max_MW": 0.5, "p_min_MW": -0.4}


def ready(agent: DeviceAgent, reading: DeviceReading = READING) -> DeviceAgent:
    agent.take_reading(reading)
    return agent


def generator(**changes: object) -> DeviceAgent:
    return ready(Generator("gen1", device_state_config={**GENERATOR, **changes}))


def store(soc: float = 0.5, **changes: object) -> DeviceAgent:
    agent = ESS("ess1", device_state_config={**STORE, **changes})
    return ready(agent, replace(READING, soc=soc))


@pytest.mark.parametrize(
    ("action", "asked"),
    [
        ([-1.0, -1.0], Setpoint(0.2, -0.1)),
        ([1.0, 1.0], Setpoint(1.0, 0.5)),
        ([0.0, 0.0], Setpoint(0.6, 0.0)),
        ([0.0, 0.5], Setpoint(0.6, 0.25)),
    ],
)
def test_a_generators_action_spans_its_ranges(action: list[float], asked: Setpoint) -> None:
    proposed = generator().propose(action)
    assert proposed.p_mw == pytest.approx(asked.p_mw)
    assert proposed.q_mvar == pytest.approx(asked.q_mvar)


@pytest.mark.parametrize(("x", "p"), [(-1.0, -0.4), (0.0, 0.0), (1.0, 0.5), (0.5, 0.25)])
def test_zero_rests_a_store_and_positive_discharges(x: float, p: float) -> None:
    agent = store()
    assert agent.action.size == 1
    assert agent.propose([x]) == Setpoint(p)


@pytest.mark.parametrize(
    ("x", "share"), [(-1.0, 0.0), (-0.65, 0.5), (-0.3, 1.0), (0.0, 1.0), (1.0, 1.0)]
)
def test_small_actions_do_not_curtail_sun_or_wind(x: float, share: float) -> None:
    for kind in (PV, WindTurbine):
        agent = ready(kind("src", device_state_config={"bus": "1", "p_rated_MW": 0.8}))
        assert agent.propose([x, 0.0]).p_mw == pytest.approx(0.8 * share)


def test_a_load_is_cut_by_a_high_action() -> None:
    agent = ready(ControllableLoad("l", device_state_config={"bus": "1", "p_rated_MW": 0.3}))
    assert agent.propose([-1.0]).p_mw == pytest.approx(-0.3)
    assert agent.propose([1.0]).p_mw == pytest.approx(0.0)


@pytest.mark.parametrize(("v2g", "most"), [(False, 0.0), (True, 0.011)])
def test_a_charger_discharges_only_with_v2g(v2g: bool, most: float) -> None:
    agent = ready(EVCharger("ev", device_state_config={"bus": "1", "v2g": v2g}))
    assert agent.propose([-1.0]).p_mw == pytest.approx(-0.011)
    assert agent.propose([1.0]).p_mw == pytest.approx(most)


def test_a_transformer_steps_its_tap_and_pays_for_it() -> None:
    agent = Transformer("t1", device_state_config={"bus": "1", "element": "reg1"})
    agent.take_reading(DeviceReading(0.0, 0.0, 1.0, 1.0, 1.0, tap=0, loading_pct=40.0))
    agent.apply_action([0.5])
    assert agent.setpoint == Setpoint(0.0, 0.0, 8)
    assert agent.tap_position == 0
    agent.update_state(dt=0.25)
    assert agent.tap_position == 8
    agent.apply_action([-1.0])
    agent.update_state(dt=0.25)
    assert agent.tap_position == -16
    agent.update_cost_safety()
    assert agent.cost == pytest.approx(0.1 * (8 + 24))
    agent.update_cost_safety()
    assert agent.cost == 0.0
    assert agent.respond_to_price(100.0).tolist() == [-1.0]
    assert agent.find_feature(ThermalLoading).loading_pct == 40.0


def test_a_tap_is_moved_as_far_as_its_mechanism_gets_and_not_against_the_voltage() -> None:
    agent = Transformer(
        "t1",
        device_state_config={
            "element": "reg1",
            "tap_time_s": 10.0,
            "tap_min": -8,
            "tap_max": 12,
            "envelope_v_pu": (0.95, 1.05),
        },
        dt_s=60.0,
    )
    calm = DeviceReading(0.0, 0.0, 1.0, 0.99, 1.01, tap=2)
    agent.take_reading(calm)
    agent.apply_action([1.0])
    assert agent.setpoint.tap == 8
    assert agent.result.reasons == (ClipReason.TAP_MOVES,)
    agent.take_reading(replace(calm, v_max_pu=1.06))
    agent.apply_action([1.0])
    assert agent.setpoint.tap == 2
    agent.take_reading(replace(calm, tap=None))
    agent.apply_action([-1.0])
    assert agent.setpoint.tap == 2
    assert agent.result.reasons == (ClipReason.STALE_DATA,)


def test_propose_and_action_for_are_inverse() -> None:
    agent = generator()
    for x in ([-1.0, -1.0], [0.3, 0.7], [1.0, 0.0]):
        asked = agent.propose(x)
        assert agent.action_for(asked.p_mw, asked.q_mvar) == pytest.approx(np.array(x))


@pytest.mark.parametrize("action", [[0.0], [0.0, 0.0, 0.0], [np.nan, 0.0], [0.0, np.inf], "up"])
def test_an_action_of_the_wrong_shape_or_with_nan_is_refused_by_name(action: object) -> None:
    agent = generator()
    with pytest.raises(ValueError, match=r"gen1|could not convert"):
        agent.apply_action(action)  # type: ignore[arg-type]
    assert agent.setpoint == agent.safe_setpoint


def test_apply_action_leaves_what_the_envelope_admits() -> None:
    agent = store(soc=0.9)
    agent.apply_action([-1.0])
    assert agent.proposal == Setpoint(-0.4)
    assert agent.setpoint == Setpoint(0.0)
    assert agent.result == Limited(Setpoint(-0.4), Setpoint(0.0), (ClipReason.STATE_OF_CHARGE,))
    agent.apply_action([0.5])
    assert isinstance(agent.result, Admitted)
    assert agent.setpoint == Setpoint(0.25)


def test_what_the_envelope_said_last_stays_said() -> None:
    agent = generator()
    assert agent.result is None
    told = Setpoint(0.3, 0.0)
    assert agent.command(told) == Admitted(told) == agent.result
    assert agent.result is agent.result
    beyond = Setpoint(9.0, 0.0)
    said = agent.command(beyond)
    assert isinstance(said, Limited)
    assert said == agent.result
    assert agent.proposal == beyond
    agent.reset_agent()
    assert agent.result is None


def test_the_length_of_the_interval_counts_for_the_state_of_charge() -> None:
    agent = store(soc=0.12)
    assert isinstance(agent.admit(Setpoint(0.5), 60.0), Admitted)
    assert agent.admit(Setpoint(0.5), 3600.0).applied == Setpoint(
        pytest.approx((0.12 - 0.1) * 2.0 * 0.95)
    )


def test_without_a_reading_nothing_is_commanded() -> None:
    agent = Generator("gen1", device_state_config={**GENERATOR, "safe_p_mw": 0.2})
    agent.apply_action([1.0, 0.0])
    assert isinstance(agent.result, Refused)
    assert agent.setpoint == Setpoint(0.2)


def test_a_disconnected_device_keeps_its_setpoint() -> None:
    agent = generator()
    agent.apply_action([1.0, 0.0])
    agent.take_reading(replace(READING, connected=False))
    agent.apply_action([-1.0, 0.0])
    assert agent.setpoint == Setpoint(1.0)
    assert agent.result is not None
    assert agent.result.reasons == (ClipReason.DISCONNECTED,)
    assert agent.state.status_block.in_service == 0.0


def test_reset_forgets_the_episode() -> None:
    agent = generator()
    agent.apply_action([1.0, 0.0])
    agent.reset()
    assert agent.reading is None
    assert agent.result is None
    assert agent.setpoint == agent.safe_setpoint
    assert agent.state.electrical_base_ph.p_MW == 0.0


def test_a_reading_fills_the_features() -> None:
    agent = store(soc=0.7)
    electrical = agent.state.electrical_base_ph
    assert (electrical.p_MW, electrical.q_MVAr, electrical.v_pu) == (0.2, 0.05, 1.01)
    assert agent.state.storage_block.soc == 0.7
    assert agent.state.storage_block.e_stored_MWh == pytest.approx(1.4)


# Prices: each device serves its own interest.


@pytest.mark.parametrize(("price", "p"), [(20.0, 0.2), (42.0, 0.6), (45.0, 0.75), (90.0, 1.0)])
def test_a_generator_runs_where_its_marginal_cost_is_the_price(price: float, p: float) -> None:
    agent = generator()
    assert agent.propose(agent.respond_to_price(price)).p_mw == pytest.approx(p)


def test_a_price_may_come_as_the_coordinators_action() -> None:
    """As in the guide's own protocol, which hands the coordinator's action to each device."""
    agent = generator()
    expected = agent.respond_to_price(42.0).tolist()
    for price in (np.array([42.0]), np.array([42.0], np.float32), np.float32(42.0), [42.0], 42):
        assert agent.respond_to_price(price).tolist() == expected
    for wrong in (np.array([42.0, 43.0]), []):
        with pytest.raises(ValueError, match=r"a price of shape .* expected one number in \$/MWh"):
            agent.respond_to_price(wrong)


@pytest.mark.parametrize(("price", "p"), [(29.0, 0.2), (31.0, 1.0)])
def test_a_generator_of_constant_cost_is_on_or_off(price: float, p: float) -> None:
    agent = generator(cost_curve_coefs=(0.0, 30.0, 0.0))
    assert agent.propose(agent.respond_to_price(price)).p_mw == pytest.approx(p)


def test_a_store_buys_low_and_sells_high_and_rests_between() -> None:
    agent = store()
    agent.energy_value = 40.0
    asked = [agent.propose(agent.respond_to_price(p)).p_mw for p in (10.0, 40.0, 80.0)]
    assert asked == pytest.approx([-0.4, 0.0, 0.5])


def test_a_fuller_store_sells_sooner() -> None:
    def sold(soc: float) -> float:
        agent = store(soc=soc)
        agent.energy_value = 40.0
        return agent.propose(agent.respond_to_price(43.0)).p_mw

    assert sold(0.2) <= sold(0.5) < sold(0.85)


def test_a_source_curtails_only_when_injecting_costs_more() -> None:
    config = {"bus": "1", "p_rated_MW": 1.0, "curtailment_usd_per_mwh": 5.0}
    agent = ready(PV("pv", device_state_config=config))
    assert agent.propose(agent.respond_to_price(-4.0)).p_mw == 1.0
    assert agent.propose(agent.respond_to_price(-6.0)).p_mw == 0.0


def test_a_load_sheds_only_above_its_discomfort() -> None:
    config = {"bus": "1", "p_rated_MW": 0.3, "discomfort_usd_per_mwh": 200.0}
    agent = ready(ControllableLoad("l", device_state_config=config))
    assert agent.propose(agent.respond_to_price(199.0)).p_mw == pytest.approx(-0.3)
    assert agent.propose(agent.respond_to_price(201.0)).p_mw == pytest.approx(0.0)


def test_a_car_charges_at_any_price_until_it_has_what_it_needs() -> None:
    agent = ready(EVCharger("ev", device_state_config={"bus": "1", "v2g": True}))
    agent.energy_value = 40.0
    assert agent.propose(agent.respond_to_price(100.0)).p_mw == pytest.approx(-0.011)
    agent.take_reading(replace(READING, soc=0.95))
    assert agent.propose(agent.respond_to_price(100.0)).p_mw == pytest.approx(0.011)
    assert agent.propose(agent.respond_to_price(40.0)).p_mw == 0.0
    assert agent.propose(agent.respond_to_price(20.0)).p_mw == pytest.approx(-0.011)


# Time: storage is integrated over elapsed time.


def test_the_state_of_charge_follows_elapsed_time_and_not_the_number_of_calls() -> None:
    """A 2 MWh store at 0.5 MW once went from 0.5 to 0.9 in 16 seconds."""
    once, often = store(), store()
    for agent in (once, often):
        agent.apply_action([-1.0])
    once.update_state(dt=0.25)
    for _ in range(900):
        often.update_state(dt=1 / 3600)
    expected = 0.5 + 0.4 * 0.95 * 0.25 / 2.0
    assert once.state.storage_block.soc == pytest.approx(expected)
    assert often.state.storage_block.soc == pytest.approx(expected)


def test_discharging_takes_more_from_the_store_than_it_gives() -> None:
    agent = store()
    agent.apply_action([1.0])
    agent.update_state(dt=0.5)
    assert agent.state.storage_block.soc == pytest.approx(0.5 - 0.5 * 0.5 / 0.95 / 2.0)


def test_standing_alone_a_store_stops_at_its_window() -> None:
    agent = store()
    agent.apply_action([1.0])
    for _ in range(20):
        agent.update_state(dt=0.25)
    assert agent.state.storage_block.soc == pytest.approx(0.1)


def test_no_time_no_change() -> None:
    agent = store()
    agent.apply_action([1.0])
    agent.update_state(dt=0.0)
    assert agent.state.storage_block.soc == 0.5


def test_cost_of_a_generator_is_its_fuel() -> None:
    agent = generator()
    agent.update_cost_safety()
    assert agent.cost == pytest.approx((10 * 0.04 + 30 * 0.2) * 0.25)
    assert agent.safety == 0.0


@pytest.mark.parametrize(
    ("kind", "config", "named"),
    [
        (Generator, {"bus": "1", "p_max_mega": 2.0}, "p_max_mega"),
        (Generator, {"bus": "1", "p_max_MW": 1.0, "p_min_MW": 2.0}, "p_min_mw"),
        (Generator, {"p_max_MW": 1.0}, "bus"),
        (ESS, {"bus": "1", "soc_min": 0.9, "soc_max": 0.1}, "soc_min"),
        (ESS, {"bus": "1", "ch_eff": 1.5}, "ch_eff"),
        (PV, {"bus": "1", "p_rated_MW": float("nan")}, "p_rated_MW"),
        (PV, {"bus": "1", "p_rated_MW": 1.0, "q_min_MVAr": 2.0}, "q_min"),
    ],
)
def test_a_wrong_configuration_is_refused_by_key(
    kind: type[DeviceAgent], config: dict[str, object], named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        kind("dev", device_state_config=config)


def test_both_spellings_of_a_key_are_read() -> None:
    upper = Generator("g", device_state_config={"bus": "1", "p_max_MW": 3.0})
    lower = Generator("g", device_state_config={"bus": "1", "p_max_mw": 3.0})
    assert upper.config == lower.config
    assert upper.config.p_max_MW == 3.0  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        _ = upper.config.p_max_GW  # type: ignore[attr-defined]

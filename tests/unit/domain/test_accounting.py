"""Accounts of a step, each figure worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from heron.errors import ConfigError
from heron.powergrid.accounting import Accountant, account
from heron.powergrid.device_configs import (
    ControllableLoadConfig,
    EVChargerConfig,
    GeneratorConfig,
    PVConfig,
    StorageConfig,
)
from heron.powergrid.quantities import AreaReading, DeviceReading, Measurements, MeterReading
from heron.powergrid.setups import SetupConfig

CONFIG = {
    "penalty": 100.0,
    "share_reward": False,
    "microgrid_configs": [
        {
            "name": "MG1",
            "connection_bus": "DSO Bus 850",
            "devices": [
                {
                    "type": "Generator",
                    "name": "gen1",
                    "device_state_config": {
                        "bus": "Bus 633",
                        "p_max_MW": 1.0,
                        "cost_curve_coefs": [10.0, 30.0, 2.0],
                    },
                },
                {
                    "type": "ESS",
                    "name": "ess1",
                    "device_state_config": {
                        "bus": "Bus 671",
                        "e_capacity_MWh": 2.0,
                        "degradation_usd_per_mwh": 4.0,
                    },
                },
            ],
        },
        {
            "name": "MG2",
            "connection_bus": "DSO Bus 860",
            "devices": [
                {
                    "type": "PV",
                    "name": "pv2",
                    "device_state_config": {
                        "bus": "Bus 680",
                        "p_rated_MW": 1.0,
                        "curtailment_usd_per_mwh": 5.0,
                    },
                }
            ],
        },
    ],
}


class FlatPrices:
    """A price of 40 $/MWh on the day that begins at time 0; 1000 on any other day."""

    def day_ahead(self, time_s: float, column: str = "price") -> tuple[float, ...]:
        return (20.0, 60.0) if 0.0 <= time_s < 86_400.0 else (1000.0,)


def make_setup(**changes: object) -> SimpleNamespace:
    config = SetupConfig.model_validate({**CONFIG, **changes})
    return SimpleNamespace(config=config, profiles=FlatPrices())


def device(p: float, soc: float | None = None, available: float | None = None) -> DeviceReading:
    return DeviceReading(p, 0.0, 1.0, 1.0, 1.0, soc=soc, available_mw=available)


def area(under: float = 0.0, over: float = 0.0, overload: float = 0.0) -> AreaReading:
    return AreaReading(0.94, 1.06, under, over, 0, 50.0, overload, 0.5, under + over)


def meter(p: float) -> MeterReading:
    return MeterReading(p, 0.0, 1.0, 1.0, 1.0)


BEFORE = Measurements(
    step=0,
    time_s=0.0,
    dt_s=0.0,
    devices={"gen1": device(0.0), "ess1": device(0.0, 0.5), "pv2": device(0.0)},
    meters={"head": meter(0.0), "MG1": meter(0.0), "MG2": meter(0.0)},
    areas={"DSO": area(), "MG1": area(), "MG2": area()},
    price_usd_per_mwh=50.0,
    losses_mw=0.0,
)
AFTER = replace(
    BEFORE,
    step=1,
    time_s=900.0,
    dt_s=900.0,
    devices={"gen1": device(0.5), "ess1": device(0.2, 0.45), "pv2": device(0.6, None, 0.8)},
    meters={"head": meter(1.0), "MG1": meter(-0.3), "MG2": meter(0.1)},
    areas={"DSO": area(0.02, 0.03), "MG1": area(overload=0.1), "MG2": area(under=0.04)},
)

# By hand, a quarter of an hour at 50 $/MWh; the day's mean price is 40.
GEN1 = (10 * 0.25 + 30 * 0.5 + 2) * 0.25
ESS1 = 4 * 0.2 * 0.25
MG1 = GEN1 + ESS1 + 50 * 0.3 * 0.25 - 0.95 * 40 * (0.45 - 0.5) * 2.0
MG2 = 5 * 0.2 * 0.25 + 50 * -0.1 * 0.25
DSO = 50 * (1.0 - (0.3 - 0.1)) * 0.25
SAFETY = {"MG1": 0.1 * 0.25, "MG2": 0.04 * 0.25, "DSO": 0.05 * 0.25}


def test_costs_are_those_worked_out_by_hand() -> None:
    accounts = account(make_setup(), BEFORE, AFTER)
    assert accounts.agents["MG1"].cost_usd == pytest.approx(MG1)
    assert accounts.agents["MG2"].cost_usd == pytest.approx(MG2)
    assert accounts.agents["DSO"].cost_usd == pytest.approx(DSO)
    assert accounts.cost_usd == pytest.approx(MG1 + MG2 + DSO)
    assert accounts.agents["MG1"].device_cost_usd == pytest.approx({"gen1": GEN1, "ess1": ESS1})


def test_what_areas_pay_for_energy_adds_up_to_what_the_head_supplies() -> None:
    accounts = account(make_setup(), BEFORE, AFTER)
    own = GEN1 + ESS1 + 5 * 0.2 * 0.25
    stored = 0.95 * 40 * (0.45 - 0.5) * 2.0
    assert accounts.cost_usd == pytest.approx(own - stored + 50 * 1.0 * 0.25)


def test_safety_is_violation_and_overload_over_time() -> None:
    accounts = account(make_setup(), BEFORE, AFTER)
    assert {k: a.safety for k, a in accounts.agents.items()} == pytest.approx(SAFETY)
    assert accounts.safety == pytest.approx(sum(SAFETY.values()))
    assert accounts.violation_pu == pytest.approx(0.02 + 0.03 + 0.04)
    assert accounts.agents["MG1"].v_min_pu == 0.94
    assert accounts.agents["MG1"].v_max_pu == 1.06


def test_unshared_reward_counts_own_cost_and_own_and_the_feeders_safety() -> None:
    agents = account(make_setup(), BEFORE, AFTER).agents
    assert agents["MG1"].reward == pytest.approx(-MG1 - 100 * (SAFETY["MG1"] + SAFETY["DSO"]))
    assert agents["MG2"].reward == pytest.approx(-MG2 - 100 * (SAFETY["MG2"] + SAFETY["DSO"]))
    assert agents["DSO"].reward == pytest.approx(-DSO - 100 * SAFETY["DSO"])


def test_shared_reward_is_the_whole_divided_by_the_microgrids() -> None:
    accounts = account(make_setup(share_reward=True), BEFORE, AFTER)
    total = -(MG1 + MG2 + DSO) - 100 * sum(SAFETY.values())
    assert accounts.reward == pytest.approx(total)
    assert accounts.agents["MG1"].reward == pytest.approx(total / 2)
    assert accounts.agents["MG2"].reward == pytest.approx(total / 2)


def test_the_total_is_the_same_however_rewards_are_shared() -> None:
    shared = account(make_setup(share_reward=True), BEFORE, AFTER)
    assert shared.reward == account(make_setup(), BEFORE, AFTER).reward


def test_cost_is_proportional_to_the_length_of_the_step() -> None:
    accountant = Accountant(make_setup())
    still = replace(AFTER, devices={**AFTER.devices, "ess1": device(0.2, 0.5)})
    short = accountant.account(BEFORE, still)
    long = accountant.account(BEFORE, replace(still, dt_s=3600.0))
    assert long.cost_usd == pytest.approx(4 * short.cost_usd)
    assert long.safety == pytest.approx(4 * short.safety)


def test_stored_energy_is_valued_at_the_price_of_the_day_on_which_the_step_began() -> None:
    accountant = Accountant(make_setup())
    before = replace(BEFORE, time_s=86_400.0 - 900.0)
    after = replace(AFTER, time_s=86_400.0)
    assert accountant.account(before, after).cost_usd == pytest.approx(MG1 + MG2 + DSO)


def test_over_several_days_what_is_in_store_at_midnight_is_worth_what_the_next_day_makes_it() -> (
    None
):
    accountant = Accountant(make_setup(max_episode_steps=192))
    before = replace(BEFORE, time_s=86_400.0 - 900.0)
    after = replace(AFTER, time_s=86_400.0)
    turn = 0.95 * (1000.0 - 40.0) * 0.45 * 2.0
    assert accountant.account(before, after).cost_usd == pytest.approx(MG1 + MG2 + DSO - turn)
    assert accountant.account(BEFORE, AFTER).cost_usd == pytest.approx(MG1 + MG2 + DSO)


def test_booking_energy_in_on_a_dear_day_and_out_on_a_cheap_one_earns_nothing() -> None:
    accountant = Accountant(make_setup(max_episode_steps=192))
    path = [(86_400.0 - 900.0, 0.5), (86_400.0, 0.6), (86_400.0 + 900.0, 0.8), (87_300.0, 0.5)]
    seen = [
        replace(
            BEFORE,
            time_s=time_s,
            dt_s=900.0,
            price_usd_per_mwh=0.0,
            devices={**BEFORE.devices, "ess1": device(0.0, soc)},
        )
        for time_s, soc in path
    ]
    accounts = [accountant.account(seen[i], seen[i + 1]) for i in range(3)]
    fuel = 3 * 2.0 * 0.25
    gained = 0.95 * (1000.0 - 40.0) * 0.5 * 2.0
    assert sum(a.cost_usd for a in accounts) == pytest.approx(fuel - gained)


def test_charging_and_discharging_back_is_not_rewarded() -> None:
    """Hoarding charge earns nothing by itself: the worth of the store telescopes."""
    accountant = Accountant(make_setup())
    full = replace(AFTER, devices={**AFTER.devices, "ess1": device(0.0, 0.8)})
    back = replace(AFTER, devices={**AFTER.devices, "ess1": device(0.0, 0.5)})
    idle = replace(AFTER, devices={**AFTER.devices, "ess1": device(0.0, 0.5)})
    there = accountant.account(BEFORE, full).agents["MG1"].cost_usd
    again = accountant.account(replace(full, time_s=900.0), back).agents["MG1"].cost_usd
    rest = accountant.account(BEFORE, idle).agents["MG1"].cost_usd
    assert there + again == pytest.approx(2 * rest)


def test_missing_measurements_are_named() -> None:
    with pytest.raises(ConfigError, match="pv2"):
        account(make_setup(), BEFORE, _without("pv2"))


def _without(name: str) -> Measurements:
    return replace(AFTER, devices={k: v for k, v in AFTER.devices.items() if k != name})


def test_a_generator_that_may_be_off_costs_nothing_when_off_and_its_start_when_it_starts() -> None:
    config = GeneratorConfig(
        bus="1",
        cost_curve_coefs=(0.0, 10.0, 5.0),
        unit_commitment=True,
        startup_cost_usd=7.0,
    )
    off, on = device(0.0), device(1.0)
    assert config.one_off_usd(off, off, 0.0, 3600.0) == 0.0
    assert config.one_off_usd(off, on, 0.0, 3600.0) == 7.0
    assert config.one_off_usd(on, on, 0.0, 3600.0) == 0.0
    assert (config.cost_usd_per_h(off), config.cost_usd_per_h(on)) == (0.0, 15.0)


def test_a_generator_that_has_tripped_burns_no_fuel() -> None:
    config = GeneratorConfig(bus="1", cost_curve_coefs=(0.0, 10.0, 5.0))
    assert config.cost_usd_per_h(device(0.0)) == 5.0
    assert config.cost_usd_per_h(replace(device(0.0), connected=False)) == 0.0


def test_curtailment_is_counted_only_where_it_is_known() -> None:
    config = PVConfig(bus="1", p_rated_mw=1.0, curtailment_usd_per_mwh=5.0)
    assert config.cost_usd_per_h(device(0.4, available=0.6)) == pytest.approx(1.0)
    assert config.cost_usd_per_h(device(0.4)) == 0.0


def test_a_load_that_is_shed_costs_discomfort() -> None:
    config = ControllableLoadConfig(bus="1", p_rated_mw=1.0, discomfort_usd_per_mwh=200.0)
    assert config.cost_usd_per_h(device(-0.4, available=-0.6)) == pytest.approx(40.0)
    assert config.cost_usd_per_h(device(-0.6, available=-0.6)) == 0.0
    assert config.cost_usd_per_h(device(-0.6)) == 0.0


def test_a_car_that_leaves_short_of_charge_costs_once() -> None:
    config = EVChargerConfig(
        bus="1", e_capacity_mwh=0.1, departure_hour=7.0, arrival_hour=18.0, soc_target=0.9
    )
    leaving, staying = 6.75 * 3600.0, 6.0 * 3600.0
    short, charged = device(0.0, 0.5), device(0.0, 0.95)
    assert config.one_off_usd(short, short, leaving, 900.0) == pytest.approx(300.0 * 0.04)
    assert config.one_off_usd(charged, charged, leaving, 900.0) == 0.0
    assert config.one_off_usd(short, short, staying, 900.0) == 0.0
    assert config.one_off_usd(short, short, leaving + 900.0, 900.0) == 0.0


def test_stored_energy_is_the_state_of_charge_times_the_capacity() -> None:
    config = StorageConfig(bus="1", e_capacity_mwh=4.0)
    assert config.stored_mwh(device(0.0, 0.25)) == 1.0

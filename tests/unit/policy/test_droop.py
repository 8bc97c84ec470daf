from __future__ import annotations

import numpy as np
import pytest

from heron.policy import FieldSpec, PolicyCodec, SetpointSpec
from heron.policy.droop import DROOP_RANGES, DroopPolicy, DroopSettings

CODEC = PolicyCodec(
    "MG1",
    (
        FieldSpec("MG1", "MarketSignal", "price", "$/MWh", 50.0),
        FieldSpec("MG1", "MarketSignal", "day_mean", "$/MWh", 50.0),
        FieldSpec("MG1", "BusVoltages", "v_min", "pu"),
        FieldSpec("MG1", "BusVoltages", "v_max", "pu"),
        FieldSpec("MG1", "NetworkMetrics", "p_MW", "MW"),
        FieldSpec("ess1", "ElectricalBasePh", "v_pu", "pu"),
        FieldSpec("ess1", "ElectricalBasePh", "q_MVAr", "Mvar"),
    ),
    (
        SetpointSpec("gen1", "p_mw", 0.1, 1.0),
        SetpointSpec("ess1", "p_mw", -0.5, 0.5, "centred"),
        SetpointSpec("ess1", "q_mvar", -0.1, 0.2, "centred"),
        SetpointSpec("pv1", "p_mw", 0.0, 0.5, "ceiling"),
    ),
)
CURVES = {"gen1": (12.0, 32.0)}


def seen(price: float = 40.0, v: float = 1.0, p_mw: float = 0.0, mean: float = 40.0) -> np.ndarray:
    return np.array([price / 50.0, mean / 50.0, v, v, p_mw, v, 0.0], dtype=np.float32)


def values(action: np.ndarray) -> list[float]:
    return [s.decode(float(x)) for s, x in zip(CODEC.setpoints, action, strict=True)]


def droop(**settings: float) -> DroopPolicy:
    return DroopPolicy(CODEC, CURVES, DroopSettings(**settings))


def test_store_follows_the_thresholds_of_the_days_mean() -> None:
    policy = droop(charge_below=0.8, discharge_above=1.2, ramp_usd_per_mwh=2.0)
    assert values(policy.act(seen(price=40.0)))[1] == 0.0
    assert values(policy.act(seen(price=30.0)))[1] == pytest.approx(-0.5)
    assert values(policy.act(seen(price=50.0)))[1] == pytest.approx(0.5)
    assert values(policy.act(seen(price=49.0)))[1] == pytest.approx(0.25, abs=1e-3)


def test_generator_runs_where_its_marginal_cost_meets_the_worth_of_power() -> None:
    assert values(droop().act(seen(price=44.0)))[0] == pytest.approx(0.5, abs=1e-4)
    imports = droop(exchange_usd_per_mwh_mw=10.0).act(seen(price=44.0, p_mw=-0.6))
    assert values(imports)[0] == pytest.approx(0.75, abs=1e-4)


def test_low_voltage_makes_power_worth_more_and_high_voltage_less() -> None:
    policy = droop(v_dead_pu=0.01, volts_usd_per_mwh_pu=600.0)
    low, normal, high = (values(policy.act(seen(44.0, v)))[0] for v in (0.98, 1.0, 1.02))
    assert low == pytest.approx(0.75, abs=1e-3)
    assert normal == pytest.approx(0.5, abs=1e-3)
    assert high == pytest.approx(0.25, abs=1e-3)


def test_reactive_power_goes_a_part_of_the_way_to_the_droop() -> None:
    policy = droop(v_dead_pu=0.01, v_full_pu=0.05, response=0.5)
    assert values(policy.act(seen(v=0.97)))[2] == pytest.approx(0.05, abs=1e-4)
    assert values(policy.act(seen(v=1.005)))[2] == 0.0
    assert values(policy.act(seen(v=1.09)))[2] == pytest.approx(-0.05, abs=1e-4)


def test_sun_is_cut_back_where_the_voltage_is_too_high() -> None:
    policy = droop(curtail_from_pu=1.05, curtail_over_pu=0.04)
    assert values(policy.act(seen(v=1.04)))[3] == 0.5
    assert values(policy.act(seen(v=1.07)))[3] == pytest.approx(0.25, abs=1e-3)


def test_many_observations_at_once_give_what_each_gives() -> None:
    policy = droop(volts_usd_per_mwh_pu=300.0, exchange_usd_per_mwh_mw=5.0)
    rows = np.stack([seen(30.0, 0.96), seen(55.0, 1.03, 0.4), seen(41.0, 1.08, -0.9)])
    assert policy.act(rows) == pytest.approx(np.stack([policy.act(row) for row in rows]))


def test_every_setting_has_a_range_that_holds_its_default() -> None:
    defaults = DroopSettings()
    for name in DroopSettings.__slots__:
        low, high = DROOP_RANGES[name]
        assert low <= getattr(defaults, name) <= high

import pytest

from edge.fallback import (
    BumplessReturn,
    FallbackName,
    Ieee1547Curves,
    SafeSetpoint,
    make_fallback,
)
from heron.powergrid.device_configs import GeneratorConfig, PVConfig
from heron.powergrid.quantities import DeviceReading, Setpoint

PV = PVConfig(
    bus="b", p_rated_mw=1.0, s_rated_mva=1.0, q_min_mvar=-0.5, q_max_mvar=0.5, safe_p_mw=1.0
)


def at(v_pu: float) -> DeviceReading:
    return DeviceReading(p_mw=0.5, q_mvar=0.0, v_pu=v_pu, v_min_pu=v_pu, v_max_pu=v_pu)


@pytest.mark.parametrize(
    ("v_pu", "q_mvar"), [(0.90, 0.44), (0.95, 0.22), (1.0, 0.0), (1.05, -0.22), (1.10, -0.44)]
)
def test_volt_var_follows_the_default_curve_of_category_b(v_pu: float, q_mvar: float) -> None:
    rule = make_fallback(FallbackName.IEEE1547, PV)
    assert rule.setpoint(at(v_pu)).q_mvar == pytest.approx(q_mvar)


def test_volt_watt_limits_active_power_at_high_voltage() -> None:
    rule = Ieee1547Curves(PV)
    low, high = rule.setpoint(at(1.0)).p_mw, rule.setpoint(at(1.08)).p_mw
    assert low == 1.0
    assert high < 0.9


def test_without_a_trusted_voltage_the_curves_give_the_safe_setpoint() -> None:
    assert Ieee1547Curves(PV).setpoint(None) == Setpoint(1.0, 0.0)


def test_a_generator_keeps_its_safe_setpoint() -> None:
    rule = make_fallback(FallbackName.IEEE1547, GeneratorConfig(bus="b", safe_p_mw=0.2))
    assert isinstance(rule, SafeSetpoint)
    assert rule.setpoint(at(1.1)) == Setpoint(0.2, 0.0)


def test_a_return_within_one_long_interval_is_not_delayed() -> None:
    back = BumplessReturn(60.0)
    back.holds(Setpoint(0.0))
    back.start()
    assert back.towards(Setpoint(0.4), 900.0) == Setpoint(0.4)


def test_outside_a_return_setpoints_pass_unchanged() -> None:
    back = BumplessReturn(60.0)
    back.holds(Setpoint(0.0))
    assert back.towards(Setpoint(0.4), 1.0) == Setpoint(0.4)


def test_a_return_that_takes_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="over_s"):
        BumplessReturn(0.0)

"""The curves of IEEE 1547-2018, against the standard's points and EPRI's OpenDER."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heron.errors import ConfigError
from heron.powergrid.device_configs import PVConfig, StorageConfig
from heron.powergrid.ieee1547 import (
    VOLT_VAR_A,
    VOLT_VAR_B,
    VoltVarCurve,
    VoltWattCurve,
    autonomous_setpoint,
    lagged,
    volt_var,
    volt_watt,
)

PV = PVConfig(bus="Bus 675", p_rated_mw=1.0, s_rated_mva=1.1, q_min_mvar=-0.6, q_max_mvar=0.6)


@pytest.mark.parametrize(
    ("v_pu", "q_share"),
    [(0.8, 0.44), (0.92, 0.44), (0.95, 0.22), (0.98, 0.0), (1.0, 0.0), (1.05, -0.22), (1.2, -0.44)],
)
def test_category_b_absorbs_when_voltage_is_high(v_pu: float, q_share: float) -> None:
    assert float(volt_var(v_pu)) == pytest.approx(q_share)


def test_category_a_has_no_dead_band() -> None:
    np.testing.assert_allclose(
        volt_var(np.array([0.95, 1.0, 1.05]), VOLT_VAR_A), [0.125, 0, -0.125]
    )


@pytest.mark.parametrize(("v_pu", "p_share"), [(1.0, 1.0), (1.06, 1.0), (1.08, 0.5), (1.15, 0.0)])
def test_volt_watt_takes_power_back_above_its_start(v_pu: float, p_share: float) -> None:
    assert float(volt_watt(v_pu)) == pytest.approx(p_share)


def test_lag_reaches_nine_tenths_in_the_response_time() -> None:
    assert float(lagged(0.0, 1.0, 5.0, 5.0)) == pytest.approx(0.9)
    assert float(lagged(0.3, 1.0, 5.0, 0.0)) == 1.0
    halves = lagged(lagged(0.2, 1.0, 2.0, 5.0), 1.0, 3.0, 5.0)
    assert float(halves) == pytest.approx(float(lagged(0.2, 1.0, 5.0, 5.0)))


@given(v_pu=st.floats(0.5, 1.5), p_mw=st.floats(-2.0, 2.0))
def test_answer_stays_within_range_and_rating(v_pu: float, p_mw: float) -> None:
    for config in (PV, StorageConfig(bus="b", s_rated_mva=1.0, q_min_mvar=-0.5, q_max_mvar=0.5)):
        answer = autonomous_setpoint(config, v_pu, p_mw)
        low, high = config.p_range_mw
        assert low <= answer.p_mw <= high
        assert config.q_range_mvar[0] <= answer.q_mvar <= config.q_range_mvar[1]
        assert answer.p_mw**2 + answer.q_mvar**2 <= (config.s_max_mva or 0.0) ** 2 + 1e-9


def test_active_power_gives_way_to_reactive_power() -> None:
    answer = autonomous_setpoint(PV, 1.08, 1.0, volt_watt_curve=VoltWattCurve((1.09, 1.1)))
    assert answer.q_mvar == pytest.approx(-0.484)
    assert answer.p_mw == pytest.approx(np.sqrt(1.1**2 - 0.484**2))


def test_charging_is_not_limited_by_high_voltage() -> None:
    battery = StorageConfig(bus="b", p_max_mw=0.5, p_min_mw=-0.5)
    assert autonomous_setpoint(battery, 1.2, -0.4).p_mw == -0.4
    assert autonomous_setpoint(battery, 1.2, 0.4).p_mw == 0.0


def test_crossed_curves_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        VoltVarCurve((0.98, 0.92, 1.02, 1.08), (0.0, 0.44, 0.0, -2.0))
    assert len(caught.value.problems) == 3
    with pytest.raises(ConfigError, match="V1 < V2"):
        VoltWattCurve((1.1, 1.06))


def test_curves_agree_with_opender(monkeypatch: pytest.MonkeyPatch) -> None:
    from opender import DER, DER_PV

    # A step far above every response time: the steady state.
    monkeypatch.setattr(DER, "t_s", 3600.0)

    rated_va, rated_w = 110e3, 100e3
    for v in np.linspace(0.89, 1.09, 41).tolist():
        der = DER_PV()
        der.der_file.NP_VA_MAX = rated_va
        der.der_file.NP_P_MAX = rated_w
        der.der_file.NP_Q_MAX_INJ = der.der_file.NP_Q_MAX_ABS = 0.44 * rated_va
        der.der_file.NP_NORMAL_OP_CAT = "CAT_B"
        der.der_file.NP_EFFICIENCY = 1.0
        der.der_file.QV_MODE_ENABLE = "ENABLED"
        der.der_file.CONST_PF_MODE_ENABLE = "DISABLED"
        der.der_file.PV_MODE_ENABLE = "ENABLED"
        der.der_file.PV_CURVE_P2 = 0.0
        der.update_der_input(v_pu=v, f=60.0, p_dc_w=rated_w)
        der.reinitialize()
        for _ in range(3):
            p_w, q_var = der.run()
        config = PV.model_copy(update={"p_rated_mw": 0.1, "s_rated_mva": 0.11})
        ours = autonomous_setpoint(config, v, 0.1, VOLT_VAR_B)
        assert ours.q_mvar * 1e6 == pytest.approx(q_var, abs=1.0)
        assert ours.p_mw * 1e6 == pytest.approx(p_w, abs=1.0)

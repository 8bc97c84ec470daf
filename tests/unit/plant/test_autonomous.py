"""Inverters with autonomous functions inside the plant, beside EPRI's OpenDER."""

from typing import Any

import numpy as np
import pytest

from heron.powergrid.device_configs import DeviceConfig
from heron.powergrid.ieee1547 import autonomous_setpoint
from heron.powergrid.quantities import ClipReason, Setpoint
from heron.powergrid.setups import Setup, as_setup, load_setup
from simulator import BatchPlant, Plant

SUNNY = 150 * 86_400.0 + 11 * 3600.0


def with_mode(mode: str) -> Setup:
    plain: dict[str, Any] = load_setup("ieee34_ieee13")
    for microgrid in plain["microgrid_configs"]:
        for device in microgrid["devices"]:
            if device["type"] != "Generator":
                device["device_state_config"]["autonomous"] = mode
    return as_setup(plain)


def config_of(setup: Setup, device: str) -> DeviceConfig:
    return setup.config.device(device).device_state_config


@pytest.fixture
def plant() -> Plant:
    plant = Plant(with_mode("volt_var_volt_watt"))
    plant.reset(start_s=SUNNY)
    return plant


def test_inverters_and_network_come_to_rest_on_the_curve(plant: Plant) -> None:
    for _ in range(4):
        after = plant.step({"ess3": Setpoint(0.3)}, 900.0)
        for name in ("pv1", "pv2", "pv3", "ess1", "ess3"):
            reading = after.devices[name]
            wanted = autonomous_setpoint(config_of(plant.setup, name), reading.v_pu, 1.0)
            assert reading.q_mvar == pytest.approx(wanted.q_mvar, abs=2e-4)


def test_volt_var_takes_over_voltage_back() -> None:
    high = 232 * 86_400.0 + 11 * 3600.0
    violation = {}
    for mode in ("off", "volt_var"):
        plant = Plant(with_mode(mode))
        plant.reset(start_s=high)
        steps = [plant.step({}, 900.0) for _ in range(6)]
        violation[mode] = sum(a.overvoltage_pu for m in steps for a in m.areas.values())
    assert steps[-1].devices["pv2"].q_mvar < -0.05
    assert violation["off"] > 0.01
    assert violation["volt_var"] < 0.5 * violation["off"]


def test_reactive_set_point_is_ignored_and_the_report_says_so(plant: Plant) -> None:
    one = plant.step({"pv2": Setpoint(1.0, 0.3)}, 900.0)
    (clip,) = [c for c in one.clipped if c.device_id == "pv2"]
    assert ClipReason.DEVICE_RULE in clip.reasons
    assert clip.asked.q_mvar == 0.3
    assert clip.applied.q_mvar < 0.0


def test_active_set_point_and_other_devices_stay_in_command(plant: Plant) -> None:
    after = plant.step({"pv2": Setpoint(0.2), "gen1": Setpoint(0.5, 0.1)}, 900.0)
    assert after.devices["pv2"].p_mw == pytest.approx(0.2, abs=1e-6)
    assert (after.devices["gen1"].p_mw, after.devices["gen1"].q_mvar) == (0.5, 0.1)


def test_batch_does_what_single_plants_do(plant: Plant) -> None:
    batch = BatchPlant(plant.setup, 2)
    batch.reset(np.array([SUNNY, SUNNY + 40 * 86_400.0]))
    start = batch.measurements
    for _ in range(3):
        single = plant.step({}, 900.0)
        together = batch.step(start.p_set_mw, start.q_set_mvar, 900.0)
    q = [d.q_mvar for d in single.devices.values()]
    np.testing.assert_allclose(together.q_mvar[0], q, atol=1e-9)


def test_opender_would_do_the_same_at_the_voltage_it_came_to(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opender import DER, DER_PV

    monkeypatch.setattr(DER, "t_s", 3600.0)
    after = plant.step({}, 900.0)
    for name in ("pv1", "pv2", "pv3"):
        reading, config = after.devices[name], config_of(plant.setup, name)
        assert config.s_max_mva is not None
        der = DER_PV()
        der.der_file.NP_NORMAL_OP_CAT = "CAT_B"
        der.der_file.NP_EFFICIENCY = 1.0
        der.der_file.NP_VA_MAX = config.s_max_mva * 1e6
        der.der_file.NP_P_MAX = config.p_range_mw[1] * 1e6
        der.der_file.NP_Q_MAX_INJ = der.der_file.NP_Q_MAX_ABS = 0.44 * config.s_max_mva * 1e6
        der.der_file.QV_MODE_ENABLE = "ENABLED"
        der.der_file.CONST_PF_MODE_ENABLE = "DISABLED"
        der.der_file.PV_MODE_ENABLE = "ENABLED"
        der.der_file.PV_CURVE_P2 = 0.0
        assert reading.available_mw is not None
        der.update_der_input(v_pu=reading.v_pu, f=60.0, p_dc_w=reading.available_mw * 1e6)
        der.reinitialize()
        for _ in range(3):
            p_w, q_var = der.run()
        assert reading.p_mw * 1e6 == pytest.approx(p_w, abs=100.0)
        limit = config.q_range_mvar[0] * 1e6
        assert reading.q_mvar * 1e6 == pytest.approx(max(q_var, limit), abs=200.0)

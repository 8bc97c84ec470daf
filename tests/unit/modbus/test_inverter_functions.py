"""Functions of an inverter's own that masters switch on, from the register to the power flow."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest

from heron.powergrid.device_configs import PVConfig
from heron.powergrid.ieee1547 import VoltVarCurve, VoltWattCurve, volt_var, volt_watt
from heron.powergrid.inverter_functions import (
    InverterFunctions,
    PowerFactor,
    ShareOfAvailable,
    VoltVar,
    WattVar,
    answer_power,
)
from heron.powergrid.quantities import ClipReason, DeviceReading, Measurements, Setpoint
from heron.powergrid.registers import site_plan
from heron.powergrid.setups import read_setup
from simulator import Plant
from simulator.modbus.der import DerImage
from simulator.modbus.image import RefusalError
from simulator.modbus.site import EmulatedSite

SETUP = read_setup("single_microgrid")
SUNNY = 150 * 86_400.0 + 11.5 * 3600.0
READING = DeviceReading(0.1, 0.0, 1.0, 1.0, 1.0, soc=0.5)
UTILITY = ((95.0, 30.0), (97.0, 0.0), (99.0, 0.0), (103.0, -30.0))


@pytest.fixture
def plant() -> Plant:
    plant = Plant(SETUP)
    plant.reset(start_s=SUNNY)
    return plant


@pytest.fixture
def site(plant: Plant) -> EmulatedSite:
    plan = site_plan(SETUP.config, (123, 705, 706, 712))
    return EmulatedSite(plan, dict(plant.measurements.setpoints), lambda step: False)


def pv(site: EmulatedSite) -> DerImage:
    image = site.devices["pv1"]
    assert isinstance(image, DerImage)
    return image


def write(image: DerImage, **values: float) -> None:
    """Write points, each in a request of its own; ``_`` after the number stands for the dot."""
    for name, value in values.items():
        point = name.removeprefix("m").replace("_", ".", 1)
        send(image, {point: value})


def send(image: DerImage, values: Mapping[str, float]) -> None:
    request = image.table.registers.run(dict(values))
    image.write(request.address, request.data)


def write_curve(
    image: DerImage, model: int, corners: tuple[tuple[float, float], ...], n: int = 2
) -> None:
    axes = {705: ("V", "Var"), 706: ("V", "W"), 712: ("W", "Var")}[model]
    for i, corner in enumerate(corners, 1):
        for axis, value in zip(axes, corner, strict=True):
            send(image, {f"{model}.Crv[{n}].Pt[{i}].{axis}": value})
    send(image, {f"{model}.Crv[{n}].ActPt": len(corners)})
    send(image, {f"{model}.AdptCrvReq": n})


def run(plant: Plant, site: EmulatedSite) -> Measurements:
    return plant.step(site.setpoints(), 900.0, site.functions())


def q_base(name: str = "pv1") -> float:
    return SETUP.config.device(name).device_state_config.s_max_mva or 0.0


def test_nothing_is_switched_on_to_begin_with(site: EmulatedSite, plant: Plant) -> None:
    assert site.functions() == {}
    once, again = run(plant, site), Plant(SETUP)
    again.reset(start_s=SUNNY)
    assert again.step({}, 900.0).devices == once.devices


def test_a_volt_var_curve_is_written_adopted_and_obeyed(site: EmulatedSite, plant: Plant) -> None:
    image = pv(site)
    before = run(plant, site).devices["pv1"]
    write_curve(image, 705, UTILITY)
    assert image.value("705.AdptCrvRslt") == 1
    assert image.value("705.Crv[1].Pt[4].V") == 103.0
    assert site.functions() == {}
    write(image, m705_Ena=1)
    after = run(plant, site)
    reading = after.devices["pv1"]
    curve = VoltVarCurve((0.95, 0.97, 0.99, 1.03), (0.3, 0.0, 0.0, -0.3))
    wanted = max(float(volt_var(reading.v_pu, curve)) * q_base(), -0.3 * q_base())
    assert wanted < -0.01
    assert reading.q_mvar == pytest.approx(wanted, abs=2e-4)
    assert reading.v_pu < before.v_pu
    assert {c.device_id: c.reasons for c in after.clipped}["pv1"] == (ClipReason.DEVICE_RULE,)
    write(image, m705_Ena=0)
    assert run(plant, site).devices["pv1"].q_mvar == 0.0


def test_opender_answers_a_utilitys_curve_in_the_same_way(
    site: EmulatedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opender import DER, DER_PV

    monkeypatch.setattr(DER, "t_s", 3600.0)
    write_curve(pv(site), 705, UTILITY)
    write_curve(pv(site), 706, ((104.0, 100.0), (107.0, 20.0)))
    write(pv(site), m705_Ena=1, m706_Ena=1)
    functions = pv(site).functions()
    assert isinstance(functions.reactive, VoltVar)
    assert functions.volt_watt is not None
    for v in np.linspace(0.93, 1.09, 33).tolist():
        der = DER_PV()
        der.der_file.NP_VA_MAX, der.der_file.NP_P_MAX = 110e3, 100e3
        der.der_file.NP_Q_MAX_INJ = der.der_file.NP_Q_MAX_ABS = 0.44 * 110e3
        der.der_file.NP_NORMAL_OP_CAT = "CAT_B"
        der.der_file.NP_EFFICIENCY = 1.0
        der.der_file.QV_MODE_ENABLE = der.der_file.PV_MODE_ENABLE = "ENABLED"
        der.der_file.CONST_PF_MODE_ENABLE = "DISABLED"
        for k, (volts, share) in enumerate(UTILITY, 1):
            setattr(der.der_file, f"QV_CURVE_V{k}", volts / 100.0)
            setattr(der.der_file, f"QV_CURVE_Q{k}", share / 100.0)
        der.der_file.PV_CURVE_V1, der.der_file.PV_CURVE_V2 = 1.04, 1.07
        der.der_file.PV_CURVE_P2 = 0.2
        der.update_der_input(v_pu=v, f=60.0, p_dc_w=100e3)
        der.reinitialize()
        for _ in range(3):
            p_w, q_var = der.run()
        assert 110e3 * float(volt_var(v, functions.reactive.curve)) == pytest.approx(q_var, abs=1)
        assert 100e3 * float(volt_watt(v, functions.volt_watt)) == pytest.approx(p_w, abs=1)


def test_volt_watt_takes_power_back_and_leaves_reactive_power_alone(
    site: EmulatedSite, plant: Plant
) -> None:
    image = pv(site)
    for write_ in image.table.encode_setpoint(Setpoint(10.0, -0.02)):
        image.write(write_.address, write_.data)
    free = run(plant, site).devices["pv1"]
    write_curve(image, 706, ((97.0, 100.0), (103.0, 0.0)))
    write(image, m706_Ena=1)
    cut = run(plant, site).devices["pv1"]
    curve = VoltWattCurve((0.97, 1.03), 0.0)
    rated = SETUP.config.device("pv1").device_state_config.p_range_mw[1]
    assert cut.p_mw < free.p_mw
    most = float(volt_watt(cut.v_pu, curve)) * rated
    assert cut.p_mw == pytest.approx(most, abs=2e-3)
    assert cut.q_mvar == pytest.approx(-0.02, abs=1e-6)


@pytest.mark.parametrize(("under", "sign"), [(0, 1.0), (1, -1.0)])
def test_power_factor_follows_the_weather(
    site: EmulatedSite, plant: Plant, under: int, sign: float
) -> None:
    send(pv(site), {"704.PFWInj.PF": 0.95, "704.PFWInj.Ext": under})
    write(pv(site), m704_PFWInjEna=1)
    assert pv(site).functions().reactive == PowerFactor(sign * 0.95)
    for _ in range(4):
        reading = run(plant, site).devices["pv1"]
        assert reading.p_mw > 0.0
        expected = sign * reading.p_mw * math.tan(math.acos(0.95))
        assert reading.q_mvar == pytest.approx(expected, rel=1e-9)


def test_a_battery_has_a_power_factor_for_either_direction(
    site: EmulatedSite, plant: Plant
) -> None:
    image = site.devices["ess1"]
    assert isinstance(image, DerImage)
    send(image, {"704.PFWInj.PF": 0.9, "704.PFWInj.Ext": 1})
    send(image, {"704.PFWAbs.PF": 0.98, "704.PFWAbs.Ext": 0})
    write(image, m704_PFWInjEna=1, m704_PFWAbsEna=1)
    for asked, expected in ((0.2, -0.2 * math.tan(math.acos(0.9))), (-0.2, 0.2 * 0.2030586)):
        send(image, {"704.WSet": asked * 1e6})
        write(image, m704_WSetEna=1)
        assert run(plant, site).devices["ess1"].q_mvar == pytest.approx(expected, rel=1e-6)


def test_var_of_what_is_available_follows_active_power(site: EmulatedSite, plant: Plant) -> None:
    write(pv(site), m704_VarSetMod=2, m704_VarSetPct=-25.0, m704_VarSetEna=1)
    assert pv(site).functions().reactive == ShareOfAvailable(-0.25)
    reading = run(plant, site).devices["pv1"]
    left = math.sqrt(q_base() ** 2 - reading.p_mw**2)
    assert reading.q_mvar == pytest.approx(-0.25 * left, rel=1e-9)


def test_watt_var_follows_active_power(site: EmulatedSite, plant: Plant) -> None:
    write_curve(pv(site), 712, ((0.0, 0.0), (20.0, 10.0), (100.0, -30.0)))
    write(pv(site), m712_Ena=1)
    rule = pv(site).functions().reactive
    assert isinstance(rule, WattVar)
    reading = run(plant, site).devices["pv1"]
    assert reading.q_mvar == pytest.approx(float(np.interp(reading.p_mw, rule.p_mw, rule.q_mvar)))
    assert reading.q_mvar != 0.0


def test_who_switches_a_reactive_function_on_switches_the_others_off(site: EmulatedSite) -> None:
    image = pv(site)
    write(image, m705_Ena=1)
    write(image, m712_Ena=1)
    assert (image.value("705.Ena"), image.value("712.Ena")) == (0, 1)
    write(image, m704_PFWInjEna=1, m704_PFWAbsEna=1, m706_Ena=1)
    names = ("712.Ena", "704.PFWInjEna", "704.PFWAbsEna", "706.Ena")
    assert [image.value(n) for n in names] == [0, 1, 1, 1]
    for request in image.table.encode_setpoint(Setpoint(0.2, 0.05), 60.0):
        image.write(request.address, request.data)
    names = ("704.VarSetEna", "704.PFWInjEna", "704.PFWAbsEna", "706.Ena")
    assert [image.value(n) for n in names] == [1, 0, 0, 1]
    write(image, m123_OutPFSet_Ena=1)
    assert (image.value("704.VarSetEna"), image.value("123.OutPFSet_Ena")) == (0, 1)


@pytest.mark.parametrize(
    ("model", "corners"),
    [
        (705, ((103.0, 30.0), (97.0, 0.0), (99.0, 0.0), (95.0, -30.0))),
        (705, ((95.0, -30.0), (97.0, 0.0), (99.0, 0.0), (103.0, 30.0))),
        (706, ((106.0, 90.0), (110.0, 0.0))),
        (712, ((50.0, 0.0), (20.0, 10.0))),
    ],
)
def test_a_curve_that_makes_no_sense_is_not_adopted(
    site: EmulatedSite, model: int, corners: tuple[tuple[float, float], ...]
) -> None:
    image = pv(site)
    names = [n for n in image.registers if n.startswith(f"{model}.Crv[1]")]
    before = [image.value(n) for n in names]
    write_curve(image, model, corners)
    assert image.value(f"{model}.AdptCrvRslt") == 2
    assert [image.value(n) for n in names] == before


@pytest.mark.parametrize(
    "values",
    [
        {"705.Crv[1].Pt[1].V": 95.0},
        {"705.AdptCrvReq": 4},
        {"705.Crv[2].DeptRef": 2},
        {"705.Crv[2].ActPt": 5},
        {"705.Crv[2].VRefAutoEna": 1},
        {"706.Crv[2].DeptRef": 1},
        {"704.PFWInj.PF": 0.0},
        {"123.OutPFSet": 1.5},
        {"711.Ena": 1},
    ],
)
def test_what_the_device_does_not_have_is_refused(plant: Plant, values: dict[str, float]) -> None:
    plan = site_plan(SETUP.config, (123, 705, 706, 711, 712))
    site = EmulatedSite(plan, dict(plant.measurements.setpoints), lambda step: False)
    with pytest.raises(RefusalError):
        send(pv(site), values)


def test_a_curve_reverts_to_another_one_or_is_switched_off(site: EmulatedSite) -> None:
    image = pv(site)
    write_curve(image, 705, UTILITY, n=2)
    write(image, m705_Ena=1, m705_RvrtTms=120, m705_RvrtCrv=3)
    image.show(READING, 60.0)
    assert image.value("705.RvrtRem") == 60
    assert image.value("705.Crv[1].Pt[1].V") == 95.0
    image.show(READING, 60.0)
    assert image.value("705.Crv[1].Pt[1].V") == 92.0
    assert image.value("705.Ena") == 1
    write(image, m705_RvrtCrv=0)
    image.show(READING, 120.0)
    assert image.value("705.Ena") == 0
    assert image.functions() == InverterFunctions()


def test_a_power_factor_reverts_to_its_own(site: EmulatedSite) -> None:
    image = pv(site)
    send(image, {"704.PFWInj.PF": 0.9, "704.PFWInj.Ext": 1})
    send(image, {"704.PFWInjRvrt.PF": 0.98, "704.PFWInjRvrt.Ext": 0})
    write(image, m704_PFWInjEna=1, m704_PFWInjRvrtTms=30)
    assert image.functions().reactive == PowerFactor(-0.9)
    image.show(READING, 30.0)
    assert image.functions().reactive == PowerFactor(0.98)


def test_the_older_model_cuts_the_connection_and_gives_it_back(
    site: EmulatedSite, plant: Plant
) -> None:
    for name in ("pv1", "gen1", "ess1"):
        image = site.devices[name]
        assert isinstance(image, DerImage)
        write(image, m123_Conn_RvrtTms=900, m123_Conn=0)
    ess = site.devices["ess1"]
    assert isinstance(ess, DerImage)
    write(ess, m704_WSet=-2e5, m704_WSetEna=1)
    before = plant.measurements.devices
    after = run(plant, site)
    for name in ("pv1", "gen1", "ess1"):
        assert (after.devices[name].p_mw, after.devices[name].q_mvar) == (0.0, 0.0)
        assert not after.devices[name].connected
    assert after.devices["ess1"].soc == before["ess1"].soc
    reasons = {c.device_id: c.reasons for c in after.clipped}
    assert reasons["ess1"] == (ClipReason.DISCONNECTED,)
    for name, image in site.devices.items():
        image.show(after.devices[name], 900.0)
    back = run(plant, site)
    assert all(d.connected for d in back.devices.values())
    assert back.devices["ess1"].p_mw == pytest.approx(-0.2)
    assert back.devices["gen1"].p_mw > 0.0


def test_the_older_model_commands_reactive_power_in_all_its_ways(
    site: EmulatedSite, plant: Plant
) -> None:
    image = pv(site)
    rated = SETUP.config.device("pv1").device_state_config.p_range_mw[1]
    write(image, m123_OutPFSet=-0.95, m123_OutPFSet_Ena=1)
    reading = run(plant, site).devices["pv1"]
    assert reading.q_mvar == pytest.approx(-reading.p_mw * math.tan(math.acos(0.95)))
    write(image, m123_VArPct_Mod=1, m123_VArWMaxPct=10.0, m123_VArPct_Ena=1)
    assert image.value("123.OutPFSet_Ena") == 0
    assert run(plant, site).devices["pv1"].q_mvar == pytest.approx(0.1 * rated)
    write(image, m123_VArPct_Mod=2, m123_VArMaxPct=-50.0)
    assert run(plant, site).devices["pv1"].q_mvar == pytest.approx(-0.5 * 0.3 * q_base())
    write(image, m123_VArPct_Mod=3, m123_VArAvalPct=20.0)
    reading = run(plant, site).devices["pv1"]
    left = math.sqrt(q_base() ** 2 - reading.p_mw**2)
    assert reading.q_mvar == pytest.approx(0.2 * left)
    write(image, m123_VArPct_RvrtTms=60)
    image.show(reading, 60.0)
    assert image.value("123.VArPct_Ena") == 0


def test_functions_of_power_are_no_answers_to_voltage() -> None:
    from heron.powergrid.ieee1547 import InverterLimits

    limits = InverterLimits.of(PVConfig(bus="b", p_rated_mw=1.0))
    with pytest.raises(ValueError, match="voltage"):
        answer_power(VoltVar(), limits, np.array([0.5]))

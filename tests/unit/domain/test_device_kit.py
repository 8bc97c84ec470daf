"""The device kit passes every device that ships, over the plant too, and finds planted faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from heron.powergrid.agents import DEVICE_REGISTRY, ESS, DeviceAgent, Generator, register_device
from heron.powergrid.envelope import Admitted
from heron.powergrid.features import ElectricalBasePh
from heron.powergrid.quantities import DeviceReading, Setpoint
from heron.powergrid.setups import as_setup, load_setup, models
from heron.testing.device_kit import DeviceKitError, check_device
from simulator import Plant

SHIPPED: Mapping[str, dict[str, Any]] = {
    "Generator": {"bus": "Bus 633", "p_max_MW": 0.5, "p_min_MW": 0.1, "s_rated_MVA": 0.6}
    | {"q_min_MVAr": -0.1, "q_max_MVAr": 0.2, "ramp_mw_per_min": 0.02},
    "ESS": {"bus": "Bus 671", "e_capacity_MWh": 0.5, "p_max_MW": 0.3, "p_min_MW": -0.3}
    | {"self_discharge_per_h": 0.01},
    "PV": {"bus": "Bus 675", "p_rated_MW": 0.4, "profile": "PV1"},
    "WindTurbine": {"bus": "Bus 680", "p_rated_MW": 0.3, "profile": "wind"},
    "ControllableLoad": {"bus": "Bus 675", "p_rated_MW": 0.1, "profile": "H0-H"},
    "EVCharger": {"bus": "Bus 675", "e_capacity_MWh": 0.06, "v2g": True},
}


@pytest.fixture(autouse=True)
def registries_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_extra_types", dict(models._extra_types))
    for name, kind in list(DEVICE_REGISTRY.items()):
        monkeypatch.setitem(DEVICE_REGISTRY, name, kind)


def plant_with(kind: str, config: dict[str, Any]) -> Callable[[Setpoint, float], DeviceReading]:
    raw = load_setup("ieee34_ieee13")
    entry = {"type": kind, "name": "dev", "device_state_config": config}
    microgrids = raw["microgrid_configs"]
    for microgrid in microgrids:
        microgrid["devices"] = [{**entry, "name": f"dev{microgrid['name']}"}]
    plant = Plant(as_setup(raw))
    plant.reset(start_s=12 * 3600.0)
    return lambda setpoint, dt_s: plant.step({"devMG1": setpoint}, dt_s).devices["devMG1"]


@pytest.mark.parametrize("kind", SHIPPED)
def test_every_device_that_ships_passes_with_its_physics(kind: str) -> None:
    check_device(kind, SHIPPED[kind], run=plant_with(kind, SHIPPED[kind]))


def test_a_transformer_passes() -> None:
    check_device("Transformer", {"bus": "Bus 650", "element": "reg1"})


def refused(kind: type[DeviceAgent], config: dict[str, Any], **kwargs: Any) -> str:
    with pytest.raises(DeviceKitError) as caught:
        check_device(kind, config, **kwargs)
    return str(caught.value)


def test_a_device_that_passes_by_the_envelope_is_found() -> None:
    @register_device("Bypass")
    class Bypass(Generator):
        def propose(self, action: Any) -> Setpoint:
            return Setpoint(99.0)

        def command(self, setpoint: Setpoint, dt_s: float | None = None) -> Any:
            self.setpoint = setpoint
            return None

    assert "passes by the envelope" in refused(Bypass, SHIPPED["Generator"])


@pytest.mark.parametrize("way", ["take_action", "command"])
def test_a_device_that_passes_by_the_envelope_on_one_way_only_is_found(way: str) -> None:
    """However it is told: by a coordinator, in a joint action, by a market."""

    def jump(self: DeviceAgent, *args: Any, **kwargs: Any) -> None:
        self.setpoint = Setpoint(99.0)

    Jumpy = register_device(f"Jumpy_{way}")(type("Jumpy", (ESS,), {way: jump}))
    assert f"{way}: action" in refused(Jumpy, SHIPPED["ESS"])


def test_a_device_that_forges_what_the_envelope_said_is_found() -> None:
    @register_device("Forger")
    class Forger(ESS):
        def admit(self, setpoint: Setpoint, dt_s: float | None = None) -> Any:
            return Admitted(setpoint)

    assert "where the envelope lets" in refused(Forger, SHIPPED["ESS"])


def test_an_action_that_does_not_fit_its_meaning_is_found() -> None:
    @register_device("Wide")
    class Wide(Generator):
        def set_action(self) -> None:
            self.action.set_specs(dim_c=3)

    with pytest.raises((DeviceKitError, ValueError), match=r"3|longer|shorter"):
        check_device(Wide, SHIPPED["Generator"])


def test_a_feature_that_nobody_sees_is_found() -> None:
    class Hidden(ElectricalBasePh):
        visibility = ()

    @register_device("Shy")
    class Shy(Generator):
        def set_state(self) -> None:
            DeviceAgent.set_state(self)
            self.state.features.append(Hidden())

    text = refused(Shy, SHIPPED["Generator"])
    assert "nobody who is responsible" in text
    assert "its coordinator sees none" in text


def test_an_observation_that_is_not_finite_is_found() -> None:
    @register_device("Nan")
    class Nan(Generator):
        def take_reading(self, reading: DeviceReading) -> None:
            super().take_reading(reading)
            self.state.electrical_base_ph.va_deg = np.nan

    assert "not finite" in refused(Nan, SHIPPED["Generator"])


def test_physics_that_lose_energy_are_found() -> None:
    soc = 0.5

    def leaky(setpoint: Setpoint, dt_s: float) -> DeviceReading:
        nonlocal soc
        soc = min(0.9, max(0.1, soc - setpoint.p_mw * dt_s / 3600.0 / 0.5))
        return DeviceReading(setpoint.p_mw, 0.0, 1.0, 1.0, 1.0, soc=soc)

    assert "should lead from" in refused(ESS, SHIPPED["ESS"], run=leaky)


def test_physics_beyond_the_limits_are_found() -> None:
    def strong(setpoint: Setpoint, dt_s: float) -> DeviceReading:
        return DeviceReading(3.0, 0.0, 1.0, 1.0, 1.0, available_mw=0.2)

    text = refused(DEVICE_REGISTRY["PV"], SHIPPED["PV"], run=strong)
    assert "outside its limits" in text
    assert "that are there" in text


def test_a_device_that_is_not_registered_is_told_so() -> None:
    class Unknown(Generator):
        pass

    assert "register_device" in refused(Unknown, SHIPPED["Generator"])

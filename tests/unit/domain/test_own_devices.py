"""A user's own device, written as the guide does, works through registry, setup and envelope."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from pydantic import Field

from heron.errors import ConfigError
from heron.powergrid.agents import (
    DEVICE_REGISTRY,
    DeviceAgent,
    MicrogridView,
    PowerGridAgent,
    register_device,
)
from heron.powergrid.connection import ConnectionLimits
from heron.powergrid.device_configs import DeviceConfig, guide_spelling
from heron.powergrid.envelope import Admitted, Limited
from heron.powergrid.features import ElectricalBasePh
from heron.powergrid.quantities import ClipReason, DeviceReading, MeterReading, Setpoint
from heron.powergrid.setups import models

READING = DeviceReading(0.0, 0.0, 1.0, 1.0, 1.0)


pytestmark = pytest.mark.usefixtures("device_types_as_they_were")


@dataclass
class BoilerConfig:
    bus: str
    p_max_MW: float = 2.0


class Boiler(DeviceAgent):
    """As in the guide: configuration after ``super().__init__()``, power set by the action."""

    def __init__(self, agent_id: str, device_state_config: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(agent_id=agent_id, device_state_config=device_state_config, **kwargs)
        self.config = BoilerConfig(**device_state_config)

    def set_state(self) -> None:
        super().set_state()
        self.state.features.append(ElectricalBasePh())

    def set_action(self) -> None:
        self.action.set_specs(dim_c=1, range=(np.array([-1.0]), np.array([1.0])))

    def apply_action(self, action: np.ndarray) -> None:
        p = (action[0] + 1) / 2 * self.config.p_max_MW * 1.5
        self.state.update_feature("ElectricalBasePh", p_MW=p)

    def update_state(self, dt: float = 1.0, **kwargs: Any) -> None:
        self.hours = getattr(self, "hours", 0.0) + dt
        super().update_state(**kwargs)

    def update_cost_safety(self) -> None:
        electrical = next(f for f in self.state.features if isinstance(f, ElectricalBasePh))
        self.cost = electrical.p_MW * 5.0
        self.safety = 0.0


def test_a_device_as_in_the_guide_goes_through_the_envelope() -> None:
    agent = Boiler("b", {"bus": "1", "p_max_MW": 1.0})
    agent.update_state(reading=READING)
    agent.apply_action(np.array([0.0]))
    assert agent.setpoint == Setpoint(0.75)
    assert isinstance(agent.result, Admitted)
    agent.apply_action(np.array([1.0]))
    assert agent.setpoint == Setpoint(1.0)
    assert agent.result == Limited(Setpoint(1.5), Setpoint(1.0), (ClipReason.POWER_LIMIT,))
    agent.update_cost_safety()
    assert agent.cost == 7.5
    agent.update_state(dt=0.5)
    assert agent.hours == 1.5


def test_the_guides_assignment_registers_a_device() -> None:
    DEVICE_REGISTRY["Boiler"] = Boiler
    entry = {"type": "Boiler", "name": "b", "device_state_config": {"bus": "1", "p_max_MW": 1.0}}
    checked = models.DeviceEntry.model_validate(entry)
    assert checked.device_state_config.p_range_mw == (0.0, 1.0)
    config = {"name": "MG1", "connection_bus": "DSO Bus 850", "devices": [entry]}
    for grid_config in (config, models.MicrogridConfig.model_validate(config)):
        microgrid = PowerGridAgent(grid_config=grid_config)
        boiler = microgrid.devices["b"]
        boiler.take_reading(READING)
        microgrid.apply_action([-1.0])
        assert boiler.setpoint == Setpoint(0.0)


class ElectrolyserConfig(DeviceConfig):
    p_rated_mw: float = Field(gt=0)
    usd_per_mwh: float = 3.0

    @property
    def p_range_mw(self) -> tuple[float, float]:
        return (-self.p_rated_mw, 0.0)

    def cost_usd_per_h(self, reading: DeviceReading) -> float:
        return -self.usd_per_mwh * reading.p_mw


def test_one_decorator_makes_a_device_known_to_setups_and_agents() -> None:
    @register_device("ElectrolyserUnderTest")
    class Electrolyser(DeviceAgent):
        config_model = ElectrolyserConfig

        def set_state(self) -> None:
            super().set_state()
            self.state.features.append(self.electrical_feature())

    config = {
        "name": "MG1",
        "connection_bus": "DSO Bus 850",
        "devices": [
            {
                "type": "ElectrolyserUnderTest",
                "name": "h2",
                "device_state_config": {"bus": "Bus 633", "p_rated_mw": 0.5},
            }
        ],
    }
    microgrid = PowerGridAgent(grid_config=models.MicrogridConfig.model_validate(config))
    agent = microgrid.devices["h2"]
    assert isinstance(agent, Electrolyser)
    agent.take_reading(READING)
    microgrid.apply_action([-1.0])
    assert agent.setpoint == Setpoint(-0.5)
    agent.take_reading(DeviceReading(-0.4, 0.0, 1.0, 1.0, 1.0))
    agent.update_cost_safety()
    assert agent.cost == pytest.approx(3.0 * 0.4 * 0.25)


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(ConfigError, match="Generator"):
        register_device("Generator")(Boiler)


def test_an_override_may_call_its_base() -> None:
    from heron.powergrid.agents import Generator

    class Cautious(Generator):
        def apply_action(self, action: np.ndarray) -> None:
            super().apply_action(action * 0.5)

    agent = Cautious("g", device_state_config={"bus": "1", "p_max_MW": 1.0})
    agent.take_reading(READING)
    agent.apply_action([1.0, 0.0])
    assert agent.setpoint == Setpoint(0.75)


def test_the_guides_spelling_comes_back() -> None:
    from heron.powergrid.device_configs import GeneratorConfig

    said = {"bus": "1", "p_max_MW": 2.0, "startup_time_hr": 1.0}
    assert guide_spelling(GeneratorConfig.model_validate(said)) == said


class FuelCellConfig(DeviceConfig):
    p_rated_mw: float = Field(gt=0)

    @property
    def p_range_mw(self) -> tuple[float, float]:
        return (0.0, self.p_rated_mw)


def test_a_device_of_ones_own_that_injects_gives_way_to_a_limit_on_exports() -> None:
    @register_device("FuelCell")
    class FuelCell(DeviceAgent):
        config_model = FuelCellConfig

    entry = {"type": "FuelCell", "name": "f", "device_state_config": {"bus": "1", "p_rated_mw": 1}}
    grid = PowerGridAgent(grid_config={"name": "MG1", "devices": [entry]})
    meter, limits = MeterReading(-0.1, 0.0, 1.0, 1.0, 1.0), ConnectionLimits(p_export_max_mw=0.2)
    grid.update_from(MicrogridView(0.0, meter, {"f": READING}, 30.0, (), limits))
    grid.apply_action(np.ones(grid.action.size))
    assert grid.setpoints["f"].p_mw == pytest.approx(0.3)

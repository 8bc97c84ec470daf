"""Sun and wind: power that comes as it comes and can only be curtailed."""

from __future__ import annotations

from typing import ClassVar

from heron.policy.codec import ActionMapping
from heron.powergrid.agents.device import DeviceAgent
from heron.powergrid.agents.registry import register_device
from heron.powergrid.device_configs import InverterSourceConfig, PVConfig, WindTurbineConfig
from heron.powergrid.features import InverterBasedSource


class InverterSource(DeviceAgent):
    """What PV and wind share: the action is a ceiling on active power, and reactive power."""

    config: InverterSourceConfig
    p_mapping: ClassVar[str] = ActionMapping.CEILING

    def set_state(self) -> None:
        """Terminals and the use that is made of the rating."""
        super().set_state()
        source = InverterBasedSource(p_rated_MW=self.config.p_rated_mw)
        self.state.features.extend([self.electrical_feature(), source])

    def offered_mw(self, price: float) -> float:
        """Return what it injects now, or nothing where it would curtail."""
        now = 0.0 if self.reading is None else self.reading.p_mw
        return min(now, super().offered_mw(price))

    def _best_p_mw(self, price: float) -> float:
        """Return the full ceiling, unless injecting costs more than curtailing."""
        return 0.0 if price < -self.config.curtailment_usd_per_mwh else self.config.p_rated_mw


@register_device("PV")
class PV(InverterSource):
    """A photovoltaic inverter."""

    config_model = PVConfig
    config: PVConfig


@register_device("WindTurbine")
class WindTurbine(InverterSource):
    """A wind turbine with curtailment."""

    config_model = WindTurbineConfig
    config: WindTurbineConfig

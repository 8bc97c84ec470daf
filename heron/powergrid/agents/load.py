"""Loads that may be reduced."""

from __future__ import annotations

from heron.powergrid.agents.device import DeviceAgent
from heron.powergrid.agents.registry import register_device
from heron.powergrid.device_configs import ControllableLoadConfig
from heron.powergrid.features import StatusBlock


@register_device("ControllableLoad")
class ControllableLoad(DeviceAgent):
    """A load whose action is the most that it may draw: -1 is all that it wants, 1 is nothing."""

    config_model = ControllableLoadConfig
    config: ControllableLoadConfig

    def set_state(self) -> None:
        """Terminals, ranges, status."""
        super().set_state()
        features = [self.electrical_feature(), self.limits_feature(), StatusBlock()]
        self.state.features.extend(features)

    def _best_p_mw(self, price: float) -> float:
        """Draw what is wanted, unless that costs more than the discomfort of not having it."""
        shed = price > self.config.discomfort_usd_per_mwh
        return self.limits.p_max_mw if shed else self.limits.p_min_mw

"""Dispatchable generators."""

from __future__ import annotations

from heron.powergrid.agents.device import DeviceAgent
from heron.powergrid.agents.registry import register_device
from heron.powergrid.device_configs import GeneratorConfig
from heron.powergrid.features import StatusBlock


@register_device("Generator")
class Generator(DeviceAgent):
    """A generator with a quadratic cost; its action is active and reactive power."""

    config_model = GeneratorConfig
    config: GeneratorConfig

    def set_state(self) -> None:
        """Terminals, ranges, status."""
        super().set_state()
        features = [self.electrical_feature(), self.limits_feature(), StatusBlock()]
        self.state.features.extend(features)

    def _best_p_mw(self, price: float) -> float:
        """Return the power at which one more MWh costs the price."""
        a, b, _ = self.config.cost_curve_coefs
        low, high = self.limits.p_min_mw, self.limits.p_max_mw
        if a <= 0.0:
            return high if price > b else low
        return min(max((price - b) / (2.0 * a), low), high)

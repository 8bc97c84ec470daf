"""Transformers with a tap changer."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from heron.policy.codec import SetpointSpec
from heron.powergrid.agents.device import DeviceAgent
from heron.powergrid.agents.registry import register_device
from heron.powergrid.device_configs import TransformerConfig
from heron.powergrid.features import TapChangerPh, ThermalLoading


@register_device("Transformer")
class Transformer(DeviceAgent):
    """A transformer whose action is its tap position; moving it wears it.

    Attributes:
        tap_moves: Taps moved since the cost was last counted.
    """

    config_model = TransformerConfig
    config: TransformerConfig
    tap_moves: int = 0

    def set_state(self) -> None:
        """Tap position and loading."""
        super().set_state()
        config = self.config
        self._tap = TapChangerPh(
            tap_min=config.tap_min, tap_max=config.tap_max, tap_step_pu=config.tap_step_pu
        )
        loading = ThermalLoading(s_rated_MVA=config.s_rated_mva)
        self.state.features.extend([self._tap, loading])

    def setpoint_specs(self) -> tuple[SetpointSpec, ...]:
        """One number: -1 is the lowest tap, 1 the highest."""
        low, high = float(self.config.tap_min), float(self.config.tap_max)
        return (SetpointSpec(self.agent_id, "tap", low, high),)

    @property
    def tap_position(self) -> int:
        """Where the tap changer stands."""
        return round(self._tap.tap_position)

    def apply_action(self, action: ArrayLike) -> None:
        """Move to the tap position that the action asks for."""
        x = self.checked_action(action)
        wanted = round(self.setpoint_specs()[0].decode(float(x[0])))
        self.tap_moves += abs(wanted - self.tap_position)
        self._tap.tap_position = float(wanted)

    def update_cost_safety(self) -> None:
        """Wear of the taps moved since the last call."""
        self.cost = self.config.tap_cost_usd * self.tap_moves
        self.tap_moves = 0
        self.safety = 0.0

    def respond_to_price(self, price: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """Stay: no price moves a tap."""
        spec = self.setpoint_specs()[0]
        return np.array([spec.encode(float(self.tap_position))])

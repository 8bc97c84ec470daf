"""Transformers with a tap changer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from heron.policy.codec import SetpointSpec
from heron.powergrid.agents.device import DeviceAgent
from heron.powergrid.agents.registry import register_device
from heron.powergrid.device_configs import TransformerConfig
from heron.powergrid.features import ElectricalBasePh, TapChangerPh, ThermalLoading
from heron.powergrid.quantities import DeviceReading


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
        """Voltage at its output, tap position and loading."""
        super().set_state()
        config = self.config
        self._tap = TapChangerPh(
            tap_position=float(config.start_tap),
            tap_min=config.tap_min,
            tap_max=config.tap_max,
            tap_step_pu=config.tap_step_pu,
        )
        self._loading = ThermalLoading(s_rated_MVA=config.s_rated_mva)
        terminals = ElectricalBasePh(base_MVA=config.s_rated_mva)
        self.state.features.extend([terminals, self._tap, self._loading])

    def _make_specs(self) -> tuple[SetpointSpec, ...]:
        """One number: -1 is the lowest tap, 1 the highest."""
        low, high = float(self.config.tap_min), float(self.config.tap_max)
        return (SetpointSpec(self.agent_id, "tap", low, high),)

    @property
    def tap_position(self) -> int:
        """Where the tap changer stands."""
        return round(self._tap.tap_position)

    def take_reading(self, reading: DeviceReading) -> None:
        """Fill the features from what the device shows."""
        before = self.reading
        super().take_reading(reading)
        if reading.tap is not None:
            if before is not None and before.tap is not None:
                self.tap_moves += abs(reading.tap - before.tap)
            self._tap.tap_position = float(reading.tap)
        if reading.loading_pct is not None:
            self._loading.loading_pct = reading.loading_pct

    def advance(self, dt: float) -> None:
        """Stand where the set-point says: without a plant, every move is made at once."""
        if self.reading is not None and self.setpoint.tap is not None and dt > 0.0:
            self.take_reading(replace(self.reading, tap=self.setpoint.tap))

    def reset_agent(self, **kwargs: object) -> None:
        """Forget readings, set-points and moves."""
        super().reset_agent(**kwargs)
        self.tap_moves = 0

    def update_cost_safety(self) -> None:
        """Wear of the taps moved since the last call."""
        self.cost = self.config.tap_cost_usd * self.tap_moves
        self.tap_moves = 0
        self.safety = 0.0

    def action_for(self, p_mw: float, q_mvar: float = 0.0) -> NDArray[np.float64]:
        """Return the action that stays: a transformer injects no power."""
        del p_mw, q_mvar
        return self.action_to_tap(self.tap_position)

    def action_to_tap(self, tap: int) -> NDArray[np.float64]:
        """Return the action that asks for a position."""
        return np.array([spec.encode(float(tap)) for spec in self.setpoint_specs()])

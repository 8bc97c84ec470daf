"""Loads that may be reduced."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heron.powergrid.device_configs import ControllableLoadConfig
from heron.powergrid.quantities import ClipReason
from simulator.physics.base import (
    BIT,
    TOLERANCE,
    Advance,
    Ambient,
    DevicePhysics,
    FloatArray,
    PhysicsState,
)


class ControllableLoadPhysics(DevicePhysics[ControllableLoadConfig]):
    """Loads whose profile says what they want, per unit of ``p_rated_mw``.

    The active set-point is the most that they may draw (a negative number); drawing less
    because less is wanted is not a clip. Reactive power follows the power factor, lagging,
    whatever is asked. ``available_mw`` is minus the demand.
    """

    def __init__(self, configs: Sequence[ControllableLoadConfig]) -> None:
        super().__init__(configs)
        self.p_rated_mw = np.array([c.p_rated_mw for c in configs])
        self.must_serve = 1.0 - np.array([c.sheddable for c in configs])
        self.tan_phi = np.tan(np.arccos([c.power_factor for c in configs]))

    def idle(self) -> tuple[FloatArray, FloatArray]:
        """Draw all that is wanted."""
        return -self.p_rated_mw, np.zeros(self.n)

    def advance(
        self, state: PhysicsState, p_set_mw: FloatArray, q_set_mvar: FloatArray, ambient: Ambient
    ) -> Advance:
        """Carry out set-points; see `DevicePhysics.advance`."""
        target_mw, limits = self.within_p_limits(p_set_mw)
        floor_mw, end_mw, ramp = self.ramp(state["p_mw"], target_mw, ambient.dt_s)
        demand_mw = self.p_rated_mw * ambient.profile
        must_mw = demand_mw * self.must_serve
        if self.has_ramps:
            # Held between two levels: cut off above, plus cut off below, less what it would be.
            start_mw, dt_s = state["p_mw"], ambient.dt_s
            most_mw, _, _ = self.ramp_below(-start_mw, -target_mw, demand_mw, dt_s)
            least_mw, _, _ = self.ramp_below(start_mw, target_mw, -must_mw, dt_s)
            p_mw = least_mw - most_mw - floor_mw
        else:
            p_mw = np.minimum(np.maximum(floor_mw, -demand_mw), -must_mw)
        not_sheddable = floor_mw - p_mw > TOLERANCE
        reasons = limits | ramp | (not_sheddable * BIT[ClipReason.POWER_LIMIT])
        return Advance(p_mw, p_mw * self.tan_phi, {"p_mw": end_mw}, reasons, -demand_mw)

"""PV inverters and wind turbines: the weather's power, curtailed from above."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heron.powergrid.device_configs import InverterSourceConfig
from simulator.physics.base import Advance, Ambient, DevicePhysics, FloatArray, PhysicsState


class InverterSourcePhysics(DevicePhysics[InverterSourceConfig]):
    """Sources whose profile says what they could give, per unit of ``p_rated_mw``.

    The active set-point is a ceiling: giving less because the sun gives less is not a clip.
    Reactive power is available without sun, too. A ramp limit holds for the ceiling; the
    weather keeps to none.
    """

    def __init__(self, configs: Sequence[InverterSourceConfig]) -> None:
        super().__init__(configs)
        self.p_rated_mw = np.array([c.p_rated_mw for c in configs])

    def idle(self) -> tuple[FloatArray, FloatArray]:
        """Do not curtail."""
        return self.p_rated_mw, np.zeros(self.n)

    def advance(
        self, state: PhysicsState, p_set_mw: FloatArray, q_set_mvar: FloatArray, ambient: Ambient
    ) -> Advance:
        """Carry out set-points; see `DevicePhysics.advance`."""
        target_mw, limits = self.within_p_limits(p_set_mw)
        available_mw = np.minimum(self.p_rated_mw * ambient.profile, self.s_max)
        p_mw, end_mw, ramp = self.ramp_below(state["p_mw"], target_mw, available_mw, ambient.dt_s)
        q_mvar, reactive = self.within_q_limits(p_mw, q_set_mvar)
        return Advance(p_mw, q_mvar, {"p_mw": end_mw}, limits | ramp | reactive, available_mw)

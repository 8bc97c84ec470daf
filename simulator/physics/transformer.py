"""Transformers as devices: they inject nothing; their taps belong to the engine."""

from __future__ import annotations

import numpy as np

from heron.powergrid.device_configs import TransformerConfig
from simulator.physics.base import Advance, Ambient, DevicePhysics, FloatArray, PhysicsState


class TransformerPhysics(DevicePhysics[TransformerConfig]):
    """Transformers between two buses: no power comes from them."""

    def idle(self) -> tuple[FloatArray, FloatArray]:
        """Inject nothing."""
        return np.zeros(self.n), np.zeros(self.n)

    def advance(
        self, state: PhysicsState, p_set_mw: FloatArray, q_set_mvar: FloatArray, ambient: Ambient
    ) -> Advance:
        """Inject nothing, whatever is asked."""
        p_mw, limits = self.within_p_limits(p_set_mw)
        q_mvar, reactive = self.within_q_limits(p_mw, q_set_mvar)
        return Advance(p_mw, q_mvar, {"p_mw": p_mw}, limits | reactive)

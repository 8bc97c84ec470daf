"""Dispatchable generators: limits, ramp, and start-up and shut-down times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heron.powergrid.device_configs import GeneratorConfig
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


class GeneratorPhysics(DevicePhysics[GeneratorConfig]):
    """Generators between their technical minimum and maximum.

    With ``unit_commitment`` a set-point below half of the minimum asks for a stop, and one
    above for a start. A unit that stops gives its minimum for the shut-down time and then
    nothing; one that starts gives nothing for the start-up time and then ramps from its
    minimum. What is asked meanwhile waits. State: ``on`` (0 or 1) and ``wait_s``, what is
    left of a transition.
    """

    def __init__(self, configs: Sequence[GeneratorConfig]) -> None:
        super().__init__(configs)
        self.committed = np.array([c.unit_commitment for c in configs])
        self.start_s = np.array([c.startup_time_hr * 3600.0 for c in configs])
        self.stop_s = np.array([c.shutdown_time_hr * 3600.0 for c in configs])
        self.has_commitment = bool(self.committed.any())

    def initial_state(self) -> PhysicsState:
        """Running at the technical minimum."""
        return {"p_mw": self.p_min, "on": np.ones(self.n), "wait_s": np.zeros(self.n)}

    def idle(self) -> tuple[FloatArray, FloatArray]:
        """Run at the technical minimum."""
        return self.p_min, np.zeros(self.n)

    def advance(
        self, state: PhysicsState, p_set_mw: FloatArray, q_set_mvar: FloatArray, ambient: Ambient
    ) -> Advance:
        """Carry out set-points; see `DevicePhysics.advance`."""
        if self.has_commitment:
            return self._advance_committed(state, p_set_mw, q_set_mvar, ambient.dt_s)
        target_mw, limits = self.within_p_limits(p_set_mw)
        p_mw, end_mw, ramp = self.ramp(state["p_mw"], target_mw, ambient.dt_s)
        q_mvar, reactive = self.within_q_limits(p_mw, q_set_mvar)
        new = {"p_mw": end_mw, "on": state["on"], "wait_s": state["wait_s"]}
        return Advance(p_mw, q_mvar, new, limits | ramp | reactive)

    def _advance_committed(
        self, state: PhysicsState, p_set_mw: FloatArray, q_set_mvar: FloatArray, dt_s: float
    ) -> Advance:
        wanted = ~self.committed | (p_set_mw >= 0.5 * self.p_min)
        on = state["on"] > 0.5
        wait_s = np.where(
            state["wait_s"] > 0.0,
            state["wait_s"],
            np.where(on & ~wanted, self.stop_s, np.where(~on & wanted, self.start_s, 0.0)),
        )
        changing = (state["wait_s"] > 0.0) | (on != wanted)
        in_transition_s = np.where(changing, np.minimum(wait_s, dt_s), 0.0)
        done = changing & (wait_s <= dt_s)
        on_after = np.where(done, ~on, on)

        target_mw, limits = self.within_p_limits(np.where(wanted, p_set_mw, self.p_min))
        starts = done & ~on
        runs = starts | (on & ~changing)
        running_s = np.where(runs, dt_s - in_transition_s, 0.0)
        from_mw = np.where(starts, self.p_min, state["p_mw"])
        mean_mw, end_mw, ramp = self.ramp(from_mw, target_mw, running_s)
        stopping_s = np.where(changing & on, in_transition_s, 0.0)
        p_mw = (mean_mw * running_s + self.p_min * stopping_s) / dt_s
        ended_mw = np.where(runs, end_mw, np.where(on_after, self.p_min, 0.0))

        share = (running_s + stopping_s) / dt_s
        q_mvar, reactive = self.within_q_limits(p_mw, q_set_mvar * share)
        late = np.where(changing, np.abs(p_mw - np.where(wanted, target_mw, 0.0)) > TOLERANCE, 0)
        reasons = limits | reactive | np.where(runs, ramp, 0)
        reasons = reasons | late.astype(np.int64) * BIT[ClipReason.MINIMUM_TIME]
        new = {
            "p_mw": ended_mw,
            "on": on_after.astype(float),
            "wait_s": np.where(changing, wait_s - in_transition_s, 0.0),
        }
        return Advance(p_mw, q_mvar, new, reasons)

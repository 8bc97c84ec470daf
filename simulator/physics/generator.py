"""Dispatchable generators: limits, ramp, and start-up and shut-down times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from heron.powergrid.device_configs import GeneratorConfig
from heron.powergrid.quantities import ClipReason
from simulator.engines.jit import exact_inner, exact_kernel
from simulator.physics.base import BoolArray, FloatArray, IntArray, PhysicsState
from simulator.physics.compiled import CompiledPhysics, put
from simulator.physics.rules import BIT, TOLERANCE, Unit, ramp, within_p_limits, within_q_limits

MINIMUM_TIME = BIT[ClipReason.MINIMUM_TIME]


class GeneratorUnit(Unit):
    """A generator.

    Attributes:
        committed: 1 if it is started and stopped, 0 if it always runs.
        start_s: How long a start takes.
        stop_s: How long a stop takes.
    """

    committed: float
    start_s: float
    stop_s: float


@exact_inner
def run(
    unit: GeneratorUnit, p_start_mw: float, p_set_mw: float, q_set_mvar: float, dt_s: float
) -> tuple[float, float, float, int]:
    """Return mean P and Q over a step of a generator that runs, P at its end, and the reasons."""
    target_mw, limits = within_p_limits(unit, p_set_mw)
    p_mw, end_mw, ramped = ramp(unit, p_start_mw, target_mw, dt_s)
    q_mvar, reactive = within_q_limits(unit, p_mw, q_set_mvar)
    return p_mw, q_mvar, end_mw, limits | ramped | reactive


@exact_inner
def run_committed(  # noqa: PLR0917 - compiled code takes positions
    unit: GeneratorUnit,
    p_start_mw: float,
    on: float,
    wait_s: float,
    p_set_mw: float,
    q_set_mvar: float,
    dt_s: float,
) -> tuple[float, float, float, float, float, int]:
    """Return mean P and Q of one that starts and stops; P, on and wait at the end; reasons."""
    runs = on > 0.5
    wanted = p_set_mw >= 0.5 * unit.p_min_mw
    changing = wait_s > 0.0 or runs != wanted
    rest_s = wait_s
    if changing and not wait_s > 0.0:
        rest_s = unit.stop_s if runs else unit.start_s
    transition_s = np.minimum(rest_s, dt_s) if changing else 0.0
    done = changing and rest_s <= dt_s
    starts = done and not runs
    running_s = dt_s - transition_s if starts or (runs and not changing) else 0.0
    stopping_s = transition_s if changing and runs else 0.0

    target_mw, reasons = within_p_limits(unit, p_set_mw if wanted else unit.p_min_mw)
    from_mw = unit.p_min_mw if starts else p_start_mw
    mean_mw, end_mw, ramped = ramp(unit, from_mw, target_mw, running_s)
    p_mw = (mean_mw * running_s + unit.p_min_mw * stopping_s) / dt_s
    q_mvar, reactive = within_q_limits(unit, p_mw, q_set_mvar * ((running_s + stopping_s) / dt_s))
    reasons |= reactive
    if starts or (runs and not changing):
        reasons |= ramped
    else:
        end_mw = unit.p_min_mw if runs != done else 0.0
    if changing and abs(p_mw - (target_mw if wanted else 0.0)) > TOLERANCE:
        reasons |= MINIMUM_TIME
    rest_s = rest_s - transition_s if changing else 0.0
    on_after = 1.0 if runs != done else 0.0
    return p_mw, q_mvar, end_mw, on_after, rest_s, reasons


@exact_kernel
def _advance(  # noqa: PLR0917 - compiled code takes positions
    units: Any,
    at: IntArray,
    asked: FloatArray,
    _profile: FloatArray,
    p_start_mw: FloatArray,
    on: FloatArray,
    wait_s: FloatArray,
    dt_s: float,
    new: FloatArray,
    done: FloatArray,
    reasons: IntArray,
    connected: BoolArray,
) -> None:
    n = len(units)
    for j in range(len(p_start_mw)):
        unit, s, k = units[j % n], j // n, at[j % n]
        p_set_mw, q_set_mvar = asked[0, s, k], asked[1, s, k]
        if unit.committed > 0.5:
            p_mw, q_mvar, new[0, j], new[1, j], new[2, j], reasons[s, k] = run_committed(
                unit, p_start_mw[j], on[j], wait_s[j], p_set_mw, q_set_mvar, dt_s
            )
        else:
            p_mw, q_mvar, new[0, j], reasons[s, k] = run(
                unit, p_start_mw[j], p_set_mw, q_set_mvar, dt_s
            )
            new[1, j], new[2, j] = on[j], wait_s[j]
        put(done, s, k, p_mw, q_mvar)
        connected[s, k] = True


class GeneratorPhysics(CompiledPhysics[GeneratorConfig]):
    """Generators between their technical minimum and maximum.

    With ``unit_commitment`` a set-point below half of the minimum asks for a stop, and one
    above for a start. A unit that stops gives its minimum for the shut-down time and then
    nothing; one that starts gives nothing for the start-up time and then ramps from its
    minimum. What is asked meanwhile waits. State: ``on`` (0 or 1) and ``wait_s``, what is
    left of a transition.
    """

    unit = GeneratorUnit
    kernel = staticmethod(_advance)
    keeps = ("p_mw", "on", "wait_s")

    def __init__(self, configs: Sequence[GeneratorConfig]) -> None:
        super().__init__(configs)
        self._describe(
            committed=np.array([c.unit_commitment for c in configs], dtype=float),
            start_s=np.array([c.startup_time_hr * 3600.0 for c in configs]),
            stop_s=np.array([c.shutdown_time_hr * 3600.0 for c in configs]),
        )

    def initial_state(self) -> PhysicsState:
        """Running at the technical minimum."""
        return {"p_mw": self.p_min, "on": np.ones(self.n), "wait_s": np.zeros(self.n)}

    def idle(self) -> tuple[FloatArray, FloatArray]:
        """Run at the technical minimum."""
        return self.p_min, np.zeros(self.n)

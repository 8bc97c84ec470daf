"""Loads that may be reduced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from heron.powergrid.device_configs import ControllableLoadConfig
from simulator.engines.jit import exact_inner, exact_kernel
from simulator.physics.base import BoolArray, FloatArray, IntArray
from simulator.physics.compiled import CompiledPhysics, put
from simulator.physics.rules import (
    POWER_LIMIT,
    TOLERANCE,
    Unit,
    clipped,
    ramp,
    ramp_below,
    within_p_limits,
)


class LoadUnit(Unit):
    """A load that can be turned down.

    Attributes:
        p_rated_mw: What it wants where the profile is 1, an amount.
        must_serve: Share of what it wants that cannot be shed.
        tan_phi: Reactive over active power.
    """

    p_rated_mw: float
    must_serve: float
    tan_phi: float


@exact_inner
def draw(
    unit: LoadUnit, p_start_mw: float, p_set_mw: float, demand_mw: float, dt_s: float
) -> tuple[float, float, int]:
    """Return mean P over a step, the ceiling at its end, and the reasons."""
    target_mw, limits = within_p_limits(unit, p_set_mw)
    floor_mw, end_mw, ramped = ramp(unit, p_start_mw, target_mw, dt_s)
    must_mw = demand_mw * unit.must_serve
    if np.isinf(unit.ramp_mw_per_s):
        p_mw = clipped(floor_mw, -demand_mw, -must_mw)
    else:
        # Held between two levels: cut off above, plus cut off below, less what it would be.
        most_mw, _, _ = ramp_below(unit, -p_start_mw, -target_mw, demand_mw, dt_s)
        least_mw, _, _ = ramp_below(unit, p_start_mw, target_mw, -must_mw, dt_s)
        p_mw = least_mw - most_mw - floor_mw
    reasons = limits | ramped
    if floor_mw - p_mw > TOLERANCE:
        reasons |= POWER_LIMIT
    return p_mw, end_mw, reasons


@exact_kernel
def _advance(  # noqa: PLR0917 - compiled code takes positions
    units: Any,
    at: IntArray,
    asked: FloatArray,
    profile: FloatArray,
    p_start_mw: FloatArray,
    dt_s: float,
    new: FloatArray,
    done: FloatArray,
    reasons: IntArray,
    connected: BoolArray,
) -> None:
    n = len(units)
    for j in range(len(p_start_mw)):
        unit, s, k = units[j % n], j // n, at[j % n]
        demand_mw = unit.p_rated_mw * profile[s, k]
        p_mw, new[0, j], reasons[s, k] = draw(unit, p_start_mw[j], asked[0, s, k], demand_mw, dt_s)
        put(done, s, k, p_mw, p_mw * unit.tan_phi, -demand_mw)
        connected[s, k] = True


class ControllableLoadPhysics(CompiledPhysics[ControllableLoadConfig]):
    """Loads whose profile says what they want, per unit of ``p_rated_mw``.

    The active set-point is the most that they may draw (a negative number); drawing less
    because less is wanted is not a clip. Reactive power follows the power factor, lagging,
    whatever is asked. ``available_mw`` is minus the demand.
    """

    unit = LoadUnit
    kernel = staticmethod(_advance)

    def __init__(self, configs: Sequence[ControllableLoadConfig]) -> None:
        super().__init__(configs)
        self.p_rated_mw = np.array([c.p_rated_mw for c in configs])
        self._describe(
            p_rated_mw=self.p_rated_mw,
            must_serve=1.0 - np.array([c.sheddable for c in configs]),
            tan_phi=np.tan(np.arccos([c.power_factor for c in configs])),
        )

    def idle(self) -> tuple[FloatArray, FloatArray]:
        """Draw all that is wanted."""
        return -self.p_rated_mw, np.zeros(self.n)

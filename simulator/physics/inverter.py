"""PV inverters and wind turbines: the weather's power, curtailed from above."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from heron.powergrid.device_configs import InverterSourceConfig
from simulator.engines.jit import exact_inner, exact_kernel
from simulator.physics.base import BoolArray, FloatArray, IntArray
from simulator.physics.compiled import CompiledPhysics, put
from simulator.physics.rules import Unit, ramp_below, within_p_limits, within_q_limits


class SourceUnit(Unit):
    """A source that follows the weather.

    Attributes:
        p_rated_mw: Its power where the profile is 1.
    """

    p_rated_mw: float


@exact_inner
def curtail(  # noqa: PLR0917 - compiled code takes positions
    unit: SourceUnit,
    p_start_mw: float,
    p_set_mw: float,
    q_set_mvar: float,
    available_mw: float,
    dt_s: float,
) -> tuple[float, float, float, int]:
    """Return mean P and Q over a step, the ceiling at its end, and the reasons."""
    target_mw, limits = within_p_limits(unit, p_set_mw)
    p_mw, end_mw, ramped = ramp_below(unit, p_start_mw, target_mw, available_mw, dt_s)
    q_mvar, reactive = within_q_limits(unit, p_mw, q_set_mvar)
    return p_mw, q_mvar, end_mw, limits | ramped | reactive


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
        available_mw = np.minimum(unit.p_rated_mw * profile[s, k], unit.s_max_mva)
        p_mw, q_mvar, new[0, j], reasons[s, k] = curtail(
            unit, p_start_mw[j], asked[0, s, k], asked[1, s, k], available_mw, dt_s
        )
        put(done, s, k, p_mw, q_mvar, available_mw)
        connected[s, k] = True


class InverterSourcePhysics(CompiledPhysics[InverterSourceConfig]):
    """Sources whose profile says what they could give, per unit of ``p_rated_mw``.

    The active set-point is a ceiling: giving less because the sun gives less is not a clip.
    Reactive power is available without sun, too. A ramp limit holds for the ceiling; the
    weather keeps to none.
    """

    unit = SourceUnit
    kernel = staticmethod(_advance)

    def __init__(self, configs: Sequence[InverterSourceConfig]) -> None:
        super().__init__(configs)
        self.p_rated_mw = np.array([c.p_rated_mw for c in configs])
        self._describe(p_rated_mw=self.p_rated_mw)

    def idle(self) -> tuple[FloatArray, FloatArray]:
        """Do not curtail."""
        return self.p_rated_mw, np.zeros(self.n)

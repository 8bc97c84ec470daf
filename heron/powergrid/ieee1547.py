"""Autonomous functions of inverters by IEEE 1547-2018: volt-var and volt-watt.

Voltages are in pu of nominal, reactive power in shares of the rating (nameplate apparent
power), active power in shares of the rated power. Positive reactive power is injected. All
functions are pure and take numbers or arrays. The defaults are those of category B, for
inverters where they are common; a utility may set others.

Source: IEEE Std 1547-2018, tables 8 (volt-var) and 10 (volt-watt), and 5.3.3, 5.4.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.device_configs import DeviceConfig
from heron.powergrid.quantities import Setpoint

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class VoltVarCurve:
    """Reactive power against voltage: straight lines between four points, level outside.

    Attributes:
        v_pu: Voltages V1 < V2 <= V3 < V4.
        q_share: Reactive power at each, positive = injected, in shares of the rating.
        response_s: Time in which a step of the voltage is answered to 90 %.
    """

    v_pu: tuple[float, float, float, float] = (0.92, 0.98, 1.02, 1.08)
    q_share: tuple[float, float, float, float] = (0.44, 0.0, 0.0, -0.44)
    response_s: float = 5.0

    def __post_init__(self) -> None:
        """Refuse a curve that is none.

        Raises:
            ConfigError: With every mistake.
        """
        v1, v2, v3, v4 = self.v_pu
        problems = []
        if not v1 < v2 <= v3 < v4:
            problems.append(ConfigProblem("volt_var.v_pu", self.v_pu, "V1 < V2 <= V3 < V4"))
        if any(not -1.0 <= q <= 1.0 for q in self.q_share):
            problems.append(ConfigProblem("volt_var.q_share", self.q_share, "each in [-1, 1]"))
        if any(low < high for low, high in zip(self.q_share, self.q_share[1:], strict=False)):
            expected = "never rising with the voltage"
            problems.append(ConfigProblem("volt_var.q_share", self.q_share, expected))
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, slots=True)
class VoltWattCurve:
    """Most active power against voltage: all of it below V1, falling to P2 at V2.

    Attributes:
        v_pu: Voltages V1 < V2.
        p2_share: What is left at V2 and above, in shares of the rated power; the standard's
            default is the lesser of 0.2 and the technical minimum.
        response_s: Time in which a step of the voltage is answered to 90 %.
    """

    v_pu: tuple[float, float] = (1.06, 1.10)
    p2_share: float = 0.0
    response_s: float = 10.0

    def __post_init__(self) -> None:
        """Refuse a curve that is none.

        Raises:
            ConfigError: With every mistake.
        """
        problems = []
        if not self.v_pu[0] < self.v_pu[1]:
            problems.append(ConfigProblem("volt_watt.v_pu", self.v_pu, "V1 < V2"))
        if not 0.0 <= self.p2_share <= 1.0:
            problems.append(ConfigProblem("volt_watt.p2_share", self.p2_share, "in [0, 1]"))
        if problems:
            raise ConfigError(problems)


VOLT_VAR_A = VoltVarCurve((0.9, 1.0, 1.0, 1.1), (0.25, 0.0, 0.0, -0.25), response_s=10.0)
VOLT_VAR_B = VoltVarCurve()
VOLT_WATT_B = VoltWattCurve()


def volt_var(v_pu: float | FloatArray, curve: VoltVarCurve = VOLT_VAR_B) -> FloatArray:
    """Return the reactive power that the curve wants, in shares of the rating."""
    return np.asarray(np.interp(v_pu, curve.v_pu, curve.q_share))


def volt_watt(v_pu: float | FloatArray, curve: VoltWattCurve = VOLT_WATT_B) -> FloatArray:
    """Return the most active power that the curve allows, in shares of the rated power."""
    return np.asarray(np.interp(v_pu, curve.v_pu, (1.0, curve.p2_share)))


def lagged(
    before: float | FloatArray, target: float | FloatArray, dt_s: float, response_s: float
) -> FloatArray:
    """Return the answer after ``dt_s`` of a first-order lag on its way to a constant target.

    Args:
        before: The answer at the start.
        target: What the curve wants.
        dt_s: Time that has passed.
        response_s: Time to 90 % of a step; 0 answers at once.
    """
    if response_s <= 0.0:
        return np.asarray(target, dtype=np.float64)
    left = math.exp(-math.log(10.0) * dt_s / response_s)
    return np.asarray(target + (np.asarray(before) - target) * left)


def autonomous_setpoint(
    config: DeviceConfig,
    v_pu: float,
    p_mw: float,
    volt_var_curve: VoltVarCurve = VOLT_VAR_B,
    volt_watt_curve: VoltWattCurve = VOLT_WATT_B,
) -> Setpoint:
    """Return what an inverter does by itself at a voltage.

    Reactive power comes first, as the standard asks of category B: active power gives way in
    the circle of the rating. The device's own reactive range is kept.

    Args:
        config: The inverter's limits.
        v_pu: Voltage at its terminals: the mean of its phases.
        p_mw: Active power that it would have, positive = injects; for PV and wind a ceiling.
        volt_var_curve: Which volt-var curve.
        volt_watt_curve: Which volt-watt curve; it limits injection only.
    """
    q_low, q_high = config.q_range_mvar
    p_low, p_high = config.p_range_mw
    rating = config.s_max_mva
    base = max(abs(p_low), abs(p_high)) if rating is None else rating
    q_mvar = min(max(float(volt_var(v_pu, volt_var_curve)) * base, q_low), q_high)
    p_limit = float(volt_watt(v_pu, volt_watt_curve)) * p_high
    if rating is not None:
        room = math.sqrt(max(rating * rating - q_mvar * q_mvar, 0.0))
        p_limit, p_low = min(p_limit, room), max(p_low, -room)
    return Setpoint(min(max(p_mw, p_low), max(p_limit, p_low)), q_mvar)

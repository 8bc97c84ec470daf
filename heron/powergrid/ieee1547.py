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
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.device_configs import DeviceConfig
from heron.powergrid.quantities import Setpoint

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class VoltVarCurve:
    """Reactive power against voltage: straight lines between points, level outside.

    Attributes:
        v_pu: Voltages V1 < V2 <= V3 < V4 of the standard; two or more that never fall.
        q_share: Reactive power at each, positive = injected, in shares of the rating.
        response_s: Time in which a step of the voltage is answered to 90 %.
    """

    v_pu: tuple[float, ...] = (0.92, 0.98, 1.02, 1.08)
    q_share: tuple[float, ...] = (0.44, 0.0, 0.0, -0.44)
    response_s: float = 5.0

    def __post_init__(self) -> None:
        """Refuse a curve that is none.

        Raises:
            ConfigError: With every mistake.
        """
        problems = []
        v = self.v_pu
        rising = v[0] < v[-1] and all(a <= b for a, b in pairwise(v)) if len(v) > 1 else False
        if not rising or len(v) != len(self.q_share):
            expected = "two or more that never fall (V1 < V2 <= V3 < V4), as many as q_share"
            problems.append(ConfigProblem("volt_var.v_pu", self.v_pu, expected))
        elif len(v) == 4 and not v[0] < v[1] <= v[2] < v[3]:
            problems.append(ConfigProblem("volt_var.v_pu", self.v_pu, "V1 < V2 <= V3 < V4"))
        if any(not -1.0 <= q <= 1.0 for q in self.q_share):
            problems.append(ConfigProblem("volt_var.q_share", self.q_share, "each in [-1, 1]"))
        if any(low < high for low, high in pairwise(self.q_share)):
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


@dataclass(frozen=True, slots=True)
class InverterLimits:
    """What one inverter can do, or many: numbers, or arrays of one value an inverter.

    Attributes:
        p_low_mw: Lowest active power, positive = injects.
        p_high_mw: Highest: the rated power, to which volt-watt refers.
        q_low_mvar: Lowest reactive power.
        q_high_mvar: Highest reactive power.
        rating_mva: Nameplate apparent power; infinite for none.
        q_base_mva: To which volt-var refers: the rating, or the rated power without one.
    """

    p_low_mw: float | FloatArray
    p_high_mw: float | FloatArray
    q_low_mvar: float | FloatArray
    q_high_mvar: float | FloatArray
    rating_mva: float | FloatArray
    q_base_mva: float | FloatArray

    @classmethod
    def of(cls, *configs: DeviceConfig) -> InverterLimits:
        """Return the limits of some devices, as arrays in their order."""
        p = np.array([c.p_range_mw for c in configs], dtype=np.float64)
        q = np.array([c.q_range_mvar for c in configs], dtype=np.float64)
        ratings = [c.s_max_mva for c in configs]
        return cls(
            p_low_mw=p[:, 0],
            p_high_mw=p[:, 1],
            q_low_mvar=q[:, 0],
            q_high_mvar=q[:, 1],
            rating_mva=np.array([np.inf if s is None else s for s in ratings]),
            q_base_mva=np.where(
                [s is None for s in ratings], np.abs(p).max(axis=1), [s or 0.0 for s in ratings]
            ),
        )


def autonomous_power(
    limits: InverterLimits,
    v_pu: float | FloatArray,
    p_mw: float | FloatArray,
    volt_var_curve: VoltVarCurve = VOLT_VAR_B,
    volt_watt_curve: VoltWattCurve | None = VOLT_WATT_B,
) -> tuple[FloatArray, FloatArray]:
    """Return the active and reactive power that inverters choose by themselves at a voltage.

    Reactive power comes first, as the standard asks of category B: active power gives way in
    the circle of the rating. The inverter's own reactive range is kept.

    Args:
        limits: What they can do.
        v_pu: Voltage at their terminals: the mean of the phases.
        p_mw: Active power that they would have, positive = injects; for PV and wind a ceiling.
        volt_var_curve: Which volt-var curve.
        volt_watt_curve: Which volt-watt curve; it limits injection only. None for none.
    """
    wanted = volt_var(v_pu, volt_var_curve) * limits.q_base_mva
    q_mvar = np.minimum(np.maximum(wanted, limits.q_low_mvar), limits.q_high_mvar)
    rating_squared = np.square(limits.rating_mva)
    room = np.sqrt(np.maximum(rating_squared - q_mvar * q_mvar, 0.0))
    most = np.minimum(limits.p_high_mw, room)
    if volt_watt_curve is not None:
        most = np.minimum(most, volt_watt(v_pu, volt_watt_curve) * limits.p_high_mw)
    least = np.maximum(limits.p_low_mw, -room)
    return np.minimum(np.maximum(p_mw, least), np.maximum(most, least)), np.asarray(q_mvar)


def autonomous_setpoint(
    config: DeviceConfig,
    v_pu: float,
    p_mw: float,
    volt_var_curve: VoltVarCurve = VOLT_VAR_B,
    volt_watt_curve: VoltWattCurve | None = VOLT_WATT_B,
) -> Setpoint:
    """Return what one inverter does by itself at a voltage; see `autonomous_power`."""
    p, q = autonomous_power(InverterLimits.of(config), v_pu, p_mw, volt_var_curve, volt_watt_curve)
    return Setpoint(float(p[0]), float(q[0]))

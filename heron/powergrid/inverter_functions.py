"""What an inverter does by itself while a function of its own is switched on.

A master switches such functions on through registers (704, 705, 706, 712, 123), a setup with
``autonomous``. At most one of them decides reactive power; volt-watt may limit active power beside
it. All functions are pure and take numbers or arrays. Positive = injects.

Source: IEEE Std 1547-2018, 5.3 (reactive power) and 5.4.2 (volt-watt).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, assert_never

import numpy as np
import numpy.typing as npt

from heron.powergrid.ieee1547 import (
    VOLT_VAR_B,
    VOLT_WATT_B,
    InverterLimits,
    VoltVarCurve,
    VoltWattCurve,
    volt_var,
    volt_watt,
)

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class VoltVar:
    """Reactive power by voltage.

    Attributes:
        curve: In pu of nominal voltage and shares of ``base_mva``.
        base_mva: To what the shares refer; None for the rating.
        active_first: Whether active power comes first in the circle of the rating.
    """

    curve: VoltVarCurve = VOLT_VAR_B
    base_mva: float | None = None
    active_first: bool = False


@dataclass(frozen=True, slots=True)
class WattVar:
    """Reactive power by active power: straight lines between corners, level outside.

    Attributes:
        p_mw: Active power of each corner, rising.
        q_mvar: Reactive power at each.
    """

    p_mw: tuple[float, ...]
    q_mvar: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PowerFactor:
    """Reactive power in proportion to active power.

    Attributes:
        injecting: cos phi while it injects active power; None leaves reactive power at 0.
        absorbing: cos phi while it absorbs; None leaves it at 0. Both are above 0 and at most 1;
            negative where reactive power is absorbed (under-excited) instead of injected.
    """

    injecting: float | None = None
    absorbing: float | None = None


@dataclass(frozen=True, slots=True)
class ShareOfAvailable:
    """A share, -1 to 1, of the reactive power that active power leaves in the rating."""

    share: float


ReactiveFunction: TypeAlias = VoltVar | WattVar | PowerFactor | ShareOfAvailable


@dataclass(frozen=True, slots=True)
class InverterFunctions:
    """The functions that are switched on at one inverter.

    Attributes:
        reactive: What decides reactive power; None for the set-point.
        volt_watt: What limits active power by voltage; None for nothing.
        connected: False keeps it off the grid.
    """

    reactive: ReactiveFunction | None = None
    volt_watt: VoltWattCurve | None = None
    connected: bool = True

    @property
    def by_voltage(self) -> bool:
        """Whether it answers its own voltage."""
        return isinstance(self.reactive, VoltVar) or self.volt_watt is not None

    @property
    def by_power(self) -> bool:
        """Whether its reactive power follows its active power."""
        return self.reactive is not None and not isinstance(self.reactive, VoltVar)


AUTONOMOUS = {
    "off": InverterFunctions(),
    "volt_var": InverterFunctions(VoltVar()),
    "volt_var_volt_watt": InverterFunctions(VoltVar(), VOLT_WATT_B),
}
"""What ``autonomous`` in a setup means: the default curves of category B."""


def answer_voltage(
    functions: InverterFunctions,
    limits: InverterLimits,
    v_pu: FloatArray,
    p_mw: FloatArray,
    q_mvar: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Return active and reactive power that an inverter wants at a voltage.

    Args:
        functions: Which are switched on.
        limits: What it can do.
        v_pu: Mean of the phase voltages at its terminals.
        p_mw: Active power that it would have; for PV and wind a ceiling.
        q_mvar: Reactive power that it would have without a function.
    """
    rule = functions.reactive
    most = np.asarray(limits.p_high_mw, dtype=np.float64)
    least = np.asarray(limits.p_low_mw, dtype=np.float64)
    if isinstance(rule, VoltVar):
        base = limits.q_base_mva if rule.base_mva is None else rule.base_mva
        wanted = volt_var(v_pu, rule.curve) * base
        q_mvar = np.minimum(np.maximum(wanted, limits.q_low_mvar), limits.q_high_mvar)
        if not rule.active_first:
            room = np.sqrt(np.maximum(np.square(limits.rating_mva) - q_mvar * q_mvar, 0.0))
            most, least = np.minimum(most, room), np.maximum(least, -room)
    if functions.volt_watt is not None:
        most = np.minimum(most, volt_watt(v_pu, functions.volt_watt) * limits.p_high_mw)
    return np.minimum(np.maximum(p_mw, least), np.maximum(most, least)), np.asarray(q_mvar)


def answer_power(rule: ReactiveFunction, limits: InverterLimits, p_mw: FloatArray) -> FloatArray:
    """Return the reactive power that follows from the active power at the terminals.

    Args:
        rule: A function that follows active power.
        limits: What it can do.
        p_mw: Active power.

    Raises:
        ValueError: The function answers voltage instead.
    """
    match rule:
        case PowerFactor():
            cos_phi = np.where(p_mw >= 0.0, rule.injecting or 1.0, rule.absorbing or 1.0)
            tan_phi = np.sqrt(np.maximum(1.0 / np.square(cos_phi) - 1.0, 0.0))
            wanted = np.sign(cos_phi) * tan_phi * np.abs(p_mw)
        case ShareOfAvailable():
            left = np.square(limits.q_base_mva) - np.square(p_mw)
            wanted = rule.share * np.sqrt(np.maximum(left, 0.0))
        case WattVar():
            wanted = np.interp(p_mw, rule.p_mw, rule.q_mvar)
        case VoltVar():
            raise ValueError("volt-var answers voltage")
        case _:
            assert_never(rule)
    return np.asarray(np.minimum(np.maximum(wanted, limits.q_low_mvar), limits.q_high_mvar))

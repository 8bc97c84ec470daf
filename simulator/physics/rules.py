"""The rules that all devices share, compiled, for one device in one scenario.

What a device is held to stands in a record of numbers, its unit. Physics in numpy reaches the same
rules through `simulator.physics.base.DevicePhysics`, which runs them over arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from inspect import get_annotations
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from heron.powergrid.quantities import ClipReason
from simulator.engines.jit import exact_inner, exact_kernel

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Units: TypeAlias = npt.NDArray[np.void]
"""(n_devices,) records, one a device, with the fields of `Unit` or of a class below it."""

TOLERANCE = 1e-9
"""MW and Mvar below which a set-point counts as carried out."""

BIT: Mapping[ClipReason, int] = {reason: 1 << k for k, reason in enumerate(ClipReason)}
"""A set of reasons is the sum of their bits, so that arrays can hold it."""

POWER_LIMIT = BIT[ClipReason.POWER_LIMIT]
APPARENT_POWER = BIT[ClipReason.APPARENT_POWER]
RAMP = BIT[ClipReason.RAMP]


@cache
def reasons_of(bits: int) -> tuple[ClipReason, ...]:
    """Return the reasons that a sum of bits stands for."""
    return tuple(reason for reason, bit in BIT.items() if bits & bit)


class Unit:
    """What every device is held to: names the fields of its record, and their types to checkers.

    Attributes:
        p_min_mw: Lowest active power.
        p_max_mw: Highest active power.
        q_min_mvar: Lowest reactive power.
        q_max_mvar: Highest reactive power.
        s_max_mva: Rating; infinite without one.
        ramp_mw_per_s: Fastest change of active power; infinite without a limit.
    """

    p_min_mw: float
    p_max_mw: float
    q_min_mvar: float
    q_max_mvar: float
    s_max_mva: float
    ramp_mw_per_s: float


def units_of(kind: type[Unit], n: int) -> Units:
    """Return ``n`` records with the fields of a unit, all 0.

    A class's own fields come before those of its bases: a record that begins as another one does
    would be taken for it by numba.
    """
    names = [name for cls in kind.__mro__ for name in get_annotations(cls)]
    return np.zeros(n, dtype=[(name, np.float64) for name in names])


@exact_inner
def clipped(x: float, low: float, high: float) -> float:
    """Return the nearest value of a range; NaN stays, and -0 on a limit of 0 becomes that."""
    above = low if x <= low else x
    return high if above >= high else above


@exact_inner
def within_p_limits(unit: Unit, p_set_mw: float) -> tuple[float, int]:
    """Clip to the active range and to the rating; return the reasons, too."""
    low = np.maximum(unit.p_min_mw, -unit.s_max_mva)
    p_mw = clipped(p_set_mw, low, np.minimum(unit.p_max_mw, unit.s_max_mva))
    reasons = 0
    if p_mw != p_set_mw:
        if p_set_mw > unit.p_max_mw + TOLERANCE or p_set_mw < unit.p_min_mw - TOLERANCE:
            reasons |= POWER_LIMIT
        if abs(p_mw - clipped(p_set_mw, unit.p_min_mw, unit.p_max_mw)) > TOLERANCE:
            reasons |= APPARENT_POWER
    return p_mw, reasons


@exact_inner
def within_q_limits(unit: Unit, p_mw: float, q_set_mvar: float) -> tuple[float, int]:
    """Clip reactive power to its range and to what the rating leaves beside ``p_mw``."""
    in_range = clipped(q_set_mvar, unit.q_min_mvar, unit.q_max_mvar)
    room_squared = unit.s_max_mva * unit.s_max_mva - p_mw * p_mw
    if in_range == q_set_mvar and in_range * in_range <= room_squared:
        return in_range, 0
    room = np.sqrt(np.maximum(room_squared, 0.0))
    q_mvar = clipped(in_range, -room, room)
    reasons = 0
    if abs(in_range - q_set_mvar) > TOLERANCE:
        reasons |= POWER_LIMIT
    if abs(q_mvar - in_range) > TOLERANCE:
        reasons |= APPARENT_POWER
    return q_mvar, reasons


@exact_inner
def ramp(unit: Unit, p_start_mw: float, target_mw: float, dt_s: float) -> tuple[float, float, int]:
    """Move towards a target at the ramp rate.

    Returns:
        Mean power over the step, power at its end, and `RAMP` where the target was not
        reached. The mean is exact, so energy does not depend on how time is cut.
    """
    if np.isinf(unit.ramp_mw_per_s):
        return target_mw, target_mw, 0
    change_mw = target_mw - p_start_mw
    needed_s = abs(change_mw) / unit.ramp_mw_per_s
    if needed_s <= dt_s:
        lost_mw = change_mw * needed_s / (2.0 * np.maximum(dt_s, 1e-12))
        return target_mw - lost_mw, target_mw, 0
    end_mw = p_start_mw + change_mw * (dt_s / needed_s)
    lost_mw = (end_mw - p_start_mw) * dt_s / (2.0 * np.maximum(dt_s, 1e-12))
    return end_mw - lost_mw, end_mw, RAMP


@exact_inner
def ramp_below(
    unit: Unit, p_start_mw: float, target_mw: float, cap_mw: float, dt_s: float
) -> tuple[float, float, int]:
    """Move a ceiling towards a target at the ramp rate, and use what is below a cap.

    Returns:
        Mean over the step of the lower of ceiling and cap (exact: both are straight lines), the
        ceiling at its end, and `RAMP` where the target was not reached.
    """
    _, end_mw, reasons = ramp(unit, p_start_mw, target_mw, dt_s)
    moving_s = np.minimum(abs(target_mw - p_start_mw) / unit.ramp_mw_per_s, dt_s)
    # While the ceiling moves, the part of its way that lies above the cap is cut off.
    low_mw, high_mw = np.minimum(p_start_mw, end_mw), np.maximum(p_start_mw, end_mw)
    if cap_mw < low_mw:
        moving_mw = cap_mw
    else:
        way_mw = np.maximum(high_mw - low_mw, TOLERANCE)
        above_mw = clipped(high_mw - cap_mw, 0.0, high_mw - low_mw)
        moving_mw = (low_mw + high_mw) / 2.0 - above_mw * above_mw / (2.0 * way_mw)
    resting_mw = np.minimum(end_mw, cap_mw)
    return resting_mw + (moving_mw - resting_mw) * moving_s / dt_s, end_mw, reasons


@exact_kernel
def all_within_p_limits(units: Any, p_set_mw: FloatArray, p_mw: FloatArray, why: IntArray) -> None:
    """Run `within_p_limits` over flat arrays of scenarios times devices."""
    for j in range(len(p_mw)):
        p_mw[j], why[j] = within_p_limits(units[j % len(units)], p_set_mw[j])


@exact_kernel
def all_within_q_limits(
    units: Any, p_mw: FloatArray, q_set_mvar: FloatArray, q_mvar: FloatArray, why: IntArray
) -> None:
    """Run `within_q_limits` over flat arrays of scenarios times devices."""
    for j in range(len(p_mw)):
        q_mvar[j], why[j] = within_q_limits(units[j % len(units)], p_mw[j], q_set_mvar[j])


@exact_kernel
def all_ramp(  # noqa: PLR0917 - compiled code takes positions
    units: Any,
    p_start_mw: FloatArray,
    target_mw: FloatArray,
    dt_s: FloatArray,
    mean_mw: FloatArray,
    end_mw: FloatArray,
    why: IntArray,
) -> None:
    """Run `ramp` over flat arrays of scenarios times devices."""
    for j in range(len(mean_mw)):
        unit = units[j % len(units)]
        mean_mw[j], end_mw[j], why[j] = ramp(unit, p_start_mw[j], target_mw[j], dt_s[j])


@exact_kernel
def all_ramp_below(  # noqa: PLR0917 - compiled code takes positions
    units: Any,
    p_start_mw: FloatArray,
    target_mw: FloatArray,
    cap_mw: FloatArray,
    dt_s: FloatArray,
    mean_mw: FloatArray,
    end_mw: FloatArray,
    why: IntArray,
) -> None:
    """Run `ramp_below` over flat arrays of scenarios times devices."""
    for j in range(len(mean_mw)):
        mean_mw[j], end_mw[j], why[j] = ramp_below(
            units[j % len(units)], p_start_mw[j], target_mw[j], cap_mw[j], dt_s[j]
        )

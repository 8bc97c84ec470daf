"""What every device's physics has in common.

A `DevicePhysics` holds all devices of one type in a setup and advances them together, over one
scenario or many: arrays have the shape (n_devices,) or (n_scenarios, n_devices), written
(..., n_devices). `advance` is pure: it returns the new state and changes nothing, so a step
whose power flow fails leaves no trace. Positive power injects into the grid.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from heron.powergrid.device_configs import DeviceConfig
from heron.powergrid.quantities import ClipReason

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Reasons = IntArray | int
"""(..., n_devices) sums of `BIT`, or 0 where no device has any."""
PhysicsState = Mapping[str, FloatArray]
"""(..., n_devices) arrays by name. ``soc`` is shown in the readings; ``p_mw`` is the power at
the end of the step, from which a ramp starts; ``seed``, where it stands, is the reset's."""

ConfigT = TypeVar("ConfigT", bound=DeviceConfig)

TOLERANCE = 1e-9
"""MW and Mvar below which a set-point counts as carried out."""

BIT: Mapping[ClipReason, int] = {reason: 1 << k for k, reason in enumerate(ClipReason)}
"""A set of reasons is the sum of their bits, so that arrays can hold it."""


@cache
def reasons_of(bits: int) -> tuple[ClipReason, ...]:
    """Return the reasons that a sum of bits stands for."""
    return tuple(reason for reason, bit in BIT.items() if bits & bit)


@dataclass(frozen=True, slots=True)
class Ambient:
    """What surrounds the devices during a step.

    Attributes:
        time_s: Plant time at which the step starts: a number, or (n_scenarios, 1).
        dt_s: Length of the step, above 0.
        profile: (..., n_devices) mean of each device's profile over the step; 1 without one.
    """

    time_s: float | FloatArray
    dt_s: float
    profile: FloatArray


@dataclass(frozen=True, slots=True)
class Advance:
    """What the devices did in a step; every array is (..., n_devices).

    Attributes:
        p_mw: Mean active power over the step.
        q_mvar: Mean reactive power over the step.
        state: At the end of the step.
        reasons: Sums of the `BIT` of each reason for which a set-point was changed.
        available_mw: What the device would inject if it were left alone; None where that
            means nothing.
        connected: Whether it is connected at the end of the step; None for always.
    """

    p_mw: FloatArray
    q_mvar: FloatArray
    state: PhysicsState
    reasons: Reasons
    available_mw: FloatArray | None = None
    connected: BoolArray | None = None


class DevicePhysics(ABC, Generic[ConfigT]):
    """The physics of all devices of one type.

    Subclass it for a new type of device and hand the class to
    `simulator.physics.add_physics`.
    """

    stores_energy: ClassVar[bool] = False

    def __init__(self, configs: Sequence[ConfigT]) -> None:
        self.configs = tuple(configs)
        self.n = len(self.configs)
        self.p_min, self.p_max = (
            np.array([c.p_range_mw[k] for c in configs], dtype=float) for k in (0, 1)
        )
        self.q_min, self.q_max = (
            np.array([c.q_range_mvar[k] for c in configs], dtype=float) for k in (0, 1)
        )
        ratings = [c.s_max_mva for c in configs]
        self.s_max = np.array([np.inf if s is None else s for s in ratings], dtype=float)
        self._s_squared = self.s_max * self.s_max
        self._p_low = np.maximum(self.p_min, -self.s_max)
        self._p_high = np.minimum(self.p_max, self.s_max)
        ramps = [c.ramp_mw_per_min for c in configs]
        self.ramp_mw_per_s = np.array([np.inf if r is None else r / 60.0 for r in ramps])
        self.has_ramps = any(r is not None for r in ramps)

    def initial_state(self) -> PhysicsState:
        """Return the state of the devices after a reset, (n_devices,) each."""
        p_mw, _ = self.idle()
        return {"p_mw": p_mw}

    @abstractmethod
    def idle(self) -> tuple[FloatArray, FloatArray]:
        """Return the set-point (MW, Mvar) of doing nothing, (n_devices,) each."""

    @abstractmethod
    def advance(
        self, state: PhysicsState, p_set_mw: FloatArray, q_set_mvar: FloatArray, ambient: Ambient
    ) -> Advance:
        """Carry out set-points for one step, as far as the device can.

        Args:
            state: At the start of the step.
            p_set_mw: (..., n_devices) asked active power, finite.
            q_set_mvar: (..., n_devices) asked reactive power, finite.
            ambient: Time, length and profiles of the step.
        """

    def within_p_limits(self, p_set_mw: FloatArray) -> tuple[FloatArray, Reasons]:
        """Clip to the active range and to the rating."""
        p_mw = np.minimum(np.maximum(p_set_mw, self._p_low), self._p_high)
        if (p_mw == p_set_mw).all():
            return p_mw, 0
        beyond_range = (p_set_mw > self.p_max + TOLERANCE) | (p_set_mw < self.p_min - TOLERANCE)
        beyond_rating = np.abs(p_mw - np.clip(p_set_mw, self.p_min, self.p_max)) > TOLERANCE
        return p_mw, (beyond_range * BIT[ClipReason.POWER_LIMIT]) | (
            beyond_rating * BIT[ClipReason.APPARENT_POWER]
        )

    def within_q_limits(
        self, p_mw: FloatArray, q_set_mvar: FloatArray
    ) -> tuple[FloatArray, Reasons]:
        """Clip reactive power to its range and to what the rating leaves beside ``p_mw``."""
        q_mvar = np.minimum(np.maximum(q_set_mvar, self.q_min), self.q_max)
        room_squared = self._s_squared - p_mw * p_mw
        if ((q_mvar == q_set_mvar) & (q_mvar * q_mvar <= room_squared)).all():
            return q_mvar, 0
        room = np.sqrt(np.maximum(room_squared, 0.0))
        inside = np.minimum(np.maximum(q_mvar, -room), room)
        beyond_range = np.abs(q_mvar - q_set_mvar) > TOLERANCE
        beyond_rating = np.abs(inside - q_mvar) > TOLERANCE
        return inside, (beyond_range * BIT[ClipReason.POWER_LIMIT]) | (
            beyond_rating * BIT[ClipReason.APPARENT_POWER]
        )

    def ramp_below(
        self,
        p_start_mw: FloatArray,
        target_mw: FloatArray,
        cap_mw: FloatArray,
        dt_s: float | FloatArray,
    ) -> tuple[FloatArray, FloatArray, Reasons]:
        """Move a ceiling towards a target at the ramp rate, and use what is below a cap.

        Returns:
            Mean over the step of the lower of ceiling and cap (exact: both are straight lines),
            the ceiling at its end, and `RAMP` where the target was not reached.
        """
        mean_mw, end_mw, reasons = self.ramp(p_start_mw, target_mw, dt_s)
        if not self.has_ramps:
            return np.minimum(mean_mw, cap_mw), end_mw, reasons
        moving_s = np.minimum(np.abs(target_mw - p_start_mw) / self.ramp_mw_per_s, dt_s)
        # While the ceiling moves, the part of its way that lies above the cap is cut off.
        low, high = np.minimum(p_start_mw, end_mw), np.maximum(p_start_mw, end_mw)
        way = np.maximum(high - low, TOLERANCE)
        above = np.clip(high - cap_mw, 0.0, high - low)
        moving_mw = (low + high) / 2.0 - above * above / (2.0 * way)
        moving_mw = np.where(cap_mw < low, cap_mw, moving_mw)
        resting_mw = np.minimum(end_mw, cap_mw)
        return resting_mw + (moving_mw - resting_mw) * moving_s / dt_s, end_mw, reasons

    def ramp(
        self, p_start_mw: FloatArray, target_mw: FloatArray, dt_s: float | FloatArray
    ) -> tuple[FloatArray, FloatArray, Reasons]:
        """Move towards a target at the ramp rate.

        Returns:
            Mean power over the step, power at its end, and `RAMP` where the target was not
            reached. The mean is exact, so energy does not depend on how time is cut.
        """
        if not self.has_ramps:
            return target_mw, target_mw, 0
        change = target_mw - p_start_mw
        needed_s = np.abs(change) / self.ramp_mw_per_s
        moving_s = np.minimum(needed_s, dt_s)
        reached = needed_s <= dt_s
        share = np.where(reached, 1.0, moving_s / np.where(reached, 1.0, needed_s))
        end_mw = np.where(reached, target_mw, p_start_mw + change * share)
        lost_mw = (end_mw - p_start_mw) * moving_s / (2.0 * np.maximum(dt_s, 1e-12))
        return end_mw - lost_mw, end_mw, ~reached * BIT[ClipReason.RAMP]

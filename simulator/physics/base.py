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
from typing import ClassVar, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from heron.powergrid.device_configs import DeviceConfig
from simulator.physics import rules
from simulator.physics.rules import Unit, units_of

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Reasons = IntArray | int
"""(..., n_devices) sums of `rules.BIT`, or 0 where no device has any."""
PhysicsState = Mapping[str, FloatArray]
"""(..., n_devices) arrays by name. ``soc`` is shown in the readings; ``p_mw`` is the power at
the end of the step, from which a ramp starts; ``seed``, where it stands, is the reset's."""

ConfigT = TypeVar("ConfigT", bound=DeviceConfig)


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
        reasons: Sums of the `rules.BIT` of each reason for which a set-point was changed.
        available_mw: What the device would inject if it were left alone; NaN, or None for all,
            where that means nothing.
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
    `simulator.physics.add_physics`. `advance` may be written in numpy, with the rules below; see
    `simulator.physics.compiled.CompiledPhysics` for a faster way.
    """

    stores_energy: ClassVar[bool] = False
    unit: ClassVar[type[Unit]] = Unit
    """Names the figures of a device that its rules take, the fields of ``units``."""

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
        ramps = [c.ramp_mw_per_min for c in configs]
        self.ramp_mw_per_s = np.array([np.inf if r is None else r / 60.0 for r in ramps])
        self.has_ramps = any(r is not None for r in ramps)
        self.units = units_of(self.unit, self.n)
        self._describe(
            p_min_mw=self.p_min,
            p_max_mw=self.p_max,
            q_min_mvar=self.q_min,
            q_max_mvar=self.q_max,
            s_max_mva=self.s_max,
            ramp_mw_per_s=self.ramp_mw_per_s,
        )

    def _describe(self, **figures: FloatArray) -> None:
        """Write figures of the devices, (n_devices,) each, into their records."""
        for name, values in figures.items():
            self.units[name] = values

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
        """Clip to the active range and to the rating; see `rules.within_p_limits`."""
        (p_set,), p_mw, why = self._flat(p_set_mw)
        rules.all_within_p_limits(self.units, p_set, p_mw.reshape(-1), why.reshape(-1))
        return p_mw, why

    def within_q_limits(
        self, p_mw: FloatArray, q_set_mvar: FloatArray
    ) -> tuple[FloatArray, Reasons]:
        """Clip to the range and to what ``p_mw`` leaves; see `rules.within_q_limits`."""
        (p, q_set), q_mvar, why = self._flat(p_mw, q_set_mvar)
        rules.all_within_q_limits(self.units, p, q_set, q_mvar.reshape(-1), why.reshape(-1))
        return q_mvar, why

    def ramp_below(
        self,
        p_start_mw: FloatArray,
        target_mw: FloatArray,
        cap_mw: FloatArray,
        dt_s: float | FloatArray,
    ) -> tuple[FloatArray, FloatArray, Reasons]:
        """Move a ceiling at the ramp rate and use what is below a cap; see `rules.ramp_below`.

        Returns:
            Mean over the step of the lower of ceiling and cap, the ceiling at its end, and
            `RAMP` where the target was not reached.
        """
        (start, target, cap, dt), mean_mw, why = self._flat(p_start_mw, target_mw, cap_mw, dt_s)
        end_mw = np.empty_like(mean_mw)
        out = mean_mw.reshape(-1), end_mw.reshape(-1), why.reshape(-1)
        rules.all_ramp_below(self.units, start, target, cap, dt, *out)
        return mean_mw, end_mw, why

    def ramp(
        self, p_start_mw: FloatArray, target_mw: FloatArray, dt_s: float | FloatArray
    ) -> tuple[FloatArray, FloatArray, Reasons]:
        """Move towards a target at the ramp rate; see `rules.ramp`.

        Returns:
            Mean power over the step, power at its end, and `RAMP` where the target was not
            reached.
        """
        if not self.has_ramps:
            return target_mw, target_mw, 0
        (start, target, dt), mean_mw, why = self._flat(p_start_mw, target_mw, dt_s)
        end_mw = np.empty_like(mean_mw)
        out = mean_mw.reshape(-1), end_mw.reshape(-1), why.reshape(-1)
        rules.all_ramp(self.units, start, target, dt, *out)
        return mean_mw, end_mw, why

    def _flat(self, *values: FloatArray | float) -> tuple[list[FloatArray], FloatArray, IntArray]:
        """Return flat copies of (..., n_devices) arrays, and empty results of that shape."""
        whole = np.broadcast_arrays(*values, self.p_min)[:-1]
        shape = whole[0].shape
        flat = [np.array(x, dtype=np.float64).reshape(-1) for x in whole]
        return flat, np.empty(shape), np.zeros(shape, dtype=np.int64)

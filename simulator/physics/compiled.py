"""Physics whose rules are compiled: a function of one device in one scenario.

Single plants and batches run the same machine code. A type of device has a record of figures (its
``unit``), a rule in scalars, and a kernel that runs it over scenarios and devices; the devices of
a fleet read and write the same arrays, each in its own place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import numpy as np

from simulator.engines.jit import exact_inner
from simulator.physics.base import (
    Advance,
    Ambient,
    BoolArray,
    ConfigT,
    DevicePhysics,
    FloatArray,
    IntArray,
    PhysicsState,
)


class Task(NamedTuple):
    """What is asked of S scenarios of D devices in a step, and where they write what they did.

    Attributes:
        asked: (2, S, D) active and reactive set-points.
        profile: (S, D) mean of each device's profile over the step.
        time_s: Start of the step: a number, or (S, 1).
        dt_s: Its length.
        done: (4, S, D) to be filled: mean active and reactive power, available power and state of
            charge; NaN for those two where they mean nothing.
        reasons: (S, D) to be filled: sums of the bits of why a set-point was changed.
        connected: (S, D) to be filled: whether it is connected at the end.
    """

    asked: FloatArray
    profile: FloatArray
    time_s: float | FloatArray
    dt_s: float
    done: FloatArray
    reasons: IntArray
    connected: BoolArray

    @classmethod
    def of(
        cls,
        p_set_mw: FloatArray,
        q_set_mvar: FloatArray,
        profile: FloatArray,
        time_s: float | FloatArray,
        dt_s: float,
    ) -> Task:
        """Return a task with (..., D) set-points and profiles.

        Raises:
            ValueError: Their shapes differ.
        """
        # compiled code checks no lengths: what does not fit must not get there
        if not p_set_mw.shape == q_set_mvar.shape == profile.shape:
            shapes = f"{p_set_mw.shape}, {q_set_mvar.shape} and {profile.shape}"
            raise ValueError(f"set-points and profiles have the shapes {shapes}")
        *lead, n = p_set_mw.shape
        shape = (math.prod(lead), n)
        asked = np.empty((2, *shape))
        asked[0], asked[1] = p_set_mw.reshape(shape), q_set_mvar.reshape(shape)
        return cls(
            asked,
            profile.reshape(shape),
            time_s,
            dt_s,
            np.empty((4, *shape)),
            np.empty(shape, np.int64),
            np.empty(shape, np.bool_),
        )


class CompiledPhysics(DevicePhysics[ConfigT]):
    """Physics of a kernel: `carry_out` writes into the arrays of the whole fleet.

    A subclass names what it keeps from step to step and brings the kernel. That is called with
    ``units``, ``at``, the task's ``asked``, what `given` returns, each array of the state by
    itself (flat, scenarios * devices), ``dt_s``, the new state (names, scenarios * devices) to be
    filled, and the task's ``done``, ``reasons`` and ``connected``.
    """

    kernel: ClassVar[Callable[..., None]]
    keeps: ClassVar[tuple[str, ...]] = ("p_mw",)

    def given(self, state: PhysicsState, task: Task) -> FloatArray:
        """Return what the kernel takes besides: the profiles, if it is not said otherwise."""
        return task.profile

    def carry_out(self, state: PhysicsState, at: IntArray, task: Task) -> PhysicsState:
        """Carry out a task as far as these devices can; return their state at the end.

        Args:
            state: At the start, (..., n_devices) each; not changed.
            at: (n_devices,) their places among the devices of the task.
            task: Receives what they did.

        Raises:
            ValueError: The state is not that of so many devices in so many scenarios.
        """
        old = [state[name] for name in self.keeps]
        if {values.size for values in old} != {len(task.reasons) * self.n}:
            shapes = [values.shape for values in old]
            raise ValueError(f"{self.keeps} have the shapes {shapes}; there are {self.n} devices")
        new = np.empty((len(old), *old[0].shape))
        self.kernel(
            self.units,
            at,
            task.asked,
            self.given(state, task),
            *[values.ravel() for values in old],
            task.dt_s,
            new.reshape(len(old), -1),
            task.done,
            task.reasons,
            task.connected,
        )
        # not zip(): an array's iterator ends with an IndexError, which costs more than the kernel
        return {name: new[k] for k, name in enumerate(self.keeps)}

    def advance(
        self, state: PhysicsState, p_set_mw: FloatArray, q_set_mvar: FloatArray, ambient: Ambient
    ) -> Advance:
        """Carry out set-points for one step; see `DevicePhysics.advance`."""
        task = Task.of(p_set_mw, q_set_mvar, ambient.profile, ambient.time_s, ambient.dt_s)
        new = self.carry_out(state, np.arange(self.n), task)
        shape = p_set_mw.shape
        done = task.done.reshape(4, *shape)
        return Advance(
            done[0],
            done[1],
            new,
            task.reasons.reshape(shape),
            done[2],
            task.connected.reshape(shape),
        )


@exact_inner
def put(  # noqa: PLR0917 - compiled code takes positions
    done: FloatArray,
    s: int,
    k: int,
    p_mw: float,
    q_mvar: float,
    available_mw: float = math.nan,
    soc: float = math.nan,
) -> None:
    """Write what device ``k`` did in scenario ``s``; see `Task.done`."""
    done[0, s, k], done[1, s, k] = p_mw, q_mvar
    done[2, s, k], done[3, s, k] = available_mw, soc

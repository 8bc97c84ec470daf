"""All devices and loads of a setup, as arrays: what one plant and a batch of plants share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from heron.powergrid.networks import Grid
from heron.powergrid.quantities import ClipReason
from heron.powergrid.setups import Setup, device_profile_name, load_profile_names
from simulator.physics import (
    BIT,
    Ambient,
    CompiledPhysics,
    DevicePhysics,
    PhysicsState,
    physics_class,
)
from simulator.physics.compiled import Task

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

INSTANT_S = 1e-3
"""A step so short that nothing changes: the devices' powers at the instant of a reset."""


class FleetAdvance(NamedTuple):
    """What all devices did in a step; every array is (..., n_devices) in the setup's order.

    Attributes:
        p_mw: Mean active power, positive = injects.
        q_mvar: Mean reactive power.
        reasons: Sum of the bits of the reasons for which a set-point was changed.
        available_mw: What each would inject if left alone; NaN where that means nothing.
        soc: At the end of the step; NaN where nothing is stored.
        connected: At the end of the step.
        states: Of each group, at the end of the step.
    """

    p_mw: FloatArray
    q_mvar: FloatArray
    reasons: IntArray
    available_mw: FloatArray
    soc: FloatArray
    connected: BoolArray
    states: tuple[PhysicsState, ...]


class _Columns:
    """Picks profile values for a list of consumers; 1 for those without a profile."""

    def __init__(self, names: Sequence[str | None], columns: Sequence[str]) -> None:
        self._take = np.array([0 if n is None else columns.index(n) for n in names], dtype=np.int64)
        self._constant = np.flatnonzero([n is None for n in names])

    def __call__(self, row: FloatArray) -> FloatArray:
        """Return (..., n_consumers) of (..., n_columns)."""
        values = row.take(self._take, axis=-1)
        if self._constant.size:
            values.T[self._constant] = 1.0
        return values


@dataclass(frozen=True, slots=True)
class _Group:
    """Devices with the same physics.

    Attributes:
        physics: Theirs.
        at: (n,) their places in the setup's order.
        compiled: The same physics, if it can write into the arrays of the whole fleet.
    """

    physics: DevicePhysics[Any]
    at: IntArray
    compiled: CompiledPhysics[Any] | None

    @classmethod
    def of(cls, physics: DevicePhysics[Any], at: Sequence[int]) -> _Group:
        """Return a group; whose class has an `advance` of its own is asked for that."""
        own = type(physics).advance is not CompiledPhysics.advance
        compiled = physics if isinstance(physics, CompiledPhysics) and not own else None
        return cls(physics, np.array(at, dtype=np.int64), compiled)

    def advance(
        self, state: PhysicsState, p_set_mw: FloatArray, q_set_mvar: FloatArray, task: Task
    ) -> PhysicsState:
        """Carry out their part of a task; return their state at the end.

        Args:
            state: At the start.
            p_set_mw: (..., n_devices) what is asked of the whole fleet.
            q_set_mvar: (..., n_devices) the same for reactive power.
            task: The same, and where it is written what they did.
        """
        if self.compiled is not None:
            return self.compiled.carry_out(state, self.at, task)
        physics, shape = self.physics, p_set_mw.shape
        part = (..., self.at)
        ambient = Ambient(task.time_s, task.dt_s, task.profile.reshape(shape)[part])
        did = physics.advance(state, p_set_mw[part], q_set_mvar[part], ambient)
        p_mw, q_mvar, available_mw, soc = task.done.reshape(4, *shape)
        p_mw[part], q_mvar[part] = did.p_mw, did.q_mvar
        available_mw[part] = np.nan if did.available_mw is None else did.available_mw
        soc[part] = did.state["soc"] if physics.stores_energy else np.nan
        task.reasons.reshape(shape)[part] = did.reasons
        task.connected.reshape(shape)[part] = True if did.connected is None else did.connected
        return did.state


class Fleet:
    """The devices of a setup, grouped by their physics, and the demand of its loads.

    Pure: it holds parameters only, and every method returns new arrays.
    """

    def __init__(self, setup: Setup, grid: Grid) -> None:
        config, profiles = setup.config, setup.profiles
        self._profiles = profiles
        self.device_ids = config.device_ids
        entries = [d for m in config.microgrid_configs for d in m.devices]
        members: dict[type[DevicePhysics[Any]], list[int]] = {}
        for k, entry in enumerate(entries):
            kind = physics_class(type(entry.device_state_config))
            members.setdefault(kind, []).append(k)
        self._groups = [
            _Group.of(kind([entries[k].device_state_config for k in at]), at)
            for kind, at in members.items()
        ]
        names = [device_profile_name(e.device_state_config, profiles) for e in entries]
        self._device_columns = _Columns(names, profiles.names)
        self._load_columns = _Columns(_load_profiles(setup, grid), profiles.names)
        self.price_column = profiles.index(config.price_profile)

    def load_scale(self, row: FloatArray) -> FloatArray:
        """Return each load's share of its nominal power, (..., n_loads)."""
        return self._load_columns(row)

    def idle(self) -> tuple[FloatArray, FloatArray]:
        """Return the set-points (MW, Mvar) of doing nothing, (n_devices,) each."""
        p_mw, q_mvar = np.zeros((2, len(self.device_ids)))
        for group in self._groups:
            p_mw[group.at], q_mvar[group.at] = group.physics.idle()
        return p_mw, q_mvar

    def at_reset(
        self, row: FloatArray, time_s: float | FloatArray, seed: int | IntArray = 0
    ) -> FleetAdvance:
        """Return idle devices at an instant, with the states that a reset gives them.

        Args:
            row: (..., n_columns) profiles at that instant.
            time_s: The instant; (n_scenarios, 1) for a batch.
            seed: Of what devices draw; (n_scenarios, 1) for a batch.
        """
        lead = row.shape[:-1]
        p_set, q_set = (np.broadcast_to(x, (*lead, x.size)) for x in self.idle())
        states: tuple[PhysicsState, ...] = tuple(
            {
                name: np.broadcast_to(
                    values if name != "seed" else np.asarray(seed, dtype=np.float64),
                    (*lead, group.physics.n),
                ).copy()
                for name, values in group.physics.initial_state().items()
            }
            for group in self._groups
        )
        done = self.advance(states, p_set, q_set, row=row, time_s=time_s, dt_s=INSTANT_S)
        return done._replace(
            reasons=np.zeros_like(done.reasons), soc=self._soc(states, lead), states=states
        )

    def advance(
        self,
        states: Sequence[PhysicsState],
        p_set_mw: FloatArray,
        q_set_mvar: FloatArray,
        *,
        row: FloatArray,
        time_s: float | FloatArray,
        dt_s: float,
        off: BoolArray | None = None,
    ) -> FleetAdvance:
        """Carry out set-points for one step, as far as each device can.

        A step longer than one of the profiles is carried out in pieces of at most that length, so
        that it does not matter for curtailment, ramps or charge how time is cut: what a ceiling
        takes off depends on the weather of each quarter of an hour, not on its mean.

        Args:
            states: Of each group, at the start.
            p_set_mw: (..., n_devices) finite.
            q_set_mvar: (..., n_devices) finite.
            row: (..., n_columns) means of all profiles over the step.
            time_s: Start of the step; (n_scenarios, 1) for a batch.
            dt_s: Above 0.
            off: (..., n_devices) who is kept off the grid; None for nobody.
        """
        if off is not None:
            return self._with_some_off(
                states, p_set_mw, q_set_mvar, off, row=row, time_s=time_s, dt_s=dt_s
            )
        pieces = math.ceil(dt_s / self._profiles.step_s * (1.0 - 1e-12))
        if pieces <= 1:
            return self._advance_piece(
                states, p_set_mw, q_set_mvar, row=row, time_s=time_s, dt_s=dt_s
            )
        piece_s = dt_s / pieces
        done: list[FleetAdvance] = []
        for k in range(pieces):
            now_s = time_s + k * piece_s
            done.append(
                self._advance_piece(
                    done[-1].states if done else states,
                    p_set_mw,
                    q_set_mvar,
                    row=self._means(now_s, piece_s),
                    time_s=now_s,
                    dt_s=piece_s,
                )
            )
        return done[-1]._replace(
            p_mw=np.mean([d.p_mw for d in done], axis=0),
            q_mvar=np.mean([d.q_mvar for d in done], axis=0),
            available_mw=np.mean([d.available_mw for d in done], axis=0),
            reasons=np.bitwise_or.reduce([d.reasons for d in done]),
        )

    def _with_some_off(
        self,
        states: Sequence[PhysicsState],
        p_set_mw: FloatArray,
        q_set_mvar: FloatArray,
        off: BoolArray,
        *,
        row: FloatArray,
        time_s: float | FloatArray,
        dt_s: float,
    ) -> FleetAdvance:
        """Carry out a step in which some give nothing; they ramp from zero when they are back."""
        whole = np.broadcast_to(off, p_set_mw.shape)
        rested = tuple(
            {**state, "p_mw": np.where(whole[..., group.at], 0.0, state["p_mw"])}
            for group, state in zip(self._groups, states, strict=True)
        )
        p_set, q_set = np.where(whole, 0.0, p_set_mw), np.where(whole, 0.0, q_set_mvar)
        done = self.advance(rested, p_set, q_set, row=row, time_s=time_s, dt_s=dt_s)
        after = tuple(
            {**state, "p_mw": np.where(whole[..., group.at], 0.0, state["p_mw"])}
            for group, state in zip(self._groups, done.states, strict=True)
        )
        asked = (np.abs(p_set_mw) > 0.0) | (np.abs(q_set_mvar) > 0.0)
        return done._replace(
            p_mw=np.where(whole, 0.0, done.p_mw),
            q_mvar=np.where(whole, 0.0, done.q_mvar),
            connected=done.connected & ~whole,
            reasons=np.where(whole, asked * BIT[ClipReason.DISCONNECTED], done.reasons),
            states=after,
        )

    def _means(self, time_s: float | FloatArray, dt_s: float) -> FloatArray:
        if isinstance(time_s, np.ndarray):
            return self._profiles.means_at(time_s[:, 0], dt_s)
        return self._profiles.means(time_s, dt_s)

    def _advance_piece(
        self,
        states: Sequence[PhysicsState],
        p_set_mw: FloatArray,
        q_set_mvar: FloatArray,
        *,
        row: FloatArray,
        time_s: float | FloatArray,
        dt_s: float,
    ) -> FleetAdvance:
        """Carry out set-points in a piece over which the profiles are constant."""
        task = Task.of(p_set_mw, q_set_mvar, self._device_columns(row), time_s, dt_s)
        after = [
            group.advance(state, p_set_mw, q_set_mvar, task)
            for group, state in zip(self._groups, states, strict=True)
        ]
        shape = p_set_mw.shape
        done = task.done.reshape(4, *shape)
        return FleetAdvance(
            done[0],
            done[1],
            task.reasons.reshape(shape),
            done[2],
            done[3],
            task.connected.reshape(shape),
            tuple(after),
        )

    def _soc(self, states: Sequence[PhysicsState], lead: tuple[int, ...]) -> FloatArray:
        soc = np.full((*lead, len(self.device_ids)), np.nan)
        for group, state in zip(self._groups, states, strict=True):
            if group.physics.stores_energy:
                soc[..., group.at] = state["soc"]
        return soc


def _load_profiles(setup: Setup, grid: Grid) -> list[str | None]:
    """Deal each area's profiles to its loads, one after the other, in the grid's order."""
    dealt = dict.fromkeys(grid.areas, 0)
    names: list[str | None] = []
    for load in grid.loads:
        choice = load_profile_names(setup.config, setup.profiles, load.area)
        names.append(choice[dealt[load.area] % len(choice)])
        dealt[load.area] += 1
    return names

"""All devices and loads of a setup, as arrays: what one plant and a batch of plants share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from heron.powergrid.networks import Grid
from heron.powergrid.setups import Setup, device_profile_name, load_profile_names
from simulator.physics import Advance, Ambient, DevicePhysics, PhysicsState, physics_class

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

INSTANT_S = 1e-3
"""A step so short that nothing changes: the devices' powers at the instant of a reset."""


@dataclass(frozen=True, slots=True)
class FleetAdvance:
    """What all devices did in a step; every array is (..., n_devices).

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


@dataclass(frozen=True, slots=True)
class _Group:
    physics: DevicePhysics[Any]
    at: IntArray
    profiles: _Columns


class _Columns:
    """Picks profile values for a list of consumers; 1 for those without a profile."""

    def __init__(self, names: Sequence[str | None], columns: Sequence[str]) -> None:
        self.take = np.array([0 if n is None else columns.index(n) for n in names], dtype=np.int64)
        self.constant = np.flatnonzero([n is None for n in names])

    def __call__(self, row: FloatArray) -> FloatArray:
        """Return (..., n_consumers) of (..., n_columns)."""
        values = row.take(self.take, axis=-1)
        if self.constant.size:
            values[..., self.constant] = 1.0
        return values


class Fleet:
    """The devices of a setup, grouped by their physics, and the demand of its loads.

    Pure: it holds parameters only, and every method returns new arrays.
    """

    def __init__(self, setup: Setup, grid: Grid) -> None:
        config, profiles = setup.config, setup.profiles
        self.device_ids = config.device_ids
        entries = [d for m in config.microgrid_configs for d in m.devices]
        members: dict[type[DevicePhysics[Any]], list[int]] = {}
        for k, entry in enumerate(entries):
            kind = physics_class(type(entry.device_state_config))
            members.setdefault(kind, []).append(k)
        self._groups: list[_Group] = []
        for kind, at in members.items():
            configs = [entries[k].device_state_config for k in at]
            names = [device_profile_name(c, profiles) for c in configs]
            columns = _Columns(names, profiles.names)
            self._groups.append(_Group(kind(configs), np.array(at), columns))
        self._load_columns = _Columns(_load_profiles(setup, grid), profiles.names)
        self.price_column = profiles.index(config.price_profile)

    def load_scale(self, row: FloatArray) -> FloatArray:
        """Return each load's share of its nominal power, (..., n_loads)."""
        return self._load_columns(row)

    def idle(self) -> tuple[FloatArray, FloatArray]:
        """Return the set-points (MW, Mvar) of doing nothing, (n_devices,) each."""
        p_mw, q_mvar = np.zeros(len(self.device_ids)), np.zeros(len(self.device_ids))
        for group in self._groups:
            p_mw[group.at], q_mvar[group.at] = group.physics.idle()
        return p_mw, q_mvar

    def at_reset(self, row: FloatArray, time_s: float | FloatArray) -> FleetAdvance:
        """Return idle devices at an instant, with the states that a reset gives them.

        Args:
            row: (..., n_columns) profiles at that instant.
            time_s: The instant; (n_scenarios, 1) for a batch.
        """
        shape = (*row.shape[:-1], len(self.device_ids))
        p_set, q_set = (np.broadcast_to(x, shape) for x in self.idle())
        states: tuple[PhysicsState, ...] = tuple(
            {
                name: np.broadcast_to(values, (*row.shape[:-1], group.at.size)).copy()
                for name, values in group.physics.initial_state().items()
            }
            for group in self._groups
        )
        done = self.advance(states, p_set, q_set, row, time_s, INSTANT_S)
        for group, state in zip(self._groups, states, strict=True):
            if group.physics.stores_energy:
                done.soc[..., group.at] = state["soc"]
        return replace(done, reasons=np.zeros_like(done.reasons), states=states)

    def advance(
        self,
        states: Sequence[PhysicsState],
        p_set_mw: FloatArray,
        q_set_mvar: FloatArray,
        row: FloatArray,
        time_s: float | FloatArray,
        dt_s: float,
    ) -> FleetAdvance:
        """Carry out set-points for one step, as far as each device can.

        Args:
            states: Of each group, at the start.
            p_set_mw: (..., n_devices) finite.
            q_set_mvar: (..., n_devices) finite.
            row: (..., n_columns) means of all profiles over the step.
            time_s: Start of the step; (n_scenarios, 1) for a batch.
            dt_s: Above 0.
        """
        shape = p_set_mw.shape
        p_mw, q_mvar = np.empty(shape), np.empty(shape)
        reasons = np.empty(shape, dtype=np.int64)
        available_mw, soc = np.full(shape, np.nan), np.full(shape, np.nan)
        connected = np.ones(shape, dtype=bool)
        new_states: list[PhysicsState] = []
        for group, state in zip(self._groups, states, strict=True):
            at = group.at
            ambient = Ambient(time_s, dt_s, group.profiles(row))
            done: Advance = group.physics.advance(
                state, p_set_mw[..., at], q_set_mvar[..., at], ambient
            )
            p_mw[..., at], q_mvar[..., at] = done.p_mw, done.q_mvar
            reasons[..., at] = done.reasons
            if done.available_mw is not None:
                available_mw[..., at] = done.available_mw
            if group.physics.stores_energy:
                soc[..., at] = done.state["soc"]
            if done.connected is not None:
                connected[..., at] = done.connected
            new_states.append(done.state)
        return FleetAdvance(p_mw, q_mvar, reasons, available_mw, soc, connected, tuple(new_states))


def _load_profiles(setup: Setup, grid: Grid) -> list[str | None]:
    """Deal each area's profiles to its loads, one after the other, in the grid's order."""
    dealt = dict.fromkeys(grid.areas, 0)
    names: list[str | None] = []
    for load in grid.loads:
        choice = load_profile_names(setup.config, setup.profiles, load.area)
        names.append(choice[dealt[load.area] % len(choice)])
        dealt[load.area] += 1
    return names

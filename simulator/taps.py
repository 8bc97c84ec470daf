"""The tap changers that devices command: from set-points to positions in the network.

A set-point with a position moves the tap there, as fast as its mechanism allows. One without
leaves it to the device: it regulates the voltage of its bus if it has a ``local_control``, and
else stays. Positions live in the engine's state and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from heron.powergrid.device_configs import TapControl, TransformerConfig
from heron.powergrid.networks import Grid
from heron.powergrid.quantities import Setpoint
from heron.powergrid.setups import SetupConfig
from simulator.engines.base import (
    BatchState,
    BoolArray,
    FloatArray,
    GridState,
    IntArray,
    commanded_taps,
    with_taps,
)
from simulator.physics.transformer import TapChangerPhysics, TapState

ROUNDS = 20
"""How often controls of their own may move within one step."""
MOST_MOVES = 4
"""Moves of a control of its own between two looks at the voltage."""

AnyState = TypeVar("AnyState", GridState, BatchState)
SolvedT = TypeVar("SolvedT")


class TapsMoved(NamedTuple, Generic[SolvedT]):
    """What became of the tap changers in a step.

    Attributes:
        solved: The last solve, with the positions that hold.
        state: Of the mechanisms at the end.
        taps: (..., n_devices) positions at the end; NaN for devices without a tap changer.
        reasons: (..., n_devices) sums of bits of why a position was not reached.
        moves: (...,) moves of all regulators that they command, together.
    """

    solved: SolvedT
    state: TapState
    taps: FloatArray
    reasons: IntArray
    moves: IntArray | int


class TapChangers:
    """All commanded tap changers of a setup, for one plant or a batch of plants.

    Attributes:
        n: How many there are.
    """

    def __init__(self, config: SetupConfig, grid: Grid) -> None:
        self._grid = grid
        self._devices = [c.device_id for c in grid.tap_changers]
        self._n_devices = len(config.device_ids)
        self._no_taps = np.full(self._n_devices, np.nan)
        self._no_reasons = np.zeros(self._n_devices, dtype=np.int64)
        self._no_taps.flags.writeable = self._no_reasons.flags.writeable = False
        self._at = np.array([config.device_ids.index(d) for d in self._devices], dtype=np.int64)
        configs = [config.device(d).device_state_config for d in self._devices]
        checked = [c for c in configs if isinstance(c, TransformerConfig)]
        self.n = len(checked)
        self.physics = TapChangerPhysics(checked)
        controls = [c.local_control for c in checked]
        self._controlled = np.array([c is not None for c in controls], dtype=bool)
        known = [c or TapControl() for c in controls]
        self._v_set = np.array([c.v_set_pu for c in known])
        self._half_band = np.array([c.bandwidth_pu / 2.0 for c in known])
        self._delay_s = np.array([c.delay_s for c in known])
        self._step_pu = np.array([c.tap_step_pu for c in checked])
        self._members = np.array([len(c.regulators) for c in grid.tap_changers], dtype=np.int64)
        ratings = {b.name: k for k, b in enumerate(grid.branches)}
        self._branch = [ratings.get(c.element, -1) for c in grid.tap_changers]

    def initial_setpoints(self, lead: tuple[int, ...] = ()) -> FloatArray:
        """Return what holds after a reset, (*lead, n_devices): NaN where the device decides."""
        taps = np.full((*lead, self._n_devices), np.nan)
        if self.n:
            taps[..., self._at] = np.where(self._controlled, np.nan, self.physics.initial)
        return taps

    def asked(self, setpoints: Iterable[Setpoint]) -> FloatArray:
        """Return the positions of set-points, (n_devices,); NaN for none."""
        if not self.n:
            return self._no_taps
        return np.array([math.nan if s.tap is None else float(s.tap) for s in setpoints])

    def positions(self, grid: GridState | BatchState) -> FloatArray:
        """Return the positions of a state, (..., n_devices); NaN without a tap changer."""
        taps = np.full((*grid.taps.shape[:-1], self._n_devices), np.nan)
        if self.n:
            taps[..., self._at] = commanded_taps(self._grid, grid)
        return taps

    def loading_pct(self, loading_pct: FloatArray) -> FloatArray:
        """Return the loading of each device that is a rated transformer, (..., n_devices)."""
        seen = np.full((*loading_pct.shape[:-1], self._n_devices), np.nan)
        for device, branch in zip(self._at, self._branch, strict=True):
            if branch >= 0:
                seen[..., device] = loading_pct[..., branch]
        return seen

    def settle(
        self,
        grid: AnyState,
        solve: Callable[[AnyState], SolvedT],
        voltages: Callable[[SolvedT], FloatArray],
    ) -> SolvedT:
        """Let controls of their own come to rest, without any delay: what a reset does.

        Args:
            grid: The engine's state.
            solve: Solves from a state.
            voltages: (..., n_devices, 3) phase voltages of a solve.
        """
        taps = commanded_taps(self._grid, grid)
        solved = solve(grid)
        for _ in range(ROUNDS if self._controlled.any() else 0):
            steps = self._wanted(self._mean(voltages(solved)), self._controlled)
            after = np.clip(taps + steps, self.physics.tap_min, self.physics.tap_max)
            if np.array_equal(after, taps):
                break
            taps = after
            solved = solve(with_taps(self._grid, grid, taps))
        return solved

    def step(
        self,
        before: TapState,
        grid: AnyState,
        asked: FloatArray,
        *,
        time_s: float | FloatArray,
        dt_s: float,
        solve: Callable[[AnyState], SolvedT],
        voltages: Callable[[SolvedT], FloatArray],
    ) -> TapsMoved[SolvedT]:
        """Move the taps for one step and solve the network with them.

        Args:
            before: Of the mechanisms at the start.
            grid: The engine's state at the start.
            asked: (..., n_devices) positions; NaN where the device decides.
            time_s: Start of the step; (n_scenarios, 1) for a batch.
            dt_s: Its length.
            solve: Solves from a state.
            voltages: (..., n_devices, 3) phase voltages of a solve.
        """
        if not self.n:
            if asked.ndim == 1:
                return TapsMoved(solve(grid), before, self._no_taps, self._no_reasons, 0)
            none = np.full(asked.shape, np.nan)
            zero = np.zeros(asked.shape, dtype=np.int64)
            return TapsMoved(solve(grid), before, none, zero, zero.sum(axis=-1))
        start = commanded_taps(self._grid, grid)
        wanted = asked[..., self._at]
        free = np.isnan(wanted)
        target = np.where(free, start, wanted).astype(np.int64)
        taps, state, reasons = self.physics.advance(before, start, target, time_s, dt_s)
        solved = solve(with_taps(self._grid, grid, taps))
        local = free & self._controlled
        ready = local & (before.waited_s + dt_s >= self._delay_s)
        for _ in range(ROUNDS if ready.any() else 0):
            steps = self._wanted(self._mean(voltages(solved)), ready)
            target = np.where(ready, taps + steps, target)
            after, state, reasons = self.physics.advance(before, start, target, time_s, dt_s)
            if np.array_equal(after, taps):
                break
            taps = after
            solved = solve(with_taps(self._grid, grid, taps))
        out = self._wanted(self._mean(voltages(solved)), local) != 0
        waited_s = np.where(out, before.waited_s + dt_s, 0.0)
        moves = (np.abs(taps - start) * self._members).sum(axis=-1)
        return TapsMoved(
            solved,
            replace(state, waited_s=waited_s),
            self._spread(taps.astype(np.float64), np.nan),
            # A control of its own is asked for nothing, so nothing it does is a change.
            self._spread(np.where(free, 0, reasons), 0).astype(np.int64),
            moves,
        )

    def _mean(self, phases_v_pu: FloatArray) -> FloatArray:
        """Return the mean of the phases at each tap changer's bus, (..., n_changers)."""
        phases = phases_v_pu[..., self._at, :]
        there = np.isfinite(phases)
        total = np.where(there, phases, 0.0).sum(axis=-1)
        count = there.sum(axis=-1)
        mean: FloatArray = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        return mean

    def _wanted(self, v_pu: FloatArray, who: BoolArray) -> IntArray:
        """Return by how many steps those controls would move, (..., n_changers)."""
        error = self._v_set - v_pu
        excess = np.abs(error) - self._half_band
        out = who & (excess > 0.0)
        steps = np.ceil(np.where(out, excess, 0.0) / self._step_pu)
        steps = np.minimum(np.where(out, np.maximum(steps, 1.0), 0.0), MOST_MOVES)
        moved: IntArray = (np.sign(np.where(out, error, 0.0)) * steps).astype(np.int64)
        return moved

    def _spread(self, values: FloatArray | IntArray, nothing: float) -> FloatArray:
        """Return values of the tap changers as an array over all devices."""
        whole = np.full((*values.shape[:-1], self._n_devices), nothing, dtype=np.float64)
        whole[..., self._at] = values
        return whole

"""Many plants of one setup that step at once: arrays in, arrays out.

Each scenario is what a `simulator.plant.Plant` of its own would be, to 1e-9: the
same physics, the same engine, its own time, taps and charge. Arrays carry a leading
scenario axis; N scenarios, D devices in the setup's order.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from heron.errors import PlantError, PowerFlowDiverged
from heron.powergrid.networks import Grid, compose
from heron.powergrid.setups import Setup
from simulator.areas import AreaArrays, AreaMonitor
from simulator.autonomous import AutonomousInverters
from simulator.engines.base import BatchState
from simulator.engines.batch import BatchEngine, BatchSolution, make_batch_engine
from simulator.fleet import BoolArray, Fleet, FleetAdvance, FloatArray, IntArray
from simulator.physics import PhysicsState, TapState
from simulator.plant import MOST_SEED, SETTLING_SOLVES
from simulator.readings import mean_low_high
from simulator.taps import TapChangers, TapsMoved

_Arrays = TypeVar("_Arrays")
_Moved: TypeAlias = TapsMoved[BatchSolution]


@dataclass(frozen=True, slots=True)
class BatchMeasurements:
    """What N plants show after a step; compare `heron.powergrid.quantities.Measurements`.

    Attributes:
        solved: (N,) False where no solution was found: that scenario stays as it was, and its
            voltages, meters, areas and losses are NaN.
        step: (N,) steps since the reset.
        time_s: (N,) plant time.
        p_mw: (N, D) active power over the step, positive = injects.
        q_mvar: (N, D) reactive power.
        v_pu: (N, D, 3) mean, lowest and highest phase voltage at the terminals.
        soc: (N, D) state of charge at the end; NaN where nothing is stored.
        available_mw: (N, D) what a source could inject; NaN where that means nothing.
        connected: (N, D).
        reasons: (N, D) sum of `simulator.physics.BIT` of why a set-point was changed.
        p_set_mw: (N, D) what was asked.
        q_set_mvar: (N, D) what was asked.
        tap_set: (N, D) what was asked; NaN where a tap changer decides, or there is none.
        tap: (N, D) positions of the tap changers; NaN where there is none.
        loading_pct: (N, D) loading of rated transformers; NaN for anything else.
        meter_p_mw: (N, 1 + n_microgrids) the head's supply, then each microgrid's export.
        meter_q_mvar: (N, 1 + n_microgrids).
        meter_v_pu: (N, 1 + n_microgrids, 3) mean, lowest and highest phase voltage.
        areas: Truth per area, (N, n_areas) each.
        price_usd_per_mwh: (N,).
        losses_mw: (N,).
        tap_moves: (N,).
    """

    solved: BoolArray
    step: IntArray
    time_s: FloatArray
    p_mw: FloatArray
    q_mvar: FloatArray
    v_pu: FloatArray
    soc: FloatArray
    available_mw: FloatArray
    connected: BoolArray
    reasons: IntArray
    p_set_mw: FloatArray
    q_set_mvar: FloatArray
    tap_set: FloatArray
    tap: FloatArray
    loading_pct: FloatArray
    meter_p_mw: FloatArray
    meter_q_mvar: FloatArray
    meter_v_pu: FloatArray
    areas: AreaArrays
    price_usd_per_mwh: FloatArray
    losses_mw: FloatArray
    tap_moves: IntArray


@dataclass(frozen=True, slots=True)
class _State:
    """What changes, scenario by scenario."""

    physics: tuple[PhysicsState, ...]
    taps: TapState
    grid: BatchState
    measurements: BatchMeasurements


class BatchPlant:
    """N plants of one setup. Not safe to share between threads or processes.

    Attributes:
        setup: What they were built from.
        n: Number of scenarios.
        grid: The composed network.
    """

    def __init__(self, setup: Setup, n: int, engine: str | BatchEngine | None = None) -> None:
        """Build the plants and reset them to the start of the data year.

        Args:
            setup: A checked setup.
            n: Number of scenarios, at least 1.
            engine: ``threephase`` or ``balanced``; None for the one that the setup names.

        Raises:
            ConfigError: The network cannot be composed, or there is no such batch engine.
            PowerFlowDiverged: The network has no solution with idle devices.
        """
        if n < 1:
            raise PlantError(f"n = {n!r}: expected at least one scenario")
        if engine is None or isinstance(engine, str):
            engine = make_batch_engine(engine or setup.config.engine, compose(setup.config))
        self.setup = setup
        self.n = n
        self.grid: Grid = engine.grid
        self._engine = engine
        self._fleet = Fleet(setup, self.grid)
        self._areas = AreaMonitor(self.grid, engine.nodes, setup.config)
        self._inverters = AutonomousInverters(setup.config)
        self._taps = TapChangers(setup.config, self.grid)
        self._state = self._initial(np.zeros(n))

    @property
    def measurements(self) -> BatchMeasurements:
        """What the last step or reset led to."""
        return self._state.measurements

    def reset(
        self,
        start_s: npt.ArrayLike,
        rows: IntArray | BoolArray | None = None,
        seeds: npt.ArrayLike = 0,
    ) -> BatchMeasurements:
        """Start some or all scenarios anew; see `Plant.reset`.

        Args:
            start_s: Plant time of each start, one a row or one for all.
            rows: Which scenarios; None for all.
            seeds: Of what devices draw, one a row or one for all.

        Raises:
            PlantError: A start is no such time.
            PowerFlowDiverged: One of them has no solution; all stay as they were.
        """
        where = np.arange(self.n) if rows is None else np.arange(self.n)[rows]
        starts = np.broadcast_to(np.asarray(start_s, dtype=np.float64), where.shape)
        if not (np.isfinite(starts) & (starts >= 0.0)).all():
            raise PlantError("start_s: expected times that are not negative")
        if where.size:
            drawn = np.broadcast_to(np.asarray(seeds, dtype=np.int64), where.shape)
            if not ((drawn >= 0) & (drawn <= MOST_SEED)).all():
                raise PlantError(f"seeds: expected 0 to {MOST_SEED}")
            fresh = self._initial(starts, drawn)
            self._state = fresh if rows is None else _placed(self._state, where, fresh)
        return self._state.measurements

    def step(
        self,
        p_set_mw: FloatArray,
        q_set_mvar: FloatArray,
        dt_s: float,
        tap_set: FloatArray | None = None,
    ) -> BatchMeasurements:
        """Hold set-points for one step in every scenario; see `Plant.step`.

        Args:
            p_set_mw: (N, D) active power, positive = injects.
            q_set_mvar: (N, D) reactive power.
            dt_s: Length of the step: above 0 and at most a day.
            tap_set: (N, D) whole positions of the tap changers; NaN leaves one to the device, and
                where there is no tap changer. None for those of the step before.

        Raises:
            PlantError: Shapes, values or a step length that cannot be; nothing has changed.
        """
        new = self._advanced(self._state, (p_set_mw, q_set_mvar, tap_set), dt_s)
        solved = new.measurements.solved
        self._state = new if solved.all() else _kept_where_failed(self._state, new)
        return self._state.measurements

    def look_ahead(
        self,
        rows: IntArray,
        p_set_mw: FloatArray,
        q_set_mvar: FloatArray,
        dt_s: float,
        tap_set: FloatArray | None = None,
    ) -> BatchMeasurements:
        """Return what a step would lead to, and take none.

        Args:
            rows: (R,) scenarios from which to look; one may be there many times.
            p_set_mw: (R, D) active power, positive = injects.
            q_set_mvar: (R, D) reactive power.
            dt_s: Length of the step.
            tap_set: (R, D) positions of the tap changers, as in `step`.

        Raises:
            PlantError: As `step`.
        """
        wanted = (p_set_mw, q_set_mvar, tap_set)
        return self._advanced(rows_of(self._state, rows), wanted, dt_s, rows).measurements

    def _advanced(
        self,
        old: _State,
        wanted: tuple[FloatArray, FloatArray, FloatArray | None],
        dt_s: float,
        rows: IntArray | None = None,
    ) -> _State:
        """Return the state that a step leads to; ``rows`` says which scenarios ``old`` holds."""
        p_set_mw, q_set_mvar, tap_set = wanted
        tap_set = old.measurements.tap_set if tap_set is None else tap_set
        self._check(old, (p_set_mw, q_set_mvar, tap_set), dt_s)
        now_s = old.measurements.time_s
        # Profiles may differ between scenarios, so all are asked for and then chosen from.
        everywhere_s = self._state.measurements.time_s
        row = self.setup.profiles.means_at(everywhere_s, dt_s)
        row = row if rows is None else row[rows]
        scale = self._fleet.load_scale(row)

        def carry_out(now: tuple[FloatArray, FloatArray]) -> tuple[FleetAdvance, _Moved]:
            done = self._fleet.advance(old.physics, *now, row=row, time_s=now_s[:, None], dt_s=dt_s)
            moved = self._taps.step(
                old.taps,
                old.grid,
                tap_set,
                time_s=now_s[:, None],
                dt_s=dt_s,
                solve=lambda grid: self._engine.solve(
                    scale, done.p_mw, done.q_mvar, grid, dt_s=dt_s
                ),
                voltages=_voltages,
            )
            return done, moved

        now = asked = (p_set_mw, q_set_mvar)
        done, moved = carry_out(now)
        for _ in range(self._inverters.rounds):
            now = self._inverters.answer(moved.solved.device_v_pu, asked, now)
            done, moved = carry_out(now)
        reasons = done.reasons | self._inverters.reasons(asked, now) | moved.reasons
        done = done._replace(reasons=reasons)
        solved = moved.solved.converged
        return _State(
            done.states,
            moved.state,
            moved.solved.state,
            self._read(
                done,
                moved,
                row,
                scale,
                step=old.measurements.step + solved,
                time_s=np.where(solved, now_s + dt_s, now_s),
                asked=(*asked, tap_set),
            ),
        )

    def _check(
        self,
        old: _State,
        wanted: tuple[FloatArray, FloatArray, FloatArray],
        dt_s: float,
    ) -> None:
        p_set_mw, q_set_mvar, tap_set = wanted
        shape = old.measurements.p_mw.shape
        problems = []
        if not (np.isfinite(dt_s) and 0.0 < dt_s <= 86_400.0):
            problems.append(f"dt_s = {dt_s!r}: expected above 0 and at most 86400")
        for name, values in (("p_set_mw", p_set_mw), ("q_set_mvar", q_set_mvar)):
            if values.shape != shape:
                problems.append(f"{name}: expected the shape {shape}, not {values.shape}")
            elif not np.isfinite(values).all():
                k, d = np.argwhere(~np.isfinite(values))[0].tolist()
                device = self._fleet.device_ids[d]
                problems.append(f"{name}[{k}] of {device} = {values[k, d]}: expected finite")
        if tap_set.shape != shape:
            problems.append(f"tap_set: expected the shape {shape}, not {tap_set.shape}")
        else:
            tapped = ~np.isnan(self._taps.positions(old.grid))
            wrong = ~np.isnan(tap_set) & ~(tapped & (tap_set == np.rint(tap_set)))
            if wrong.any():
                k, d = np.argwhere(wrong)[0].tolist()
                expected = "a whole position of a device with a tap changer"
                device = self._fleet.device_ids[d]
                problems.append(f"tap_set[{k}] of {device} = {tap_set[k, d]}: expected {expected}")
        if problems:
            raise PlantError("; ".join(problems))

    def _initial(self, starts_s: FloatArray, seeds: IntArray | None = None) -> _State:
        """Settle each scenario's regulators on the idle devices."""
        row = self.setup.profiles.means_at(starts_s, 0.0)
        drawn = 0 if seeds is None else seeds[:, None]
        now = self._fleet.at_reset(row, starts_s[:, None], drawn)
        scale = self._fleet.load_scale(row)

        def solve(grid: BatchState) -> BatchSolution:
            solution = self._engine.solve(scale, now.p_mw, now.q_mvar, grid)
            for _ in range(SETTLING_SOLVES):
                moving = np.flatnonzero(
                    (solution.tap_moves > 0) | (solution.capacitor_switchings > 0)
                )
                if not moving.size:
                    break
                part = self._engine.solve(
                    scale[moving], now.p_mw[moving], now.q_mvar[moving], solution.state[moving]
                )
                solution = _placed(solution, moving, part)
            return solution

        start = self._engine.initial_state(len(starts_s))
        solution = self._taps.settle(start, solve, _voltages)
        if not solution.converged.all():
            failed = np.flatnonzero(~solution.converged).tolist()
            raise PowerFlowDiverged(f"idle devices, scenarios {failed}", step=0)
        solution = replace(solution, tap_moves=np.zeros_like(solution.tap_moves))
        lead = (len(starts_s),)
        moved = TapsMoved(
            solution,
            self._taps.physics.initial_state(lead),
            self._taps.positions(solution.state),
            np.zeros(now.p_mw.shape, dtype=np.int64),
            np.zeros(lead, dtype=np.int64),
        )
        idle = tuple(np.broadcast_to(x, now.p_mw.shape) for x in self._fleet.idle())
        measurements = self._read(
            now,
            moved,
            row,
            scale,
            step=np.zeros(len(starts_s), dtype=np.int64),
            time_s=starts_s.copy(),
            asked=(*idle, self._taps.initial_setpoints(lead)),
        )
        return _State(now.states, moved.state, solution.state, measurements)

    def _read(
        self,
        done: FleetAdvance,
        moved: _Moved,
        row: FloatArray,
        scale: FloatArray,
        *,
        step: IntArray,
        time_s: FloatArray,
        asked: tuple[FloatArray, ...],
    ) -> BatchMeasurements:
        solution = moved.solved
        head_p_mw, head_q_mvar = solution.source_p_mw[:, None], solution.source_q_mvar[:, None]
        meter_v = np.concatenate([solution.head_v_pu[:, None, :], solution.pcc_v_pu], axis=1)
        return BatchMeasurements(
            solved=solution.converged,
            step=step,
            time_s=time_s,
            p_mw=done.p_mw,
            q_mvar=done.q_mvar,
            v_pu=mean_low_high(solution.device_v_pu),
            soc=done.soc,
            available_mw=done.available_mw,
            connected=done.connected,
            reasons=done.reasons,
            p_set_mw=asked[0].copy(),
            q_set_mvar=asked[1].copy(),
            tap_set=asked[2].copy(),
            tap=moved.taps,
            loading_pct=self._taps.loading_pct(solution.loading_pct),
            meter_p_mw=np.concatenate([head_p_mw, solution.pcc_p_mw], axis=1),
            meter_q_mvar=np.concatenate([head_q_mvar, solution.pcc_q_mvar], axis=1),
            meter_v_pu=mean_low_high(meter_v),
            areas=self._areas.arrays(solution.v_pu, solution.loading_pct, scale),
            price_usd_per_mwh=row[:, self._fleet.price_column].copy(),
            losses_mw=solution.losses_mw,
            tap_moves=solution.tap_moves + moved.moves,
        )


def _voltages(solution: BatchSolution) -> FloatArray:
    return solution.device_v_pu


def _kept_where_failed(old: _State, new: _State) -> _State:
    """Bring scenarios that did not solve back to their old charge, and the like."""
    solved = new.measurements.solved
    failed = np.flatnonzero(~solved)
    physics = tuple(
        {name: np.where(solved[:, None], after[name], before[name]) for name in after}
        for before, after in zip(old.physics, new.physics, strict=True)
    )
    taps = _placed(new.taps, failed, rows_of(old.taps, failed))
    grid = new.grid.replaced(failed, old.grid[failed])
    was, now = old.measurements, new.measurements
    shown = replace(
        now,
        soc=np.where(solved[:, None], now.soc, was.soc),
        tap=np.where(solved[:, None], now.tap, was.tap),
        tap_moves=np.where(solved, now.tap_moves, 0),
    )
    return _State(physics, taps, grid, shown)


def rows_of(arrays: _Arrays, rows: IntArray) -> _Arrays:
    """Return a copy of dataclasses, tuples and dicts of arrays with the given rows only."""
    if isinstance(arrays, np.ndarray):
        return arrays[rows]  # type: ignore[return-value]
    if isinstance(arrays, dict):
        return {name: rows_of(x, rows) for name, x in arrays.items()}  # type: ignore[return-value]
    if isinstance(arrays, tuple):
        return tuple(rows_of(x, rows) for x in arrays)  # type: ignore[return-value]
    if not is_dataclass(arrays) or isinstance(arrays, type):
        raise TypeError(f"{type(arrays).__name__} holds no arrays")
    return replace(
        arrays, **{f.name: rows_of(getattr(arrays, f.name), rows) for f in fields(arrays)}
    )


def _placed(old: _Arrays, rows: IntArray, new: _Arrays) -> _Arrays:
    """Return a copy of dataclasses, tuples and dicts of arrays with ``rows`` from ``new``."""
    if isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
        whole = old.copy()
        whole[rows] = new
        return whole
    if isinstance(old, dict) and isinstance(new, dict):
        return {name: _placed(old[name], rows, new[name]) for name in old}  # type: ignore[return-value]
    if isinstance(old, tuple) and isinstance(new, tuple):
        pairs = zip(old, new, strict=True)
        return tuple(_placed(x, rows, y) for x, y in pairs)  # type: ignore[return-value]
    if not is_dataclass(old) or isinstance(old, type):
        raise TypeError(f"{type(old).__name__} holds no arrays")
    return replace(
        old,
        **{f.name: _placed(getattr(old, f.name), rows, getattr(new, f.name)) for f in fields(old)},
    )

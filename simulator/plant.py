"""The plant: set-points in, measurements out.

One step is: take the profiles' means over the step, let each device carry out its set-point
as far as it can, move the taps, solve the network, and read the meters. Everything new is
computed beside the old state and replaces it only at the end, so a step that does not solve
changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np

from heron.errors import PlantError, PowerFlowDiverged
from heron.powergrid.inverter_functions import InverterFunctions
from heron.powergrid.networks import Grid, compose
from heron.powergrid.quantities import Clip, DeviceReading, Measurements, Setpoint
from heron.powergrid.setups import Setup
from simulator.areas import AreaMonitor
from simulator.autonomous import AutonomousInverters
from simulator.engines import make_engine
from simulator.engines.base import Engine, GridState, Injections, Solution
from simulator.fleet import Fleet, FleetAdvance, FloatArray
from simulator.physics import PhysicsState, TapState, reasons_of
from simulator.readings import device_readings, meter_readings, voltages
from simulator.taps import TapChangers, TapsMoved

SETTLING_SOLVES = 20
"""Solves that a reset allows for regulators to come to rest."""

MOST_SEED = 2**53
"""Seeds are kept among the devices' states, which are floating-point numbers."""

_Moved: TypeAlias = TapsMoved[Solution]


class PlantState(NamedTuple):
    """Everything that changes: keep it, and `Plant.restore` brings the plant back to it."""

    step: int
    time_s: float
    setpoints: Mapping[str, Setpoint]
    physics: tuple[PhysicsState, ...]
    taps: TapState
    grid: GridState
    measurements: Measurements


class Plant:
    """An emulated feeder with its microgrids, devices, loads and weather.

    Not safe to share between threads: the engine is not.

    Attributes:
        setup: What it was built from.
        grid: The composed network.
        engine: The power-flow solver.
    """

    def __init__(self, setup: Setup, engine: str | Engine | None = None) -> None:
        """Build the plant and reset it to the start of the data year.

        Args:
            setup: A checked setup.
            engine: A solver's name, or a solver for the setup's own grid; None for the one
                that the setup names.

        Raises:
            ConfigError: The network cannot be composed, or the engine is not known.
            PowerFlowDiverged: The network has no solution with idle devices.
        """
        self.setup = setup
        if engine is None or isinstance(engine, str):
            engine = make_engine(engine or setup.config.engine, compose(setup.config))
        self.engine: Engine = engine
        self.grid: Grid = engine.grid
        self._fleet = Fleet(setup, self.grid)
        self._areas = AreaMonitor(self.grid, engine.nodes, setup.config)
        self._inverters = AutonomousInverters(setup.config)
        self._taps = TapChangers(setup.config, self.grid)
        self._at = {name: k for k, name in enumerate(setup.config.device_ids)}
        self._tapped = frozenset(c.device_id for c in self.grid.tap_changers)
        self._state = self._initial(0.0)

    @property
    def measurements(self) -> Measurements:
        """What the last step or reset led to."""
        return self._state.measurements

    @property
    def state(self) -> PlantState:
        """Everything that changes, immutable."""
        return self._state

    def restore(self, state: PlantState) -> Measurements:
        """Return to a state of this plant, or of another one of the same setup and engine."""
        self._state = state
        return state.measurements

    def reset(self, seed: int | None = None, start_s: float = 0.0) -> Measurements:
        """Start anew with idle devices, initial charge and regulators at rest.

        Args:
            seed: Of what devices draw, such as the charge of cars that come; None for 0. A setup
                without such devices is the same under every seed.
            start_s: Plant time since the start of the data year, not negative.

        Raises:
            PlantError: The start is no such time, or the seed none.
            PowerFlowDiverged: No solution; the plant stays as it was.
        """
        if not (math.isfinite(start_s) and start_s >= 0.0):
            raise PlantError(f"start_s = {start_s!r}: expected a time that is not negative")
        if seed is not None and not 0 <= seed <= MOST_SEED:
            raise PlantError(f"seed = {seed!r}: expected 0 to {MOST_SEED}")
        self._state = self._initial(start_s, seed or 0)
        return self._state.measurements

    def step(
        self,
        setpoints: Mapping[str, Setpoint],
        dt_s: float,
        functions: Mapping[str, InverterFunctions] | None = None,
    ) -> Measurements:
        """Hold set-points for one step.

        Args:
            setpoints: By device; a device that is not named keeps its last one.
            dt_s: Length of the step: above 0 and at most a day.
            functions: What masters have switched on at inverters for this step, by device; it
                replaces what the setup says of them (``autonomous``).

        Raises:
            PlantError: Unknown devices, values that are not finite, or no such step length:
                everything at once; the plant stays as it was.
            PowerFlowDiverged: No solution; the plant stays as it was.
        """
        old = self._state
        asked = {**old.setpoints, **setpoints}
        self._check(asked, setpoints, dt_s, functions or {})
        inverters = self._with_functions(functions)
        p_values, q_values, _ = zip(*asked.values(), strict=True)
        p_set, q_set = np.array(p_values, np.float64), np.array(q_values, np.float64)
        row = self.setup.profiles.means(old.time_s, dt_s)
        scale = self._fleet.load_scale(row)
        step = old.step + 1
        tap_set = self._taps.asked(asked.values())
        advance = partial(
            self._fleet.advance,
            old.physics,
            row=row,
            time_s=old.time_s,
            dt_s=dt_s,
            off=inverters.off,
        )

        def carry_out(now: tuple[FloatArray, FloatArray]) -> tuple[FleetAdvance, _Moved]:
            done = advance(*now)
            if inverters.follows_power:
                done = advance(now[0], inverters.follow(done.p_mw, now[1]))
            injections = Injections(scale, done.p_mw, done.q_mvar)
            moved = self._taps.step(
                old.taps,
                old.grid,
                tap_set,
                time_s=old.time_s,
                dt_s=dt_s,
                solve=lambda grid: self.engine.solve(injections, grid, dt_s=dt_s),
                voltages=_voltages,
            )
            return done, moved

        try:
            now = wanted = (p_set, q_set)
            done, moved = carry_out(now)
            for _ in range(inverters.rounds):
                now = inverters.answer(moved.solved.device_v_pu, wanted, now)
                done, moved = carry_out(now)
        except PowerFlowDiverged as error:
            raise PowerFlowDiverged(error.cause, step=step) from error
        if inverters.rounds or inverters.follows_power:
            now = now[0], inverters.follow(done.p_mw, now[1])
            own_rule = inverters.reasons(wanted, now)
            done = done._replace(reasons=done.reasons | own_rule)
        if self._taps.n:
            done = done._replace(reasons=done.reasons | moved.reasons)
        time_s = old.time_s + dt_s
        self._state = self._read(
            done, moved, step=step, time_s=time_s, dt_s=dt_s, asked=asked, row=row, scale=scale
        )
        return self._state.measurements

    def _with_functions(
        self, functions: Mapping[str, InverterFunctions] | None
    ) -> AutonomousInverters:
        """Return the inverters with these functions, built anew when they have changed."""
        if dict(functions or {}) != self._inverters.commanded:
            self._inverters = AutonomousInverters(self.setup.config, functions)
        return self._inverters

    def _check(
        self,
        asked: Mapping[str, Setpoint],
        setpoints: Mapping[str, Setpoint],
        dt_s: float,
        functions: Mapping[str, InverterFunctions],
    ) -> None:
        strangers = sorted(set(functions).difference(self._at))
        problems = [f"{name}: no such device" for name in strangers]
        if not (math.isfinite(dt_s) and 0.0 < dt_s <= 86_400.0):
            problems.append(f"dt_s = {dt_s!r}: expected above 0 and at most 86400")
        if len(asked) != len(self._at):
            unknown = sorted(set(asked) - set(self._at))
            problems += [f"{name}: no such device" for name in unknown]
        for name, setpoint in setpoints.items():
            if not math.isfinite(setpoint.p_mw):
                problems.append(f"{name}.p_mw = {setpoint.p_mw!r}: expected a finite number")
            if not math.isfinite(setpoint.q_mvar):
                problems.append(f"{name}.q_mvar = {setpoint.q_mvar!r}: expected a finite number")
            if setpoint.tap is not None and name not in self._tapped and name in self._at:
                problems.append(f"{name}.tap = {setpoint.tap!r}: it has no tap changer")
            elif setpoint.tap is not None and not isinstance(setpoint.tap, int):
                problems.append(f"{name}.tap = {setpoint.tap!r}: expected a whole position")
        if problems:
            raise PlantError("; ".join(problems))

    def _initial(self, start_s: float, seed: int = 0) -> PlantState:
        """Settle the regulators on the idle devices."""
        row = self.setup.profiles.means(start_s, 0.0)
        now = self._fleet.at_reset(row, start_s, seed)
        scale = self._fleet.load_scale(row)
        injections = Injections(scale, now.p_mw, now.q_mvar)

        def solve(grid: GridState) -> Solution:
            solution = self.engine.solve(injections, grid)
            for _ in range(SETTLING_SOLVES):
                if solution.tap_moves == 0 and solution.capacitor_switchings == 0:
                    break
                solution = self.engine.solve(injections, solution.state)
            return solution

        try:
            solution = self._taps.settle(self.engine.initial_state(), solve, _voltages)
        except PowerFlowDiverged as error:
            raise PowerFlowDiverged(error.cause, step=0) from error
        p_set, q_set = self._fleet.idle()
        taps = self._taps.initial_setpoints().tolist()
        asked = {
            name: Setpoint(p, q, _whole(tap))
            for name, p, q, tap in zip(self._at, p_set.tolist(), q_set.tolist(), taps, strict=True)
        }
        positions = self._taps.positions(solution.state)
        none = np.zeros(len(asked), dtype=np.int64)
        moved = TapsMoved(solution, self._taps.physics.initial_state(()), positions, none, 0)
        return self._read(
            now, moved, step=0, time_s=start_s, dt_s=0.0, asked=asked, row=row, scale=scale
        )

    def _read(
        self,
        done: FleetAdvance,
        moved: _Moved,
        *,
        step: int,
        time_s: float,
        dt_s: float,
        asked: Mapping[str, Setpoint],
        row: FloatArray,
        scale: FloatArray,
    ) -> PlantState:
        solution = moved.solved
        reasons = done.reasons.tolist()
        clipped: tuple[Clip, ...] = ()
        if any(reasons):
            clipped = tuple(
                Clip(name, asked[name], Setpoint(p, q, _whole(tap)), reasons_of(bits))
                for name, p, q, tap, bits in zip(
                    self._at,
                    done.p_mw.tolist(),
                    done.q_mvar.tolist(),
                    moved.taps.tolist(),
                    reasons,
                    strict=True,
                )
                if bits
            )
        volts = voltages(solution)
        n_meters = 1 + len(self.grid.microgrids)
        measurements = Measurements(
            step=step,
            time_s=time_s,
            dt_s=dt_s,
            devices=self._device_readings(done, moved, volts[n_meters:]),
            meters=meter_readings(self.grid, solution, volts[:n_meters]),
            areas=self._areas.readings(solution, scale),
            price_usd_per_mwh=float(row[self._fleet.price_column]),
            losses_mw=solution.losses_mw,
            clipped=clipped,
            tap_moves=solution.tap_moves + int(moved.moves) if dt_s > 0.0 else 0,
            setpoints=asked,
        )
        return PlantState(
            step, time_s, asked, done.states, moved.state, solution.state, measurements
        )

    def _device_readings(
        self, done: FleetAdvance, moved: _Moved, volts: Sequence[Sequence[float]]
    ) -> Mapping[str, DeviceReading]:
        readings = device_readings(self._fleet.device_ids, done, volts)
        if self._taps.n:
            loading = self._taps.loading_pct(moved.solved.loading_pct).tolist()
            for name, tap, percent in zip(readings, moved.taps.tolist(), loading, strict=True):
                if not math.isnan(tap):
                    readings[name] = replace(
                        readings[name],
                        tap=int(tap),
                        loading_pct=None if math.isnan(percent) else percent,
                    )
        return readings


def _whole(tap: float) -> int | None:
    return None if math.isnan(tap) else int(tap)


def _voltages(solution: Solution) -> FloatArray:
    return solution.device_v_pu

"""Charging points for electric cars that come and go every day."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from heron.powergrid.device_configs import EVChargerConfig
from heron.powergrid.quantities import ClipReason
from simulator.engines.jit import exact_inner, exact_kernel
from simulator.physics.base import BoolArray, FloatArray, IntArray, PhysicsState
from simulator.physics.compiled import CompiledPhysics, Task, put
from simulator.physics.rules import (
    BIT,
    TOLERANCE,
    clipped,
    ramp,
    within_p_limits,
    within_q_limits,
)
from simulator.physics.storage import STATE_OF_CHARGE, StoreUnit, stored_after

DAY_S = 86_400.0
AVAILABILITY = BIT[ClipReason.AVAILABILITY]


class ChargerUnit(StoreUnit):
    """A charging point, with the car that comes.

    Attributes:
        arrival_s: Time of the day at which it comes.
        stay_s: How long it stays.
    """

    arrival_s: float
    stay_s: float


@exact_inner
def charge(unit: ChargerUnit, soc: float, asked_mw: float, hours: float) -> tuple[float, float]:
    """Return the energy injected (MWh) in so many hours, and the state of charge after."""
    energy_mwh = soc * unit.capacity_mwh
    some_h = np.maximum(hours, 1e-9)
    gives_mw = energy_mwh * unit.discharge_efficiency / some_h
    takes_mw = (unit.capacity_mwh - energy_mwh) / (unit.charge_efficiency * some_h)
    p_mw = clipped(asked_mw, -takes_mw, gives_mw)
    after_mwh = stored_after(unit, energy_mwh, p_mw, 1.0, hours)
    return p_mw * hours, clipped(after_mwh / unit.capacity_mwh, 0.0, 1.0)


def new_car_for(since_arrival_s: FloatArray, stay_s: FloatArray, dt_s: float) -> FloatArray:
    """Return how long in a step the car is there that comes within it, s."""
    after_s: FloatArray = np.maximum(dt_s - (DAY_S - since_arrival_s), 0.0)
    return np.minimum(after_s, stay_s)


_new_car_for: Any = exact_inner(new_car_for)


@exact_inner
def serve(  # noqa: PLR0917 - compiled code takes positions
    unit: ChargerUnit,
    p_start_mw: float,
    soc: float,
    since_arrival_s: float,
    brought: float,
    p_set_mw: float,
    q_set_mvar: float,
    dt_s: float,
) -> tuple[float, float, float, float, int]:
    """Return mean P and Q over a step, P and the state of charge at its end, and the reasons.

    Args:
        unit: The charging point.
        p_start_mw: Power at the start of the step.
        soc: State of charge at the start.
        since_arrival_s: Time since the last car has come, 0 for now.
        brought: State of charge of the car that comes now, or within the step.
        p_set_mw: Asked active power.
        q_set_mvar: Asked reactive power.
        dt_s: Length of the step.
    """
    target_mw, limits = within_p_limits(unit, p_set_mw)
    asked_mw, end_mw, ramped = ramp(unit, p_start_mw, target_mw, dt_s)
    reasons = limits | ramped
    stays_s = clipped(unit.stay_s - since_arrival_s, 0.0, dt_s)
    new_car_s = _new_car_for(since_arrival_s, unit.stay_s, dt_s)
    present_s = stays_s + new_car_s
    here_mwh, soc = charge(
        unit, brought if since_arrival_s == 0.0 else soc, asked_mw, stays_s / 3600.0
    )
    new_mwh = 0.0
    if new_car_s > 0.0:
        new_mwh, soc = charge(unit, brought, asked_mw, new_car_s / 3600.0)
    p_mw = (here_mwh + new_mwh) / (dt_s / 3600.0)
    if present_s < dt_s and abs(asked_mw) > TOLERANCE:
        reasons |= AVAILABILITY
    if abs(p_mw - asked_mw * present_s / dt_s) > TOLERANCE:
        reasons |= STATE_OF_CHARGE
    q_mvar, reactive = within_q_limits(unit, p_mw, q_set_mvar)
    return p_mw, q_mvar, end_mw, soc, reasons | reactive


@exact_kernel
def _advance(  # noqa: PLR0917 - compiled code takes positions
    units: Any,
    at: IntArray,
    asked: FloatArray,
    cars: FloatArray,
    p_start_mw: FloatArray,
    soc: FloatArray,
    seed: FloatArray,
    dt_s: float,
    new: FloatArray,
    done: FloatArray,
    reasons: IntArray,
    connected: BoolArray,
) -> None:
    n = len(units)
    for j in range(len(soc)):
        unit, s, k = units[j % n], j // n, at[j % n]
        p_mw, q_mvar, new[0, j], new[1, j], reasons[s, k] = serve(
            unit,
            p_start_mw[j],
            soc[j],
            cars[0, j],
            cars[2, j],
            asked[0, s, k],
            asked[1, s, k],
            dt_s,
        )
        new[2, j] = seed[j]
        put(done, s, k, p_mw, q_mvar, np.nan, new[1, j])
        connected[s, k] = cars[1, j] < unit.stay_s


class EVChargerPhysics(CompiledPhysics[EVChargerConfig]):
    """Chargers that work while a car is there.

    A car comes at ``arrival_hour`` with ``init_soc`` in it and leaves at ``departure_hour``;
    the same hour twice means that it leaves and comes at once. Power asked of an empty place
    is not carried out. A step in which a car comes or goes carries the power for that part.
    With ``init_soc_spread`` each day's car brings another charge, drawn from the reset's seed,
    the charger's number and the day alone: the same car comes however time is cut.
    """

    stores_energy = True
    unit = ChargerUnit
    kernel = staticmethod(_advance)
    keeps = ("p_mw", "soc", "seed")

    def __init__(self, configs: Sequence[EVChargerConfig]) -> None:
        super().__init__(configs)
        self.init_soc = np.array([c.init_soc for c in configs])
        self.spread = np.array([c.init_soc_spread for c in configs])
        self.arrival_s = np.array([c.arrival_hour * 3600.0 for c in configs])
        stay = [(c.departure_hour - c.arrival_hour) % 24.0 * 3600.0 for c in configs]
        self.stay_s = np.array([s or DAY_S for s in stay])
        self._describe(
            capacity_mwh=np.array([c.e_capacity_mwh for c in configs]),
            e_max_mwh=np.array([c.e_capacity_mwh for c in configs]),
            charge_efficiency=np.array([c.ch_eff for c in configs]),
            discharge_efficiency=np.array([c.dsc_eff for c in configs]),
            arrival_s=self.arrival_s,
            stay_s=self.stay_s,
        )

    def initial_state(self) -> PhysicsState:
        """A car as it comes."""
        return {"p_mw": np.zeros(self.n), "soc": self.init_soc, "seed": np.zeros(self.n)}

    def idle(self) -> tuple[FloatArray, FloatArray]:
        """Do not charge."""
        return np.zeros(self.n), np.zeros(self.n)

    def given(self, state: PhysicsState, task: Task) -> FloatArray:
        """Return the time since a car came at both ends of the step, s, and the charge of one
        that comes, (3, scenarios * devices).
        """
        seed = state["seed"]
        cars = np.empty((3, *seed.shape))
        cars[0] = np.mod(task.time_s - self.arrival_s, DAY_S)
        cars[1] = np.mod(task.time_s + task.dt_s - self.arrival_s, DAY_S)
        cars[2] = self.init_soc
        if self.spread.any():
            self._draw(seed, cars[0], task, cars[2])
        return cars.reshape(3, -1)

    def _draw(
        self, seed: FloatArray, since_arrival_s: FloatArray, task: Task, soc: FloatArray
    ) -> None:
        """Draw, in place, the charge of the cars that come at the start of a step or within it."""
        came = new_car_for(since_arrival_s, self.stay_s, task.dt_s) > 0.0
        comes = (since_arrival_s == 0.0) | came
        # A car that comes in a step comes before its end, and one that comes now, at its start.
        when_s = np.where(came, task.time_s + task.dt_s, np.broadcast_to(task.time_s, seed.shape))
        days = np.floor((when_s - self.arrival_s) / DAY_S + 1e-9).astype(np.int64)
        for where in np.argwhere(comes & (self.spread > 0.0)):
            place = tuple(where.tolist())
            k = place[-1]
            # The day before the data year has the number -1, which no seed sequence takes.
            rng = np.random.default_rng([int(seed[place]), k, int(days[place]) + 1])
            soc[place] += rng.uniform(-self.spread[k], self.spread[k])
        np.clip(soc, 0.0, 1.0, out=soc)

"""Charging points for electric cars that come and go every day."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heron.powergrid.device_configs import EVChargerConfig
from heron.powergrid.quantities import ClipReason
from simulator.physics.base import (
    BIT,
    TOLERANCE,
    Advance,
    Ambient,
    BoolArray,
    DevicePhysics,
    FloatArray,
    PhysicsState,
)
from simulator.physics.storage import stored_after

DAY_S = 86_400.0


class EVChargerPhysics(DevicePhysics[EVChargerConfig]):
    """Chargers that work while a car is there.

    A car comes at ``arrival_hour`` with ``init_soc`` in it and leaves at ``departure_hour``;
    the same hour twice means that it leaves and comes at once. Power asked of an empty place
    is not carried out. A step in which a car comes or goes carries the power for that part.
    With ``init_soc_spread`` each day's car brings another charge, drawn from the reset's seed,
    the charger's number and the day alone: the same car comes however time is cut.
    """

    stores_energy = True

    def __init__(self, configs: Sequence[EVChargerConfig]) -> None:
        super().__init__(configs)
        self.capacity_mwh = np.array([c.e_capacity_mwh for c in configs])
        self.init_soc = np.array([c.init_soc for c in configs])
        self.spread = np.array([c.init_soc_spread for c in configs])
        self.charge_efficiency = np.array([c.ch_eff for c in configs])
        self.discharge_efficiency = np.array([c.dsc_eff for c in configs])
        self.efficiencies = (self.charge_efficiency, self.discharge_efficiency)
        self.arrival_s = np.array([c.arrival_hour * 3600.0 for c in configs])
        stay = [(c.departure_hour - c.arrival_hour) % 24.0 * 3600.0 for c in configs]
        self.stay_s = np.array([s or DAY_S for s in stay])

    def initial_state(self) -> PhysicsState:
        """A car as it comes."""
        return {"p_mw": np.zeros(self.n), "soc": self.init_soc, "seed": np.zeros(self.n)}

    def idle(self) -> tuple[FloatArray, FloatArray]:
        """Do not charge."""
        return np.zeros(self.n), np.zeros(self.n)

    def advance(
        self, state: PhysicsState, p_set_mw: FloatArray, q_set_mvar: FloatArray, ambient: Ambient
    ) -> Advance:
        """Carry out set-points; see `DevicePhysics.advance`."""
        dt_s = ambient.dt_s
        target_mw, limits = self.within_p_limits(p_set_mw)
        asked_mw, end_mw, ramp = self.ramp(state["p_mw"], target_mw, dt_s)
        since_arrival_s = np.mod(ambient.time_s - self.arrival_s, DAY_S)
        stays_s = np.minimum(np.maximum(self.stay_s - since_arrival_s, 0.0), dt_s)
        new_car_s = np.minimum(np.maximum(dt_s - (DAY_S - since_arrival_s), 0.0), self.stay_s)
        came = new_car_s > 0.0
        now = since_arrival_s == 0.0
        brought = self._brought(state["seed"], ambient.time_s, now, came, dt_s)
        soc = np.where(now, brought, state["soc"])
        here_mwh, soc = self._charge(soc, asked_mw, stays_s / 3600.0)
        new_mwh, new_soc = self._charge(brought, asked_mw, new_car_s / 3600.0)
        p_mw = (here_mwh + np.where(came, new_mwh, 0.0)) / (dt_s / 3600.0)
        present_s = stays_s + new_car_s
        absent = (present_s < dt_s) & (np.abs(asked_mw) > TOLERANCE)
        limited = np.abs(p_mw - asked_mw * present_s / dt_s) > TOLERANCE
        q_mvar, reactive = self.within_q_limits(p_mw, q_set_mvar)
        reasons = (
            limits
            | ramp
            | reactive
            | (absent * BIT[ClipReason.AVAILABILITY])
            | (limited * BIT[ClipReason.STATE_OF_CHARGE])
        )
        new = {"p_mw": end_mw, "soc": np.where(came, new_soc, soc), "seed": state["seed"]}
        at_end_s = np.mod(ambient.time_s + dt_s - self.arrival_s, DAY_S)
        return Advance(p_mw, q_mvar, new, reasons, None, at_end_s < self.stay_s)

    def _brought(
        self,
        seed: FloatArray,
        time_s: float | FloatArray,
        now: BoolArray,
        came: BoolArray,
        dt_s: float,
    ) -> FloatArray:
        """Return the charge of the car that comes at the start of a step, or within it."""
        soc = np.broadcast_to(self.init_soc, seed.shape)
        if not self.spread.any():
            return soc
        soc = soc.copy()
        # A car that comes in a step comes before its end, and one that comes now, at its start.
        when_s = np.where(came, time_s + dt_s, np.broadcast_to(time_s, seed.shape))
        days = np.floor((when_s - self.arrival_s) / DAY_S + 1e-9).astype(np.int64)
        for where in np.argwhere((now | came) & (self.spread > 0.0)):
            place = tuple(where.tolist())
            k = place[-1]
            # The day before the data year has the number -1, which no seed sequence takes.
            rng = np.random.default_rng([int(seed[place]), k, int(days[place]) + 1])
            soc[place] += rng.uniform(-self.spread[k], self.spread[k])
        return np.asarray(np.clip(soc, 0.0, 1.0))

    def _charge(
        self, soc: FloatArray, asked_mw: FloatArray, hours: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return the energy injected (MWh) in so many hours, and the state of charge after."""
        energy_mwh = soc * self.capacity_mwh
        some_h = np.maximum(hours, 1e-9)
        gives_mw = energy_mwh * self.discharge_efficiency / some_h
        takes_mw = (self.capacity_mwh - energy_mwh) / (self.charge_efficiency * some_h)
        p_mw = np.minimum(np.maximum(asked_mw, -takes_mw), gives_mw)
        after_mwh = stored_after(energy_mwh, p_mw, self.efficiencies, effective_h=hours)
        after = np.minimum(np.maximum(after_mwh / self.capacity_mwh, 0.0), 1.0)
        return np.asarray(p_mw * hours), np.asarray(after)

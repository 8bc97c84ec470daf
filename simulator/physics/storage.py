"""Batteries: what they can give and take over a step, and what is in them after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from heron.powergrid.device_configs import StorageConfig
from heron.powergrid.quantities import ClipReason
from simulator.engines.jit import exact_inner, exact_kernel
from simulator.physics.base import BoolArray, FloatArray, IntArray, PhysicsState
from simulator.physics.compiled import CompiledPhysics, Task, put
from simulator.physics.rules import (
    BIT,
    TOLERANCE,
    Unit,
    clipped,
    ramp,
    within_p_limits,
    within_q_limits,
)

STATE_OF_CHARGE = BIT[ClipReason.STATE_OF_CHARGE]


class StoreUnit(Unit):
    """A store of energy.

    Attributes:
        capacity_mwh: Capacity.
        e_min_mwh: Least energy that may be left in it.
        e_max_mwh: Most energy that may be put in.
        charge_efficiency: Share of the charging energy that is stored.
        discharge_efficiency: Share of the stored energy that comes out.
        decay_per_h: Rate of self-discharge.
    """

    capacity_mwh: float
    e_min_mwh: float
    e_max_mwh: float
    charge_efficiency: float
    discharge_efficiency: float
    decay_per_h: float


@exact_inner
def stored_after(
    unit: StoreUnit, energy_mwh: float, p_mw: float, keeps: float, effective_h: float
) -> float:
    """Return the energy stored after a step at constant power.

    Solves dE/dt = -k E - p / eta_d (p > 0) or -k E - p eta_c (p < 0) exactly, so that it does
    not matter how time is cut into steps.

    Args:
        unit: The store.
        energy_mwh: Stored at the start.
        p_mw: Power at the terminals, positive = discharges.
        keeps: Share that self-discharge leaves after the step, exp(-k dt).
        effective_h: (1 - exp(-k dt)) / k in hours; dt without self-discharge.
    """
    drawn_mw = p_mw / unit.discharge_efficiency if p_mw > 0.0 else p_mw * unit.charge_efficiency
    return energy_mwh * keeps - drawn_mw * effective_h


def decay(decay_per_h: float, hours: float) -> tuple[float, float]:
    """Return what `stored_after` takes as ``keeps`` and ``effective_h``."""
    if decay_per_h == 0.0:
        return 1.0, hours
    return np.exp(-decay_per_h * hours), -np.expm1(-decay_per_h * hours) / decay_per_h


_decay = exact_inner(decay)


@exact_inner
def store(  # noqa: PLR0917 - compiled code takes positions
    unit: StoreUnit,
    p_start_mw: float,
    soc: float,
    p_set_mw: float,
    q_set_mvar: float,
    most_in_mw: float,
    most_out_mw: float,
    dt_s: float,
) -> tuple[float, float, float, float, int]:
    """Return mean P and Q over a step, P and the state of charge at its end, and the reasons."""
    target_mw, limits = within_p_limits(unit, p_set_mw)
    asked_mw, end_mw, ramped = ramp(unit, p_start_mw, target_mw, dt_s)
    reasons = limits | ramped
    energy_mwh = soc * unit.capacity_mwh
    keeps, effective_h = _decay(unit.decay_per_h, dt_s / 3600.0)
    kept_mwh = energy_mwh * keeps
    gives_mw = (kept_mwh - unit.e_min_mwh) * unit.discharge_efficiency / effective_h
    takes_mw = (unit.e_max_mwh - kept_mwh) / (unit.charge_efficiency * effective_h)
    gives_mw = np.maximum(np.minimum(gives_mw, most_out_mw), 0.0)
    takes_mw = np.maximum(np.minimum(takes_mw, most_in_mw), 0.0)
    p_mw = clipped(asked_mw, -takes_mw, gives_mw)
    if abs(p_mw - asked_mw) > TOLERANCE:
        reasons |= STATE_OF_CHARGE
        end_mw = p_mw
    q_mvar, reactive = within_q_limits(unit, p_mw, q_set_mvar)
    after_mwh = stored_after(unit, energy_mwh, p_mw, keeps, effective_h)
    # Rounding must not leave the window by a bit.
    after_mwh = np.minimum(after_mwh, unit.e_max_mwh)
    after_mwh = np.maximum(after_mwh, np.minimum(kept_mwh, unit.e_min_mwh))
    return p_mw, q_mvar, end_mw, after_mwh / unit.capacity_mwh, reasons | reactive


@exact_kernel
def _advance(  # noqa: PLR0917 - compiled code takes positions
    units: Any,
    at: IntArray,
    asked: FloatArray,
    most_mw: FloatArray,
    p_start_mw: FloatArray,
    soc: FloatArray,
    dt_s: float,
    new: FloatArray,
    done: FloatArray,
    reasons: IntArray,
    connected: BoolArray,
) -> None:
    n, known = len(units), most_mw.shape[1]
    for j in range(len(soc)):
        s, k = j // n, at[j % n]
        p_mw, q_mvar, new[0, j], new[1, j], reasons[s, k] = store(
            units[j % n],
            p_start_mw[j],
            soc[j],
            asked[0, s, k],
            asked[1, s, k],
            most_mw[0, j % known],
            most_mw[1, j % known],
            dt_s,
        )
        put(done, s, k, p_mw, q_mvar, np.nan, new[1, j])
        connected[s, k] = True


class StoragePhysics(CompiledPhysics[StorageConfig]):
    """Batteries within their window of charge.

    Power is cut so that the state of charge ends no further than on its limit, and so that a
    taper is obeyed to the end of the step. Only self-discharge, which nobody can switch off, may
    take the charge below ``soc_min``.
    """

    stores_energy = True
    unit = StoreUnit
    kernel = staticmethod(_advance)
    keeps = ("p_mw", "soc")

    def __init__(self, configs: Sequence[StorageConfig]) -> None:
        super().__init__(configs)
        capacity_mwh = np.array([c.e_capacity_mwh for c in configs])
        self.init_soc = np.array([c.init_soc for c in configs])
        lost = np.minimum([c.self_discharge_per_h for c in configs], 1.0 - 1e-12)
        self._describe(
            capacity_mwh=capacity_mwh,
            e_min_mwh=np.array([c.soc_min for c in configs]) * capacity_mwh,
            e_max_mwh=np.array([c.soc_max for c in configs]) * capacity_mwh,
            charge_efficiency=np.array([c.ch_eff for c in configs]),
            discharge_efficiency=np.array([c.dsc_eff for c in configs]),
            decay_per_h=-np.log1p(-lost),
        )
        limits = [c.limits.storage for c in configs]
        self._tapers = [
            (k, direction, taper, full_mw)
            for k, x in enumerate(limits)
            if x is not None
            for direction, taper, full_mw in (
                (0, x.charge_taper, x.p_charge_mw),
                (1, x.discharge_taper, x.p_discharge_mw),
            )
            if taper is not None
        ]
        self._unlimited = np.full((2, self.n), np.inf)

    def initial_state(self) -> PhysicsState:
        """Idle, at the configured state of charge."""
        return {"p_mw": np.zeros(self.n), "soc": self.init_soc}

    def idle(self) -> tuple[FloatArray, FloatArray]:
        """Neither charge nor discharge."""
        return np.zeros(self.n), np.zeros(self.n)

    def given(self, state: PhysicsState, task: Task) -> FloatArray:
        """Return what tapers let them take and give, amounts in MW, (2, scenarios * devices)."""
        if not self._tapers:
            return self._unlimited
        soc = state["soc"]
        most_mw = np.full((2, *soc.shape), np.inf)
        for k, direction, taper, full_mw in self._tapers:
            unit = self.units[k]
            keeps, effective_h = decay(unit["decay_per_h"], task.dt_s / 3600.0)
            kept_mwh = soc[..., k] * unit["capacity_mwh"] * keeps
            if direction == 0:
                gain = unit["charge_efficiency"] * effective_h / unit["capacity_mwh"]
            else:
                gain = effective_h / (unit["discharge_efficiency"] * unit["capacity_mwh"])
            most_mw[direction, ..., k] = taper.limit_mw(
                full_mw, kept_mwh / unit["capacity_mwh"], gain
            )
        return most_mw.reshape(2, -1)

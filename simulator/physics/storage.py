"""Batteries: what they can give and take over a step, and what is in them after it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heron.powergrid.device_configs import StorageConfig
from heron.powergrid.quantities import ClipReason
from simulator.physics.base import (
    BIT,
    TOLERANCE,
    Advance,
    Ambient,
    DevicePhysics,
    FloatArray,
    PhysicsState,
    Reasons,
)


def stored_after(
    energy_mwh: FloatArray,
    p_mw: FloatArray,
    efficiencies: tuple[FloatArray, FloatArray],
    *,
    keeps: FloatArray | float = 1.0,
    effective_h: FloatArray | float,
) -> FloatArray:
    """Return the energy stored after a step at constant power.

    Solves dE/dt = -k E - p / eta_d (p > 0) or -k E - p eta_c (p < 0) exactly, so that it does
    not matter how time is cut into steps.

    Args:
        energy_mwh: (..., n) stored at the start.
        p_mw: (..., n) power at the terminals, positive = discharges.
        efficiencies: (n,) share of the charging energy that is stored, and (n,) share of the
            stored energy that comes out.
        keeps: (n,) share that self-discharge leaves after the step, exp(-k dt).
        effective_h: (n,) (1 - exp(-k dt)) / k in hours; dt without self-discharge.
    """
    charging, discharging = efficiencies
    drawn_mw = np.where(p_mw > 0.0, p_mw / discharging, p_mw * charging)
    return np.asarray(energy_mwh * keeps - drawn_mw * effective_h)


class StoragePhysics(DevicePhysics[StorageConfig]):
    """Batteries within their window of charge.

    Power is cut so that the state of charge ends no further than on its limit, and so that a
    taper is obeyed to the end of the step. Only self-discharge, which nobody can switch off, may
    take the charge below ``soc_min``.
    """

    stores_energy = True

    def __init__(self, configs: Sequence[StorageConfig]) -> None:
        super().__init__(configs)
        self.capacity_mwh = np.array([c.e_capacity_mwh for c in configs])
        self.soc_min = np.array([c.soc_min for c in configs])
        self.soc_max = np.array([c.soc_max for c in configs])
        self.init_soc = np.array([c.init_soc for c in configs])
        self.charge_efficiency = np.array([c.ch_eff for c in configs])
        self.discharge_efficiency = np.array([c.dsc_eff for c in configs])
        self.efficiencies = (self.charge_efficiency, self.discharge_efficiency)
        lost = np.minimum([c.self_discharge_per_h for c in configs], 1.0 - 1e-12)
        self.decay_per_h = -np.log1p(-lost)
        self.has_decay = bool(lost.any())
        limits = [c.limits.storage for c in configs]
        self._charge_tapers = [
            (k, x.charge_taper, x.p_charge_mw)
            for k, x in enumerate(limits)
            if x is not None and x.charge_taper is not None
        ]
        self._discharge_tapers = [
            (k, x.discharge_taper, x.p_discharge_mw)
            for k, x in enumerate(limits)
            if x is not None and x.discharge_taper is not None
        ]
        self.e_min_mwh = self.soc_min * self.capacity_mwh
        self.e_max_mwh = self.soc_max * self.capacity_mwh

    def initial_state(self) -> PhysicsState:
        """Idle, at the configured state of charge."""
        return {"p_mw": np.zeros(self.n), "soc": self.init_soc}

    def idle(self) -> tuple[FloatArray, FloatArray]:
        """Neither charge nor discharge."""
        return np.zeros(self.n), np.zeros(self.n)

    def advance(
        self, state: PhysicsState, p_set_mw: FloatArray, q_set_mvar: FloatArray, ambient: Ambient
    ) -> Advance:
        """Carry out set-points; see `DevicePhysics.advance`."""
        target_mw, limits = self.within_p_limits(p_set_mw)
        asked_mw, end_mw, ramp = self.ramp(state["p_mw"], target_mw, ambient.dt_s)
        energy_mwh = state["soc"] * self.capacity_mwh
        keeps, effective_h = self._decay(ambient.dt_s / 3600.0)
        kept_mwh = energy_mwh * keeps
        gives_mw = (kept_mwh - self.e_min_mwh) * self.discharge_efficiency / effective_h
        takes_mw = (self.e_max_mwh - kept_mwh) / (self.charge_efficiency * effective_h)
        self._taper(kept_mwh, effective_h, takes_mw, gives_mw)
        p_mw = np.minimum(
            np.maximum(asked_mw, -np.maximum(takes_mw, 0.0)), np.maximum(gives_mw, 0.0)
        )
        cut: Reasons = 0
        if not (p_mw == asked_mw).all():
            full_or_empty = np.abs(p_mw - asked_mw) > TOLERANCE
            cut = full_or_empty * BIT[ClipReason.STATE_OF_CHARGE]
            end_mw = np.where(full_or_empty, p_mw, end_mw)
        q_mvar, reactive = self.within_q_limits(p_mw, q_set_mvar)
        after_mwh = stored_after(
            energy_mwh, p_mw, self.efficiencies, keeps=keeps, effective_h=effective_h
        )
        # Rounding must not leave the window by a bit.
        after_mwh = np.minimum(after_mwh, self.e_max_mwh)
        after_mwh = np.maximum(after_mwh, np.minimum(kept_mwh, self.e_min_mwh))
        new = {"p_mw": end_mw, "soc": after_mwh / self.capacity_mwh}
        return Advance(p_mw, q_mvar, new, limits | ramp | reactive | cut)

    def _taper(
        self,
        kept_mwh: FloatArray,
        effective_h: FloatArray | float,
        takes_mw: FloatArray,
        gives_mw: FloatArray,
    ) -> None:
        """Lower, in place, what those take and give whose power depends on their charge."""
        hours = np.broadcast_to(effective_h, (self.n,))
        for k, taper, full_mw in self._charge_tapers:
            gain = self.charge_efficiency[k] * hours[k] / self.capacity_mwh[k]
            limit = taper.limit_mw(full_mw, kept_mwh[..., k] / self.capacity_mwh[k], gain)
            takes_mw[..., k] = np.minimum(takes_mw[..., k], limit)
        for k, taper, full_mw in self._discharge_tapers:
            gain = hours[k] / (self.discharge_efficiency[k] * self.capacity_mwh[k])
            limit = taper.limit_mw(full_mw, kept_mwh[..., k] / self.capacity_mwh[k], gain)
            gives_mw[..., k] = np.minimum(gives_mw[..., k], limit)

    def _decay(self, hours: float) -> tuple[FloatArray | float, FloatArray | float]:
        if not self.has_decay:
            return 1.0, hours
        keeps = np.exp(-self.decay_per_h * hours)
        none = self.decay_per_h == 0.0
        effective_h = -np.expm1(-self.decay_per_h * hours) / np.where(none, 1.0, self.decay_per_h)
        return keeps, np.where(none, hours, effective_h)

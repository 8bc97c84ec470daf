"""Normalised actions to set-points that the envelope lets pass, for many scenarios at once.

Does with arrays what `heron.powergrid.envelope.admit` does with one set-point, rule by rule in
the same order; a test holds the two to the same figures. Shapes: N scenarios, D devices in the
order of the setup.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heron.policy import ActionMapping, PolicyCodec, SetpointSpec
from heron.policy.codec import CEILING_FULL_AT
from heron.powergrid.envelope import StorageLimits, TapLimits
from heron.powergrid.setups import Setup
from simulator.batch_plant import BatchMeasurements

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Range = tuple[FloatArray, FloatArray]


@dataclass(frozen=True, slots=True)
class Setpoints:
    """Set-points of all devices, (N, D) each; ``tap`` is NaN where there is none."""

    p_mw: FloatArray
    q_mvar: FloatArray
    tap: FloatArray


class SetpointMapper:
    """Actions to admitted set-points; it remembers those in force, as the agents do.

    Args:
        setup: The setup.
        codecs: Codec per coordinator.
        n: Scenarios.
    """

    def __init__(self, setup: Setup, codecs: Mapping[str, PolicyCodec], n: int) -> None:
        config = setup.config
        self._n = n
        self._at = {d: k for k, d in enumerate(config.device_ids)}
        self._specs = {agent: codec.setpoints for agent, codec in codecs.items()}
        devices = [config.device(d).device_state_config for d in config.device_ids]
        safe = [d.safe_setpoint for d in devices]
        self._safe = tuple(
            np.array([np.nan if x is None else float(x) for x in column])
            for column in (
                [s.p_mw for s in safe],
                [s.q_mvar for s in safe],
                [s.tap for s in safe],
            )
        )
        self._envelope = VectorEnvelope(setup)
        self._held = self._start()

    def _start(self) -> Setpoints:
        p, q, tap = (np.tile(x, (self._n, 1)) for x in self._safe)
        return Setpoints(p, q, tap)

    def reset(self) -> None:
        """Begin an episode: the safe set-points are in force."""
        self._held = self._start()

    def __call__(
        self, actions: Mapping[str, npt.NDArray[np.float32]], seen: BatchMeasurements
    ) -> Setpoints:
        """Return the admitted set-points.

        Args:
            actions: (N, act_dim) per agent.
            seen: What the devices show now.
        """
        self._held = self.proposed(actions, seen, self._held)
        return self._held

    def proposed(
        self,
        actions: Mapping[str, npt.NDArray[np.float32]],
        seen: BatchMeasurements,
        held: Setpoints,
    ) -> Setpoints:
        """Return what would be admitted where ``held`` is in force; nothing is remembered."""
        wanted = {
            "p_mw": held.p_mw.copy(),
            "q_mvar": held.q_mvar.copy(),
            "tap": held.tap.copy(),
        }
        for agent, specs in self._specs.items():
            x = np.clip(actions[agent].astype(np.float64), -1.0, 1.0)
            for i, spec in enumerate(specs):
                wanted[spec.quantity][:, self._at[spec.agent]] = _decode(spec, x[:, i])
        return self._envelope.admit(
            Setpoints(wanted["p_mw"], wanted["q_mvar"], wanted["tap"]), held, seen
        )

    @property
    def held(self) -> Setpoints:
        """The set-points in force."""
        return self._held


class VectorEnvelope:
    """The envelopes of all devices of a setup, at its control step."""

    def __init__(self, setup: Setup) -> None:
        config = setup.config
        self._dt_s = config.step_s
        limits = [config.device(d).device_state_config.limits for d in config.device_ids]
        self._p_range = _pair([(x.p_min_mw, x.p_max_mw) for x in limits])
        self._q_range = _pair([(x.q_min_mvar, x.q_max_mvar) for x in limits])
        self._s_max = np.array([math.inf if x.s_max_mva is None else x.s_max_mva for x in limits])
        ramps = [x.ramp_mw_per_min for x in limits]
        self._reach_mw = np.array([math.inf if r is None else r * self._dt_s / 60 for r in ramps])
        self._ramped = any(r is not None for r in ramps)
        bands = [x.v_band_pu or (-math.inf, math.inf) for x in limits]
        self._v_band = _pair(bands)
        self._banded = any(x.v_band_pu is not None for x in limits)
        self._stores = [(k, x.storage) for k, x in enumerate(limits) if x.storage is not None]
        self._store_at = np.array([k for k, _ in self._stores], dtype=np.int64)
        taps = [(k, x.tap) for k, x in enumerate(limits) if x.tap is not None]
        self._tap_at = np.array([k for k, _ in taps], dtype=np.int64)
        self._tap_limits: list[TapLimits] = [tap for _, tap in taps]

    def admit(self, wanted: Setpoints, held: Setpoints, seen: BatchMeasurements) -> Setpoints:
        """Return what may be told the devices.

        Args:
            wanted: What is proposed, finite (a tap may be NaN).
            held: The set-points in force; they stay where a proposal is refused.
            seen: What the devices show now.
        """
        p_mw, q_mvar = wanted.p_mw, wanted.q_mvar
        p_mw, p_range = self._admit_p(p_mw, held.p_mw, seen)
        p_mw = self._hold_voltage(p_mw, seen.p_mw, p_range, seen)
        q_mvar, q_range = self._admit_q(q_mvar, p_mw)
        q_mvar = self._hold_voltage(q_mvar, seen.q_mvar, q_range, seen)
        tap = self._admit_tap(wanted.tap, seen)
        refused = ~self._usable(seen)
        if refused.any():
            p_mw, q_mvar = (
                np.where(refused, held.p_mw, p_mw),
                np.where(refused, held.q_mvar, q_mvar),
            )
            tap = np.where(refused, held.tap, tap)
        return Setpoints(p_mw, q_mvar, tap)

    def _usable(self, seen: BatchMeasurements) -> BoolArray:
        """Return where a reading is there, (N, D): finite, connected, complete."""
        good = np.isfinite(seen.p_mw + seen.q_mvar + seen.v_pu.sum(axis=-1)) & seen.connected
        if self._stores:
            soc = seen.soc[:, self._store_at]
            good[:, self._store_at] &= (soc >= 0.0) & (soc <= 1.0)
        if self._tap_limits:
            good[:, self._tap_at] &= np.isfinite(seen.tap[:, self._tap_at])
        return np.asarray(good)

    def _admit_p(
        self, p_mw: FloatArray, held_mw: FloatArray, seen: BatchMeasurements
    ) -> tuple[FloatArray, Range]:
        low, high = (np.broadcast_to(x, p_mw.shape) for x in self._p_range)
        p_mw = np.clip(p_mw, low, high)
        if self._ramped:
            start = np.clip(held_mw, low, high)
            low = np.maximum(low, start - self._reach_mw)
            high = np.minimum(high, start + self._reach_mw)
            p_mw = np.clip(p_mw, low, high)
        if self._stores:
            low, high = low.copy(), high.copy()
            for k, store in self._stores:
                strongest = _p_range_mw(store, seen.soc[:, k], self._dt_s)
                low[:, k], high[:, k] = _narrow(low[:, k], high[:, k], *strongest)
            p_mw = np.clip(p_mw, low, high)
        low, high = _narrow(low, high, -self._s_max, self._s_max)
        return np.clip(p_mw, low, high), (low, high)

    def _admit_q(self, q_mvar: FloatArray, p_mw: FloatArray) -> tuple[FloatArray, Range]:
        low, high = (np.broadcast_to(x, q_mvar.shape) for x in self._q_range)
        q_mvar = np.clip(q_mvar, low, high)
        beside = np.sqrt(np.maximum(self._s_max**2 - p_mw**2, 0.0))
        low, high = _narrow(low, high, -beside, beside)
        return np.clip(q_mvar, low, high), (low, high)

    def _hold_voltage(
        self, x: FloatArray, present: FloatArray, interval: Range, seen: BatchMeasurements
    ) -> FloatArray:
        if not self._banded:
            return x
        low, high = interval
        v_low, v_high = self._v_band
        present = np.clip(present, low, high)
        high = np.where(seen.v_pu[:, :, 2] > v_high, present, high)
        low = np.where(seen.v_pu[:, :, 1] < v_low, present, low)
        return np.asarray(np.clip(x, low, high))

    def _admit_tap(self, tap: FloatArray, seen: BatchMeasurements) -> FloatArray:
        for k, limits in zip(self._tap_at.tolist(), self._tap_limits, strict=True):
            low, high = np.full(len(tap), limits.tap_min), np.full(len(tap), limits.tap_max)
            present = np.clip(seen.tap[:, k], low, high)
            reach = limits.reach(self._dt_s)
            low, high = np.maximum(low, present - reach), np.minimum(high, present + reach)
            v_low, v_high = self._v_band[0][k], self._v_band[1][k]
            high = np.where(seen.v_pu[:, k, 2] > v_high, present, high)
            low = np.where(seen.v_pu[:, k, 1] < v_low, present, low)
            tap[:, k] = np.clip(tap[:, k], low, high)
        return tap


def _p_range_mw(store: StorageLimits, soc: FloatArray, dt_s: float) -> Range:
    """Do what `StorageLimits.p_range_mw` does, for many."""
    kept, h = store.decay(dt_s / 3600.0)
    soc = soc * kept
    capacity = store.e_capacity_mwh
    takes = np.maximum(0.0, store.soc_max - soc) * capacity / (store.ch_eff * h)
    gives = np.maximum(0.0, soc - store.soc_min) * capacity * store.dsc_eff / h
    if store.charge_taper is not None:
        gain = store.ch_eff * h / capacity
        takes = np.minimum(takes, store.charge_taper.limit_mw(store.p_charge_mw, soc, gain))
    if store.discharge_taper is not None:
        gain = h / (store.dsc_eff * capacity)
        gives = np.minimum(gives, store.discharge_taper.limit_mw(store.p_discharge_mw, soc, gain))
    return -takes, gives


def _narrow(low: FloatArray, high: FloatArray, new_low: FloatArray, new_high: FloatArray) -> Range:
    """Intersect two intervals; where they do not meet, the new one's nearer end remains."""
    return (
        np.minimum(np.maximum(low, new_low), new_high),
        np.maximum(np.minimum(high, new_high), new_low),
    )


def _pair(pairs: list[tuple[float, float]]) -> Range:
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return table[:, 0].copy(), table[:, 1].copy()


def _decode(spec: SetpointSpec, x: FloatArray) -> FloatArray:
    """Do what `SetpointSpec.decode` does, for many; a tap is a whole position."""
    match spec.mapping:
        case ActionMapping.LINEAR:
            value = spec.low + (x + 1.0) / 2.0 * (spec.high - spec.low)
        case ActionMapping.CENTRED:
            value = np.where(x >= 0.0, x * spec.high, -x * spec.low)
        case _:
            value = spec.high * np.minimum(1.0, (x + 1.0) / CEILING_FULL_AT)
    return np.rint(value) if spec.quantity == "tap" else value

"""A droop with price thresholds: a rule with numbers that can be tuned.

What a well-kept site without a forecast of its own load would run. Every number is in
`DroopSettings`; ``heron tune droop`` finds them on training days.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heron.policy.baselines import PRICE, REACTIVE, VOLTAGE, Baseline
from heron.policy.codec import ActionMapping, FloatArray, PolicyCodec, SetpointSpec

MEAN = ("MarketSignal", "day_mean")
LOWEST, HIGHEST = ("BusVoltages", "v_min"), ("BusVoltages", "v_max")
EXCHANGE = ("NetworkMetrics", "p_MW")

_Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DroopSettings:
    """What a droop does with voltages and prices.

    Attributes:
        v_ref_pu: Voltage at which no reactive power flows.
        v_dead_pu: Half width of the dead band.
        v_full_pu: Distance from ``v_ref_pu`` at which the whole range is used.
        response: Part of the way to the droop's reactive power in one step, above 0 to 1.
        charge_below: Share of the day's mean price below which a store charges.
        discharge_above: Share above which it discharges.
        ramp_usd_per_mwh: Prices over which a store goes from rest to full power.
        volts_usd_per_mwh_pu: By how much power is worth more where the lowest voltage is
            below ``v_ref_pu - v_dead_pu``, and less where the highest is above
            ``v_ref_pu + v_dead_pu``.
        exchange_usd_per_mwh_mw: By how much power is worth more per MW of import, and less per
            MW of export: what losses and voltages far away cost.
        curtail_from_pu: Highest voltage from which sun and wind are cut back.
        curtail_over_pu: Width over which they are cut back to nothing.
    """

    v_ref_pu: float = 1.0
    v_dead_pu: float = 0.01
    v_full_pu: float = 0.05
    response: float = 0.3
    charge_below: float = 0.85
    discharge_above: float = 1.15
    ramp_usd_per_mwh: float = 2.0
    volts_usd_per_mwh_pu: float = 0.0
    exchange_usd_per_mwh_mw: float = 0.0
    curtail_from_pu: float = 1.06
    curtail_over_pu: float = 0.04


DROOP_RANGES: Mapping[str, tuple[float, float]] = {
    "v_ref_pu": (0.97, 1.04),
    "v_dead_pu": (0.0, 0.03),
    "v_full_pu": (0.02, 0.12),
    "response": (0.1, 1.0),
    "charge_below": (0.6, 1.05),
    "discharge_above": (0.95, 1.5),
    "ramp_usd_per_mwh": (0.5, 20.0),
    "volts_usd_per_mwh_pu": (0.0, 1500.0),
    "exchange_usd_per_mwh_mw": (-5.0, 40.0),
    "curtail_from_pu": (1.03, 1.08),
    "curtail_over_pu": (0.01, 0.06),
}
"""Where tuning looks for each setting."""


class DroopPolicy(Baseline):
    """Merit order, price thresholds for stores and volt-var, all moved by voltages and exchange.

    It also takes many observations at once: (N, obs_dim) gives (N, act_dim).

    Args:
        codec: Of the coordinator; its observation needs the price and the day's mean.
        cost_curves: ``(a, b)`` per generator, for ``a P^2 + b P`` in $/h with P in MW.
        settings: Its numbers.
    """

    def __init__(
        self,
        codec: PolicyCodec,
        cost_curves: Mapping[str, tuple[float, float]],
        settings: DroopSettings | None = None,
    ) -> None:
        super().__init__(codec)
        self._cost_curves = dict(cost_curves)
        self.settings = settings or DroopSettings()
        me = codec.agent_id
        self._own = {
            name: self._position(me, name) for name in (PRICE, MEAN, LOWEST, HIGHEST, EXCHANGE)
        }
        self._voltage = {s.agent: self._position(s.agent, VOLTAGE) for s in codec.setpoints}
        self._present_q = {s.agent: self._position(s.agent, REACTIVE) for s in codec.setpoints}

    def act(self, obs: npt.ArrayLike) -> FloatArray:
        """Return the action, (..., act_dim), for observations (..., obs_dim)."""
        x = np.asarray(obs, dtype=np.float64)
        s = self.settings
        price = self._read(x, self._own[PRICE], 0.0)
        mean = self._read(x, self._own[MEAN], 0.0)
        lowest = self._read(x, self._own[LOWEST], s.v_ref_pu)
        highest = self._read(x, self._own[HIGHEST], s.v_ref_pu)
        below = np.maximum(0.0, s.v_ref_pu - s.v_dead_pu - lowest)
        above = np.maximum(0.0, highest - s.v_ref_pu - s.v_dead_pu)
        worth = price + s.volts_usd_per_mwh_pu * (below - above)
        worth = worth - s.exchange_usd_per_mwh_mw * self._read(x, self._own[EXCHANGE], 0.0)
        cut = np.clip((highest - s.curtail_from_pu) / s.curtail_over_pu, 0.0, 1.0)
        action = np.broadcast_to(self._idle, (*x.shape[:-1], self._idle.size)).copy()
        for i, spec in enumerate(self._codec.setpoints):
            if spec.quantity == "q_mvar":
                action[..., i] = self._encoded(spec, self._reactive(spec, x))
            elif spec.agent in self._cost_curves:
                a, b = self._cost_curves[spec.agent]
                wanted = (worth - b) / (2.0 * a) if a > 0.0 else np.copysign(np.inf, worth - b)
                action[..., i] = self._encoded(spec, wanted)
            elif spec.mapping == ActionMapping.CENTRED:
                action[..., i] = self._store(worth, mean)
            elif spec.mapping == ActionMapping.CEILING:
                action[..., i] = self._encoded(spec, spec.high * (1.0 - cut))
        return action

    def _read(self, x: _Values, position: int | None, default: float) -> _Values:
        if position is None:
            return np.full(x.shape[:-1], default)
        return np.asarray(x[..., position] * self._codec.fields[position].scale)

    @staticmethod
    def _encoded(spec: SetpointSpec, wanted: _Values) -> _Values:
        """Encode many values; the specification's own `encode` takes one."""
        encode = np.vectorize(spec.encode, otypes=[np.float64])
        return np.asarray(encode(np.clip(wanted, spec.low, spec.high)))

    def _store(self, worth: _Values, mean: _Values) -> _Values:
        s = self.settings
        give = (worth - s.discharge_above * mean) / s.ramp_usd_per_mwh
        take = (s.charge_below * mean - worth) / s.ramp_usd_per_mwh
        return np.asarray(np.clip(give, 0.0, 1.0) - np.clip(take, 0.0, 1.0))

    def _reactive(self, spec: SetpointSpec, x: _Values) -> _Values:
        s = self.settings
        off = s.v_ref_pu - self._read(x, self._voltage[spec.agent], s.v_ref_pu)
        now = self._read(x, self._present_q[spec.agent], 0.0)
        width = max(s.v_full_pu - s.v_dead_pu, 1e-3)
        share = np.clip((np.abs(off) - s.v_dead_pu) / width, 0.0, 1.0)
        wanted = share * np.where(off > 0.0, spec.high, spec.low)
        return np.asarray(now + s.response * (wanted - now))

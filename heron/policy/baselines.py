"""Rules to compare a policy with, under the policy's own interface.

Each is built for a codec and reads what it needs from the scaled observation, so it runs
wherever a trained policy runs: in the environment, in event-driven time, in the deployed loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from heron.policy.codec import ActionMapping, FloatArray, PolicyCodec, SetpointSpec

PRICE = ("MarketSignal", "price")
RANK = ("MarketSignal", "rank")
VOLTAGE = ("ElectricalBasePh", "v_pu")
REACTIVE = ("ElectricalBasePh", "q_MVAr")
TAP = ("TapChangerPh", "tap_position")


class Baseline:
    """What the rules share: the codec and its look-ups."""

    def __init__(self, codec: PolicyCodec) -> None:
        self._codec = codec
        self._idle = np.array([_at_rest(s) for s in codec.setpoints], dtype=np.float32)

    @property
    def codec(self) -> PolicyCodec:
        """Its observation and action."""
        return self._codec

    def forward(self, observation: Any) -> FloatArray:
        """Decide from an observation object or vector; the agents' name for `act`."""
        vector = getattr(observation, "vector", None)
        return self.act(observation if vector is None else vector())

    def act(self, obs: npt.ArrayLike) -> FloatArray:
        """Return the normalised action, (act_dim,)."""
        raise NotImplementedError

    def _position(self, agent: str, where: tuple[str, str]) -> int | None:
        try:
            return self._codec.index(agent, *where)
        except KeyError:
            return None

    def _value(self, obs: npt.NDArray[np.float32], position: int | None, default: float) -> float:
        if position is None:
            return default
        return float(obs[position]) * self._codec.fields[position].scale


class IdlePolicy(Baseline):
    """Does nothing: generators at their minimum, stores at rest, sources uncurtailed."""

    def act(self, obs: npt.ArrayLike) -> FloatArray:
        """Return the action at rest, whatever is observed."""
        return self._idle.copy()


class RulePolicy(Baseline):
    """Merit order, price ranks and a volt-var droop: how such a site is commonly run.

    A generator runs where its marginal cost meets the price; a store charges in the cheapest
    share of the day's prices and discharges in the dearest; a tap changer goes one step towards
    its dead band; every other device supports its terminal voltage with reactive power. Because
    it knows the voltage of the step before only, it goes a part of the way to the droop's value
    each step; going all the way overshoots.

    Args:
        codec: Of the coordinator.
        cost_curves: ``(a, b)`` per generator, for ``a P^2 + b P`` in $/h with P in MW.
        charge_below: Rank of the price (0-1) below which a store charges.
        discharge_above: Rank above which it discharges.
        v_ref_pu: Voltage at which no reactive power flows.
        v_dead_pu: Half width of the dead band.
        v_full_pu: Distance from ``v_ref_pu`` at which the whole range is used.
        response: Part of the way to the droop's reactive power in one step, above 0 to 1.
    """

    def __init__(
        self,
        codec: PolicyCodec,
        cost_curves: Mapping[str, tuple[float, float]],
        *,
        charge_below: float = 0.25,
        discharge_above: float = 0.75,
        v_ref_pu: float = 1.0,
        v_dead_pu: float = 0.01,
        v_full_pu: float = 0.05,
        response: float = 0.3,
    ) -> None:
        super().__init__(codec)
        self._cost_curves = dict(cost_curves)
        self._ranks = (charge_below, discharge_above)
        self._droop = (v_ref_pu, v_dead_pu, v_full_pu)
        self._response = response
        self._price = self._position(codec.agent_id, PRICE)
        self._rank = self._position(codec.agent_id, RANK)
        self._voltage = {s.agent: self._position(s.agent, VOLTAGE) for s in codec.setpoints}
        self._present_q = {s.agent: self._position(s.agent, REACTIVE) for s in codec.setpoints}
        self._present_tap = {s.agent: self._position(s.agent, TAP) for s in codec.setpoints}

    def act(self, obs: npt.ArrayLike) -> FloatArray:
        """Return the rule's action."""
        x = np.asarray(obs, dtype=np.float32)
        price = self._value(x, self._price, 0.0)
        rank = self._value(x, self._rank, 0.5)
        action = self._idle.copy()
        for i, spec in enumerate(self._codec.setpoints):
            if spec.quantity == "q_mvar":
                v = self._value(x, self._voltage[spec.agent], self._droop[0])
                now = self._value(x, self._present_q[spec.agent], 0.0)
                wanted = self._reactive(spec, v)
                action[i] = spec.encode(now + self._response * (wanted - now))
            elif spec.quantity == "tap":
                v = self._value(x, self._voltage[spec.agent], self._droop[0])
                now = self._value(x, self._present_tap[spec.agent], 0.0)
                action[i] = spec.encode(now + self._tap_step(v))
            elif spec.agent in self._cost_curves:
                a, b = self._cost_curves[spec.agent]
                p = (price - b) / (2.0 * a) if a > 0.0 else np.copysign(np.inf, price - b)
                action[i] = spec.encode(float(np.clip(p, spec.low, spec.high)))
            elif spec.mapping == ActionMapping.CENTRED:
                action[i] = self._store(rank)
        return action

    def _store(self, rank: float) -> float:
        low, high = self._ranks
        return -1.0 if rank < low else 1.0 if rank > high else 0.0

    def _tap_step(self, v_pu: float) -> float:
        """Return one step towards the dead band; none within it."""
        v_ref, dead, _ = self._droop
        return 0.0 if abs(v_ref - v_pu) <= dead else 1.0 if v_pu < v_ref else -1.0

    def _reactive(self, spec: SetpointSpec, v_pu: float) -> float:
        v_ref, dead, full = self._droop
        beyond = abs(v_ref - v_pu) - dead
        if beyond <= 0.0:
            return 0.0
        share = min(1.0, beyond / (full - dead))
        return share * (spec.high if v_pu < v_ref else spec.low)


def _at_rest(spec: SetpointSpec) -> float:
    """Return the normalised action of an idle device."""
    if spec.mapping == ActionMapping.CEILING:
        return 1.0
    return spec.encode(0.0 if spec.low <= 0.0 <= spec.high else spec.low)

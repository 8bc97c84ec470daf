"""The voltage shield: the set-points nearest to a proposal that keep voltages in the band.

A quadratic programme on linearised voltages. Where the band cannot be kept, it is left as little
as possible (a soft limit with a high weight), so that there is always an answer. It comes before
the envelope, which stays the last word.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from heron.policy import PolicyCodec
from heron.powergrid.device_configs import InverterSourceConfig
from heron.powergrid.envelope import DeviceLimits
from heron.powergrid.networks import Grid
from heron.powergrid.optimization.network import RadialNetwork
from heron.powergrid.optimization.qp import QuadraticProgramme
from heron.powergrid.setups import SetupConfig

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float64]

SLACK_WEIGHT = 1e5
POLYGON_SIDES = 16
TOLERANCE = 1e-6
CURTAILED = 1e-4
"""MW by which a source must be cut back for it to count."""
GROWTH = 0.1
"""Share of its range by which a source may grow within a step."""


@dataclass(frozen=True, slots=True)
class Present:
    """What is measured now, one entry a device.

    Attributes:
        p_mw: Active power, positive = injects.
        q_mvar: Reactive power.
        v_low_pu: Lowest phase voltage at the terminals.
        v_high_pu: Highest phase voltage.
    """

    p_mw: FloatArray
    q_mvar: FloatArray
    v_low_pu: FloatArray
    v_high_pu: FloatArray


class VoltageShield:
    """Projects proposals of n devices onto the voltage band.

    Args:
        limits: Envelope of each device.
        dv_dp: (n, n) change of each terminal's voltage per MW of each device.
        dv_dq: (n, n) per Mvar.
        band_pu: Voltage band.
        margin_pu: How far inside the band to stay: for loads that move, single phases and
            whatever else the linearisation does not know.
        p_weight: Cost of moving active power, relative to reactive power.
        is_source: (n,) devices whose active set-point is a ceiling: they are expected to
            inject what they inject now and a tenth of their range more, not their ceiling.
    """

    def __init__(
        self,
        limits: Sequence[DeviceLimits],
        dv_dp: FloatArray,
        dv_dq: FloatArray,
        band_pu: tuple[float, float],
        *,
        margin_pu: float = 0.003,
        p_weight: float = 10.0,
        is_source: Sequence[bool] = (),
    ) -> None:
        n = len(limits)
        self._n = n
        self._sensitivity = np.hstack([dv_dp, dv_dq])
        self._band = (band_pu[0] + margin_pu, band_pu[1] - margin_pu)
        self._weight = np.concatenate([np.full(n, p_weight), np.ones(n)])
        self._low = np.array([x.p_min_mw for x in limits] + [x.q_min_mvar for x in limits])
        self._high = np.array([x.p_max_mw for x in limits] + [x.q_max_mvar for x in limits])
        self._is_source = np.array(is_source or [False] * n)
        self._circle, self._radius = circles(limits)
        slack = -np.ones((n, 1))
        rows = [
            np.hstack([np.eye(2 * n), np.zeros((2 * n, 1))]),
            np.hstack([self._circle, np.zeros((len(self._radius), 1))]),
            np.hstack([self._sensitivity, slack]),
            np.hstack([self._sensitivity, -slack]),
            np.append(np.zeros(2 * n), 1.0)[None, :],
        ]
        weights = np.append(self._weight, SLACK_WEIGHT)
        self._programme = QuadraticProgramme(weights, np.vstack(rows), TOLERANCE)

    @classmethod
    def for_microgrid(
        cls, network: RadialNetwork, grid: Grid, config: SetupConfig, name: str, **kwargs: Any
    ) -> Self:
        """Return the shield of one microgrid's own devices."""
        index = [k for k, d in enumerate(grid.devices) if d.area == name]
        buses = network.device_bus[index]
        dv_dp, dv_dq = network.sensitivity(buses, buses)
        devices = [config.device(grid.devices[k].device_id).device_state_config for k in index]
        return cls(
            [device.limits for device in devices],
            dv_dp,
            dv_dq,
            config.v_limits_pu,
            is_source=[isinstance(device, InverterSourceConfig) for device in devices],
            **kwargs,
        )

    def _bounds(
        self, v_low: FloatArray, v_high: FloatArray, present: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return the rows' limits: ranges, circles, upper and lower voltages, the slack."""
        n = self._n
        low, high = self._band
        around = self._sensitivity @ present
        no = np.full(len(self._radius), -np.inf)
        lower = np.concatenate([self._low, no, np.full(n, -np.inf), low - v_low + around, [0.0]])
        upper = np.concatenate(
            [self._high, self._radius, high - v_high + around, np.full(n, np.inf), [np.inf]]
        )
        return lower, upper

    def project(
        self, p_mw: FloatArray, q_mvar: FloatArray, now: Present
    ) -> tuple[FloatArray, FloatArray]:
        """Return the nearest set-points that keep the voltages in the band.

        Args:
            p_mw: (n,) proposed active power.
            q_mvar: (n,) proposed reactive power.
            now: What is measured.

        Returns:
            The set-points; the proposal itself, within its limits, if the solver gives up.
        """
        n = self._n
        high = self._high.copy()
        room = now.p_mw + GROWTH * (self._high[:n] - self._low[:n])
        high[:n] = np.where(self._is_source, np.clip(room, self._low[:n], high[:n]), high[:n])
        ceiling = np.clip(p_mw, self._low[:n], self._high[:n])
        asked = np.clip(np.concatenate([p_mw, q_mvar]), self._low, high)
        if self._is_fine(asked, now):
            return ceiling, asked[n:]
        present = np.concatenate([now.p_mw, now.q_mvar])
        lower, upper = self._bounds(now.v_low_pu, now.v_high_pu, present)
        upper[: 2 * n] = high
        found = self._programme.solve(np.append(-self._weight * asked, 0.0), lower, upper)
        if found is None:
            return ceiling, asked[n:]
        best = np.clip(found[:-1], self._low, high)
        untouched = self._is_source & (best[:n] > asked[:n] - CURTAILED)
        return np.where(untouched, ceiling, best[:n]), best[n:]

    def _is_fine(self, asked: FloatArray, now: Present) -> bool:
        change = self._sensitivity @ (asked - np.concatenate([now.p_mw, now.q_mvar]))
        low, high = self._band
        inside = (now.v_low_pu + change >= low).all() and (now.v_high_pu + change <= high).all()
        return bool(inside and (self._circle @ asked <= self._radius + TOLERANCE).all())


def circles(limits: Sequence[DeviceLimits]) -> tuple[FloatArray, FloatArray]:
    """Return rows and radii of polygons inside each device's circle of apparent power."""
    n = len(limits)
    rows, radii = [], []
    angles = 2.0 * np.pi * np.arange(POLYGON_SIDES) / POLYGON_SIDES
    for k, limit in enumerate(limits):
        if limit.s_max_mva is None:
            continue
        for angle in angles:
            row = np.zeros(2 * n)
            row[k], row[n + k] = np.cos(angle), np.sin(angle)
            rows.append(row)
            radii.append(limit.s_max_mva * np.cos(np.pi / POLYGON_SIDES))
    return np.array(rows).reshape(-1, 2 * n), np.array(radii)


class ShieldedPolicy:
    """Any policy with its proposals led through a shield; itself a policy of the same codec.

    Args:
        policy: Has ``act(obs) -> action`` (`heron.policy.OnnxPolicy`, the baselines, MPC).
        codec: Of the coordinator.
        shield: Of the coordinator's devices, in the codec's order.
        spread_pu: How far a phase may lie from the mean of the phases, which is all that the
            observation holds.

    Attributes:
        note: Where the last action was moved, in words; empty if it was not.
        interventions: How many actions were moved so far.
    """

    def __init__(
        self,
        policy: Any,
        codec: PolicyCodec,
        shield: VoltageShield,
        *,
        spread_pu: float = 0.01,
    ) -> None:
        self._policy = policy
        self._codec = codec
        self._shield = shield
        self._spread = spread_pu
        self._devices = list(dict.fromkeys(spec.agent for spec in codec.setpoints))
        self._at: Mapping[tuple[str, str], int] = {
            (spec.agent, spec.field): i
            for i, spec in enumerate(codec.fields)
            if spec.feature == "ElectricalBasePh"
        }
        self._scale = np.array([spec.scale for spec in codec.fields])
        self.note = ""
        self.interventions = 0

    @property
    def codec(self) -> PolicyCodec:
        """Its observation and action."""
        return self._codec

    def forward(self, observation: Any) -> npt.NDArray[np.float32]:
        """Decide from an observation object or vector; the agents' name for `act`."""
        vector = getattr(observation, "vector", None)
        return self.act(observation if vector is None else vector())

    def act(self, obs: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return the policy's action, moved as far as the shield asks."""
        x = np.asarray(obs, dtype=np.float64) * self._scale
        action = np.asarray(self._policy.act(obs), dtype=np.float64)
        wanted = {
            (spec.agent, spec.quantity): spec.decode(float(a))
            for spec, a in zip(self._codec.setpoints, action, strict=True)
        }
        now = self._present(x)
        p = np.array([wanted.get((d, "p_mw"), 0.0) for d in self._devices])
        q = np.array([wanted.get((d, "q_mvar"), 0.0) for d in self._devices])
        new_p, new_q = self._shield.project(p, q, now)
        moved: list[str] = []
        for i, spec in enumerate(self._codec.setpoints):
            k = self._devices.index(spec.agent)
            new, old = (new_p[k], p[k]) if spec.quantity == "p_mw" else (new_q[k], q[k])
            if abs(new - old) > TOLERANCE:
                action[i] = spec.encode(float(new))
                moved.append(f"{spec.path} {old:.3f} -> {new:.3f}")
        self._say(moved)
        return action.astype(np.float32)

    def _say(self, moved: list[str]) -> None:
        """Note an intervention; log where a row of them begins and ends."""
        agent, before = self._codec.agent_id, self.note
        self.note = f"shield: {'; '.join(moved)}" if moved else ""
        self.interventions += bool(moved)
        if moved and not before:
            logger.info("shield_moves agent=%s %s", agent, self.note)
        elif before and not moved:
            logger.info("shield_rests agent=%s interventions=%d", agent, self.interventions)

    def _present(self, x: FloatArray) -> Present:
        """Read what is measured at the devices; phases may differ from their mean."""

        def of(field: str) -> FloatArray:
            return np.array([x[self._at[d, field]] for d in self._devices])

        v = of("v_pu")
        return Present(of("p_MW"), of("q_MVAr"), v - self._spread, v + self._spread)

"""What coordinators' observations say of a site's devices, together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heron.errors import PolicyError
from heron.policy import PolicyCodec
from heron.powergrid.observed_time import ObservedTime
from heron.powergrid.setups import Setup

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Told:
    """What one coordinator sees and wants; arrays are over its devices, in the codec's order.

    Attributes:
        time_s: Plant time.
        price_usd_per_mwh: Of the step that begins.
        day_mean_usd_per_mwh: Mean price of the day.
        p_mw: Active power over the last step.
        q_mvar: Reactive power.
        v_pu: Mean phase voltage.
        soc: State of charge; NaN where nothing is stored.
        action: Proposed, normalised.
        p_set_mw: What the action asks for.
        q_set_mvar: The same for reactive power.
    """

    time_s: float
    price_usd_per_mwh: float
    day_mean_usd_per_mwh: float
    p_mw: FloatArray
    q_mvar: FloatArray
    v_pu: FloatArray
    soc: FloatArray
    action: FloatArray
    p_set_mw: FloatArray
    q_set_mvar: FloatArray


class CoordinatorView:
    """Reads the observations of one coordinator, and its actions.

    Args:
        codec: Of the coordinator.
        setup: The setup, to tell the time by.
        place: Number of each device in the grid.

    Attributes:
        devices: Numbers of its devices in the grid.

    Raises:
        KeyError: The observation lacks the time, prices or powers.
    """

    def __init__(self, codec: PolicyCodec, setup: Setup, place: Mapping[str, int]) -> None:
        self._codec = codec
        self._time = ObservedTime(codec, setup)
        names = tuple(dict.fromkeys(spec.agent for spec in codec.setpoints))
        self.devices = np.array([place[name] for name in names], dtype=np.int64)
        self._price, self._mean = (
            codec.index(codec.agent_id, "MarketSignal", name) for name in ("price", "day_mean")
        )
        self._at = {
            name: [codec.index(d, "ElectricalBasePh", name) for d in names]
            for name in ("p_MW", "q_MVAr", "v_pu")
        }
        fields = {(s.agent, s.feature, s.field): i for i, s in enumerate(codec.fields)}
        self._soc = [fields.get((d, "StorageBlock", "soc"), -1) for d in names]
        self._number = {name: k for k, name in enumerate(names)}

    def read(self, obs: npt.ArrayLike, action: npt.ArrayLike) -> Told:
        """Return what an observation, (obs_dim,), and an action, (act_dim,), say.

        Raises:
            PolicyError: Something is not finite, or of no time of the data year.
        """
        x = np.asarray(obs, dtype=np.float64) * self._codec.scale
        wanted = np.asarray(action, dtype=np.float64)
        if not (np.isfinite(x).all() and np.isfinite(wanted).all()):
            raise PolicyError(f"{self._codec.agent_id}: the shield is told what is not finite")
        p, q, v = (x[self._at[name]] for name in ("p_MW", "q_MVAr", "v_pu"))
        p_set, q_set = p.copy(), np.zeros_like(q)
        for spec, value in zip(self._codec.setpoints, wanted.tolist(), strict=True):
            into = {"p_mw": p_set, "q_mvar": q_set}.get(spec.quantity)
            if into is not None:
                into[self._number[spec.agent]] = spec.decode(value)
        soc = np.array([np.nan if i < 0 else x[i] for i in self._soc])
        time_s = self._time.read(obs)
        return Told(
            time_s, float(x[self._price]), float(x[self._mean]), p, q, v, soc, wanted, p_set, q_set
        )

    def action(
        self, told: Told, p_mw: FloatArray, q_mvar: FloatArray
    ) -> tuple[npt.NDArray[np.float32], list[str]]:
        """Return a proposal with its devices' set-points replaced where they differ, and where.

        Args:
            told: The proposal.
            p_mw: Set-points of its devices.
            q_mvar: The same for reactive power.
        """
        action, moved = told.action.copy(), []
        for i, spec in enumerate(self._codec.setpoints):
            k = self._number[spec.agent]
            old, new = {
                "p_mw": (told.p_set_mw[k], p_mw[k]),
                "q_mvar": (told.q_set_mvar[k], q_mvar[k]),
            }.get(spec.quantity, (0.0, 0.0))
            if old != new:
                action[i] = spec.encode(float(new))
                moved.append(f"{spec.path} {old:.3f} -> {new:.3f}")
        return action.astype(np.float32), moved

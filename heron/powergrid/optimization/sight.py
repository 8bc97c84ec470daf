"""What an observation says in physical units, device by device, for those that optimise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heron.policy import PolicyCodec
from heron.policy.baselines import IdlePolicy
from heron.policy.codec import FloatArray as Action

FloatArray = npt.NDArray[np.float64]

UNTOUCHED_MW = 1e-3
"""A source that may inject all but this of what it could is not curtailed."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One observation; arrays are (n_devices,) in the order of the codec's set-points.

    Attributes:
        price: $/MWh now.
        day_mean: Mean of the day, $/MWh.
        exchange_mw: What the microgrid exports; negative = imports.
        exchange_mvar: The same for reactive power.
        p_mw: Of the devices, positive = injects.
        q_mvar: Of the devices.
        v_low_pu: Lowest phase voltage to be expected at each device.
        v_high_pu: Highest.
        soc: State of charge; None where nothing is stored.
    """

    price: float
    day_mean: float
    exchange_mw: float
    exchange_mvar: float
    p_mw: FloatArray
    q_mvar: FloatArray
    v_low_pu: FloatArray
    v_high_pu: FloatArray
    soc: tuple[float | None, ...]


class Sight:
    """Reads observations of one coordinator, and says actions back.

    Args:
        codec: Of the coordinator.

    Attributes:
        devices: Names, in the order of the codec's set-points.

    Raises:
        KeyError: The observation lacks prices, voltages or powers.
    """

    def __init__(self, codec: PolicyCodec) -> None:
        self._codec = codec
        self._idle = IdlePolicy(codec)
        self._scale = codec.scale
        self.devices = tuple(dict.fromkeys(spec.agent for spec in codec.setpoints))
        me = codec.agent_id
        self._own = [
            codec.index(me, feature, name)
            for feature, name in (
                ("MarketSignal", "price"),
                ("MarketSignal", "day_mean"),
                ("NetworkMetrics", "p_MW"),
                ("NetworkMetrics", "q_MVAr"),
                ("BusVoltages", "v_min"),
                ("BusVoltages", "v_max"),
            )
        ]
        self._at = {
            name: [codec.index(d, "ElectricalBasePh", name) for d in self.devices]
            for name in ("p_MW", "q_MVAr", "v_pu")
        }
        places = {
            spec.agent: i
            for i, spec in enumerate(codec.fields)
            if (spec.feature, spec.field) == ("StorageBlock", "soc")
        }
        self._soc = [places.get(d) for d in self.devices]

    def read(self, obs: npt.ArrayLike) -> Seen:
        """Return what an observation, (obs_dim,), says.

        The observation holds the mean of a device's phases, and the lowest and highest phase
        of the microgrid: every device is taken to spread as far as the widest.
        """
        x = np.asarray(obs, dtype=np.float64) * self._scale
        price, mean, p, q, lowest, highest = x[self._own].tolist()
        v = x[self._at["v_pu"]]
        return Seen(
            price=price,
            day_mean=mean,
            exchange_mw=p,
            exchange_mvar=q,
            p_mw=x[self._at["p_MW"]],
            q_mvar=x[self._at["q_MVAr"]],
            v_low_pu=v - max(0.0, float(v.min()) - lowest),
            v_high_pu=v + max(0.0, highest - float(v.max())),
            soc=tuple(None if i is None else float(x[i]) for i in self._soc),
        )

    def rest(self) -> Action:
        """Return the action at rest."""
        return self._idle.act([])

    def action(
        self,
        p_mw: FloatArray,
        q_mvar: FloatArray,
        free: npt.NDArray[np.bool_],
    ) -> Action:
        """Return the normalised action of set-points, (n_devices,) each.

        Args:
            p_mw: Active power.
            q_mvar: Reactive power.
            free: Sources that are to inject all that they can.
        """
        place = {name: k for k, name in enumerate(self.devices)}
        out = self.rest()
        for i, spec in enumerate(self._codec.setpoints):
            k = place[spec.agent]
            if spec.quantity == "q_mvar":
                out[i] = spec.encode(float(q_mvar[k]))
            elif spec.quantity == "p_mw" and not free[k]:
                out[i] = spec.encode(float(p_mw[k]))
        return out

"""Receding-horizon control of one microgrid, as a policy of the same interface as a trained one.

At every step it plans the rest of the day from what its observation holds, the prices ahead and
the state of charge, and carries out the first step. With a `VoltageShield` its powers are moved
where the voltages need it. A plan over the network with perfect forecasts is
`heron.powergrid.optimization.dispatch`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from heron.policy import PolicyCodec
from heron.powergrid.accounting import STORED_ENERGY_VALUE
from heron.powergrid.device_configs import GeneratorConfig, InverterSourceConfig, StorageConfig
from heron.powergrid.optimization.qp import QuadraticProgramme
from heron.powergrid.setups import MicrogridConfig

FloatArray = npt.NDArray[np.float64]

HORIZON_H = 24
SMOOTHING = 0.5
"""Cost of storage power squared, $/MW^2 h: breaks ties between equal prices evenly."""


class StoragePlan:
    """The best use of one store over the prices ahead: a small quadratic programme.

    Args:
        config: The store.
        step_s: Length of the first step; the others are an hour each.
    """

    def __init__(self, config: StorageConfig, step_s: float) -> None:
        n = HORIZON_H
        self._config = config
        self._hours = np.ones(n)
        self._hours[0] = step_s / 3600.0
        e = config.e_capacity_mwh
        per_give = -self._hours / (config.dsc_eff * e)
        per_take = self._hours * config.ch_eff / e
        # Unknowns: power given (n), power taken (n), state of charge after each step (n).
        step = sparse.eye(n) - sparse.eye(n, k=-1)
        change = sparse.hstack([sparse.diags(-per_give), sparse.diags(-per_take), step])
        matrix = sparse.vstack([change, sparse.eye(3 * n)], format="csc")
        weight = np.concatenate([np.tile(2.0 * SMOOTHING * self._hours, 2), np.zeros(n)])
        self._upper = np.concatenate(
            [
                np.full(n, config.p_max_mw),
                np.full(n, -config.p_min_mw),
                np.full(n, config.soc_max),
            ]
        )
        self._lower = np.concatenate([np.zeros(2 * n), np.full(n, config.soc_min)])
        self._programme = QuadraticProgramme(weight, matrix, 1e-5)

    def power_mw(self, soc: float, prices: FloatArray, end_value: float) -> float:
        """Return the power of the first step, positive = discharges.

        Args:
            soc: State of charge now.
            prices: (24,) price of each step, $/MWh.
            end_value: Value of what is left in store at the end, $/MWh.
        """
        config, hours, n = self._config, self._hours, HORIZON_H
        wear = config.degradation_usd_per_mwh
        cost = np.zeros(3 * n)
        cost[:n] = hours * (wear - prices)
        cost[n : 2 * n] = hours * (wear + prices)
        cost[-1] = -end_value * config.e_capacity_mwh
        start = min(max(soc, config.soc_min), config.soc_max)
        first = np.zeros(n)
        first[0] = start
        best = self._programme.solve(
            cost,
            np.concatenate([first, self._lower]),
            np.concatenate([first, self._upper]),
        )
        if best is None:
            return 0.0
        power = float(best[0] - best[n])
        return min(max(power, config.p_min_mw), config.p_max_mw)


class MpcPolicy:
    """Plans one microgrid's devices over the prices ahead.

    Generators run where their marginal cost meets the price; stores follow their plan; sources
    run free; reactive power rests, which is for the shield to move.

    Args:
        codec: Of the coordinator; its observation needs the day-ahead prices.
        microgrid: Its configuration.
        step_s: Length of a control step.

    Raises:
        KeyError: The observation lacks the day-ahead prices or a state of charge.
    """

    def __init__(self, codec: PolicyCodec, microgrid: MicrogridConfig, step_s: float) -> None:
        self._codec = codec
        self._configs = {d.name: d.device_state_config for d in microgrid.devices}
        self._plans = {
            name: StoragePlan(config, step_s)
            for name, config in self._configs.items()
            if isinstance(config, StorageConfig)
        }
        me = codec.agent_id
        self._price = codec.index(me, "MarketSignal", "price")
        self._mean = codec.index(me, "MarketSignal", "day_mean")
        self._ahead = codec.index(me, "MarketSignal", "ahead_00")
        self._soc = {name: codec.index(name, "StorageBlock", "soc") for name in self._plans}
        self._scale = np.array([spec.scale for spec in codec.fields])

    @property
    def codec(self) -> PolicyCodec:
        """Its observation and action."""
        return self._codec

    def forward(self, observation: Any) -> npt.NDArray[np.float32]:
        """Decide from an observation object or vector; the agents' name for `act`."""
        vector = getattr(observation, "vector", None)
        return self.act(observation if vector is None else vector())

    def act(self, obs: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return the action of the first step of a new plan."""
        x = np.asarray(obs, dtype=np.float64) * self._scale
        price, mean = float(x[self._price]), float(x[self._mean])
        prices = mean + x[self._ahead : self._ahead + HORIZON_H]
        prices[0] = price
        action = np.zeros(len(self._codec.setpoints), dtype=np.float32)
        for i, spec in enumerate(self._codec.setpoints):
            rest = min(max(0.0, spec.low), spec.high)
            wanted = rest
            if spec.quantity == "p_mw":
                wanted = self._power(spec.agent, x, prices, mean, rest)
            action[i] = spec.encode(min(max(wanted, spec.low), spec.high))
        return action

    def _power(
        self, name: str, x: FloatArray, prices: FloatArray, mean: float, rest: float
    ) -> float:
        config = self._configs[name]
        if isinstance(config, GeneratorConfig):
            a, b, _ = config.cost_curve_coefs
            price = float(prices[0])
            return (price - b) / (2.0 * a) if a > 0.0 else (np.inf if price > b else -np.inf)
        if isinstance(config, StorageConfig):
            soc = float(x[self._soc[name]])
            return self._plans[name].power_mw(soc, prices, STORED_ENERGY_VALUE * mean)
        if isinstance(config, InverterSourceConfig):
            return config.p_rated_mw
        return rest

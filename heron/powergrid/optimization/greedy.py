"""A greedy dispatch with safety: the best next step of one microgrid, voltages kept.

At every step a quadratic programme minimises what the step costs: fuel, energy at the price, what
leaves and enters the store at the day's known mean price, with the linearised voltages in their
band. It looks one step ahead and knows what its observation holds, no more. Voltages out of its
sight are the feeder's; a price on its own exchange stands for them, which tuning finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heron.policy import PolicyCodec
from heron.policy.codec import FloatArray as Action
from heron.powergrid.accounting import STORED_ENERGY_VALUE
from heron.powergrid.device_configs import DeviceConfig, GeneratorConfig, StorageConfig
from heron.powergrid.networks import Grid
from heron.powergrid.optimization.network import RadialNetwork
from heron.powergrid.optimization.qp import QuadraticProgramme
from heron.powergrid.optimization.shield import circles
from heron.powergrid.optimization.sight import UNTOUCHED_MW, Sight
from heron.powergrid.setups import SetupConfig

FloatArray = npt.NDArray[np.float64]

REACTIVE_USD_PER_MVAR2 = 0.2
"""Small cost of reactive power squared, which breaks ties."""
SLACK_USD_PER_PU2 = 1e6
ACCURACY = 1e-4


@dataclass(frozen=True, slots=True)
class GreedySettings:
    """What tuning finds for a greedy dispatch.

    Attributes:
        low_margin_pu: How far above the lower limit its own voltages are kept.
        high_margin_pu: How far below the upper limit.
        exchange_usd_per_mw2: Cost of its active exchange with the feeder, squared, $/h.
        exchange_usd_per_mvar2: Cost of its reactive exchange beyond ``export_mvar``, squared.
        export_mvar: Reactive power that it would rather export to the feeder.
        store_value: Worth of stored energy, as a share of the day's mean price.
    """

    low_margin_pu: float = 0.01
    high_margin_pu: float = 0.01
    exchange_usd_per_mw2: float = 2.0
    exchange_usd_per_mvar2: float = 2.0
    export_mvar: float = 0.0
    store_value: float = STORED_ENERGY_VALUE


GREEDY_RANGES = {
    "low_margin_pu": (0.0, 0.04),
    "high_margin_pu": (0.0, 0.04),
    "exchange_usd_per_mw2": (0.0, 30.0),
    "exchange_usd_per_mvar2": (0.0, 60.0),
    "export_mvar": (-0.2, 0.4),
    "store_value": (0.85, 1.05),
}
"""Where tuning looks for each setting."""


class GreedyPolicy:
    """One microgrid's greedy dispatch, under the interface of a trained policy.

    Args:
        codec: Of the coordinator.
        network: Balanced equivalent of the grid, for sensitivities.
        grid: The grid.
        config: The setup.
        settings: Its numbers.

    Raises:
        KeyError: The observation lacks prices, voltages or a state of charge.
    """

    def __init__(
        self,
        codec: PolicyCodec,
        network: RadialNetwork,
        grid: Grid,
        config: SetupConfig,
        settings: GreedySettings | None = None,
    ) -> None:
        self._codec = codec
        self.settings = settings or GreedySettings()
        self._sight = Sight(codec)
        names = self._sight.devices
        index = [k for k, d in enumerate(grid.devices) if d.device_id in names]
        if [grid.devices[k].device_id for k in index] != list(names):
            raise KeyError(f"{codec.agent_id}: devices of the grid and of the codec differ")
        self._devices = [config.device(name).device_state_config for name in names]
        buses = network.device_bus[index]
        dv_dp, dv_dq = network.sensitivity(buses, buses)
        low, high = config.v_limits_pu
        s = self.settings
        self._band = (low + s.low_margin_pu, high - s.high_margin_pu)
        self._step_h = config.step_s / 3600.0
        self._stores = [k for k, d in enumerate(self._devices) if isinstance(d, StorageConfig)]
        self._build(np.hstack([dv_dp, dv_dq]))

    @property
    def codec(self) -> PolicyCodec:
        """Its observation and action."""
        return self._codec

    def act(self, obs: npt.ArrayLike) -> Action:
        """Return the action of the best next step; at rest if the solver finds none."""
        seen = self._sight.read(obs)
        price, mean = seen.price, seen.day_mean
        cost = np.zeros(self._size)
        low, high = self._limits(seen.soc, seen.p_mw)
        n = len(self._devices)
        for k, device in enumerate(self._devices):
            cost[k] = self._marginal(device) - price
        worth = self.settings.store_value * mean
        for j, k in enumerate(self._stores):
            device = self._devices[k]
            assert isinstance(device, StorageConfig)
            wear = device.degradation_usd_per_mwh
            cost[self._give + j] = worth / device.dsc_eff + wear
            cost[self._take + j] = -worth * device.ch_eff + wear
        present = np.concatenate([seen.p_mw, seen.q_mvar])
        around = self._sensitivity @ present
        rest = np.array(
            [seen.exchange_mw, seen.exchange_mvar - self.settings.export_mvar]
        ) - np.array([seen.p_mw.sum(), seen.q_mvar.sum()])
        band_low, band_high = self._band
        unbound = np.full(n, np.inf)
        lower = np.concatenate(
            [
                low,
                -np.full(len(self._radius), np.inf),
                -unbound,
                band_low - seen.v_low_pu + around,
                np.zeros(len(self._stores)),
                rest,
            ]
        )
        upper = np.concatenate(
            [
                high,
                self._radius,
                band_high - seen.v_high_pu + around,
                unbound,
                np.zeros(len(self._stores)),
                rest,
            ]
        )
        found = self._programme.solve(cost, lower, upper)
        if found is None:
            return self._sight.rest()
        free = self._is_source & (found[:n] > high[:n] - UNTOUCHED_MW)
        return self._sight.action(found[:n], found[n : 2 * n], free)

    def _build(self, sensitivity: FloatArray) -> None:
        """Lay out unknowns and rows.

        Unknowns: active power, reactive power, power given and taken by each store, slack,
        active and reactive exchange.
        """
        n, m = len(self._devices), len(self._stores)
        self._give, self._take, slack, exchange = 2 * n, 2 * n + m, 2 * n + 2 * m, 2 * n + 2 * m + 1
        self._size = exchange + 2
        self._sensitivity = sensitivity
        self._is_source = np.array(
            [
                d.limits.storage is None
                and d.p_range_mw[0] == 0.0
                and not isinstance(d, GeneratorConfig)
                for d in self._devices
            ]
        )
        circle, self._radius = circles([d.limits for d in self._devices])
        bounds = np.eye(exchange)
        rows = [np.hstack([bounds, np.zeros((exchange, 2))])]
        rows.append(np.hstack([circle, np.zeros((len(circle), self._size - 2 * n))]))
        for sign in (-1.0, 1.0):
            voltage = np.zeros((n, self._size))
            voltage[:, : 2 * n] = sensitivity
            voltage[:, slack] = sign
            rows.append(voltage)
        balance = np.zeros((m, self._size))
        for j, k in enumerate(self._stores):
            balance[j, [k, self._give + j, self._take + j]] = 1.0, -1.0, 1.0
        flows = np.zeros((2, self._size))
        flows[0, :n], flows[1, n : 2 * n] = -1.0, -1.0
        flows[0, exchange], flows[1, exchange + 1] = 1.0, 1.0
        rows += [balance, flows]
        weight = np.full(self._size, 1e-3)
        for k, device in enumerate(self._devices):
            if isinstance(device, GeneratorConfig):
                weight[k] = max(2.0 * device.cost_curve_coefs[0], 1e-3)
        weight[n : 2 * n] = REACTIVE_USD_PER_MVAR2
        weight[slack] = SLACK_USD_PER_PU2
        s = self.settings
        weight[exchange] = 2.0 * s.exchange_usd_per_mw2
        weight[exchange + 1] = 2.0 * s.exchange_usd_per_mvar2
        self._programme = QuadraticProgramme(weight, np.vstack(rows), ACCURACY)

    @staticmethod
    def _marginal(device: DeviceConfig) -> float:
        return device.cost_curve_coefs[1] if isinstance(device, GeneratorConfig) else 0.0

    def _limits(
        self, soc: Sequence[float | None], p_now: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return the bounds of all unknowns but the exchange."""
        low = [d.p_range_mw[0] for d in self._devices]
        high = [d.p_range_mw[1] for d in self._devices]
        for k, device in enumerate(self._devices):
            charge = soc[k]
            store = device.limits.storage
            if store is not None and charge is not None:
                least, most = store.p_range_mw(charge, self._step_h * 3600.0)
                low[k], high[k] = max(low[k], least), min(high[k], most)
            elif self._is_source[k]:
                # what sun and wind give now, and a tenth of the range more
                high[k] = min(high[k], max(p_now[k], 0.0) + 0.1 * high[k])
        q = np.array([d.q_range_mvar for d in self._devices])
        m = len(self._stores)
        give = np.maximum([high[k] for k in self._stores], 0.0)
        take = np.maximum([-low[k] for k in self._stores], 0.0)
        zero = np.zeros(m)
        return (
            np.concatenate([low, q[:, 0], zero, zero, [0.0]]),
            np.concatenate([high, q[:, 1], give, take, [np.inf]]),
        )

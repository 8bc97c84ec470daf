"""How large the current of a branch can be at most, given what is connected behind it.

At a negative price a relaxation earns money by inventing losses: the cone holds the current from
below only, and every MWh that is lost is paid for. Physics holds it from above, too: the squared
current is (P^2 + Q^2) / v at the branch's end, P and Q lie within what loads and devices behind it
can add up to, so that a chord lies above each square, and v lies above the square of `FLOOR_PU`.
That is linear, and cuts off no plan that keeps every voltage between `FLOOR_PU` and `CEILING_PU`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
import numpy.typing as npt

from heron.powergrid.device_configs import InverterSourceConfig
from heron.powergrid.optimization.forecast import Forecast
from heron.powergrid.optimization.network import RadialNetwork
from heron.powergrid.setups import SetupConfig

FloatArray = npt.NDArray[np.float64]

FLOOR_PU = 0.8
CEILING_PU = 1.2
"""Far outside of every band: plans that leave these are not looked at."""


@dataclass(frozen=True, slots=True)
class FlowRanges:
    """What can arrive at the end of each branch, (T, n_branches) each.

    Attributes:
        p_low: Least active power, MW.
        p_high: Most active power, MW.
        q_low: Least reactive power, Mvar.
        q_high: Most reactive power, Mvar.
    """

    p_low: FloatArray
    p_high: FloatArray
    q_low: FloatArray
    q_high: FloatArray

    def cap(self, p: Any, q: Any, current: Any, steps: npt.NDArray[np.int64]) -> Any:
        """Return the constraint on squared currents, pu, in some of the steps.

        Args:
            p: (T, n_branches) expression of the active power that arrives, MW.
            q: The same of reactive power, Mvar.
            current: The same of the squared currents.
            steps: Those in which they are capped.
        """
        p_low, p_high = self.p_low[steps], self.p_high[steps]
        q_low, q_high = self.q_low[steps], self.q_high[steps]
        chords = cp.multiply(p_low + p_high, p[steps]) + cp.multiply(q_low + q_high, q[steps])
        return FLOOR_PU**2 * current[steps] <= chords - p_low * p_high - q_low * q_high


def flow_ranges(
    network: RadialNetwork,
    config: SetupConfig,
    forecast: Forecast,
    load: FloatArray,
    slope: FloatArray,
) -> FlowRanges:
    """Return what can arrive at each branch's end, losses behind it included.

    Args:
        network: The network.
        config: The setup, for the limits of its devices.
        forecast: Of the coming steps.
        load: (T, n_buses, 2) consumption that does not follow the voltage, MW and Mvar.
        slope: (T, n_buses, 2) consumption at 1 pu that grows with the squared voltage.
    """
    low, high = load.copy(), load.copy()
    shunt = np.zeros_like(slope[0])
    shunt[:, 1] = -network.shunt_mvar
    at_floor, at_ceiling = ((slope + shunt) * v**2 for v in (FLOOR_PU, CEILING_PU))
    low += np.minimum(at_floor, at_ceiling)
    high += np.maximum(at_floor, at_ceiling)
    for k, name in enumerate(config.device_ids):
        device, bus = config.device(name).device_state_config, network.device_bus[k]
        least, most = (np.full(forecast.n_steps, x) for x in device.p_range_mw)
        if isinstance(device, InverterSourceConfig):
            most = np.minimum(most, device.p_rated_mw * forecast.profile[:, k])
        low[:, bus] -= np.stack([most, np.full_like(most, device.q_range_mvar[1])], axis=1)
        high[:, bus] -= np.stack([least, np.full_like(least, device.q_range_mvar[0])], axis=1)
    r, x = network.r_pu, network.x_pu
    for k in range(network.n_branches - 1, -1, -1):
        bus, parent = k + 1, network.parent[k]
        largest = np.maximum(np.abs(low[:, bus]), np.abs(high[:, bus]))
        current = (largest**2).sum(axis=1) / FLOOR_PU**2
        lost = current[:, None] * np.array([r[k], x[k]])
        low[:, parent] += low[:, bus] + np.minimum(lost, 0.0)
        high[:, parent] += high[:, bus] + np.maximum(lost, 0.0)
    return FlowRanges(low[:, 1:, 0], high[:, 1:, 0], low[:, 1:, 1], high[:, 1:, 1])

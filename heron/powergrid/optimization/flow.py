"""The network part of the dispatch: branch flows, losses, voltages, regulators, the band."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cvxpy as cp
import numpy as np
import numpy.typing as npt

from heron.powergrid.optimization.forecast import Forecast
from heron.powergrid.optimization.loss_caps import flow_ranges
from heron.powergrid.optimization.network import RadialNetwork
from heron.powergrid.optimization.node_limits import NodeLimits
from heron.powergrid.setups import SetupConfig

FloatArray = npt.NDArray[np.float64]


class BranchFlow:
    """Branch flows, voltages and the head of the feeder over all steps.

    As built it is a copper plate: the head supplies what the devices do not. `add_network` puts
    the network in, `add_band` the limits on voltages.

    Args:
        network: Balanced equivalent of the grid.
        forecast: Of the coming steps.
        p_mw: (T, n_devices) expression of active power, positive = injects.
        q_mvar: (T, n_devices) of reactive power.

    Attributes:
        constraints: Of what was added.
        head: (T,) power that the source supplies, MW.
        losses: Sum over branches and steps, MW.
        step_losses: (T,) the same of each step.
        violation: Sum of what leaves the band over nodes and steps, pu.
    """

    def __init__(self, network: RadialNetwork, forecast: Forecast, p_mw: Any, q_mvar: Any) -> None:
        shape = (forecast.n_steps, len(network.buses), 2)
        self._load, self._slope = np.zeros(shape), np.zeros(shape)
        nominal = np.stack([network.load_mva.real, network.load_mva.imag], axis=1)
        for k, bus in enumerate(network.load_bus):
            share = forecast.load_scale[:, k, None] * nominal[k]
            self._load[:, bus] += share * (1.0 - network.load_slope[k])
            self._slope[:, bus] += share * network.load_slope[k]
        self._network, self._p, self._q = network, p_mw, q_mvar
        self._v: Any = None
        self._upper: Any = None
        self._current: Any = None
        self.constraints: list[Any] = []
        self.losses: Any = 0.0
        self.step_losses: Any = np.zeros(forecast.n_steps)
        self.violation: Any = 0.0
        total = (self._load + self._slope)[:, :, 0].sum(axis=1)
        self.head: Any = total - cp.sum(p_mw, axis=1)

    def add_network(self, free_regulators: bool, relax: bool = False) -> None:
        """Add branch flows, losses, voltages and what the regulators hold.

        With ``relax`` upper limits apply to the voltages themselves, which losses may lower.
        """
        network = self._network
        n_steps, n_buses = self._load.shape[:2]
        n = network.n_branches
        v = cp.Variable((n_steps, n_buses))
        flow_p, flow_q = cp.Variable((n_steps, n)), cp.Variable((n_steps, n))
        current = cp.Variable((n_steps, n), nonneg=True)
        inject_p, inject_q = self._injections(v)
        leaves = np.zeros((n, n_buses))
        leaves[np.arange(n), network.parent] = 1.0
        sent_p, sent_q = flow_p @ leaves, flow_q @ leaves
        r, x = np.diag(network.r_pu), np.diag(network.x_pu)
        behind = v[:, 1:] + 2.0 * (flow_p @ r + flow_q @ x) - current @ (r**2 + x**2)
        self.constraints += [
            v[:, 0] == network.source_v_pu**2,
            flow_p - current @ r + inject_p[:, 1:] == sent_p[:, 1:],
            flow_q - current @ x + inject_q[:, 1:] == sent_q[:, 1:],
            *self._ratios(v, behind),
        ]
        flat = [cp.vec(y, order="F") for y in (2.0 * flow_p, 2.0 * flow_q, current - behind)]
        self.constraints.append(
            cp.SOC(cp.vec(current + behind, order="F"), cp.vstack(flat), axis=0)
        )
        if not free_regulators:
            for held in network.regulated:
                k = held.branch
                aim = held.v2 + held.p * flow_p[:, k] + held.q * flow_q[:, k]
                self.constraints.append(cp.abs(v[:, k + 1] - aim) <= held.half_band)
        self._upper = v if free_regulators or relax else self._without_losses(v, inject_p, inject_q)
        self.step_losses = cp.sum(current @ r, axis=1)
        self.losses = cp.sum(self.step_losses)
        self.head = sent_p[:, 0] - inject_p[:, 0]
        self._v, self._current = v, current
        self._flows = (flow_p, flow_q, behind)

    def cap_losses(self, config: SetupConfig, forecast: Forecast) -> None:
        """Keep losses at negative prices to what can be lost; see `loss_caps`."""
        network, steps = self._network, np.flatnonzero(forecast.price < 0.0)
        if not steps.size:
            return
        flow_p, flow_q, _ = self._flows
        arrives_p = flow_p - self._current @ np.diag(network.r_pu)
        arrives_q = flow_q - self._current @ np.diag(network.x_pu)
        ranges = flow_ranges(network, config, forecast, self._load, self._slope)
        self.constraints.append(ranges.cap(arrives_p, arrives_q, self._current, steps))

    def _without_losses(self, v: Any, inject_p: Any, inject_q: Any) -> Any:
        """Return squared voltages as if nothing were lost: never below the real ones.

        The upper limit is put on these: put on ``v`` itself, the relaxation would invent losses
        to lower it.

        Source: Gan, Li, Topcu and Low, "Exact convex relaxation of optimal power flow in radial
        networks", IEEE Trans. Automatic Control 60(1), 2015.
        """
        network = self._network
        feeds = network.downstream().T
        r, x = np.diag(network.r_pu), np.diag(network.x_pu)
        drop = 2.0 * (-(inject_p @ feeds) @ r - (inject_q @ feeds) @ x)
        upper = cp.Variable(v.shape)
        low, high = network.ratio[:, 0] ** 2, network.ratio[:, 1] ** 2
        tied, free = np.flatnonzero(low == high), np.flatnonzero(low != high)
        before = upper[:, network.parent]
        self.constraints += [
            upper[:, 0] == v[:, 0],
            upper[:, tied + 1] == before[:, tied] @ np.diag(low[tied]) - drop[:, tied],
        ]
        if free.size:
            self.constraints.append(upper[:, free + 1] == v[:, free + 1])
        return upper

    def _injections(self, v: Any) -> tuple[Any, Any]:
        """Return what devices, loads and shunts put into each bus, (T, n_buses) each."""
        network, load, slope = self._network, self._load, self._slope
        at = np.zeros((len(network.device_bus), len(network.buses)))
        at[np.arange(len(network.device_bus)), network.device_bus] = 1.0
        shunt = network.shunt_mvar[None, :] - slope[:, :, 1]
        return (
            self._p @ at - load[:, :, 0] - cp.multiply(slope[:, :, 0], v),
            self._q @ at - load[:, :, 1] + cp.multiply(shunt, v),
        )

    def _ratios(self, v: Any, behind: Any) -> list[Any]:
        """Tie the voltages on both sides of each branch; a range where taps move."""
        network = self._network
        before = v[:, network.parent]
        low, high = network.ratio[:, 0] ** 2, network.ratio[:, 1] ** 2
        tied, free = np.flatnonzero(low == high), np.flatnonzero(low != high)
        ties = [behind[:, tied] == before[:, tied] @ np.diag(low[tied])]
        if free.size:
            ties += [
                behind[:, free] >= before[:, free] @ np.diag(low[free]),
                behind[:, free] <= before[:, free] @ np.diag(high[free]),
            ]
        return ties

    def add_band(self, config: SetupConfig, margin_pu: Mapping[str, FloatArray] | float) -> None:
        """Let voltages leave the band at the penalty that the accounts put on it."""
        network, v = self._network, self._v
        n_steps = len(self._load)
        watched = np.flatnonzero(network.monitored)
        margin = np.zeros((n_steps, len(watched)))
        for column, bus in enumerate(watched):
            margin[:, column] = (
                margin_pu if isinstance(margin_pu, float) else margin_pu[network.areas[bus]]
            )
        low, high = config.v_limits_pu
        under = cp.Variable((n_steps, len(watched)), nonneg=True)
        over = cp.Variable((n_steps, len(watched)), nonneg=True)
        self.constraints += [
            v[:, watched] + under >= (low + margin) ** 2,
            self._upper[:, watched] - over <= (high - margin) ** 2,
        ]
        weight = np.tile(network.phases[watched] / 2.0, (n_steps, 1))
        self.violation = cp.sum(cp.multiply(weight / low, under)) + cp.sum(
            cp.multiply(weight / high, over)
        )

    def add_node_limits(self, config: SetupConfig, limits: NodeLimits) -> None:
        """Let nodes leave their own limits at the penalty that the accounts put on it."""
        low, high = config.v_limits_pu
        cost: Any = 0.0
        for v, sign, band, bound in (
            (self._v, 1.0, low, limits.low_pu),
            (self._upper, -1.0, high, limits.high_pu),
        ):
            step, node = np.nonzero(np.isfinite(bound))
            if not step.size:
                continue
            beyond = cp.Variable(len(step), nonneg=True)
            squared = bound[step, node] ** 2
            self.constraints.append(sign * v[step, limits.bus[node]] + beyond >= sign * squared)
            cost += cp.sum(beyond) / (2.0 * band)
        self.violation = cost

    def voltages(self) -> FloatArray:
        """Return (T, n_buses) voltages in pu; NaN without the network."""
        return self._pu(self._v)

    def voltages_without_losses(self) -> FloatArray:
        """Return (T, n_buses) the voltages to which upper limits apply."""
        return self._pu(self._upper)

    def _pu(self, squared: Any) -> FloatArray:
        if squared is None:
            return np.full((len(self._load), len(self._network.buses)), np.nan)
        return np.asarray(np.sqrt(np.maximum(squared.value, 0.0)))

    def cone_gap_mw(self) -> float:
        """Return the largest loss that the flows do not explain, MW."""
        if self._current is None:
            return 0.0
        flow_p, flow_q, behind = (np.asarray(y.value) for y in self._flows)
        needed = (flow_p**2 + flow_q**2) / np.maximum(behind, 1e-6)
        unexplained = (np.asarray(self._current.value) - needed) * self._network.r_pu
        return float(np.max(unexplained))

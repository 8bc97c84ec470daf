"""Multi-period optimal dispatch: a branch-flow second-order cone programme with storage.

Its objective is what the accounts count (`heron.powergrid.accounting`): running costs, energy at
the price, the worth of what is left in store, and the penalty on voltages outside the band. With
perfect forecasts and free regulators its value is a bound on what any controller reaches on the
balanced equivalent; `recheck` runs its set-points through a plant and reports the gap.

Source: Farivar and Low, "Branch flow model: relaxations and convexification", IEEE Trans. Power
Systems 28(3), 2013.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
import numpy.typing as npt

from heron.errors import HeronError
from heron.powergrid.accounting import STORED_ENERGY_VALUE, Accountant
from heron.powergrid.device_configs import (
    ControllableLoadConfig,
    DeviceConfig,
    GeneratorConfig,
    InverterSourceConfig,
    StorageConfig,
)
from heron.powergrid.optimization.forecast import Forecast
from heron.powergrid.optimization.network import RadialNetwork
from heron.powergrid.quantities import Measurements, Setpoint
from heron.powergrid.setups import Setup, SetupConfig

FloatArray = npt.NDArray[np.float64]
Step = Callable[[Mapping[str, Setpoint], float], Measurements]
"""A plant's step: set-points and seconds to measurements."""

LOSS_COST_USD_PER_MWH = 1.0
"""Small cost of current that keeps the cone tight where energy is worth nothing or less."""


class DispatchError(HeronError):
    """The dispatch has no solution."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """An optimal plan for T steps.

    Attributes:
        device_ids: Order of the columns.
        p_mw: (T, n_devices) active power, positive = injects.
        q_mvar: (T, n_devices) reactive power.
        soc: (T, n_devices) state of charge at the end of each step; NaN where nothing is stored.
        v_pu: (T, n_buses) voltages of the balanced equivalent.
        head_mw: (T,) power that the source supplies.
        cost_usd: What the accounts would count, without the penalty.
        penalty_usd: Expected penalty on voltages.
        objective_usd: Value of the programme, which includes the small cost of current.
        cone_gap: Largest gap of the relaxation, pu: 0 where it is exact.
        solve_s: Seconds in the solver.
    """

    device_ids: tuple[str, ...]
    p_mw: FloatArray
    q_mvar: FloatArray
    soc: FloatArray
    v_pu: FloatArray
    head_mw: FloatArray
    cost_usd: float
    penalty_usd: float
    objective_usd: float
    cone_gap: float
    solve_s: float

    def setpoints(self, step: int) -> dict[str, Setpoint]:
        """Return the set-points of one step."""
        return {
            name: Setpoint(float(self.p_mw[step, k]), float(self.q_mvar[step, k]))
            for k, name in enumerate(self.device_ids)
        }


@dataclass(frozen=True, slots=True)
class Recheck:
    """What became of a plan in a plant.

    Attributes:
        cost_usd: Cost that the accounts found.
        safety: Violation that they found, pu node hours.
        objective_usd: Cost and penalty.
        gap: How far that is above the plan's own value, as a share of it.
        v_excess_pu: Per step and area, how far the voltage left the band.
    """

    cost_usd: float
    safety: float
    objective_usd: float
    gap: float
    v_excess_pu: tuple[Mapping[str, float], ...]


@dataclass(frozen=True, slots=True)
class _Devices:
    """Variables and expressions of all devices, (T, n_devices) each."""

    p: Any
    q: Any
    soc: dict[int, Any]
    cost: Any
    constraints: list[Any]


def solve_dispatch(
    network: RadialNetwork,
    config: SetupConfig,
    forecast: Forecast,
    soc: Mapping[str, float],
    *,
    margin_pu: Mapping[str, FloatArray] | float = 0.0,
    use_network: bool = True,
) -> Dispatch:
    """Solve the dispatch of all devices.

    Args:
        network: Balanced equivalent of the setup's grid.
        config: The setup.
        forecast: Of the coming steps.
        soc: State of charge now, per device that stores energy.
        margin_pu: How far inside the band voltages must stay: one number, or (T,) per area.
        use_network: False leaves out losses and voltages: the economic dispatch.

    Raises:
        DispatchError: No solution was found.
    """
    devices = _device_part(config, forecast, soc)
    flow = _Flow(network, config, forecast, devices, margin_pu, use_network)
    price, h = forecast.price, forecast.hours
    stored = sum(
        _capacity(config.device(name).device_state_config) * (devices.soc[k][-1] - soc[name])
        for k, name in enumerate(config.device_ids)
        if k in devices.soc
    )
    energy = h * (price @ flow.head) - STORED_ENERGY_VALUE * forecast.store_price * stored
    cost = devices.cost + energy
    penalty = config.penalty * h * flow.violation
    problem = cp.Problem(
        cp.Minimize(cost + penalty + LOSS_COST_USD_PER_MWH * h * flow.losses),
        [*devices.constraints, *flow.constraints],
    )
    try:
        problem.solve(solver=cp.CLARABEL)
    except cp.SolverError as error:
        raise DispatchError(f"the solver gave up: {error}") from error
    if problem.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
        raise DispatchError(f"no dispatch from {forecast.start_s:g} s on: {problem.status}")
    n = len(config.device_ids)
    levels = np.full((forecast.n_steps, n), np.nan)
    for k, level in devices.soc.items():
        levels[:, k] = level.value[1:]
    return Dispatch(
        device_ids=config.device_ids,
        p_mw=np.asarray(devices.p.value),
        q_mvar=np.asarray(devices.q.value),
        soc=levels,
        v_pu=flow.voltages(),
        head_mw=np.asarray(flow.head.value),
        cost_usd=float(cost.value),
        penalty_usd=float(_value(penalty)),
        objective_usd=float(problem.value),
        cone_gap=flow.cone_gap(),
        solve_s=float(problem.solver_stats.solve_time or 0.0),
    )


def recheck(setup: Setup, plan: Dispatch, before: Measurements, step: Step, step_s: float) -> Recheck:
    """Run a plan through a plant and count what it really costs.

    Args:
        setup: The setup.
        plan: What to run.
        before: The plant's measurements now, at the start of the plan.
        step: The plant's step.
        step_s: Length of the plan's steps.
    """
    accountant = Accountant(setup)
    low, high = setup.config.v_limits_pu
    cost = safety = 0.0
    excess: list[Mapping[str, float]] = []
    for k in range(len(plan.head_mw)):
        after = step(plan.setpoints(k), step_s)
        accounts = accountant.account(before, after)
        cost, safety = cost + accounts.cost_usd, safety + accounts.safety
        excess.append(
            {
                name: max(0.0, low - area.v_min_pu, area.v_max_pu - high)
                for name, area in after.areas.items()
            }
        )
        before = after
    objective = cost + setup.config.penalty * safety
    expected = plan.cost_usd + plan.penalty_usd
    gap = (objective - expected) / max(1.0, abs(expected))
    return Recheck(cost, safety, objective, gap, tuple(excess))


def _value(expression: Any) -> float:
    return float(getattr(expression, "value", expression))


def _capacity(config: DeviceConfig) -> float:
    return config.e_capacity_mwh if isinstance(config, StorageConfig) else 0.0


def _device_part(config: SetupConfig, forecast: Forecast, soc: Mapping[str, float]) -> _Devices:
    """Return variables, limits and running costs of the devices."""
    n_steps, h = forecast.n_steps, forecast.hours
    n = len(config.device_ids)
    p, q = cp.Variable((n_steps, n)), cp.Variable((n_steps, n))
    constraints: list[Any] = []
    levels: dict[int, Any] = {}
    cost: Any = 0.0
    for k, name in enumerate(config.device_ids):
        device = config.device(name).device_state_config
        low, high = device.p_range_mw
        q_low, q_high = device.q_range_mvar
        constraints += [p[:, k] >= low, p[:, k] <= high, q[:, k] >= q_low, q[:, k] <= q_high]
        if device.s_max_mva is not None and q_low < q_high:
            rating = np.full(n_steps, device.s_max_mva)
            constraints.append(cp.SOC(rating, cp.vstack([p[:, k], q[:, k]]), axis=0))
        if device.ramp_mw_per_min is not None and n_steps > 1:
            reach = device.ramp_mw_per_min * forecast.step_s / 60.0
            constraints.append(cp.abs(cp.diff(p[:, k])) <= reach)
        if isinstance(device, GeneratorConfig):
            a, b, c = device.cost_curve_coefs
            cost += h * (a * cp.sum_squares(p[:, k]) + b * cp.sum(p[:, k]) + c * n_steps)
        elif isinstance(device, StorageConfig):
            level, limits, wear = _storage(device, p[:, k], soc[name], forecast)
            levels[k], cost = level, cost + wear
            constraints += limits
        elif isinstance(device, InverterSourceConfig):
            available = device.p_rated_mw * forecast.profile[:, k]
            constraints.append(p[:, k] <= available)
            cost += h * device.curtailment_usd_per_mwh * cp.sum(available - p[:, k])
        elif isinstance(device, ControllableLoadConfig):
            demand = device.p_rated_mw * forecast.profile[:, k]
            constraints += [p[:, k] >= -demand, p[:, k] <= -(1.0 - device.sheddable) * demand]
            cost += h * device.discomfort_usd_per_mwh * cp.sum(p[:, k] + demand)
        else:
            constraints.append(p[:, k] == min(max(0.0, low), high))
    return _Devices(p, q, levels, cost, constraints)


def _storage(
    device: StorageConfig, p: Any, soc_now: float, forecast: Forecast
) -> tuple[Any, list[Any], Any]:
    """Return states of charge (T + 1,), their constraints and the cost of wear."""
    n_steps, h = forecast.n_steps, forecast.hours
    level = cp.Variable(n_steps + 1)
    give, take = cp.Variable(n_steps, nonneg=True), cp.Variable(n_steps, nonneg=True)
    kept = (1.0 - device.self_discharge_per_h) ** h
    drawn = h / device.e_capacity_mwh * (give / device.dsc_eff - take * device.ch_eff)
    start = min(max(soc_now, device.soc_min), device.soc_max)
    constraints = [
        p == give - take,
        give <= device.p_max_mw,
        take <= -device.p_min_mw,
        level[0] == start,
        level[1:] == kept * level[:-1] - drawn,
        level[1:] >= device.soc_min,
        level[1:] <= device.soc_max,
    ]
    wear = h * device.degradation_usd_per_mwh * cp.sum(give + take)
    return level, constraints, wear


class _Flow:
    """Branch flows, voltages and the head of the feeder over all steps."""

    def __init__(
        self,
        network: RadialNetwork,
        config: SetupConfig,
        forecast: Forecast,
        devices: _Devices,
        margin_pu: Mapping[str, FloatArray] | float,
        use_network: bool,
    ) -> None:
        n_steps, n_buses = forecast.n_steps, len(network.buses)
        load = np.zeros((n_steps, n_buses, 2))
        slope = np.zeros((n_steps, n_buses, 2))
        nominal = np.stack([network.load_mva.real, network.load_mva.imag], axis=1)
        for k, bus in enumerate(network.load_bus):
            share = forecast.load_scale[:, k, None] * nominal[k]
            load[:, bus] += share * (1.0 - network.load_slope[k])
            slope[:, bus] += share * network.load_slope[k]
        self.constraints: list[Any] = []
        self.losses: Any = 0.0
        self.violation: Any = 0.0
        self._network, self._v, self._current = network, None, None
        if not use_network:
            total = (load + slope)[:, :, 0].sum(axis=1)
            self.head: Any = total - cp.sum(devices.p, axis=1)
            return
        at = np.zeros((len(network.device_bus), n_buses))
        at[np.arange(len(network.device_bus)), network.device_bus] = 1.0
        v = cp.Variable((n_steps, n_buses))
        flow_p = cp.Variable((n_steps, network.n_branches))
        flow_q = cp.Variable((n_steps, network.n_branches))
        current = cp.Variable((n_steps, network.n_branches), nonneg=True)
        r, x = network.r_pu, network.x_pu
        inject_p = devices.p @ at - load[:, :, 0] - cp.multiply(slope[:, :, 0], v)
        shunt = network.shunt_mvar[None, :] - slope[:, :, 1]
        inject_q = devices.q @ at - load[:, :, 1] + cp.multiply(shunt, v)
        leaves = np.zeros((network.n_branches, n_buses))
        leaves[np.arange(network.n_branches), network.parent] = 1.0
        sent_p, sent_q = flow_p @ leaves, flow_q @ leaves
        lost_p, lost_q = current @ np.diag(r), current @ np.diag(x)
        behind = (
            v[:, 1:]
            + 2.0 * (flow_p @ np.diag(r) + flow_q @ np.diag(x))
            - current @ np.diag(r**2 + x**2)
        )
        before = v[:, network.parent]
        low, high = network.ratio[:, 0] ** 2, network.ratio[:, 1] ** 2
        fixed = network.ratio[:, 0] == network.ratio[:, 1]
        free = np.flatnonzero(~fixed)
        tied = np.flatnonzero(fixed)
        self.constraints += [
            v[:, 0] == network.source_v_pu**2,
            flow_p - lost_p + inject_p[:, 1:] == sent_p[:, 1:],
            flow_q - lost_q + inject_q[:, 1:] == sent_q[:, 1:],
            behind[:, tied] == before[:, tied] @ np.diag(low[tied]),
        ]
        if free.size:
            self.constraints += [
                behind[:, free] >= before[:, free] @ np.diag(low[free]),
                behind[:, free] <= before[:, free] @ np.diag(high[free]),
            ]
        flat = (cp.vec(y, order="F") for y in (2.0 * flow_p, 2.0 * flow_q, current - behind))
        self.constraints.append(
            cp.SOC(cp.vec(current + behind, order="F"), cp.vstack(list(flat)), axis=0)
        )
        self._band(config, v, margin_pu, n_steps)
        self.losses = cp.sum(lost_p)
        self.head = sent_p[:, 0] - inject_p[:, 0]
        self._v, self._current = v, current
        self._flows = (flow_p, flow_q, behind)

    def _band(
        self,
        config: SetupConfig,
        v: Any,
        margin_pu: Mapping[str, FloatArray] | float,
        n_steps: int,
    ) -> None:
        """Let voltages leave the band at the penalty that the accounts put on it."""
        network = self._network
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
            v[:, watched] - over <= (high - margin) ** 2,
        ]
        weight = np.tile(network.phases[watched] / 2.0, (n_steps, 1))
        self.violation = cp.sum(cp.multiply(weight / low, under)) + cp.sum(
            cp.multiply(weight / high, over)
        )

    def voltages(self) -> FloatArray:
        """Return (T, n_buses) voltages in pu; NaN without the network."""
        if self._v is None:
            return np.full((1, len(self._network.buses)), np.nan)
        return np.sqrt(np.maximum(np.asarray(self._v.value), 0.0))

    def cone_gap(self) -> float:
        """Return the largest gap between current and what the flows need, pu."""
        if self._current is None:
            return 0.0
        flow_p, flow_q, behind = (np.asarray(y.value) for y in self._flows)
        needed = (flow_p**2 + flow_q**2) / np.maximum(behind, 1e-6)
        return float(np.max(np.asarray(self._current.value) - needed))

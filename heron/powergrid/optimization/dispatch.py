"""Multi-period optimal dispatch: a branch-flow second-order cone programme with storage.

Its objective is what the accounts count (`heron.powergrid.accounting`): running costs, energy at
the price, the worth of what is left in store, and the penalty on voltages outside the band. With
perfect forecasts and free regulators its value is a bound on what any controller reaches on the
balanced equivalent; `heron.powergrid.optimization.recheck` runs its set-points through a plant
and reports the gap.

Source: Farivar and Low, "Branch flow model: relaxations and convexification", IEEE Trans. Power
Systems 28(3), 2013.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
import numpy.typing as npt

from heron.errors import HeronError
from heron.powergrid.accounting import STORED_ENERGY_VALUE
from heron.powergrid.device_configs import (
    ControllableLoadConfig,
    DeviceConfig,
    GeneratorConfig,
    InverterSourceConfig,
    StorageConfig,
)
from heron.powergrid.optimization.flow import BranchFlow
from heron.powergrid.optimization.forecast import Forecast
from heron.powergrid.optimization.network import RadialNetwork
from heron.powergrid.optimization.node_limits import NodeLimits
from heron.powergrid.quantities import Setpoint
from heron.powergrid.setups import SetupConfig

FloatArray = npt.NDArray[np.float64]
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
        v_upper_pu: (T, n_buses) the same without losses, to which upper limits apply.
        head_mw: (T,) power that the source supplies.
        cost_usd: What the accounts would count, without the penalty.
        penalty_usd: Expected penalty on voltages.
        objective_usd: Value of the programme, which includes the small cost of current.
        cone_gap_mw: Largest loss of a branch that its flow does not explain: 0 where the
            relaxation is exact.
        solve_s: Seconds in the solver.
    """

    device_ids: tuple[str, ...]
    p_mw: FloatArray
    q_mvar: FloatArray
    soc: FloatArray
    v_pu: FloatArray
    v_upper_pu: FloatArray
    head_mw: FloatArray
    cost_usd: float
    penalty_usd: float
    objective_usd: float
    cone_gap_mw: float
    solve_s: float

    def setpoints(self, step: int) -> dict[str, Setpoint]:
        """Return the set-points of one step."""
        return {
            name: Setpoint(float(self.p_mw[step, k]), float(self.q_mvar[step, k]))
            for k, name in enumerate(self.device_ids)
        }


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
    limits: NodeLimits | None = None,
    use_network: bool = True,
    free_regulators: bool = False,
    relax: bool = False,
    cap_losses: bool = False,
) -> Dispatch:
    """Solve the dispatch of all devices.

    Args:
        network: Balanced equivalent of the setup's grid.
        config: The setup.
        forecast: Of the coming steps.
        soc: State of charge now, per device that stores energy.
        margin_pu: How far inside the band voltages must stay: one number, or (T,) per area.
        limits: Limits per node instead of the band.
        use_network: False leaves out losses and voltages: the economic dispatch.
        free_regulators: Let regulators take any ratio, which no control does: a relaxation.
        relax: Take away what only serves to keep the relaxation exact (upper limits on voltages
            without losses, the small cost of current), so that the value is a bound on that of
            every plan for the balanced equivalent.
        cap_losses: At negative prices, keep losses to what can be lost at most: otherwise the
            relaxation earns money by inventing them, and its value is no use as a bound.

    Raises:
        DispatchError: No solution was found.
    """
    devices = _device_part(config, forecast, soc)
    flow = BranchFlow(network, forecast, devices.p, devices.q)
    if use_network:
        flow.add_network(free_regulators, relax)
        if cap_losses:
            flow.cap_losses(config, forecast)
        if limits is None:
            flow.add_band(config, margin_pu)
        else:
            flow.add_node_limits(config, limits)
    price, h = forecast.price, forecast.hours
    later = forecast.store_price
    now = later if forecast.store_price_now is None else forecast.store_price_now
    gained = sum(
        _capacity(config.device(name).device_state_config)
        * (later * devices.soc[k][-1] - now * soc[name])
        for k, name in enumerate(config.device_ids)
        if k in devices.soc
    )
    energy = h * (price @ flow.head) - STORED_ENERGY_VALUE * gained
    cost = devices.cost + energy
    penalty = config.penalty * h * flow.violation
    tightening: Any = 0.0 if relax else LOSS_COST_USD_PER_MWH * h * flow.losses
    if cap_losses and not relax:  # a plan must not count on what the network would not lose
        tightening += h * (np.maximum(-price, 0.0) @ flow.step_losses)
    problem = cp.Problem(
        cp.Minimize(cost + penalty + tightening),
        [*devices.constraints, *flow.constraints],
    )
    _solve(problem, f"no dispatch from {forecast.start_s:g} s on")
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
        v_upper_pu=flow.voltages_without_losses(),
        head_mw=np.asarray(flow.head.value),
        cost_usd=float(cost.value),
        penalty_usd=float(_value(penalty)),
        objective_usd=float(problem.value),
        cone_gap_mw=flow.cone_gap_mw(),
        solve_s=float(problem.solver_stats.solve_time or 0.0),
    )


def _solve(problem: Any, failure: str) -> None:
    """Solve; a solution that just misses the solver's own accuracy will do."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Solution may be inaccurate")
            problem.solve(solver=cp.CLARABEL)
    except cp.SolverError as error:
        raise DispatchError(f"{failure}: the solver gave up: {error}") from error
    if problem.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
        raise DispatchError(f"{failure}: {problem.status}")


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

"""Multi-period optimal dispatch: a branch-flow second-order cone programme with storage.

Its objective is what the accounts count (`heron.powergrid.accounting`): running costs, energy at
the price, the worth of what is left in store, and the penalty on voltages outside the band. With
perfect forecasts and free regulators its value is a bound on what any controller reaches on the
balanced equivalent; `recheck` runs its set-points through a plant and reports the gap.

Source: Farivar and Low, "Branch flow model: relaxations and convexification", IEEE Trans. Power
Systems 28(3), 2013.
"""

from __future__ import annotations

import warnings
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


SAFE_EXCESS_PU = 1e-6
EXTRA_MARGIN_PU = 5e-4


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
        cone_gap_mw: Largest loss of a branch that its flow does not explain: 0 where the
            relaxation is exact.
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
    cone_gap_mw: float
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
    free_regulators: bool = False,
) -> Dispatch:
    """Solve the dispatch of all devices.

    Args:
        network: Balanced equivalent of the setup's grid.
        config: The setup.
        forecast: Of the coming steps.
        soc: State of charge now, per device that stores energy.
        margin_pu: How far inside the band voltages must stay: one number, or (T,) per area.
        use_network: False leaves out losses and voltages: the economic dispatch.
        free_regulators: Let regulators take any ratio, which no control does: a relaxation,
            whose value is a bound on that of every plan for the balanced equivalent.

    Raises:
        DispatchError: No solution was found.
    """
    devices = _device_part(config, forecast, soc)
    flow = _Flow(network, forecast, devices)
    if use_network:
        flow.add_network(free_regulators)
        flow.add_band(config, margin_pu)
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


def recheck(
    setup: Setup, plan: Dispatch, before: Measurements, step: Step, step_s: float
) -> Recheck:
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


def solve_and_recheck(
    setup: Setup,
    network: RadialNetwork,
    forecast: Forecast,
    soc: Mapping[str, float],
    *,
    begin: Callable[[], Measurements],
    step: Step,
    rounds: int = 4,
) -> tuple[Dispatch, Recheck]:
    """Solve, run in the plant, tighten the band by what left it there, and solve again.

    The balanced equivalent does not know the single phases; the plant does. Where a phase of
    an area left the band in a step, that area gets a margin in that step.

    Args:
        setup: The setup.
        network: Balanced equivalent of its grid.
        forecast: Of the coming steps.
        soc: State of charge now, per device that stores energy.
        begin: Brings the plant back to the start and returns its measurements.
        step: The plant's step.
        rounds: Solves at most.

    Returns:
        The plan that did best in the plant, and what became of it there.

    Raises:
        DispatchError: No solution was found.
    """
    areas = (setup.config.dso_config.name, *setup.config.microgrid_ids)
    margin = {name: np.zeros(forecast.n_steps) for name in areas}
    best: tuple[Dispatch, Recheck] | None = None
    for _ in range(max(1, rounds)):
        plan = solve_dispatch(network, setup.config, forecast, soc, margin_pu=margin)
        checked = recheck(setup, plan, begin(), step, forecast.step_s)
        if best is None or checked.objective_usd < best[1].objective_usd:
            best = plan, checked
        excess = {name: np.array([e[name] for e in checked.v_excess_pu]) for name in areas}
        if not any((found > SAFE_EXCESS_PU).any() for found in excess.values()):
            break
        for name, found in excess.items():
            margin[name] += np.where(found > SAFE_EXCESS_PU, found + EXTRA_MARGIN_PU, 0.0)
    assert best is not None
    return best


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

    def __init__(self, network: RadialNetwork, forecast: Forecast, devices: _Devices) -> None:
        shape = (forecast.n_steps, len(network.buses), 2)
        self._load, self._slope = np.zeros(shape), np.zeros(shape)
        nominal = np.stack([network.load_mva.real, network.load_mva.imag], axis=1)
        for k, bus in enumerate(network.load_bus):
            share = forecast.load_scale[:, k, None] * nominal[k]
            self._load[:, bus] += share * (1.0 - network.load_slope[k])
            self._slope[:, bus] += share * network.load_slope[k]
        self._network, self._devices = network, devices
        self._v: Any = None
        self._upper: Any = None
        self._current: Any = None
        self.constraints: list[Any] = []
        self.losses: Any = 0.0
        self.violation: Any = 0.0
        total = (self._load + self._slope)[:, :, 0].sum(axis=1)
        self.head: Any = total - cp.sum(devices.p, axis=1)

    def add_network(self, free_regulators: bool) -> None:
        """Add branch flows, losses, voltages and what the regulators hold."""
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
        self._upper = v if free_regulators else self._without_losses(v, inject_p, inject_q)
        self.losses = cp.sum(current @ r)
        self.head = sent_p[:, 0] - inject_p[:, 0]
        self._v, self._current = v, current
        self._flows = (flow_p, flow_q, behind)

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
            self._devices.p @ at - load[:, :, 0] - cp.multiply(slope[:, :, 0], v),
            self._devices.q @ at - load[:, :, 1] + cp.multiply(shunt, v),
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

    def voltages(self) -> FloatArray:
        """Return (T, n_buses) voltages in pu; NaN without the network."""
        if self._v is None:
            return np.full((1, len(self._network.buses)), np.nan)
        return np.asarray(np.sqrt(np.maximum(self._v.value, 0.0)))

    def cone_gap_mw(self) -> float:
        """Return the largest loss that the flows do not explain, MW."""
        if self._current is None:
            return 0.0
        flow_p, flow_q, behind = (np.asarray(y.value) for y in self._flows)
        needed = (flow_p**2 + flow_q**2) / np.maximum(behind, 1e-6)
        unexplained = (np.asarray(self._current.value) - needed) * self._network.r_pu
        return float(np.max(unexplained))

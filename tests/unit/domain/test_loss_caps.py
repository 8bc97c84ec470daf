"""At a negative price a relaxation earns by inventing losses; caps on the current forbid it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from heron.powergrid.networks import Grid
from heron.powergrid.optimization import RadialNetwork, perfect_forecast
from heron.powergrid.optimization.dispatch import Dispatch, solve_dispatch
from heron.powergrid.optimization.flow import BranchFlow
from heron.powergrid.optimization.forecast import Forecast
from heron.powergrid.optimization.loss_caps import flow_ranges
from heron.powergrid.optimization.recheck import recheck
from heron.powergrid.setups import Setup
from simulator import Plant
from simulator.engines import Injections, make_engine

DAY_S = 183 * 86_400.0  # five hours of it have a negative price, down to -13.73 $/MWh


@pytest.fixture(scope="module")
def forecast(setup: Setup, grid: Grid) -> Forecast:
    found = perfect_forecast(setup, grid, DAY_S, 24, 3600.0)
    assert found.price.min() < -10.0
    return found


@pytest.fixture(scope="module")
def stored(setup: Setup) -> dict[str, float]:
    return {name: 0.5 for name in setup.config.device_ids if name.startswith("ess")}


@pytest.fixture(scope="module")
def bound(
    setup: Setup, network: RadialNetwork, forecast: Forecast, stored: dict[str, float]
) -> Dispatch:
    return solve_dispatch(network, setup.config, forecast, stored, relax=True, cap_losses=True)


@pytest.fixture(scope="module")
def plan(
    setup: Setup, network: RadialNetwork, forecast: Forecast, stored: dict[str, float]
) -> Dispatch:
    return solve_dispatch(network, setup.config, forecast, stored, cap_losses=True)


def test_without_caps_the_bound_says_nothing(
    setup: Setup,
    network: RadialNetwork,
    forecast: Forecast,
    stored: dict[str, float],
    bound: Dispatch,
) -> None:
    """It promises thousands of dollars for megawatts of losses that no flow explains."""
    loose = solve_dispatch(network, setup.config, forecast, stored, relax=True)
    assert loose.cone_gap_mw > 10.0
    assert loose.cost_usd + loose.penalty_usd < -1000.0
    assert bound.cone_gap_mw < 0.5
    assert bound.cost_usd + bound.penalty_usd > 0.0


def test_the_bound_lies_below_what_the_plant_makes_of_a_plan(
    setup: Setup, forecast: Forecast, plan: Dispatch, bound: Dispatch
) -> None:
    plant = Plant(setup)
    real = recheck(setup, plan, plant.reset(start_s=DAY_S), plant.step, forecast.step_s)
    assert bound.cost_usd + bound.penalty_usd < real.objective_usd
    assert bound.cost_usd + bound.penalty_usd <= plan.cost_usd + plan.penalty_usd + 1e-3


def test_caps_cut_off_no_exact_solution(
    setup: Setup,
    network: RadialNetwork,
    forecast: Forecast,
    stored: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where every price is positive the relaxation is exact: caps at all steps change nothing."""
    dear = replace(forecast, price=np.abs(forecast.price) + 5.0)
    exact = solve_dispatch(network, setup.config, dear, stored)
    assert abs(exact.cone_gap_mw) < 1e-5
    cap = BranchFlow.cap_losses
    cheap = replace(forecast, price=-np.ones(forecast.n_steps))
    monkeypatch.setattr(BranchFlow, "cap_losses", lambda flow, config, _: cap(flow, config, cheap))
    capped = solve_dispatch(network, setup.config, dear, stored, cap_losses=True)
    assert capped.objective_usd == pytest.approx(exact.objective_usd, rel=1e-6)


def test_what_arrives_at_a_branch_lies_within_its_range(
    setup: Setup, grid: Grid, network: RadialNetwork, forecast: Forecast
) -> None:
    """Random set-points on the balanced plant: flows at the microgrids' connections."""
    shape = (forecast.n_steps, len(network.buses), 2)
    load, slope = np.zeros(shape), np.zeros(shape)
    nominal = np.stack([network.load_mva.real, network.load_mva.imag], axis=1)
    for k, bus in enumerate(network.load_bus):
        share = forecast.load_scale[:, k, None] * nominal[k]
        load[:, bus] += share * (1.0 - network.load_slope[k])
        slope[:, bus] += share * network.load_slope[k]
    ranges = flow_ranges(network, setup.config, forecast, load, slope)
    assert np.all(ranges.p_low <= ranges.p_high)
    assert np.all(ranges.q_low <= ranges.q_high)
    engine, rng = make_engine("balanced", grid), np.random.default_rng(1)
    state = engine.initial_state()
    devices = [setup.config.device(d).device_state_config for d in setup.config.device_ids]
    for step in range(forecast.n_steps):
        p = np.array([rng.uniform(*d.p_range_mw) for d in devices])
        p = np.where([d.p_range_mw[0] == 0.0 for d in devices], p * forecast.profile[step], p)
        q = np.array([rng.uniform(*d.q_range_mvar) for d in devices])
        solved = engine.solve(Injections(forecast.load_scale[step], p, q), state)
        state = solved.state
        for m, microgrid in enumerate(grid.microgrids):
            k = network.meter_branch[microgrid.name]
            into = -solved.pcc_p_mw[m]
            assert ranges.p_low[step, k] - 1e-6 <= into <= ranges.p_high[step, k] + 0.1
            reactive = -solved.pcc_q_mvar[m]
            assert ranges.q_low[step, k] - 1e-6 <= reactive <= ranges.q_high[step, k] + 0.2

"""Dispatch, receding horizon and shield: against hand-solved cases and against the plant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from heron.errors import ConfigError
from heron.policy import PolicyCodec, codec_of
from heron.policy.baselines import RulePolicy
from heron.powergrid.accounting import Accountant
from heron.powergrid.agents import build_agents, views_of
from heron.powergrid.device_configs import StorageConfig
from heron.powergrid.envelope import DeviceLimits
from heron.powergrid.networks import Grid
from heron.powergrid.optimization import (
    MpcPolicy,
    NetworkMpc,
    Present,
    RadialNetwork,
    ShieldedPolicy,
    StoragePlan,
    VoltageShield,
    perfect_forecast,
    radial_network,
    solve_and_recheck,
    solve_dispatch,
)
from heron.powergrid.quantities import Measurements
from heron.powergrid.setups import Setup
from simulator import Plant

DAY = 110
START_S = DAY * 86_400.0


@pytest.fixture(scope="module")
def soc(setup: Setup) -> dict[str, float]:
    return {"ess1": 0.5, "ess3": 0.5}


# The balanced equivalent.


def test_the_equivalent_is_a_tree_with_all_loads_and_devices(
    grid: Grid, network: RadialNetwork
) -> None:
    assert len(network.buses) == len(grid.buses)
    assert network.buses[0] == grid.source_bus
    assert (network.parent < np.arange(1, len(network.buses))).all()
    assert network.load_mva.real.sum() == pytest.approx(
        sum(x.kw for x in grid.loads) / 1e3, rel=0.01
    )
    assert [network.buses[b] for b in network.device_bus] == [d.bus for d in grid.devices]
    assert len(network.regulated) == 2


def test_a_grid_with_a_loop_is_refused(grid: Grid) -> None:
    first, second = grid.lines[0], grid.lines[-1]
    tie = first.model_copy(update={"name": "tie", "to_bus": second.to_bus})
    looped = type(grid)(**{**vars_of(grid), "lines": (*grid.lines, tie)})
    with pytest.raises(ConfigError, match="radial"):
        radial_network(looped)


def vars_of(grid: Grid) -> dict[str, Any]:
    return {name: getattr(grid, name) for name in grid.__dataclass_fields__}


def test_a_load_without_supply_is_refused(grid: Grid) -> None:
    with pytest.raises(ConfigError, match="connect to the source"):
        radial_network(grid.with_open(grid.lines[0].name))


def test_sensitivities_agree_with_the_three_phase_plant(
    setup: Setup, grid: Grid, network: RadialNetwork
) -> None:
    """Half a megawatt of storage moves its own voltage by what the equivalent says."""
    from heron.powergrid.quantities import Setpoint

    plant = Plant(setup)
    plant.reset(start_s=START_S)
    rest = plant.state
    k = setup.config.device_ids.index("ess3")
    bus = network.device_bus[[k]]
    dv_dp, dv_dq = network.sensitivity(bus, bus)
    at_rest = plant.step({}, 900.0).devices["ess3"].v_pu
    for setpoint, slope in ((Setpoint(0.1), dv_dp), (Setpoint(0.0, 0.1), dv_dq)):
        plant.restore(rest)
        now = plant.step({"ess3": setpoint}, 900.0)
        if now.tap_moves == 0:
            assert now.devices["ess3"].v_pu - at_rest == pytest.approx(0.1 * slope[0, 0], rel=0.25)


# Dispatch.


@pytest.fixture(scope="module")
def day_plan(setup: Setup, grid: Grid, network: RadialNetwork, soc: dict[str, float]) -> Any:
    plant = Plant(setup)
    forecast = perfect_forecast(setup, grid, START_S, 24, 3600.0)

    def begin() -> Measurements:
        return plant.reset(start_s=START_S)

    plan, checked = solve_and_recheck(
        setup, network, forecast, soc, begin=begin, step=plant.step, rounds=3
    )
    bound = solve_dispatch(network, setup.config, forecast, soc, free_regulators=True)
    return plan, checked, bound, forecast


def test_the_relaxation_is_exact(day_plan: Any) -> None:
    plan, *_ = day_plan
    assert abs(plan.cone_gap_mw) < 1e-5


def test_what_the_plan_promises_the_plant_keeps(day_plan: Any) -> None:
    plan, checked, _, _ = day_plan
    assert checked.cost_usd == pytest.approx(plan.cost_usd, rel=0.03)
    assert checked.gap < 0.06
    assert checked.safety < 0.05


def test_the_bound_is_below_the_plan(day_plan: Any) -> None:
    plan, checked, bound, _ = day_plan
    assert bound.objective_usd <= plan.objective_usd + 1e-3
    assert bound.objective_usd < checked.objective_usd


def test_the_plan_beats_doing_nothing(setup: Setup, day_plan: Any) -> None:
    plant, accountant, total = Plant(setup), Accountant(setup), 0.0
    before = plant.reset(start_s=START_S)
    for _ in range(24):
        after = plant.step({}, 3600.0)
        total -= accountant.account(before, after).reward
        before = after
    assert day_plan[1].objective_usd < 0.8 * total


def test_the_plan_keeps_every_limit(setup: Setup, day_plan: Any) -> None:
    plan, _, _, forecast = day_plan
    for k, name in enumerate(plan.device_ids):
        config = setup.config.device(name).device_state_config
        low, high = config.p_range_mw
        assert (plan.p_mw[:, k] >= low - 1e-6).all()
        assert (plan.p_mw[:, k] <= high + 1e-6).all()
        s = np.hypot(plan.p_mw[:, k], plan.q_mvar[:, k])
        assert (s <= (config.s_max_mva or np.inf) + 1e-6).all()
        store = config.storage_limits
        if store is not None:
            level = 0.5
            for step in range(forecast.n_steps):
                level = store.soc_after(level, plan.p_mw[step, k], 3600.0)
                assert level == pytest.approx(plan.soc[step, k], abs=2e-3)
                assert 0.1 - 1e-3 <= level <= 0.9 + 1e-3


def test_economic_dispatch_is_the_merit_order(
    setup: Setup, grid: Grid, network: RadialNetwork, soc: dict[str, float]
) -> None:
    forecast = perfect_forecast(setup, grid, START_S, 24, 3600.0)
    plan = solve_dispatch(network, setup.config, forecast, soc, use_network=False)
    k = plan.device_ids.index("gen1")
    by_hand = np.clip((forecast.price - 32.0) / 24.0, 0.15, 1.0)
    assert plan.p_mw[:, k] == pytest.approx(by_hand, abs=1e-3)


def test_forecasts_conserve_energy(setup: Setup, grid: Grid) -> None:
    hourly = perfect_forecast(setup, grid, START_S, 24, 3600.0)
    quarters = perfect_forecast(setup, grid, START_S, 96, 900.0)
    assert hourly.load_scale.mean(axis=0) == pytest.approx(quarters.load_scale.mean(axis=0))
    assert hourly.price.mean() == pytest.approx(quarters.price.mean())


# Receding horizon.


def test_a_store_alone_buys_the_trough_and_sells_the_peak() -> None:
    config = StorageConfig(bus="1", e_capacity_mwh=1.0, p_max_mw=0.5, p_min_mw=-0.5)
    plan = StoragePlan(config, 900.0)
    prices = np.full(24, 40.0)
    prices[0] = 10.0
    assert plan.power_mw(0.5, prices, 38.0) == pytest.approx(-0.5, abs=1e-2)
    prices[0] = 90.0
    assert plan.power_mw(0.5, prices, 38.0) == pytest.approx(0.5, abs=1e-2)
    prices[0] = 40.0
    assert plan.power_mw(0.5, prices, 38.0) == pytest.approx(0.0, abs=2e-2)
    prices[5] = 120.0
    assert plan.power_mw(0.1, prices, 38.0) <= 0.01
    assert plan.power_mw(0.1, np.full(24, 90.0), 38.0) == pytest.approx(0.0, abs=1e-2)


def test_the_network_mpc_keeps_voltages_and_saves(setup: Setup, grid: Grid) -> None:
    mpc, plant, accountant = NetworkMpc(setup, grid), Plant(setup), Accountant(setup)
    now = plant.reset(start_s=START_S + 6 * 3600.0)
    cost = safety = idle_cost = 0.0
    for _ in range(16):
        soc = {d: r.soc for d, r in now.devices.items() if r.soc is not None}
        start = plant.state
        idle = accountant.account(now, plant.step({}, 900.0))
        plant.restore(start)
        before, now = now, plant.step(mpc.decide(now.time_s, soc), 900.0)
        accounts = accountant.account(before, now)
        cost, safety = cost + accounts.cost_usd, safety + accounts.safety
        idle_cost += idle.cost_usd
    assert safety < 0.01
    assert cost < idle_cost
    first = mpc.plan
    assert mpc.decide(now.time_s - 60.0, {}) == first.setpoints(0)  # type: ignore[union-attr]
    mpc.reset()
    assert mpc.plan is None


# The shield.

WIDE = DeviceLimits(-1.0, 1.0, -0.5, 0.5)
ONE = np.array([[0.1]]), np.array([[0.1]])


def one_device(limits: DeviceLimits = WIDE, **kwargs: Any) -> VoltageShield:
    return VoltageShield([limits], *ONE, (0.95, 1.05), margin_pu=0.0, **kwargs)


def present(v: float, p: float = 0.0, q: float = 0.0) -> Present:
    return Present(*(np.array([x]) for x in (p, q, v, v)))


def project(shield: VoltageShield, p: float, q: float, now: Present) -> tuple[float, float]:
    new_p, new_q = shield.project(np.array([p]), np.array([q]), now)
    return float(new_p[0]), float(new_q[0])


def test_a_proposal_within_the_band_passes_unchanged() -> None:
    assert project(one_device(), 0.3, 0.1, present(1.0)) == (0.3, 0.1)


def test_reactive_power_moves_before_active_power() -> None:
    # 1.04 and 0.03 more would be 1.07: 0.02 too much, 0.2 Mvar less take it away, less the
    # eleventh that falls to active power at a tenth of the willingness.
    p, q = project(one_device(), 0.3, 0.0, present(1.04))
    assert 0.1 * (p + q) == pytest.approx(0.01, abs=1e-4)
    assert 0.3 - p == pytest.approx(-q / 10.0, abs=1e-3)


def test_when_the_band_cannot_be_kept_it_is_left_as_little_as_possible() -> None:
    p, q = project(one_device(), 1.0, 0.5, present(1.3))
    assert p == pytest.approx(-1.0, abs=1e-2)
    assert q == pytest.approx(-0.5, abs=1e-2)


def test_too_low_is_raised() -> None:
    p, q = project(one_device(), -0.3, 0.0, present(0.96))
    assert 0.96 + 0.1 * (p + q) == pytest.approx(0.95, abs=1e-4)
    assert q > 0.0


def test_the_circle_of_apparent_power_is_kept() -> None:
    shield = one_device(DeviceLimits(-1.0, 1.0, -1.0, 1.0, s_max_mva=0.5))
    p, q = project(shield, 0.45, 0.45, present(1.0))
    assert np.hypot(p, q) <= 0.5 + 1e-4


def test_a_ceiling_is_not_taken_for_power() -> None:
    """At night a free ceiling raises no voltage, so nothing is done about it."""
    source = one_device(DeviceLimits(0.0, 1.0, -0.3, 0.3), is_source=[True])
    assert project(source, 1.0, 0.0, present(1.03)) == (1.0, 0.0)
    p, _ = project(source, 1.0, 0.0, present(1.12, p=0.9))
    assert p < 0.9


def run_quarters(
    setup: Setup, make: Callable[[PolicyCodec, str], Any], start_s: float, n: int
) -> tuple[float, float]:
    dso = build_agents(setup)
    codecs = {name: codec_of(agent) for name, agent in dso.microgrids.items()}
    policies = {name: make(codec, name) for name, codec in codecs.items()}
    plant, accountant, cost, safety = Plant(setup), Accountant(setup), 0.0, 0.0
    now = plant.reset(start_s=start_s)
    for _ in range(n):
        day_ahead = setup.profiles.day_ahead(now.time_s)
        for name, view in views_of(setup.config, now, day_ahead).items():
            agent = dso.microgrids[name]
            agent.update_from(view)
            agent.apply_action(policies[name].act(codecs[name].encode(agent)))
        before, now = now, plant.step(dso.setpoints, 900.0)
        accounts = accountant.account(before, now)
        cost, safety = cost + accounts.cost_usd, safety + accounts.safety
    return cost, safety


class RandomPolicy:
    def __init__(self, codec: PolicyCodec) -> None:
        self._rng, self._n = np.random.default_rng(7), codec.act_dim

    def act(self, obs: object) -> np.ndarray:
        return self._rng.uniform(-1.0, 1.0, self._n)


def test_the_shield_takes_most_violations_from_random_actions(
    setup: Setup, grid: Grid, network: RadialNetwork
) -> None:
    def shielded(codec: PolicyCodec, name: str) -> ShieldedPolicy:
        shield = VoltageShield.for_microgrid(network, grid, setup.config, name)
        return ShieldedPolicy(RandomPolicy(codec), codec, shield)

    _, without = run_quarters(setup, lambda codec, _: RandomPolicy(codec), START_S, 96)
    _, with_it = run_quarters(setup, shielded, START_S, 96)
    assert without > 1.0
    assert with_it < 0.15 * without


def test_the_shield_improves_the_rule(setup: Setup, grid: Grid, network: RadialNetwork) -> None:
    curves = {"gen1": (12.0, 32.0), "gen2": (16.0, 36.0)}

    def rule(codec: PolicyCodec, name: str) -> RulePolicy:
        return RulePolicy(codec, curves)

    def shielded(codec: PolicyCodec, name: str) -> ShieldedPolicy:
        shield = VoltageShield.for_microgrid(network, grid, setup.config, name)
        return ShieldedPolicy(rule(codec, name), codec, shield, spread_pu=0.02)

    plain = run_quarters(setup, rule, START_S, 96)
    safe = run_quarters(setup, shielded, START_S, 96)
    penalty = setup.config.penalty
    assert safe[1] < 0.5 * plain[1]
    assert safe[0] + penalty * safe[1] < plain[0] + penalty * plain[1]


def test_the_mpc_policy_saves_and_the_shield_makes_it_safer(
    setup: Setup, grid: Grid, network: RadialNetwork
) -> None:
    microgrids = {m.name: m for m in setup.config.microgrid_configs}

    def mpc(codec: PolicyCodec, name: str) -> MpcPolicy:
        return MpcPolicy(codec, microgrids[name], setup.config.step_s)

    def shielded(codec: PolicyCodec, name: str) -> ShieldedPolicy:
        shield = VoltageShield.for_microgrid(network, grid, setup.config, name)
        return ShieldedPolicy(mpc(codec, name), codec, shield, spread_pu=0.02)

    rule_cost, _ = run_quarters(setup, lambda c, _: RulePolicy(c, {}), START_S, 96)
    cost, safety = run_quarters(setup, mpc, START_S, 96)
    _, safer = run_quarters(setup, shielded, START_S, 96)
    assert cost < rule_cost
    assert safer < 0.6 * safety


def test_policies_read_observations_as_agents_do(setup: Setup) -> None:
    codec = codec_of(build_agents(setup).microgrids["MG1"])
    policy = MpcPolicy(codec, setup.config.microgrid_configs[0], 900.0)
    obs = np.zeros(codec.obs_dim, dtype=np.float32)
    assert np.array_equal(policy.forward(obs), policy.act(obs))
    assert policy.codec is codec
    assert policy.act(obs).shape == (codec.act_dim,)

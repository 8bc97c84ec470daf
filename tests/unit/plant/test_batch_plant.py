"""Many plants at once are so many single plants, scenario by scenario."""

import math

import numpy as np
import pytest

from heron.errors import ConfigError, PlantError
from heron.powergrid.quantities import Measurements, Setpoint
from heron.powergrid.setups import Setup, read_setup
from simulator import BatchPlant, Plant
from simulator.batch_plant import BatchMeasurements

STARTS = np.array([0.0, 20.5, 150.5, 200.0, 365.9]) * 86_400.0
N = len(STARTS)


@pytest.fixture(scope="module")
def setup() -> Setup:
    return read_setup("ieee34_ieee13")


def actions(setup: Setup, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    configs = [setup.config.device(d).device_state_config for d in setup.config.device_ids]
    p, q = np.array([c.p_range_mw for c in configs]), np.array([c.q_range_mvar for c in configs])
    shape = (N, len(configs))
    return rng.uniform(*(1.2 * p.T), shape), rng.uniform(*(1.2 * q.T), shape)


def assert_same(single: Measurements, batch: BatchMeasurements, k: int) -> None:
    def close(ours: object, theirs: object) -> None:
        np.testing.assert_allclose(
            np.array(ours, dtype=float), np.array(theirs, dtype=float), rtol=1e-9, atol=1e-9
        )

    devices = single.devices.values()
    meters = single.meters.values()
    areas = single.areas.values()
    assert single.step == batch.step[k]
    close(single.time_s, batch.time_s[k])
    close([d.p_mw for d in devices], batch.p_mw[k])
    close([d.q_mvar for d in devices], batch.q_mvar[k])
    close([(d.v_pu, d.v_min_pu, d.v_max_pu) for d in devices], batch.v_pu[k])
    close([d.soc for d in devices], batch.soc[k])
    close([d.available_mw for d in devices], batch.available_mw[k])
    close([m.p_mw for m in meters], batch.meter_p_mw[k])
    close([m.q_mvar for m in meters], batch.meter_q_mvar[k])
    close([(m.v_pu, m.v_min_pu, m.v_max_pu) for m in meters], batch.meter_v_pu[k])
    for name in (
        "v_min_pu",
        "v_max_pu",
        "undervoltage_pu",
        "overvoltage_pu",
        "violating_nodes",
        "max_loading_pct",
        "overload_pu",
        "load_mw",
    ):
        close([getattr(a, name) for a in areas], getattr(batch.areas, name)[k])
    close(single.price_usd_per_mwh, batch.price_usd_per_mwh[k])
    close(single.losses_mw, batch.losses_mw[k])
    assert single.tap_moves == batch.tap_moves[k]
    clipped = {c.device_id for c in single.clipped}
    ids = np.array(list(single.devices))
    assert clipped == set(ids[batch.reasons[k] != 0])


@pytest.mark.parametrize("engine", ["threephase", "balanced"])
@pytest.mark.parametrize("dt_s", [900.0, 3600.0])
def test_scenarios_equal_single_plants(setup: Setup, engine: str, dt_s: float) -> None:
    batch = BatchPlant(setup, N, engine)
    singles = [Plant(setup, engine) for _ in STARTS]
    together = batch.reset(STARTS)
    for k, (plant, start) in enumerate(zip(singles, STARTS.tolist(), strict=True)):
        assert_same(plant.reset(start_s=start), together, k)
    rng = np.random.default_rng(11)
    for _ in range(12):
        p, q = actions(setup, rng)
        together = batch.step(p, q, dt_s)
        assert together.solved.all()
        for k, plant in enumerate(singles):
            pairs = zip(setup.config.device_ids, p[k].tolist(), q[k].tolist(), strict=True)
            single = plant.step({name: Setpoint(a, b) for name, a, b in pairs}, dt_s)
            assert_same(single, together, k)


def test_some_scenarios_can_start_anew(setup: Setup) -> None:
    batch = BatchPlant(setup, N)
    batch.reset(STARTS)
    rng = np.random.default_rng(2)
    for _ in range(3):
        before = batch.step(*actions(setup, rng), 900.0)
    after = batch.reset(86_400.0, rows=np.array([1, 4]))
    assert after.step.tolist() == [3, 0, 3, 3, 0]
    np.testing.assert_array_equal(after.soc[[0, 2, 3]], before.soc[[0, 2, 3]])
    assert_same(Plant(setup).reset(start_s=86_400.0), after, 4)
    assert batch.step(*actions(setup, rng), 900.0).step.tolist() == [4, 1, 4, 4, 1]


def test_scenario_that_does_not_solve_stays_as_it_was(setup: Setup) -> None:
    plain = setup.config.model_copy(update={"v_limits_pu": (0.9, 1.1)})
    batch = BatchPlant(Setup(plain, setup.profiles), N)
    batch.reset(STARTS)
    p, q = actions(setup, np.random.default_rng(3))
    before = batch.step(p, q, 900.0)
    engine = batch._engine
    solve = engine.solve

    def failing(load_scale, p_mw, q_mvar, state, **kwargs):  # type: ignore[no-untyped-def]
        p_mw = p_mw.copy()
        p_mw[2] = -1e4
        return solve(load_scale, p_mw, q_mvar, state, **kwargs)

    engine.solve = failing  # type: ignore[method-assign]
    after = batch.step(p, q, 900.0)
    assert after.solved.tolist() == [True, True, False, True, True]
    assert math.isnan(after.losses_mw[2])
    assert np.isnan(after.areas.undervoltage_pu[2]).all()
    assert np.isfinite(after.areas.undervoltage_pu[[0, 1, 3, 4]]).all()
    assert after.step.tolist() == [2, 2, 1, 2, 2]
    assert after.time_s[2] == before.time_s[2]
    np.testing.assert_array_equal(after.soc[2], before.soc[2])
    engine.solve = solve  # type: ignore[method-assign]
    twin = BatchPlant(Setup(plain, setup.profiles), N)
    twin.reset(STARTS)
    twin.step(p, q, 900.0)
    repeated, reference = batch.step(p, q, 900.0), twin.step(p, q, 900.0)
    np.testing.assert_array_equal(repeated.soc[2], reference.soc[2])
    np.testing.assert_array_equal(repeated.v_pu[2], reference.v_pu[2])


def test_looking_ahead_shows_the_step_to_come_and_takes_none(setup: Setup) -> None:
    batch = BatchPlant(setup, N)
    batch.reset(STARTS)
    rng = np.random.default_rng(4)
    batch.step(*actions(setup, rng), 900.0)
    p, q = actions(setup, rng)
    before, rows = batch.measurements, np.array([3, 3, 0])
    seen = batch.look_ahead(rows, p[rows], q[rows], 900.0)
    assert batch.measurements is before
    after = batch.step(p, q, 900.0)
    for name in ("p_mw", "soc", "v_pu", "losses_mw", "tap_moves", "time_s"):
        np.testing.assert_allclose(
            getattr(seen, name), getattr(after, name)[rows], rtol=1e-9, atol=1e-9
        )
    with pytest.raises(PlantError, match="expected the shape"):
        batch.look_ahead(rows, p, q, 900.0)


def test_bad_set_points_are_named_and_change_nothing(setup: Setup) -> None:
    batch = BatchPlant(setup, N)
    before = batch.measurements
    p = np.zeros((N, 7))
    p[3, 1] = np.nan
    with pytest.raises(PlantError, match=r"p_set_mw\[3\] of ess1 = nan.*q_set_mvar: expected the"):
        batch.step(p, np.zeros((N, 6)), 900.0)
    with pytest.raises(PlantError, match="start_s"):
        batch.reset(np.array([0.0, 1.0, -5.0, 0.0, 0.0]))
    assert batch.measurements is before


def test_no_scenarios_and_slow_engines_are_refused(setup: Setup) -> None:
    with pytest.raises(PlantError, match="at least one"):
        BatchPlant(setup, 0)
    with pytest.raises(ConfigError, match="threephase or balanced"):
        BatchPlant(setup, 2, "pandapower")

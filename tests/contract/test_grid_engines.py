"""One parity suite over every engine: what one refuses, all refuse, and none invents a value."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from heron.errors import ConfigError, PowerFlowDiverged
from heron.powergrid.networks import Grid, compose, grid_of, load_feeder
from heron.powergrid.setups import read_setup
from simulator.engines import Engine, GridState, Injections, available_engines, kernels, make_engine
from simulator.engines.batch import BatchEngine, make_batch_engine

ENGINES = available_engines()
FAST = ("threephase", "balanced")
LOW = np.array([0.15, -0.5, 0.0, 0.1, 0.0, -0.5, 0.0])
HIGH = np.array([1.0, 0.5, 0.5, 0.75, 1.0, 0.5, 0.4])


@pytest.fixture(scope="module")
def setup_grid() -> Grid:
    return compose(read_setup("ieee34_ieee13").config)


@pytest.fixture(scope="module")
def engines(setup_grid: Grid) -> dict[str, Engine]:
    return {name: make_engine(name, setup_grid) for name in ENGINES}


def random_injections(grid: Grid, rng: np.random.Generator) -> Injections:
    return Injections(
        rng.uniform(0.2, 1.0, len(grid.loads)),
        rng.uniform(LOW, HIGH),
        rng.uniform(-0.1, 0.2, len(grid.devices)),
    )


def at_load(grid: Grid, factor: float) -> Injections:
    n = len(grid.devices)
    return Injections(np.full(len(grid.loads), factor), np.zeros(n), np.zeros(n))


def test_unknown_engine_is_refused(setup_grid: Grid) -> None:
    with pytest.raises(ConfigError, match="expected one of threephase"):
        make_engine("newton", setup_grid)


@pytest.mark.parametrize("name", ENGINES)
def test_power_balances_and_shapes_are_those_of_the_grid(
    name: str, setup_grid: Grid, engines: dict[str, Engine]
) -> None:
    engine = engines[name]
    injections = random_injections(setup_grid, np.random.default_rng(1))
    s = engine.solve(injections, engine.initial_state())
    n_devices, n_microgrids = len(setup_grid.devices), len(setup_grid.microgrids)
    assert s.v_pu.shape == (len(engine.nodes),)
    assert s.device_v_pu.shape == (n_devices, 3)
    assert s.pcc_p_mw.shape == s.pcc_q_mvar.shape == (n_microgrids,)
    assert s.pcc_v_pu.shape == (n_microgrids, 3)
    assert s.loading_pct.shape == (len(setup_grid.branches),)
    assert s.state.taps.shape == (len(setup_grid.regulators),)
    assert 0.0 < s.losses_mw < 0.3
    # the feeder's own nominal load bounds what is left when microgrids and losses are taken off
    rest = s.source_p_mw + s.pcc_p_mw.sum()
    assert 0.2 < rest < 1.2


@pytest.mark.parametrize("name", ENGINES)
def test_a_microgrid_that_generates_exports(
    name: str, setup_grid: Grid, engines: dict[str, Engine]
) -> None:
    """Positive injects: 1 MW in MG1 turns its import into an export and relieves the source."""
    engine = engines[name]
    idle = at_load(setup_grid, 0.5)
    busy = replace(idle, p_mw=np.array([1.0, 0, 0, 0, 0, 0, 0]))
    a = engine.solve(idle, engine.initial_state(), move_taps=False)
    b = engine.solve(busy, engine.initial_state(), move_taps=False)
    assert a.pcc_p_mw[0] < 0.0 < b.pcc_p_mw[0]
    assert b.pcc_p_mw[0] - a.pcc_p_mw[0] == pytest.approx(1.0, abs=0.03)
    assert a.source_p_mw - b.source_p_mw == pytest.approx(1.0, abs=0.1)
    assert np.all(b.device_v_pu[0] > a.device_v_pu[0])


@pytest.mark.parametrize("name", [n for n in ENGINES if n in {"balanced", "lightsim2grid"}])
def test_balanced_engines_agree_with_pandapower(
    name: str, setup_grid: Grid, engines: dict[str, Engine]
) -> None:
    rng = np.random.default_rng(2)
    fast, reference = engines[name], engines["pandapower"]
    a, b = fast.initial_state(), reference.initial_state()
    for _ in range(12):
        injections = random_injections(setup_grid, rng)
        x, y = fast.solve(injections, a), reference.solve(injections, b)
        a, b = x.state, y.state
        assert np.max(np.abs(x.v_pu - y.v_pu)) <= 1e-6
        np.testing.assert_array_equal(x.state.taps, y.state.taps)
        assert x.tap_moves == y.tap_moves
        assert x.source_p_mw == pytest.approx(y.source_p_mw, abs=1e-5)
        assert x.source_q_mvar == pytest.approx(y.source_q_mvar, abs=1e-5)
        assert x.losses_mw == pytest.approx(y.losses_mw, abs=1e-5)
        np.testing.assert_allclose(x.pcc_p_mw, y.pcc_p_mw, atol=1e-5)
        np.testing.assert_allclose(x.pcc_q_mvar, y.pcc_q_mvar, atol=1e-5)
        np.testing.assert_allclose(x.loading_pct, y.loading_pct, atol=1e-3)
        np.testing.assert_allclose(x.device_v_pu, y.device_v_pu, atol=1e-6)


@pytest.mark.parametrize("feeder", ["ieee13", "ieee34", "ieee34mod1", "ieee123"])
@pytest.mark.parametrize("name", [n for n in ENGINES if n not in FAST])
def test_balanced_engines_agree_on_every_feeder_at_its_published_taps(
    name: str, feeder: str
) -> None:
    """Buses with loads of several kinds, and nearly ideal switches beside the source."""
    grid = grid_of(load_feeder(feeder))
    rng, n = np.random.default_rng(7), len(grid.devices)
    injections = Injections(rng.uniform(0.6, 1.0, len(grid.loads)), np.zeros(n), np.zeros(n))
    x, y = (
        engine.solve(injections, engine.initial_state(), move_taps=False)
        for engine in (make_engine("balanced", grid), make_engine(name, grid))
    )
    assert np.max(np.abs(np.abs(x.v_pu) - np.abs(y.v_pu))) <= 1e-6
    assert x.losses_mw == pytest.approx(y.losses_mw, abs=1e-5)
    assert x.source_p_mw == pytest.approx(y.source_p_mw, abs=1e-5)
    assert x.source_q_mvar == pytest.approx(y.source_q_mvar, abs=1e-5)


@pytest.mark.parametrize("feeder", ["ieee13", "ieee34", "ieee123"])
def test_load_sweep_to_collapse_has_equal_verdicts(feeder: str) -> None:
    """Constant power: with other loads pandapower gives up long before the collapse."""
    published = grid_of(load_feeder(feeder))
    loads = tuple(x.model_copy(update={"model": "power"}) for x in published.loads)
    grid = replace(published, loads=loads)
    fast, reference = make_engine("balanced", grid), make_engine("pandapower", grid)

    def solves(engine: Engine, factor: float) -> bool:
        try:
            engine.solve(at_load(grid, factor), engine.initial_state(), move_taps=False)
        except PowerFlowDiverged:
            return False
        return True

    low, high = 0.5, 10.0
    assert solves(fast, low)
    assert not solves(fast, high)
    while high / low > 1.002:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if solves(fast, middle) else (low, middle)
    factors = [0.5 * low, 0.9 * low, 0.995 * low, 1.005 * high, 1.1 * high, 2.0 * high]
    assert [solves(reference, f) for f in factors] == [True, True, True, False, False, False]
    assert [solves(fast, f) for f in factors] == [True, True, True, False, False, False]


@pytest.mark.parametrize("name", FAST)
def test_voltage_falls_steadily_until_the_collapse_and_nothing_solves_after_it(
    name: str, setup_grid: Grid, engines: dict[str, Engine]
) -> None:
    lowest = []
    for factor in np.linspace(0.5, 8.0, 76):
        try:
            s = engines[name].solve(
                at_load(setup_grid, float(factor)), engines[name].initial_state(), move_taps=False
            )
        except PowerFlowDiverged:
            lowest.append(math.nan)
        else:
            lowest.append(float(np.min(np.abs(s.v_pu))))
    solved = np.isfinite(lowest)
    assert solved[0]
    assert not solved[-1]
    assert np.all(np.diff(solved.astype(int)) <= 0)
    assert np.all(np.diff(np.array(lowest)[solved]) < 0)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_inputs_that_are_no_numbers_are_reported_with_their_name(
    name: str, value: float, setup_grid: Grid, engines: dict[str, Engine]
) -> None:
    good = at_load(setup_grid, 0.5)
    bad_p, bad_q, bad_load = good.p_mw.copy(), good.q_mvar.copy(), good.load_scale.copy()
    bad_p[2] = bad_q[3] = bad_load[0] = value
    engine = engines[name]
    state = engine.initial_state()
    for injections, culprit in (
        (replace(good, p_mw=bad_p), "pv1"),
        (replace(good, q_mvar=bad_q), "gen2"),
        (replace(good, load_scale=bad_load), setup_grid.loads[0].name),
    ):
        with pytest.raises(PowerFlowDiverged, match=culprit):
            engine.solve(injections, state)


@pytest.mark.parametrize("name", ENGINES)
def test_huge_set_points_diverge(name: str, setup_grid: Grid, engines: dict[str, Engine]) -> None:
    engine = engines[name]
    injections = replace(at_load(setup_grid, 0.5), p_mw=np.full(7, -1e6))
    with pytest.raises(PowerFlowDiverged):
        engine.solve(injections, engine.initial_state())


@pytest.mark.parametrize("name", ENGINES)
def test_a_failed_solve_changes_nothing(
    name: str, setup_grid: Grid, engines: dict[str, Engine]
) -> None:
    engine = engines[name]
    good = at_load(setup_grid, 0.6)
    state = engine.solve(good, engine.initial_state()).state
    taps, v = state.taps.copy(), state.v.copy()
    before = engine.solve(good, state)
    with pytest.raises(PowerFlowDiverged):
        engine.solve(at_load(setup_grid, 30.0), state)
    np.testing.assert_array_equal(state.taps, taps)
    np.testing.assert_array_equal(state.v, v)
    after = engine.solve(good, state)
    # Newton-Raphson of the libraries starts from what it last saw, and stops at 1e-7 MVA
    same = 0.0 if name in FAST else 1e-6
    np.testing.assert_allclose(after.v_pu, before.v_pu, rtol=0.0, atol=same)


@pytest.mark.parametrize("name", ENGINES)
def test_island_with_load_never_solves(name: str, setup_grid: Grid) -> None:
    cut = setup_grid.with_open("DSO l1")
    engine = make_engine(name, cut)
    with pytest.raises(PowerFlowDiverged, match="no supply for load DSO"):
        engine.solve(at_load(cut, 0.5), engine.initial_state())


@pytest.mark.parametrize("name", ENGINES)
def test_open_line_to_an_unused_bus_shows_zero_volts_there(name: str) -> None:
    grid = grid_of(load_feeder("ieee123")).with_open("sw7")
    engine = make_engine(name, grid)
    s = engine.solve(at_load(grid, 0.5), engine.initial_state(), move_taps=False)
    dead = [bus == "300_open" for bus, _ in engine.nodes]
    assert np.all(s.v_pu[dead] == 0.0)
    assert np.all(np.abs(s.v_pu[~np.array(dead)]) > 0.9)


@pytest.mark.parametrize("name", FAST)
def test_warm_and_flat_starts_meet(name: str, setup_grid: Grid, engines: dict[str, Engine]) -> None:
    engine = engines[name]
    rng = np.random.default_rng(4)
    warm = engine.solve(random_injections(setup_grid, rng), engine.initial_state()).state
    injections = random_injections(setup_grid, rng)
    flat = GridState(warm.taps, np.empty(0, np.complex128))
    a = engine.solve(injections, warm, move_taps=False)
    b = engine.solve(injections, flat, move_taps=False)
    assert np.max(np.abs(a.v_pu - b.v_pu)) < 1e-8
    assert a.iterations <= b.iterations


@pytest.mark.parametrize("name", FAST)
def test_results_do_not_depend_on_what_was_solved_before(name: str, setup_grid: Grid) -> None:
    """Factors are kept between solves; they must not leave a trace, to the last bit."""
    rng = np.random.default_rng(5)
    used, fresh = make_engine(name, setup_grid), make_engine(name, setup_grid)
    state = fresh.initial_state()
    target = random_injections(setup_grid, rng)
    for _ in range(5):
        state = used.solve(random_injections(setup_grid, rng), state).state
    a = used.solve(target, fresh.initial_state())
    b = fresh.solve(target, fresh.initial_state())
    np.testing.assert_array_equal(a.v_pu, b.v_pu)
    np.testing.assert_array_equal(a.state.taps, b.state.taps)


@pytest.mark.parametrize("name", FAST)
def test_arrays_that_do_not_fit_are_refused(
    name: str, setup_grid: Grid, engines: dict[str, Engine]
) -> None:
    engine = engines[name]
    good = at_load(setup_grid, 0.5)
    with pytest.raises(ValueError, match="load_scale has the shape"):
        engine.solve(replace(good, load_scale=np.ones(3)), engine.initial_state())
    with pytest.raises(ValueError, match="p_mw has the shape"):
        engine.solve(replace(good, p_mw=np.zeros(0)), engine.initial_state())
    other = engines["balanced" if name == "threephase" else "threephase"]
    with pytest.raises(ValueError, match="v has the shape"):
        engine.solve(good, other.solve(good, other.initial_state()).state)


@pytest.mark.parametrize("name", FAST)
def test_integers_and_strided_arrays_are_taken(
    name: str, setup_grid: Grid, engines: dict[str, Engine]
) -> None:
    engine = engines[name]
    n, n_devices = len(setup_grid.loads), len(setup_grid.devices)
    plain = Injections(np.ones(n), np.zeros(n_devices), np.zeros(n_devices))
    odd = Injections(
        np.ones(2 * n)[::2], np.zeros(n_devices, np.int64), np.zeros(n_devices, np.float32)
    )
    a = engine.solve(plain, engine.initial_state())
    kernel_versions = len(kernels.solve.signatures)
    b = engine.solve(odd, engine.initial_state(), dt_s=900)
    assert len(kernels.solve.signatures) == kernel_versions  # nothing had to be compiled anew
    np.testing.assert_array_equal(a.v_pu, b.v_pu)


@pytest.fixture(params=FAST)
def pair(request: pytest.FixtureRequest, setup_grid: Grid) -> tuple[Engine, BatchEngine]:
    return make_engine(request.param, setup_grid), make_batch_engine(request.param, setup_grid)


def test_batch_equals_single_scenario_by_scenario(
    pair: tuple[Engine, BatchEngine], setup_grid: Grid
) -> None:
    single, batch = pair
    rng = np.random.default_rng(6)
    n = 16
    state = batch.initial_state(n)
    states = [single.initial_state() for _ in range(n)]
    moves = 0
    for _ in range(5):
        each = [random_injections(setup_grid, rng) for _ in range(n)]
        result = batch.solve(
            np.stack([i.load_scale for i in each]),
            np.stack([i.p_mw for i in each]),
            np.stack([i.q_mvar for i in each]),
            state,
        )
        state = result.state
        assert result.converged.all()
        moves += int(result.tap_moves.sum())
        for k in range(n):
            s = single.solve(each[k], states[k])
            states[k] = s.state
            np.testing.assert_allclose(result.v_pu[k], s.v_pu, atol=1e-9)
            np.testing.assert_array_equal(result.state.taps[k], s.state.taps)
            np.testing.assert_allclose(result.device_v_pu[k], s.device_v_pu, atol=1e-9)
            np.testing.assert_allclose(result.pcc_p_mw[k], s.pcc_p_mw, atol=1e-9)
            np.testing.assert_allclose(result.pcc_q_mvar[k], s.pcc_q_mvar, atol=1e-9)
            np.testing.assert_allclose(result.pcc_v_pu[k], s.pcc_v_pu, atol=1e-9)
            np.testing.assert_allclose(result.head_v_pu[k], s.head_v_pu, atol=1e-9)
            np.testing.assert_allclose(result.loading_pct[k], s.loading_pct, atol=1e-6)
            assert result.source_p_mw[k] == pytest.approx(s.source_p_mw, abs=1e-9)
            assert result.losses_mw[k] == pytest.approx(s.losses_mw, abs=1e-9)
            assert result.tap_moves[k] == s.tap_moves
    assert moves > 50


def test_what_a_scenario_gives_does_not_depend_on_its_neighbours(
    pair: tuple[Engine, BatchEngine], setup_grid: Grid
) -> None:
    """To the last bit: in whatever lane it runs, beside whomever, and after whatever."""
    _, batch = pair
    rng = np.random.default_rng(9)
    n = 21
    each = [random_injections(setup_grid, rng) for _ in range(n)]
    scale, p, q = (np.stack([getattr(i, f) for i in each]) for f in Injections.__slots__)
    scale[3] = math.nan
    scale[4] = 30.0
    whole = batch.solve(scale, p, q, batch.initial_state(n))
    order = rng.permutation(n)
    mixed = batch.solve(scale[order], p[order], q[order], batch.initial_state(n))
    for field in ("v_pu", "losses_mw", "loading_pct", "tap_moves", "iterations", "converged"):
        a, b = getattr(whole, field), getattr(mixed, field)
        np.testing.assert_array_equal(a[order], b)
    np.testing.assert_array_equal(whole.state.taps[order], mixed.state.taps)
    alone = batch.solve(scale[7:8], p[7:8], q[7:8], batch.initial_state(1))
    np.testing.assert_array_equal(alone.v_pu[0], whole.v_pu[7])
    assert whole.converged.sum() == n - 2


def test_a_scenario_that_fails_leaves_the_others_alone(
    pair: tuple[Engine, BatchEngine], setup_grid: Grid
) -> None:
    single, batch = pair
    n = 4
    scale = np.full((n, len(setup_grid.loads)), 0.5)
    idle = np.zeros((n, len(setup_grid.devices)))
    start = batch.solve(scale, idle, idle, batch.initial_state(n)).state
    scale[1] = 30.0
    scale[2, 0] = math.nan
    result = batch.solve(scale, idle, idle, start)
    np.testing.assert_array_equal(result.converged, [True, False, False, True])
    assert np.isnan(result.v_pu[1:3]).all()
    assert np.isnan(result.losses_mw[1:3]).all()
    np.testing.assert_array_equal(result.state.v[1:3], start.v[1:3])
    np.testing.assert_array_equal(result.state.taps[1:3], start.taps[1:3])
    s = single.solve(Injections(scale[3], idle[3], idle[3]), start.single(3))
    np.testing.assert_allclose(result.v_pu[3], s.v_pu, rtol=0.0, atol=1e-9)


def test_batch_refuses_shapes_that_do_not_fit(
    pair: tuple[Engine, BatchEngine], setup_grid: Grid
) -> None:
    _, batch = pair
    idle = np.zeros((2, len(setup_grid.devices)))
    with pytest.raises(ValueError, match=r"load_scale has the shape \(2, 83\)"):
        batch.solve(np.ones((2, len(setup_grid.loads))), idle, idle, batch.initial_state(3))


def test_batch_state_rows_can_be_taken_and_replaced(
    pair: tuple[Engine, BatchEngine],
) -> None:
    _, batch = pair
    state = batch.initial_state(3)
    other = batch.initial_state(1)
    other.taps[:] = 5
    mixed = state.replaced(np.array([1]), other)
    assert mixed.taps[:, 0].tolist() == [0, 5, 0]
    assert mixed[np.array([1])].taps[0, 0] == 5
    assert state.taps[1, 0] == 0


def test_batch_over_an_island_is_refused(setup_grid: Grid) -> None:
    cut = setup_grid.with_open("DSO l1")
    batch = make_batch_engine("threephase", cut)
    idle = np.zeros((1, len(cut.devices)))
    with pytest.raises(PowerFlowDiverged, match="no supply"):
        batch.solve(np.ones((1, len(cut.loads))), idle, idle, batch.initial_state(1))


def test_pandapower_has_no_batch(setup_grid: Grid) -> None:
    with pytest.raises(ConfigError, match="expected threephase or balanced"):
        make_batch_engine("pandapower", setup_grid)

"""Which nodes an iteration needs, and which rows a tap change touches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from heron.powergrid.networks import Grid, compose
from heron.powergrid.setups import read_setup
from simulator.engines import Engine, GridState, Injections, make_engine
from simulator.engines.batch import make_batch_engine
from simulator.engines.factors import elimination_order, silent_order
from simulator.engines.fixed_point import ThreePhaseEngine
from simulator.engines.nodal import (
    GROUND,
    NodalModel,
    RegulatorPhase,
    Shunt,
    threephase_model,
)
from simulator.engines.ordering import order_nodes

CHAIN = {0: {1}, 1: {0, 2}, 2: {1, 3}, 3: {2, 4}, 4: {3}}


@pytest.fixture(scope="module")
def setup_grid() -> Grid:
    return compose(read_setup("ieee34_ieee13").config)


def half(engine: Engine, state: GridState, **options: bool) -> np.ndarray:
    idle = np.zeros(len(engine.grid.devices))
    injections = Injections(np.full(len(engine.grid.loads), 0.5), idle, idle)
    return engine.solve(injections, state, **options).v_pu


def test_silent_nodes_go_first_where_what_is_left_gets_smaller() -> None:
    assert silent_order(CHAIN, [[1], [2]]) == [1, 2]
    star = {9: set(range(9))} | {k: {9} for k in range(9)}
    assert silent_order(star, [[9]]) == []  # it would join nine nodes with each other
    assert CHAIN[1] == {0, 2}


def test_what_must_come_last_does() -> None:
    names = {str(k): {str(x) for x in near} for k, near in CHAIN.items()}
    depth = {str(k): k for k in CHAIN}
    assert elimination_order(names, depth) == ["4", "3", "2", "1", "0"]
    assert elimination_order(names, depth, {"3", "4"})[-2:] == ["4", "3"]


def test_a_tap_change_touches_only_the_ends_of_the_moving_regulators(setup_grid: Grid) -> None:
    order = order_nodes(threephase_model(setup_grid))
    assert order.n - order.n_fixed == 12  # two banks of three, two ends each
    assert order.n_silent > 100


def test_where_that_would_fill_the_factors_the_path_to_the_source_is_touched() -> None:
    """Thirty regulators around one bus would couple each with all others."""
    n = 30
    model = NodalModel(
        nodes=(("source", "1"), ("hub", "1"), *((f"{x}{k}", "1") for x in "ab" for k in range(n))),
        multiplicity=1,
        source=[0],
        source_v=np.ones(1, np.complex128),
    )
    model.stamp([0, 1], np.array([[1.0, -1.0], [-1.0, 1.0]], np.complex128))
    for k in range(n):
        spoke, end = 2 + k, 2 + n + k
        model.stamp([1, spoke], np.array([[1.0, -1.0], [-1.0, 1.0]], np.complex128))
        model.regulators.append(RegulatorPhase(spoke, end, 1.0 + 0j, k, 0.00625, moves=True))
        model.loads.append(Shunt(end, GROUND, 0.1 + 0j, 0, 1.0, k))
    order = order_nodes(model)
    assert max(len(row) for row in order.pattern.upper) == 1
    assert order.slot[1] == order.n - 1  # the hub comes last, and so every tap change touches it


def test_regulators_that_stand_still_may_be_given_any_tap(setup_grid: Grid) -> None:
    """They are part of the factors that are computed once, and these follow."""
    engine = ThreePhaseEngine(setup_grid)
    assert engine.network.n_still == 9
    state = engine.initial_state()
    before = half(engine, state, move_taps=False)
    still = [k for k, r in enumerate(setup_grid.regulators) if r.control is None]
    taps = state.taps.copy()
    taps[still] = 4
    raised = half(engine, GridState(taps, np.empty(0, np.complex128)), move_taps=False)
    regulators = tuple(
        r.model_copy(update={"tap": 4}) if k in still else r
        for k, r in enumerate(setup_grid.regulators)
    )
    other = ThreePhaseEngine(replace(setup_grid, regulators=regulators))
    expected = half(other, other.initial_state(), move_taps=False)
    np.testing.assert_allclose(raised, expected, rtol=0.0, atol=1e-9)
    assert np.max(np.abs(raised - before)) > 0.02
    np.testing.assert_array_equal(half(engine, state, move_taps=False), before)


@pytest.mark.parametrize("name", ["threephase", "balanced"])
def test_a_batch_may_hold_them_at_different_taps(name: str, setup_grid: Grid) -> None:
    single, batch = make_engine(name, setup_grid), make_batch_engine(name, setup_grid)
    n, rng = 9, np.random.default_rng(3)
    state = batch.initial_state(n)
    bank = [k for k, r in enumerate(setup_grid.regulators) if r.name.startswith("MG2")]
    taps = state.taps.copy()
    taps[:, bank] = rng.integers(-2, 3, n)[:, None]
    state = replace(state, taps=taps)
    scale = rng.uniform(0.3, 0.9, (n, len(setup_grid.loads)))
    idle = np.zeros((n, len(setup_grid.devices)))
    result = batch.solve(scale, idle, idle, state)
    for k in range(n):
        alone = single.solve(Injections(scale[k], idle[k], idle[k]), state.single(k))
        np.testing.assert_allclose(result.v_pu[k], alone.v_pu, rtol=0.0, atol=1e-9)
        np.testing.assert_array_equal(result.state.taps[k], alone.state.taps)
        assert result.tap_moves[k] == alone.tap_moves
